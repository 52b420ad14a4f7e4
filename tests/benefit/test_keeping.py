import json
import shutil

import pytest

from medgan.benefit.keeping import label_keeper
from medgan.benefit.plan import make_plan
from medgan.data.splits import Split
from medgan.errors import ConfigError, LeakageError, ModelError


@pytest.fixture
def frozen(segmenters, tmp_path):
    """The model folder of a segmenter whose run says whom it was trained on: ``frozen("s0")``."""

    def make(*trained):
        run = tmp_path / "frozen"
        shutil.copytree(segmenters(), run / "model")
        split = Split(train=trained, validation=(), test=(), files={})
        split.save(run / "split.json")
        path = run / "model" / "model.json"
        description = json.loads(path.read_text())
        description["origin"]["split_hash"] = split.hash
        path.write_text(json.dumps(description))
        return run / "model"

    return make


def planned(asked, out, *overrides):
    return make_plan(asked(out, overrides=overrides))


def test_one_segmenter_judges_images_and_translations(asked, tmp_path, frozen):
    plan = planned(asked, tmp_path, "keep_labels_above=0.7", f"source_segmenter={frozen('s0')}")
    judge = label_keeper(plan)
    assert judge.source is judge.target
    image = plan.subjects.with_labels("train", "contrast")[0]
    assert judge(image, image) == 1.0


def test_without_a_threshold_nothing_judges(asked, tmp_path):
    assert label_keeper(planned(asked, tmp_path)) is None


@pytest.mark.parametrize("half", ["keep_labels_above=0.7", "source_segmenter=somewhere"])
def test_a_threshold_and_a_segmenter_go_together(asked, tmp_path, half):
    with pytest.raises(ConfigError, match="go together"):
        label_keeper(planned(asked, tmp_path, half))


def test_a_segmenter_that_has_seen_a_test_subject_judges_nothing(asked, tmp_path, frozen):
    plan = planned(asked, tmp_path, "keep_labels_above=0.7", f"source_segmenter={frozen('s0', 's5')}")
    with pytest.raises(LeakageError, match=r"the segmenter of .* cannot serve this study"):
        label_keeper(plan)


def test_a_segmenter_of_whom_nobody_knows_is_refused(asked, tmp_path, segmenters):
    plan = planned(asked, tmp_path, "keep_labels_above=0.7", f"source_segmenter={segmenters()}")
    with pytest.raises(ModelError, match=r"no split\.json beside it"):
        label_keeper(plan)
