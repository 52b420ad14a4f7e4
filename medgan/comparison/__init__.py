"""Runs side by side: paired differences on the same test subjects, and which run is promoted."""
