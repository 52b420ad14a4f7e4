"""Pictures for people: slices named by anatomy, sides, windows and units, and curves of a training."""
