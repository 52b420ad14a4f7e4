import csv
import io
import pickle
from concurrent.futures import Future
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk  # noqa: N813
from rich.console import Console

from medgan.data.domains import DomainPair, domain_named
from medgan.data.grid import Volume, made_up_grid, upright
from medgan.data.studies import Study, find_cohort
from medgan.data.volumes import read_volume, write_volume
from medgan.errors import ConfigError, DataError, GeometryError
from medgan.registration import cohort as cohort_module
from medgan.registration.cohort import RawPair, _resampled, _without_bias, register_cohort, register_pair, render
from medgan.registration.search import matrix_lps

MR, CT, PLAIN = domain_named("mr"), domain_named("ct"), domain_named("plain:CT")


def save(volume, path, voxels=None):
    """A volume's rounded intensities, or a mask on its grid."""
    mask = voxels is not None
    write_volume(voxels if mask else np.rint(volume.voxels), volume.grid, path, np.uint8 if mask else np.int16)
    return path


@pytest.fixture(scope="module")
def studies(scan, rigid, tmp_path_factory):
    """An MR and a CT on another grid, moved; with a mask of the CT's bone on the CT's grid."""
    folder = tmp_path_factory.mktemp("pair")
    moving = scan("CT", rigid((0, 0, 8), (5, -4, 3)), shape=(30, 30, 20), spacing=(3, 3, 4))
    bone = save(moving, folder / "bone.nii.gz", moving.voxels > 400)
    return (
        Study("s1", "mr", save(scan("MR"), folder / "mr.nii.gz")),
        Study("s1", "ct", save(moving, folder / "ct.nii.gz"), bone),
    )


@pytest.fixture(scope="module")
def registered(studies, quick, tmp_path_factory):
    """The pair, its figures and its status."""
    pair = RawPair("s1", studies, (MR, CT), tmp_path_factory.mktemp("registered"), quick)
    return pair, *register_pair(pair)[:2]


@pytest.fixture
def pair(registered, tmp_path, monkeypatch):
    """The two scans, with a folder of their own to go to; the transform is known and not searched for once more."""
    rigid = sitk.Euler3DTransform(sitk.ReadTransform(str(registered[0].transform)))
    monkeypatch.setattr(cohort_module, "register", lambda *given: rigid)
    return replace(registered[0], out=tmp_path / "out")


def test_scan_and_mask_come_onto_the_fixed_grid_to_the_bit(registered, scan):
    pair, quality, status = registered
    assert status == "accepted"
    assert quality.dice_after > quality.dice_before
    assert quality.rotation_degrees == pytest.approx(8, abs=1.5)
    wanted = read_volume(pair.studies[0].image)
    mr, ct, bone = (read_volume(path) for path in (pair.image(MR), pair.image(CT), pair.mask(CT)))
    for volume in (mr, ct, bone):
        assert volume.grid.affine.tobytes() == wanted.grid.affine.tobytes()
        for name, value in wanted.grid.fields.items():
            assert volume.grid.fields[name].tobytes() == value.tobytes()
    np.testing.assert_array_equal(mr.voxels, wanted.voxels)
    truth, raw = scan("CT").voxels, read_volume(pair.studies[1].image)
    still = _resampled(raw.voxels, raw.grid, wanted.grid, sitk.Transform(3, sitk.sitkIdentity), air=-1024.0)
    inside = truth > -500
    assert np.abs(ct.voxels - truth)[inside].mean() < 0.5 * np.abs(still - truth)[inside].mean()
    assert set(np.unique(bone.voxels)) == {0, 1}
    assert truth[bone.voxels > 0].mean() > 300
    assert pair.picture.exists()
    moved = _resampled(raw.voxels, raw.grid, wanted.grid, sitk.ReadTransform(str(pair.transform)), air=-1024.0)
    np.testing.assert_allclose(np.rint(moved), ct.voxels, atol=1)


@pytest.mark.parametrize(("fixed", "shift_mm", "seed"), [("CT", 0, 0), ("MR", 1.2, 2)], ids=["aligned", "noise"])
def test_a_pair_whose_move_would_gain_no_more_than_noise_is_not_interpolated(
    scan, rigid, quick, tmp_path, fixed, shift_mm, seed
):
    """A shift by a third of a slice gains no more."""
    moving = scan("CT", rigid(shift_mm=(0, 0, shift_mm)), seed=seed)
    studies = (
        Study("s1", fixed.lower(), save(scan(fixed), tmp_path / "fixed.nii.gz")),
        Study("s1", "plain", save(moving, tmp_path / "moving.nii.gz")),
    )
    aligned = RawPair("s1", studies, (domain_named(fixed.lower()), PLAIN), tmp_path / "out", quick)
    quality, status, _ = register_pair(aligned)
    assert (status, quality.largest_displacement_mm) == ("accepted", 0)
    np.testing.assert_array_equal(read_volume(aligned.image(PLAIN)).voxels, np.rint(moving.voxels))


def stored(volume, axes, mirrored):
    """The same scan with its voxels stored in another order."""
    affine, voxels = volume.grid.affine.copy(), np.flip(volume.voxels, mirrored)
    for axis in mirrored:
        affine[:, 3] += affine[:, axis] * (voxels.shape[axis] - 1)
        affine[:, axis] *= -1
    affine[:, :3] = affine[:, list(axes)]
    voxels = voxels.transpose(axes)
    return Volume(voxels, made_up_grid(voxels.shape, affine), volume.path)


ORDERS = [((2, 0, 1), (0,)), ((1, 0, 2), (1, 2))]


@pytest.mark.parametrize(("fixed", "moving"), [ORDERS, ORDERS[::-1]])
def test_the_order_in_which_voxels_are_stored_changes_nothing(registered, studies, tmp_path, fixed, moving):
    def again(path, order, dtype=np.int16):
        volume = stored(read_volume(path), *order)
        write_volume(volume.voxels, volume.grid, tmp_path / path.name, dtype)
        return tmp_path / path.name

    mr, ct = studies
    ct = Study("s1", "ct", again(ct.image, moving), again(ct.mask, moving, np.uint8))
    stored_anew = Study("s1", "mr", again(mr.image, fixed)), ct
    both = registered[0], replace(registered[0], studies=stored_anew, out=tmp_path / "out")
    register_pair(both[1])
    np.testing.assert_allclose(*(matrix_lps(sitk.ReadTransform(str(each.transform))) for each in both), atol=1e-3)
    for path, domain, off in ((RawPair.image, CT, 2), (RawPair.mask, CT, 2), (RawPair.image, MR, 0)):
        one, other = (upright(read_volume(path(each, domain))).voxels for each in both)
        np.testing.assert_allclose(one, other, rtol=0, atol=off)


def test_a_refused_pair_leaves_evidence_and_no_images(pair, quick):
    strict = quick.model_copy(update={"limits": quick.limits.model_copy(update={"least_dice": 0.9999})})
    _, status, reason = register_pair(replace(pair, config=strict))
    assert status == "refused"
    assert "0.9999" in reason
    assert pair.picture.exists()
    assert sorted(path.name for path in pair.folder.iterdir()) == ["fixed_to_moving.tfm"]


def test_a_mask_on_neither_grid_is_refused_by_name(pair, scan, tmp_path):
    other = scan("CT", shape=(12, 12, 12))
    astray = replace(pair.studies[1], mask=save(other, tmp_path / "odd.nii.gz", other.voxels > 0))
    with pytest.raises(GeometryError, match=r"odd\.nii\.gz is neither on the grid"):
        register_pair(replace(pair, studies=(pair.studies[0], astray)))


def test_a_mask_on_the_fixed_grid_stays_as_it_is(pair, scan, tmp_path):
    fixed = scan("MR")
    marked = replace(pair.studies[0], mask=save(fixed, tmp_path / "fat.nii.gz", fixed.voxels > 400))
    register_pair(replace(pair, studies=(marked, pair.studies[1])))
    np.testing.assert_array_equal(read_volume(pair.mask(MR)).voxels, fixed.voxels > 400)


def test_beyond_the_moving_scan_there_is_air(scan):
    volume = scan("CT")
    far = sitk.TranslationTransform(3, (1000.0, 0.0, 0.0))
    assert np.unique(_resampled(volume.voxels, volume.grid, volume.grid, far, air=-1024.0)) == [-1024]


def test_a_folder_that_cannot_be_written_is_named(pair, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match=r"file.* cannot be written"):
        register_pair(replace(pair, name="file", out=tmp_path))


def test_a_bias_field_is_taken_away_and_the_mean_stays():
    x, y, _ = (np.indices((24, 24, 8)) - np.array([12, 12, 4])[:, None, None, None]) * 4.5
    body = (x / 48) ** 2 + (y / 42) ** 2 < 1
    tissue = np.where(x**2 + (y - 15) ** 2 < 200, 150.0, 300.0)
    field = np.exp(0.4 * x / 54 - 0.3 * (y / 54) ** 2)
    noise = np.random.default_rng(0).normal(0, 4, x.shape)
    clean = np.where(body, tissue, 0.0)
    biased = np.where(body, tissue * field + noise, 0.0).astype(np.float32)
    corrected = _without_bias(biased, np.diag([4.5, 4.5, 4.5, 1.0]), body)
    one_tissue = body & (clean == 300)

    def spread(voxels):
        return voxels[one_tissue].std() / voxels[one_tissue].mean()

    assert spread(biased) > 0.15
    assert spread(corrected) < spread(biased) / 3
    np.testing.assert_allclose(corrected[body].mean(), biased[body].mean(), rtol=1e-4)


def test_voxels_without_a_body_stay_as_they_are():
    voxels = np.zeros((6, 6, 6), np.float32)
    np.testing.assert_array_equal(_without_bias(voxels, np.eye(4), voxels > 0), voxels)


PAIR = DomainPair(source=domain_named("mr"), target=domain_named("ct"), paired=True)


@pytest.fixture
def raw(scan, rigid, tmp_path):
    """A cohort of five: sound, broken, of two limbs that have nothing in common, without CT, with an odd name."""
    folder = tmp_path / "raw"
    mr, ct, noise = scan("MR"), scan("CT", rigid((0, 0, 6), (4, 0, 0))), scan("CT")
    noise.voxels[:] = np.random.default_rng(0).normal(0, 100, noise.voxels.shape)
    volumes = {f"{subject}_mr": mr for subject in ("good", "noise", "alone", "broken", "odd")}
    volumes |= {"good_ct": ct, "noise_ct": noise, "odd_ct": ct}
    for name, volume in volumes.items():
        write_volume(np.rint(volume.voxels), volume.grid, folder / f"{name}.nii.gz", np.int16)
    (folder / "broken_ct.nii.gz").write_bytes(b"nothing")
    rows = [("subject", "domain", "image", "split")]
    for name in sorted([*volumes, "broken_ct"]):
        subject, domain = name.split("_")
        rows.append(("../odd" if subject == "odd" else subject, domain, f"{name}.nii.gz", "train"))
    with (folder / "cohort.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    return folder


@pytest.fixture
def unmoved(monkeypatch):
    """Where scans come to lie does not matter, so it is not searched for."""
    monkeypatch.setattr(cohort_module, "register", lambda *given: sitk.Euler3DTransform())


@pytest.mark.usefixtures("unmoved")
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_registration_that_is_stopped_ends_its_processes_and_keeps_what_is_done(
    raw, tmp_path, quick, monkeypatch, jobs
):
    real, ended = cohort_module.register_pair, []

    def stopped(pair):
        if pair.name == "noise":
            raise KeyboardInterrupt
        return real(pair)

    def in_processes(tasks, run, count):  # that none outlives it is tested with it
        try:
            for task in tasks:
                future = Future()
                future.set_result(run(pickle.loads(pickle.dumps(task))))
                yield task, future
        finally:
            ended.append(count)

    monkeypatch.setattr(cohort_module, "register_pair", stopped)
    monkeypatch.setattr(cohort_module, "in_processes", in_processes)
    cohort = find_cohort(raw, PAIR).of_subjects(["good", "noise", "broken"])
    with pytest.raises(KeyboardInterrupt, match="what is registered is kept, and the same command goes on from there"):
        register_cohort(cohort, PAIR, tmp_path / "out", quick, fixed="mr", jobs=jobs)
    assert ended == [2] * (jobs == 2)
    assert [path.parent.name for path in tmp_path.glob("out/*/registration.json")] == ["good"]
    assert {path.name for path in (tmp_path / "out" / "good").iterdir()} >= {"mr.nii.gz", "ct.nii.gz"}


def test_only_accepted_pairs_reach_the_cohort_and_all_are_accounted_for(raw, tmp_path, quick):
    out = tmp_path / "out"
    limits = quick.limits.model_copy(update={"least_dice": 0.8})
    outcomes = register_cohort(
        find_cohort(raw, PAIR), PAIR, out, quick.model_copy(update={"limits": limits}), fixed="mr"
    )
    status = {outcome.name: outcome.status for outcome in outcomes}
    assert status.pop("noise") in ("refused", "failed")
    assert status == {"../odd": "failed", "alone": "failed", "broken": "failed", "good": "accepted"}
    reasons = {outcome.name: outcome.reason for outcome in outcomes}
    assert "no ct image" in reasons["alone"]
    assert "broken_ct.nii.gz" in reasons["broken"]
    assert "rename" in reasons["../odd"]
    studies = find_cohort(out, PAIR).studies
    assert [(study.subject, study.domain, study.split) for study in studies] == [
        ("good", d, "train") for d in ("mr", "ct")
    ]
    table = pd.read_csv(out / "quality.csv").set_index("subject")
    assert table["status"].to_dict() == {outcome.name: outcome.status for outcome in outcomes}
    assert table.loc["good", "rotation_degrees"] == pytest.approx(6, abs=1.5)
    stream = io.StringIO()
    Console(file=stream, width=200).print(render(outcomes))
    assert "5 pairs: 1 accepted" in stream.getvalue()


@pytest.mark.usefixtures("unmoved")
def test_a_pair_is_done_again_only_when_files_or_settings_change(raw, tmp_path, quick, monkeypatch):
    cohort = find_cohort(raw, PAIR).of_subjects(["good"])
    calls = []
    real = cohort_module.register_pair
    monkeypatch.setattr(cohort_module, "register_pair", lambda pair: (calls.append(1), real(pair))[1])

    def run(config=quick):
        return register_cohort(cohort, PAIR, tmp_path / "out", config, fixed="mr")

    first, again = run(), run()
    assert first == again
    assert len(calls) == 1
    (tmp_path / "out" / "good" / "ct.nii.gz").unlink()
    run()
    assert len(calls) == 2
    strict = quick.model_copy(update={"limits": quick.limits.model_copy(update={"least_dice": 1.0})})
    assert [outcome.status for outcome in run(strict)] == ["refused"]
    assert not (tmp_path / "out" / "good" / "ct.nii.gz").exists()
    assert (tmp_path / "out" / "cohort.csv").read_text().splitlines() == ["subject,domain,image,mask,split"]


def test_the_cohorts_own_files_are_never_overwritten(raw, quick):
    for out in (raw, raw.parent):
        with pytest.raises(ConfigError, match="choose another folder"):
            register_cohort(find_cohort(raw, PAIR), PAIR, out, quick, fixed="mr")
