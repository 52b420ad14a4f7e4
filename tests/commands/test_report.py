from typer.testing import CliRunner

from medgan.cli import app
from medgan.evaluation.evaluate import evaluate
from report_scans import write_scans


def test_the_answer_and_the_page_are_said_and_what_holds_nothing_is_refused(tmp_path):
    places = write_scans(tmp_path, ["s0", "s1"])
    evaluate(**places)
    page = tmp_path / "page.html"
    ended = CliRunner().invoke(app, ["report", str(places["out"]), "--out", str(page)])
    assert ended.exit_code == 0, ended.output
    first, *_, last = ended.output.splitlines()
    assert first.startswith(("Yes: ", "No: ", "In part: ", "That is not shown: "))
    assert last == f"report: {page}"
    assert page.is_file()
    refused = CliRunner().invoke(app, ["report", str(places["source"])])
    assert refused.exit_code == 2
    assert "holds nothing to report; give a model folder (model.json), a run" in " ".join(refused.output.split())
