"""Many studies through one model: a bad one is named and never stops the rest, whatever the model does."""

import os
import re
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager
from pathlib import Path

from lightning_fabric import Fabric
from rich.console import Console

from medgan.data.belonging import Scans, cannot_be, check_belongs, oddities
from medgan.data.domains import Domain
from medgan.data.preparation import GridConfig
from medgan.data.sidecars import ThisImage
from medgan.data.volumes import Volume
from medgan.errors import DataError, MedganError
from medgan.inference.jobs import MANIFEST, Job, Plan
from medgan.inference.record import Manifest, Outcome, Status
from medgan.inference.sidecar import kept
from medgan.text import printable
from medgan.tracking import download_model
from medgan.training.device import make_fabric
from medgan.training.folder_lock import alone_in


class StudyBatch(ABC):
    """Jobs that are done one by one or side by side.

    Args:
        jobs: Studies in memory: one is computed while the others are read or written.
    """

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs
        self.seen: dict[str, ThisImage] = {}
        """Whether the model has seen each input, by name in records."""
        self.computing = threading.Lock()

    @abstractmethod
    def converted(self, job: Job) -> tuple[Status, Sequence[str]]:
        """Do one study, unless its output is there already; how it ended, and its warnings."""

    def run(self, plan: Plan) -> Iterator[Outcome]:
        """Do each study; the outcomes come as studies end, and are in the manifest by then."""
        manifest = Manifest(plan.folder / MANIFEST if plan.folder else None)
        with ThreadPoolExecutor(self.jobs) as workers:
            try:
                for future in as_completed([workers.submit(self.outcome, job, plan.folder) for job in plan.jobs]):
                    manifest.add(future.result())
                    yield future.result()
            except BaseException:
                workers.shutdown(cancel_futures=True)
                raise

    def outcome(self, job: Job, folder: Path | None) -> Outcome:
        """Do one study, whatever may be wrong with it."""
        started = time.monotonic()
        status: Status = "failed"
        warnings: Sequence[str] = ()
        message = ""
        try:
            if job.problem:
                raise DataError(job.problem)
            status, warnings = self.converted(job)
        except Exception as error:  # whatever a study brings about, the others are still to be converted
            message = why(error, job.name)
        output = job.output.relative_to(folder).as_posix() if folder else job.output.name
        warnings = tuple(printable(_without_place(warning, job, folder)) for warning in warnings)
        message = printable(_without_place(message, job, folder)) or "; ".join(warnings)
        return Outcome(status, job.name, printable(output), round(time.monotonic() - started, 3), message, warnings)


def alone_with(plan: Plan, console: Console) -> AbstractContextManager[None]:
    """Keep other processes from a plan's outputs; see :func:`medgan.training.folder_lock.alone_in`."""
    output = plan.jobs[0].output
    return alone_in(plan.folder or output.parent, console, None if plan.folder else output.name)


def judged(
    volume: Volume, domain: Domain, *, force: bool, scans: Scans | None = None, grid: GridConfig | None = None
) -> tuple[tuple[str, ...], list[str]]:
    """Why a study is only taken because that was forced, and all warnings about it that need no network.

    Raises:
        DataError: It cannot be of the domain, and is not forced to be.
    """
    forced = check_belongs(volume, domain, force=force, advice=", or add --force to take it all the same")
    said = [f"forced, although it {cannot_be(domain)}: {why}" for why in forced]
    return forced, [*said, *volume.notes, *([] if forced else oddities(volume, domain, scans, grid))]


def forced_facts(reasons: Sequence[str]) -> dict[str, list[str]]:
    """What a sidecar says of a study that could not be of its domain; nothing of one that could."""
    return {"Forced": list(reasons)} if reasons else {}


def why(error: Exception, name: str) -> str:
    """What is recorded of an error that ended one study and stops no other.

    Args:
        error: What it was.
        name: The study's.
    """
    if isinstance(error, MedganError):
        return str(error)
    if isinstance(error, MemoryError):
        return "out of memory; see that nothing else fills it (--jobs 1, other programs), or take a larger machine."
    if isinstance(error, OSError):
        return f"{error.filename or name}: {error.strerror or error}; check the disk, the file and its access."
    return f"unexpected {type(error).__name__}: {error}"


def is_kept(job: Job, facts: Mapping[str, object], *, overwrite: bool) -> bool:
    """Whether a job's outputs are there already; with ``overwrite``, whatever else is in their place does not matter.

    Raises:
        DataError: Something else lies there, and is not to be overwritten.
    """
    try:
        return kept(job, dict(facts))
    except MedganError:
        if not overwrite:
            raise
        return False


def local_model(model: str, tracking: str | None) -> Path:
    """The folder of a model: itself, or a model that MLflow recorded (``runs:/ID/model``), fetched."""
    if re.match(r"(runs|models):/", model):
        return download_model(model, tracking)
    return Path(model)


def conversion_fabric(device: str) -> Fabric:
    """32 bits on a CPU, where results shall not depend on its kind; on a GPU what it computes best."""
    fabric = make_fabric(device, "32")
    return make_fabric(device, "auto") if fabric.device.type == "cuda" else fabric


def _without_place(message: str, job: Job, folder: Path | None) -> str:
    """A message that names a study or an output as the records do, without the path of this machine in front."""
    places = {f"{folder or job.output.parent}{os.sep}": "", str(job.source): job.name}
    for place, name in places.items():
        if message.startswith(place):
            return name + message.removeprefix(place)
    return message
