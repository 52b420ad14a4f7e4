"""``medgan plan``: settings for a cohort, a device and a time."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from typer import Option

from medgan.commands import early
from medgan.commands.common import (
    ConfigFile,
    Data,
    Device,
    Overrides,
    PipelineName,
    Quiet,
    Reading,
    Threads,
    TrainedDomain,
    command,
    console,
    say,
)
from medgan.errors import ConfigError


@dataclass(frozen=True)
class Budget:
    """What a planned training may take."""

    minutes: Annotated[float | None, Option(min=0.1, help="Of iterations and validations; else 20.")] = None
    memory: Annotated[float | None, Option(min=0.1, help="GiB of it; else nine tenths of what is free.")] = None


@dataclass(frozen=True)
class Planning(Budget):
    """Whether a training is planned first, and what it may take."""

    plan: Annotated[bool, Option("--plan", help="Plan the settings as `medgan plan` does, and keep plan.yaml.")] = False

    def check(self, pipeline: str, *, resume: bool) -> None:
        """Refuse what no plan can be made of, and a plan's options without one."""
        if not self.plan and (self.minutes, self.memory) != (None, None):
            raise ConfigError("--minutes and --memory are a plan's; add --plan, or set fit.epochs.")
        if self.plan and resume:
            raise ConfigError("--resume goes on with the run's own settings and never plans again; leave --plan out.")
        if self.plan:
            check_plannable(pipeline)


def check_plannable(pipeline: str) -> None:
    """Refuse a pipeline whose networks and patches a plan does not know."""
    kinds = {"discriminator.receptive_field", "fit.epochs"}, {"network.downs", "fit.epochs"}
    plannable = [name for name, keys in early.shipped().items() if any(kind <= {*keys} for kind in kinds)]
    if pipeline not in plannable:
        raise ConfigError(f"there are no plans for '{pipeline}'; there are for {', '.join(plannable)}.")


@command
def plan(
    pipeline: PipelineName,
    overrides: Overrides = None,
    data: Data = None,
    *,
    reading: Reading,
    config: ConfigFile = None,
    domain: TrainedDomain = None,
    budget: Budget,
    out: Annotated[Path, Option(help="The file to write.")] = Path("plan.yaml"),
    device: Device = "auto",
    threads: Threads = None,
    quiet: Quiet = False,
) -> None:
    """Plan a training for a cohort, a device and a time: a YAML for --config, with a reason for each setting.

    Examples:
        medgan plan --pipeline mr_to_ct --data cohort.csv --minutes 20
        medgan plan -p segmentation --data cohort.csv --domain mr --out mine.yaml
    """
    early.check_use(
        pipeline=pipeline, settings=pipeline, overrides=overrides, config=config, data=data, device=device,
        threads=threads,
    )  # fmt: skip
    check_plannable(pipeline)
    if domain and pipeline != "segmentation":
        raise ConfigError(f"--domain names what a segmenter sees; '{pipeline}' has domains of its own.")
    if out.exists():
        raise ConfigError(f"{out} exists, and may have been edited; name another file by --out.")
    from medgan.data.streams import write_text
    from medgan.planning.plan import Wanted, make_plan
    from medgan.segmentation.settings import domain_called

    wanted = Wanted(
        pipeline, reading.located_if_given(data), config, overrides or (), minutes=budget.minutes,
        settings={"domain": domain_called(domain).model_dump(mode="json")} if domain else {},
        memory_gib=budget.memory, device=device, threads=threads,
    )  # fmt: skip
    made = make_plan(wanted, lambda line: console(quiet).out(line, highlight=False))
    write_text(out, made.yaml())
    verb = "segment-train" if pipeline == "segmentation" else f"train --pipeline {pipeline}"
    where = f" --data {data}" if data else ""
    say(quiet, f"plan:  {out}")
    say(quiet, f"next:  medgan {verb}{where} --config {out}")
