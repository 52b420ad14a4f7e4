"""Lesion generators, and how what they draw becomes a labelled case."""
