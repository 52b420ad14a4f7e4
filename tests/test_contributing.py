"""The examples of CONTRIBUTING.md are whole: a pipeline and a GAN in one file each train as they stand there."""

import importlib
import re
import sys
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from medgan import catalog
from medgan.cli import app
from medgan.training.architecture import TranslationDescription
from medgan.training.model_folder import read_model
from medgan.training.run import Order, train

PAGE = Path(__file__).parents[1] / "CONTRIBUTING.md"
TINY = [
    "patch.size_voxels=16",
    "generator.network={kind: resnet, channels: 4, downs: 1, blocks: 1}",
    "discriminator={receptive_field: 16, channels: 4}",
    "fit={epochs: 1, iterations_per_epoch: 2, batch_size: 1, precision: '32'}",
]


def example(section):
    """The code of a section, and the file that the text before it names."""
    text = re.search(rf"^## {section}\n(.*?)^## ", PAGE.read_text(encoding="utf-8"), re.M | re.S)[1]
    before, code = re.search(r"(.*?)```python\n(.*?)```", text, re.S).groups()
    return re.findall(r"`([\w/]+\.py)`", before)[-1], code


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """``installed(file, code)`` puts a file where medgan finds its own."""

    def install(file, code):
        package = "medgan.pipelines" if file.startswith("pipelines/") else str(Path(file).parent).replace("/", ".")
        module = importlib.import_module(package)
        folder = tmp_path / package
        folder.mkdir(exist_ok=True)
        (folder / Path(file).name).write_text(code, encoding="utf-8")
        monkeypatch.setattr(module, "__path__", [*module.__path__, str(folder)])
        monkeypatch.delitem(sys.modules, f"{package}.{Path(file).stem}", raising=False)
        return Path(file).stem

    return install


def trained(name, cohort, out):
    run = train(Order(name, cohort, overrides=TINY, out=out, name="one", device="cpu"), Console(quiet=True)).run
    return read_model(run.model, TranslationDescription).description


def test_a_pipeline_is_one_file(installed, paired, tmp_path):
    name = installed(*example("Add a pipeline"))
    assert f"{name} " in CliRunner().invoke(app, ["pipelines"]).stdout
    description = trained(name, paired, tmp_path / "runs")
    assert (description.name, description.pair.names) == ("add_contrast", ("plain", "contrast"))
    assert "val/mae_hu" in description.metrics


def test_a_gan_is_one_file(installed, unpaired, tmp_path):
    gan = installed(*example("Add a GAN"))
    file, code = example("Add a pipeline")
    code = code.replace("paired=True", "paired=False").replace(
        "Pix2Pix(self.config.pix2pix, **self.parts)", "LSGAN(**self.parts)"
    )
    code = code.replace('"""\n', f'"""\n\nfrom medgan.translators.{gan} import LSGAN', 1)
    description = trained(installed(file, code), unpaired, tmp_path / "runs")
    assert (description.directions, "val/score_hu" in description.metrics) == (("to_target",), True)
    assert catalog.load("add_contrast").__name__ == "AddContrast"


def test_a_study_is_one_file(installed, paired, tmp_path):
    name = installed(*example("Add a study")).replace("_", "-")
    assert f"{name} " in CliRunner().invoke(app, ["studies"]).stdout
    words = ["study", name, "-p", "ct_contrast", "--data", paired, "--out", tmp_path, "--device", "cpu", *TINY]
    assert CliRunner().invoke(app, [str(word) for word in words]).exit_code == 0
    folder = tmp_path / "ct_contrast" / name
    assert {path.name for path in folder.iterdir()} >= {"study.html", "study.csv", "table.csv", "rate=0.0001,seed=0"}
