"""Generators and discriminators: plain modules in 2D and 3D that know nothing of files, settings or devices."""
