"""What becomes of a study's child that ended early: it is named and stops no other, or it ends the whole study."""

from dataclasses import dataclass

from medgan.errors import LeakageError, MedganError


@dataclass(frozen=True)
class Failure:
    """A child without figures, and why."""

    child: str
    reason: str


def failure_of(child: str, error: BaseException) -> Failure:
    """What a study records of a child that ended early.

    Args:
        child: Its name.
        error: What ended it.

    Raises:
        LeakageError: It was one: nothing of such a study is to be believed.
        KeyboardInterrupt: It was asked to stop; the text says where.
    """
    if isinstance(error, LeakageError):
        raise error
    if isinstance(error, KeyboardInterrupt):
        raise KeyboardInterrupt(f"stopped in {child}; the same command goes on from there.") from None
    unexpected = "" if isinstance(error, MedganError) else f"unexpected {type(error).__name__}: "
    return Failure(child, f"{unexpected}{error}")
