import pytest
from pydantic import ValidationError

from medgan.config import load
from medgan.errors import ConfigError
from medgan.synthesis.patches import ConditionConfig, LesionConfig


def test_a_value_may_stand_for_a_list_of_one():
    assert LesionConfig(labels={"anterior": 1, "rest": [2, 3]}).labels == {"anterior": (1,), "rest": (2, 3)}


@pytest.mark.parametrize(("dimensions", "shape"), [(2, (24, 24)), (3, (24, 24, 8))])
def test_patch_and_condition_have_the_sizes_that_networks_are_built_for(dimensions, shape):
    depth = {"depth_voxels": 8} if dimensions == 3 else {}
    config = LesionConfig(
        labels={"a": 1, "b": 2},
        patch={"dimensions": dimensions, "size_voxels": 24, **depth},
        condition=ConditionConfig(classes=True, location=True),
    )
    assert (config.names, config.spatial, config.shape, config.condition_size) == (("a", "b"), dimensions, shape, 6)


def test_neighbouring_slices_are_for_translators():
    with pytest.raises(ValidationError, match=r"patch.dimensions=2.5 translates a slice by its neighbours"):
        LesionConfig(patch={"dimensions": 2.5})


def test_labels_that_are_named_are_the_only_ones():
    asked = {"labels": {"anterior": 1, "posterior": 2}}
    assert load(LesionConfig, asked).labels == {"anterior": (1,), "posterior": (2,)}
    assert load(LesionConfig, {"labels": {"anterior": 1}}, {"labels": {"posterior": 2}}).names == (
        "anterior",
        "posterior",
    )
    assert load(LesionConfig, {}).names == ("lesion",)


def test_a_value_belongs_to_one_name():
    with pytest.raises(ConfigError, match="labels: value 1 belongs to both a and b"):
        load(LesionConfig, {"labels": {"a": 1, "b": [1, 2]}})
