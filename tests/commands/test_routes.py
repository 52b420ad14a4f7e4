from pathlib import Path

import pandas as pd
import pytest
import typer

from medgan.benefit.failures import Failure
from medgan.benefit.routes.study import Routes
from medgan.commands.routes import routes
from medgan.errors import ConfigError


@pytest.fixture
def ordered(monkeypatch):
    """Studies that are ordered, and not run; ``failures`` fail."""
    orders, failures = [], []

    def run_routes(order, console):
        orders.append(order)
        return Routes(order.folder, pd.DataFrame(), pd.DataFrame(), tuple(failures), "MLflow run 1")

    monkeypatch.setattr("medgan.benefit.routes.study.run_routes", run_routes)
    return orders, failures


def test_what_is_asked_becomes_an_order_and_what_is_found_is_told(ordered, capsys):
    routes("mr_to_ct", models=[Path("a"), Path("b")], data=Path("c"), overrides=["labelled=[2]"], seeds="2")
    ((order,), _) = ordered
    assert (order.pipeline, order.models, order.data) == ("mr_to_ct", (Path("a"), Path("b")), Path("c"))
    assert (order.overrides, order.seeds, order.name) == (("labelled=[2]",), (0, 1), "routes")
    table, tracked = capsys.readouterr().out.splitlines()
    assert table == "table: runs/mr_to_ct/routes/table.csv; by subject: runs/mr_to_ct/routes/rows.csv"
    assert tracked == "MLflow run 1"


def test_a_failed_child_is_exit_code_1(ordered):
    ordered[1].append(Failure("mr", "no"))
    with pytest.raises(typer.Exit) as end:
        routes("mr_to_ct", models=[Path("a")], data=Path("c"), quiet=True)
    assert end.value.exit_code == 1


def test_the_phantom_cannot_stand_in_for_the_cohort_of_finished_models(ordered):
    with pytest.raises(ConfigError, match="--data"):
        routes("mr_to_ct", models=[Path("a")], data=None)
