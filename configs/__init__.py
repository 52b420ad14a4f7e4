"""Shipped settings: ``NAME.yaml`` is a pipeline's full form, ``NAME_small.yaml`` what differs on a CPU."""
