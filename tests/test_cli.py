import json
import shlex
import subprocess
import sys
from importlib.resources import files

import nibabel as nib
import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from medgan import catalog, cli
from medgan.commands import early
from medgan.config import flattened, read_yaml
from tables import rewrite

HEAVY = {"torch", "monai", "mlflow", "lightning_fabric", "numpy", "scipy", "pandas", "matplotlib", "SimpleITK"}
EACH = f"""
import json, sys
from typer.testing import CliRunner
from medgan.cli import app
for command in json.loads(sys.argv[1]):
    result = CliRunner().invoke(app, command)
    print(json.dumps([result.exit_code, result.stdout, result.stderr, sorted({HEAVY} & sys.modules.keys())]))
"""


def ends(commands, folder):
    """How commands end in one process, since a library that one of them imports would be seen after the next."""
    done = subprocess.run(
        [sys.executable, "-c", EACH, json.dumps(list(map(shlex.split, commands)))],
        capture_output=True, text=True, encoding="utf-8", check=True, cwd=folder,
    )  # fmt: skip
    return dict(zip(commands, map(json.loads, done.stdout.splitlines()), strict=True))


def medgan(*arguments):
    return CliRunner().invoke(cli.app, [str(each) for each in arguments])


@pytest.fixture
def train(unpaired, tmp_path, tiny):
    def run(*arguments, data=unpaired):
        asked = ["train", "--pipeline", "ct_contrast", "--out", tmp_path / "runs", "--device", "cpu"]
        return medgan(*asked, "--data", data, *tiny, *arguments)

    return run


def tree(command=None, path=()):
    """Every command and group of commands, by its words."""
    command = typer.main.get_command(cli.app) if command is None else command
    yield path, command
    for name, below in getattr(command, "commands", {}).items():
        yield from tree(below, (*path, name))


COMMANDS = {" ".join(path): command for path, command in tree()}
LEAVES = {path: command for path, command in COMMANDS.items() if not hasattr(command, "commands")}


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_80_columns_and_cuts_no_word(command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    text = medgan(*command.split(), "--help").stdout
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    for parameter in COMMANDS[command].params:
        for name in (*parameter.opts, *parameter.secondary_opts):
            assert parameter.hidden or not name.startswith("-") or name in text.split(), name
    assert all(panel in text for panel in (cli.PANELS if not command else ()))


@pytest.mark.parametrize("command", LEAVES)
def test_help_ends_with_two_examples_that_parse(command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    title, *examples = (LEAVES[command].epilog or "none").splitlines()
    assert title == "Examples:", f"end the docstring of `medgan {command}` with two lines under `Examples:`"
    assert len(examples) >= 2
    assert any(line.strip().startswith(f"medgan {command}") for line in examples)
    text = medgan(*command.split(), "--help").stdout
    for line in examples:
        assert line.strip() in text, "a line of 78 characters at most"
        words = shlex.split(line.partition(" > ")[0])[1:]
        path = max((path for path in COMMANDS if words[: len(path.split())] == path.split()), key=len)
        if "--help" not in words:
            given = COMMANDS[path].make_context(path, words[len(path.split()) :]).params
            kind, pipeline = given.get("kind") or given.get("study"), given.get("pipeline") or given.get("name")
            settings = "segmentation" if path == "segment-train" else early.settings_of(kind or "", pipeline)
            if path != "data register":
                several = path == "sweep"
                early.check_use(settings=settings, overrides=given.get("overrides") or (), several=several)


COMPLETED = {
    "train -p ct_": ["ct_contrast"],
    "study abl": ["ablation"],
    "config show mr_to": ["mr_to_ct"],
    "train -p ct_contrast fit.epo": ["fit.epochs="],
    "config show mr_to_ct pix2pix.bone": ["pix2pix.bone_weight="],
    "sweep -p ct_contrast cyclegan.cyc": ["cyclegan.cycle="],
    "sweep registered.bone_w": ["registered.bone_weight="],
    "segment-train patch.dim": ["patch.dimensions="],
    "study augmentation -p ct_contrast rat": ["ratios_percent="],
    "convert in out --model runs/": ["runs/ct_contrast/one/model"],
}
COMPLETE = f"""
import contextlib, io, json, os, sys
from medgan.cli import app
lines, sys.argv = json.loads(sys.argv[1]), ["medgan"]
for line in lines:
    os.environ.update(_MEDGAN_COMPLETE="complete_zsh", _TYPER_COMPLETE_ARGS="medgan " + line)
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
        app(prog_name="medgan")
    print(json.dumps([out.getvalue(), sorted({HEAVY} & sys.modules.keys())]))
"""


def test_the_shell_completes_pipelines_studies_keys_and_models_with_nothing_heavy(tmp_path):
    model = tmp_path / "runs" / "ct_contrast" / "one" / "model"
    model.mkdir(parents=True)
    (model / "model.json").touch()
    asked = [sys.executable, "-c", COMPLETE, json.dumps([*COMPLETED])]
    done = subprocess.run(asked, capture_output=True, text=True, check=True, cwd=tmp_path)
    for (line, expected), each in zip(COMPLETED.items(), done.stdout.splitlines(), strict=True):
        text, heavy = json.loads(each)
        assert heavy == [], line
        assert all(word in text for word in expected), f"{line}: {text}"


def test_help_and_lists_answer_without_the_heavy_libraries(tmp_path):
    asked = [*(f"{command} --help" for command in COMMANDS), "pipelines", "--version"]
    for command, (code, out, _, heavy) in ends(asked, tmp_path).items():
        assert (code, heavy) == (0, []), command
        assert out.strip(), command


def test_pipelines_are_listed_with_their_summaries():
    lines = medgan("pipelines").stdout.splitlines()
    assert [line.split(maxsplit=1) for line in lines] == [list(pair) for pair in catalog.summaries().items()]


@pytest.mark.parametrize("name", catalog.names())
def test_settings_are_shown_as_yaml_that_can_be_given_back(name, tmp_path):
    shown = medgan("config", "show", name, "seed=7")
    assert shown.exit_code == 0
    assert shown.stdout.startswith("size: small\n")
    assert medgan("config", "show", name, "--phantom").stdout.startswith("size: small\n")
    (tmp_path / "own.yaml").write_text(shown.stdout)
    again = medgan("config", "show", name, "--config", tmp_path / "own.yaml")
    assert again.stdout == shown.stdout
    assert flattened(read_yaml(tmp_path / "own.yaml"))["seed"] == 7


@pytest.mark.parametrize("name", catalog.names())
def test_the_schema_is_one_that_editors_understand(name):
    schema = json.loads(medgan("config", "schema", name).stdout)
    groups = {"#": schema} | {f"#/$defs/{key}": group for key, group in schema["$defs"].items()}
    assert set(references(schema)) <= groups.keys()
    for group in groups.values():
        assert group["type"] == "object"
        assert group["additionalProperties"] is False
    assert catalog.load(name).settings().model_dump().keys() == schema["properties"].keys()
    assert "description" in schema["properties"]["size"]


def references(node):
    if isinstance(node, dict):
        return [
            *([node["$ref"]] if "$ref" in node else []),
            *(ref for each in node.values() for ref in references(each)),
        ]
    return [ref for each in node for ref in references(each)] if isinstance(node, list) else []


EARLY = {
    "config show ct_contrats": "medgan: there is no pipeline 'ct_contrats'; did you mean 'ct_contrast'?",
    "config schema nosuch": "there is no pipeline 'nosuch'",
    "train -p xyz": "medgan: there is no pipeline 'xyz'; see `medgan pipelines`.",
    "config show ct_contrast fit.epoch=3": "unknown setting 'fit.epoch' (did you mean 'fit.epochs'?)",
    "train -p ct_contrast fit.epoch=3": "unknown setting 'fit.epoch'",
    "train -p ct_contrast --config no.yaml": "no.yaml: no such config file",
    "train -p ct_contrast --data no": "no is empty or does not exist",
    "train -p ct_contrast --device gpu0": "this machine has no device 'gpu0'; --device takes auto",
    "train -p ct_contrast --device cpu,auto": "",
    "train -p ct_contrast --name ../x": "the name '../x' is not that of a folder",
    "train -p ct_contrast --resume-or-start": "--resume-or-start needs a --name",
    "convert no out --model m": "",
    "convert . out --model m": "",
    "evaluate --synthetic no --reference no --out x": "",
    "evaluate --synthetic . --reference . --training no.csv:mr,ct --out x": "",
    "sweep -p mr_to_ct pix2pix.l2=1,2": "unknown setting 'pix2pix.l2'",
    "study ablation -p mr_to_ct --data no": "no is empty or does not exist",
    "benefit -p ct_contrast arm=1": "unknown setting 'arm'",
    "benefit -p ct_contrast --model no": "",
    "segment-train fit.epok=3": "unknown setting 'fit.epok'",
    "segment-train --name a/b": "the name 'a/b' is not that of a folder",
    "segment no out --model m": "",
    "classify no out --model m": "",
    "augment no out --model m": "",
    "faithfulness no out --model m": "",
    "data check no": "no is empty or does not exist",
    "data register no out -p mr_to_ct": "",
}
"""What is told before anything heavy is imported."""
LATER = {
    "config show ct_contrast fit.epochs": "'fit.epochs' is not a setting; write KEY=VALUE",
    "config show ct_contrast --config no.yaml": "no.yaml: no such config file",
    "train -p ct_contrast --resume --out no": "there is no run to resume",
    "train -p ct_contrast --resume seed=1": "--resume goes on with the run's own settings",
    "segment-train --resume --out no": "there is no run to resume",
    "data phantom out --kind knee": "there is no phantom 'knee'",
    "sweep -p ct_contrats": "did you mean 'ct_contrast'",
    "sweep -p ct_contrast --name /x": "the name '/x' is not that of a folder",
    "sweep -p ct_contrast fit.epochs=[1": "without its end",
    "sweep -p ct_contrast --seeds x": "--seeds x: write how many",
    "sweep -p ct_contrast fit.epoch=1,2": "unknown setting 'fit.epoch' (did you mean 'fit.epochs'?)",
    "sweep -p ct_contrast --quick --shifts 1,2": "does not take --quick or --shifts; leave it",
    "study ablation -p ct_contrast seed=1": "give seeds as --seeds",
    "study ablatoin -p ct_contrast": "did you mean 'ablation'?",
    "study misalignment -p ct_contrast --shifts 3": "write at least two whole numbers",
    "study misalignment -p ct_contrast --data no": "no is empty or does not exist",
    "study misalignment -p ct_contrast --only losses": "does not take --only; leave it out",
    "benefit -p ct_contrast --name ''": "the name '' is not that of a folder",
    "benefit -p ct_contrast --model a --model b": "arms does not take a second --model",
    "benefit --study routes -p mr_to_ct --quick": "routes does not take --quick",
    "benefit --study routes -p mr_to_ct": "give each fold's model folder by --model",
    "benefit --study lesion-prevalence -p ct_contrast --data c --model a":
        "lesion-prevalence does not take --data or --model",
}  # fmt: skip


@pytest.mark.parametrize(("command", "message"), [*EARLY.items(), *LATER.items()])
def test_wrong_use_is_one_line_and_exit_code_2_and_leaves_nothing(command, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = medgan(*shlex.split(command))
    assert (result.exit_code, result.stdout) == (2, "")
    last = result.stderr.splitlines()[-1]
    assert last.startswith("medgan: ")
    assert message in last
    assert list(tmp_path.iterdir()) == []


def test_wrong_use_is_told_before_anything_heavy_is_imported(tmp_path):
    for command, (code, _, err, heavy) in ends(EARLY, tmp_path).items():
        assert (code, err.startswith("medgan: "), heavy) == (2, True, []), command


def test_the_shipped_keys_are_those_of_the_settings():
    shipped = json.loads(files("medgan.configs").joinpath("keys.json").read_text(encoding="utf-8"))
    assert shipped == early.shipped_keys(), "run: python -m medgan.commands.early > configs/keys.json"


def test_words_that_the_program_does_not_know_are_exit_code_2():
    for command in (["train"], ["nonsense"], ["train", "-p", "ct_contrast", "--epochs", "3"]):
        assert medgan(*command).exit_code == 2


def test_a_training_tells_where_the_model_is_and_what_to_do_next_and_a_quiet_one_nothing_but_errors(train, tmp_path):
    result = train("--name", "one", "--seed", "5")
    assert result.exit_code == 0, result.stderr
    model, tracked, report, following = result.stdout.splitlines()
    folder = tmp_path / "runs" / "ct_contrast" / "one"
    assert model.startswith(f"model: {folder / 'model'} (averages after epoch ")
    assert "MLflow run " in tracked
    assert report == f"report: {folder / 'report.html'}"
    assert "Training of ct_contrast, one" in (folder / "report.html").read_text(encoding="utf-8")
    assert following == f"next:  medgan convert INPUT OUTPUT --model {folder / 'model'}"
    assert "size small; 8 iterations of 2 patches" in result.stderr.replace("\n", " ")
    assert read_yaml(folder / "config.yaml")["seed"] == 5
    again = train("--name", "one", "--quiet")
    assert (again.exit_code, "holds a run already" in again.stderr) == (2, True)
    asked = ["--out", tmp_path / "runs", "--name", "one", "--device", "cpu", "--resume", "--quiet"]
    quiet = medgan("train", "--pipeline", "ct_contrast", *asked)
    assert (quiet.exit_code, quiet.stdout, quiet.stderr) == (0, "", "")


def outside(folder):
    own = {"image": "../s0.nii.gz"}
    rewrite(folder / "cohort.csv", lambda row: row | (own if row["image"] == "s0_contrast.nii.gz" else {}))


def two_parts(folder):
    rewrite(folder / "cohort.csv", lambda row: row | ({"split": "test"} if row["image"] == "s0_plain.nii.gz" else {}))


def two_grids(folder):
    image = nib.load(folder / "s1_plain.nii.gz")
    nib.Nifti1Image(np.asarray(image.dataobj)[:, :-1], image.affine).to_filename(image.get_filename())


def not_finite(folder):
    image = nib.load(folder / "s0_contrast.nii.gz")
    nib.Nifti1Image(image.get_fdata(dtype=np.float32) * np.nan, image.affine).to_filename(image.get_filename())


def no_image(folder):
    (folder / "s0_contrast.nii.gz").write_bytes(b"")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (outside, "image '../s0.nii.gz' does not exist"),
        (two_parts, "a subject belongs to one part, and the `split` column has 's0' in test and train"),
        (two_grids, "are on different voxel grids, so they cannot be trained as a pair; register them first"),
        (not_finite, "s0_contrast.nii.gz"),
        (no_image, "s0_contrast.nii.gz"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_data_that_cannot_be_used_are_named_and_exit_code_2(train, save_cohort, tmp_path, damage, message):
    save_cohort(tmp_path / "cohort", paired=True, subjects=4, split=True)
    damage(tmp_path / "cohort")
    result = train("translator=pix2pix", data=tmp_path / "cohort")
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1].startswith("medgan: ")
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("damage", "code"), [(None, 0), (two_grids, 1), (not_finite, 1)])
def test_a_check_of_the_data_ends_with_1_on_findings(save_cohort, tmp_path, damage, code):
    save_cohort(tmp_path / "cohort", paired=True, subjects=4)
    if damage:
        damage(tmp_path / "cohort")
    asked = ["data", "check", tmp_path / "cohort", "--csv", tmp_path / "table.csv"]
    assert medgan(*asked).exit_code == (code if damage is not two_grids else 0)
    result = medgan(*asked, "translator=pix2pix")
    assert result.exit_code == code, result.stderr
    assert (tmp_path / "table.csv").read_text().count("\n") == 9
    assert "Traceback" not in result.stderr


def test_a_phantom_is_written_where_it_is_asked_for(tmp_path):
    result = medgan("data", "phantom", tmp_path / "phantom", "--subjects", "1", "--seed", "3")
    assert result.exit_code == 0
    assert result.stdout == f"cohort: {tmp_path / 'phantom' / 'cohort.csv'}\n"
    assert (tmp_path / "phantom" / "cohort.csv").exists()
