import typer

from medgan.commands.data import app
from medgan.phantom.kinds import KINDS


def test_help_names_every_kind_of_phantom():
    options = {option.name: option for option in typer.main.get_command(app).commands["phantom"].params}
    assert all(kind in options["kind"].help for kind in KINDS)
    assert options["kind"].default in KINDS
