from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from medgan.benefit.routes.bone import cleaned, thresholded
from medgan.benefit.routes.material import exam, fitted_lookup, gather, voxel_ml, write_label
from medgan.data.volumes import read_volume
from medgan.errors import GeometryError
from medgan.evaluation.tissues import body, core


@pytest.fixture(scope="module")
def material(plan):
    return gather(plan, plan.folds[0])


def test_everybody_of_the_fold_has_the_bone_of_the_true_ct_on_its_grid(plan, material):
    for case in (*plan.folds[0].training, *plan.folds[0].tested):
        ct, label = read_volume(case.target.image), read_volume(material.label(case))
        np.testing.assert_array_equal(label.voxels == 1, cleaned(thresholded(ct.voxels), voxel_ml(ct.grid)))
        np.testing.assert_array_equal(label.grid.affine, ct.grid.affine)
        assert label.voxels.any()


def test_test_subjects_alone_are_translated_and_once(plan, material):
    made = sorted((material.folder / "synthetic").rglob("*.nii.gz"))
    assert [path.parent.name for path in made] == [case.subject for case in plan.folds[0].tested]
    before = [path.stat().st_mtime_ns for path in made]
    gather(plan, plan.folds[0])
    assert [path.stat().st_mtime_ns for path in made] == before


def test_the_true_ct_as_synthetic_ct_is_perfect_by_its_threshold(plan, material):
    case = plan.folds[0].tested[0]
    perfect = exam(case, case.target.image, material.label(case))
    found = cleaned(thresholded(perfect.synthetic.voxels), voxel_ml(perfect.mr.grid))
    assert perfect.scores(found) == {"dice": 1.0, "surface_dice": 1.0}
    assert perfect.scores(np.zeros_like(found)) == {"dice": 0.0, "surface_dice": 0.0}


def test_what_lies_outside_of_both_bodies_does_not_count(plan, material):
    case = plan.folds[0].tested[0]
    perfect = exam(case, case.target.image, material.label(case))
    assert perfect.scores(perfect.true.mask | ~perfect.where)["dice"] == 1.0


def test_the_look_up_is_the_mean_hu_of_an_mr_intensity_and_knows_no_test_subject(plan):
    fold = plan.folds[0]
    case = fold.training[0]
    lookup = fitted_lookup(replace(fold, training=(case,)))
    mr, ct = (read_volume(scan.image).voxels for scan in (case.source, case.target))
    everyone = fitted_lookup(fold)
    assert not np.array_equal(everyone.mean_hu, lookup.mean_hu)
    where = core(body(mr, "MR"), body(ct, "CT"))
    # A map to the mean of each intensity keeps the mean of all; HU are counted in whole numbers.
    mapped = lookup.arms(mr, mr.shape)["intensity_lookup"]
    assert mapped[where].mean() == pytest.approx(ct[where].mean(), abs=0.5)


def test_scans_on_different_grids_are_refused(plan, tmp_path):
    case = plan.folds[0].tested[0]
    moved = nib.Nifti1Image(nib.load(case.source.image).get_fdata(), np.diag([9.0, 9.0, 30.0, 1.0]))
    moved.to_filename(tmp_path / "mr.nii.gz")
    other = replace(case, source=replace(case.source, image=tmp_path / "mr.nii.gz"))
    write_label(case, tmp_path / "label.nii.gz")
    with pytest.raises(GeometryError, match="medgan data register"):
        exam(other, case.target.image, tmp_path / "label.nii.gz")
