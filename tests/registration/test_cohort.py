import csv
import io
import pickle
from concurrent.futures import Future

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk  # noqa: N813
from rich.console import Console

from medgan.data.domains import DomainPair, domain_named
from medgan.data.studies import find_cohort
from medgan.data.volumes import write_volume
from medgan.errors import ConfigError
from medgan.registration import cohort as cohort_module
from medgan.registration import pair as pair_module
from medgan.registration.cohort import register_cohort, render

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
    monkeypatch.setattr(pair_module, "register", lambda *given: sitk.Euler3DTransform())


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
