import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from medgan.cli import app
from medgan.commands import data
from medgan.data.volumes import write_volume
from medgan.phantom.kinds import KINDS

QUICK = ["rigid.start_rotation_degrees=0", "rigid.kept_starts=1", "rigid.samples=4000", "rigid.iterations=30"]


@pytest.fixture
def raw(ct, tmp_path):
    """Contrast and plain CT of a subject who grew a little in between, 8 mm apart, as plain folders."""
    from medgan.data.grid import made_up_grid

    for domain in ("contrast", "plain"):
        voxels = np.rint(ct(int(domain == "plain"), contrast=domain == "contrast", shape=(32, 32, 12)))
        voxels = np.roll(voxels, 2 * (domain == "plain"), axis=0)
        grid = made_up_grid((32, 32, 12), np.diag([4.0, 4.0, 6.0, 1.0]))
        write_volume(voxels, grid, tmp_path / "raw" / domain / "s1.nii.gz", np.int16)
    return tmp_path / "raw"


def register(raw, *arguments):
    return CliRunner().invoke(app, ["data", "register", str(raw), str(raw.parent / "out"), *arguments, *QUICK])


def test_pairs_that_are_accepted_end_with_0_and_refused_ones_with_1(raw):
    done = register(raw, "--pipeline", "ct_contrast")
    assert done.exit_code == 0, done.output
    assert "1 accepted" in done.stderr
    assert (raw.parent / "out" / "s1" / "plain.nii.gz").exists()
    refused = register(raw, "--fixed", "plain:CT", "--moving", "contrast:CT", "--qc", "1")
    assert refused.exit_code == 1
    assert "1 refused" in refused.stderr
    assert not (raw.parent / "out" / "s1" / "plain.nii.gz").exists()


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        ("register", "--pipeline NAME, or --fixed DOMAIN"),
        ("register --fixed plain:CT", "--pipeline NAME, or --fixed DOMAIN"),
        ("register --fixed plain --moving contrast:CT", "plain:CT"),
        ("register --fixed plain:CT --moving plain:CT", "name two"),
        ("register --pipeline ct_contrast --fixed mr", "contrast and plain"),
        ("register --pipeline ct_contrast rigid.bins=2", "rigid.bins"),
        ("register --fixed mr --moving ct", "none of the layouts"),
        ("check --root nosuch", "--root nosuch is no folder"),
        ("check --root .", "--root is for a cohort CSV"),
        ("check --bids run=1", "--bids chooses among the files of a BIDS folder"),
        ("check --bids colour=red", "write ENTITY=VALUE"),
    ],
)
def test_wrong_use_ends_with_2_and_says_what_to_write(raw, command, problem):
    command, *arguments = command.split()
    places = [str(raw), str(raw.parent / "out")] if command == "register" else [str(raw)]
    done = CliRunner().invoke(app, ["data", command, *places, *arguments])
    assert done.exit_code == 2
    assert problem in " ".join(done.stderr.split())


def test_help_names_every_kind_of_phantom():
    options = {option.name: option for option in typer.main.get_command(data.app).commands["phantom"].params}
    assert all(kind in options["kind"].help for kind in KINDS)
    assert options["kind"].default in KINDS


def test_a_table_is_written_from_patterns_and_checked(raw, tmp_path):
    table = tmp_path / "cohort.csv"
    asked = ["data", "csv", str(raw), "--out", str(table), "--image", "{domain}/{subject}.nii.gz"]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 0, done.output
    assert "1 subjects: 1 contrast, 1 plain; 0 with a mask" in done.stdout
    assert CliRunner().invoke(app, asked).exit_code == 2
    elsewhere = tmp_path / "lists" / "cohort.csv"
    elsewhere.parent.mkdir()
    elsewhere.write_text(table.read_text().replace("raw/", ""))
    lost = CliRunner().invoke(app, ["data", "check", str(elsewhere)])
    assert "give their folder as --root" in " ".join(lost.stderr.split())
    checked = CliRunner().invoke(app, ["data", "check", str(elsewhere), "--root", str(raw)])
    assert "2 images of 1 subjects" in checked.stderr
