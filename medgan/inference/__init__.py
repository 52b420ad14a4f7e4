"""Applying trained networks: to one prepared study, to one volume on its own grid, to a batch of studies."""
