"""The one training loop, what it asks of a learner, its resumable state, and the model folder that it leaves."""
