import pytest
import torch

from medgan.errors import ConfigError


@pytest.mark.parametrize(
    ("agent", "names", "added_by", "sign"),
    [("add", ("t1", "t1_gd"), "target", 1), ("remove", ("t1_gd", "t1"), "source", -1)],
)
def test_gadolinium_is_added_or_removed_and_only_adds_signal(configured, agent, names, added_by, sign):
    pipeline = configured(agent=agent, generator={"added_by": added_by})
    assert pipeline.pair.names == names
    assert pipeline.pair.one_scale
    generator = pipeline.learner().networks()["to_target"]
    assert (generator.one_sided, generator.sign) == (True, sign)


@pytest.mark.parametrize(("agent", "added_by", "giver"), [("remove", "target", "source"), ("add", "source", "target")])
def test_signal_that_would_go_the_wrong_way_is_refused(configured, agent, added_by, giver):
    with pytest.raises(ConfigError, match=f"set generator.added_by={giver}"):
        configured(agent=agent, generator={"added_by": added_by})


def test_the_change_is_measured_in_percent_of_the_sources_window(configured):
    generator = configured(generator={"largest": 50, "lower": 10, "upper": 90, "ramp": 5}).learner().networks()
    output = generator["to_target"]
    assert (output.largest, output.lower, output.upper) == pytest.approx((1.0, -0.8, 0.8))
    image = torch.rand(1, 3, 32, 32) * 2 - 1
    change = output.change(image).detach()
    outside = (image[:, 1:2] < -0.8) | (image[:, 1:2] > 0.8)
    assert torch.all(change[outside] == 0)
    assert float(change.min()) >= 0
