import csv
import io
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import psutil
import pytest
from rich.console import Console

from medgan.data.domains import DomainPair, domain_named
from medgan.data.studies import find_cohort
from medgan.data.volumes import write_volume
from medgan.errors import ConfigError
from medgan.registration import cohort as cohort_module
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


def test_a_registration_that_is_stopped_leaves_no_process_and_keeps_what_is_done(scan, tmp_path):
    volumes = {"mr": scan("MR"), "ct": scan("CT")}
    for subject in range(12):
        for domain, volume in volumes.items():
            write_volume(np.rint(volume.voxels), volume.grid, tmp_path / f"raw/{domain}/{subject:02}.nii.gz", np.int16)
    settings = ["--fixed", "mr", "--moving", "ct", "--jobs", "2", "rigid.samples=20000", "rigid.iterations=100"]
    settings += ["rigid.start_rotation_degrees=0", "rigid.kept_starts=1"]
    command = [sys.executable, "-c", "from medgan.cli import main; main()", "data", "register"]
    register = subprocess.Popen(
        [*command, str(tmp_path / "raw"), str(tmp_path / "out"), *settings], stderr=subprocess.PIPE, text=True
    )
    while not list(tmp_path.glob("out/*/registration.json")) and register.poll() is None:
        time.sleep(0.05)
    running = psutil.Process(register.pid).children(recursive=True)
    register.send_signal(signal.SIGINT)
    _, said = register.communicate(timeout=120)
    assert not psutil.wait_procs(running, timeout=60)[1]
    assert len(running) >= 2
    done = {path.parent.name for path in tmp_path.glob("out/*/registration.json")}
    assert 0 < len(done) < 12
    assert all((tmp_path / "out" / name / f"{domain}.nii.gz").exists() for name in done for domain in volumes)
    assert register.returncode == 130
    assert said == "medgan: stopped; what is registered is kept, and the same command goes on from there.\n"


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


def test_a_pair_is_done_again_only_when_files_or_settings_change(raw, tmp_path, quick, monkeypatch):
    cohort = find_cohort(raw, PAIR).of_subjects(["good"])
    calls = []
    real = cohort_module.register_pair
    monkeypatch.setattr(cohort_module, "register_pair", lambda *given: (calls.append(1), real(*given))[1])

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
