import itertools
import shutil
from dataclasses import replace

import nibabel as nib
import pytest

from medgan.benefit.routes.plan import make_plan
from medgan.data.domains import Window
from medgan.errors import ConfigError, DataError

from .conftest import CT, MR, PAIR, SUBJECTS


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_fewer_labelled_subjects_are_among_the_more_and_none_is_tested(plan, seed):
    for fold in plan.folds:
        drawn = [{case.subject for case in fold.drawn(number, seed)} for number in (1, 2, 3, 4)]
        assert [len(each) for each in drawn] == [1, 2, 3, 4]
        assert all(fewer < more for fewer, more in itertools.pairwise(drawn))
        assert drawn[-1] == set(fold.split.train)
        assert not drawn[-1] & {case.subject for case in fold.tested}


def test_another_seed_draws_other_subjects(plan):
    first = {tuple(case.subject for case in plan.folds[0].drawn(2, seed)) for seed in range(8)}
    assert len(first) > 1


def test_each_segmenter_sees_its_own_domain_and_takes_the_same_steps(plan):
    mr, ct = plan.segmenter("mr"), plan.segmenter("synthetic_ct")
    assert (mr.domain, mr.patch.intensity) == (MR, plan.config.mr_intensity)
    assert ct.domain == CT.model_copy(update={"window": plan.config.ct_window})
    assert ct.patch.intensity == plan.config.ct_intensity
    assert mr.fit == ct.fit


def test_another_split_beside_the_model_is_refused(asked, folds, tmp_path):
    shutil.copytree(folds[0].parent, tmp_path / "run")
    shutil.copy(folds[1].parent / "split.json", tmp_path / "run" / "split.json")
    with pytest.raises(ConfigError, match="not the split"):
        make_plan(asked(tmp_path, models=[tmp_path / "run" / "model"]))
    (tmp_path / "run" / "split.json").unlink()
    with pytest.raises(ConfigError, match="there is no split"):
        make_plan(asked(tmp_path, models=[tmp_path / "run" / "model"]))


def test_a_cohort_that_changed_is_refused(asked, cohort, tmp_path):
    shutil.copytree(cohort.parent, tmp_path / "data")
    image = tmp_path / "data" / SUBJECTS[0] / "mr.nii.gz"
    other = nib.load(image)
    nib.Nifti1Image(other.get_fdata() + 1, other.affine).to_filename(image)
    with pytest.raises(DataError, match="changed"):
        make_plan(asked(tmp_path, data=tmp_path / "data"))


def test_more_labelled_subjects_than_a_fold_trains_on_are_refused(asked, tmp_path):
    with pytest.raises(ConfigError, match="trains on 4 subjects"):
        make_plan(asked(tmp_path, overrides=["labelled=[2, 5]"]))


def test_a_fold_without_a_test_subject_is_refused(asked, save_run, tmp_path):
    with pytest.raises(ConfigError, match="no test subject"):
        make_plan(asked(tmp_path, models=[save_run(tmp_path / "run", ())]))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"name": "other"}, "a model of 'other'"),
        ({"pair": PAIR.model_copy(update={"source": CT.model_copy(update={"name": "mr"})})}, "CT made of MR only"),
        (
            {"pair": PAIR.model_copy(update={"target": CT.model_copy(update={"window": Window()})})},
            "see their scans differently",
        ),
    ],
)
def test_models_that_cannot_be_compared_are_refused(asked, folds, save_run, tmp_path, changed, message):
    model = save_run(tmp_path / "run", SUBJECTS[2:4], **changed)
    order = asked(tmp_path, models=[folds[0], model])
    with pytest.raises(ConfigError, match=message):
        make_plan(order)


def test_without_models_there_is_nothing_to_test(asked, tmp_path):
    with pytest.raises(ConfigError, match="--model"):
        make_plan(replace(asked(tmp_path), models=()))


def test_a_cohort_must_be_there(asked, tmp_path):
    with pytest.raises(DataError, match="is empty or does not exist"):
        make_plan(asked(tmp_path, data=tmp_path))
