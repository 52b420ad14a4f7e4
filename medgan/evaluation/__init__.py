"""What a translation is worth: fidelity to the truth, beside doing nothing and a look-up, with intervals by subject."""
