import pickle

import pytest

from medgan import errors
from medgan.benefit.failures import Failure, failure_of


def test_a_child_that_failed_is_named_with_its_reason():
    assert failure_of("a", errors.DataError("no image")) == Failure("a", "no image")
    assert failure_of("a", ZeroDivisionError("by zero")) == Failure("a", "unexpected ZeroDivisionError: by zero")


def test_a_leak_is_no_failed_child_and_ends_the_study():
    with pytest.raises(errors.LeakageError, match="seen"):
        failure_of("a", errors.LeakageError("seen"))


def test_a_stop_says_where_and_how_to_go_on():
    with pytest.raises(KeyboardInterrupt, match=r"stopped in a; the same command goes on from there\."):
        failure_of("a", KeyboardInterrupt())


@pytest.mark.parametrize(
    "kind", [kind for kind in vars(errors).values() if isinstance(kind, type)], ids=lambda kind: kind.__name__
)
def test_an_error_comes_out_of_another_process_as_it_was(kind):
    error = pickle.loads(pickle.dumps(kind("what happened")))
    assert (type(error), str(error)) == (kind, "what happened")
