"""Lesions that nobody has: generators that learn them, insertion into healthy anatomy, labelled synthetic cohorts."""
