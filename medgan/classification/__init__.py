"""Classifiers of patches: what lies in a small part of an image, learnt from few labels."""
