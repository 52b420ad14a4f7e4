import pytest

from medgan.commands import evaluate
from medgan.errors import ConfigError


def test_organs_are_named_by_their_label_values():
    assert evaluate.named(["aorta=9", "kidneys=7,8"]) == {"aorta": [9], "kidneys": [7, 8]}
    assert evaluate.named(None) is None


@pytest.mark.parametrize("organ", ["aorta", "=9", "aorta=nine", "aorta=9,"])
def test_an_organ_without_values_is_refused(organ):
    with pytest.raises(ConfigError, match="NAME=VALUE"):
        evaluate.named([organ])
