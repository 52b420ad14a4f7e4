"""Where :class:`medgan.training.fit.Task` was."""

from medgan.training.fit import Task

__all__ = ["Task"]
