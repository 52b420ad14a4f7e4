"""What medgan says when it cannot go on: what happened, in which file, what to do next.

No error here carries a traceback to a user unless ``--debug`` is given; ``medgan.commands`` turns them into exit codes.
"""


class MedganError(Exception):
    """The base of every error that medgan raises on purpose."""


class ConfigError(MedganError):
    """A setting that does not exist, has the wrong type, or contradicts another."""


class DataError(MedganError):
    """A file or a cohort that cannot be used: unreadable, empty, not finite, mixed."""


class GeometryError(DataError):
    """A voxel grid that cannot be kept exactly: sheared, uneven, degenerate, or unlike its partner's."""


class ModelError(MedganError):
    """A model folder that is incomplete, altered, or made for something else."""


class InUseError(MedganError):
    """A folder in which another process is at work."""


class LeakageError(MedganError):
    """A subject that would be tested although an earlier stage trained on it."""


class InsertionError(MedganError):
    """A synthetic lesion for which a recipient has no place, or for which donors have no shape."""


class TrainingError(MedganError):
    """A training that cannot go on: not-a-number terms, a collapsed discriminator, a state of another run."""


class MedganWarning(UserWarning):
    """What to know before using a result that Python code asked for; commands print the same."""
