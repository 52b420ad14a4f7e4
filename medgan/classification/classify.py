"""``medgan classify``: many images through one classifier, one table of what each holds."""

from collections.abc import Sequence

from rich.console import Console

from medgan.classification.apply import classify_volume
from medgan.classification.settings import ClassifierDescription, ClassifierModel
from medgan.classification.table import TABLE, ClassTable
from medgan.data.leaks import ThisImage, this_image
from medgan.errors import ConfigError
from medgan.inference.batch import Batch, BatchOrder, Summary, local_model
from medgan.inference.jobs import Job, Plan, find_jobs
from medgan.inference.sidecar import Facts, model_origin
from medgan.inference.translate import OF_PHANTOM
from medgan.training.model_folder import library_versions, read_model

NOT_FOR_CLINICAL_USE = "Classes by a network, for research. Not for diagnosis."
RULE = "an image is what the patch is that is least likely healthy; patches of the trained size, overlapping by half"


def classify(order: BatchOrder, console: Console) -> Summary:
    """Classify all images of an order; the table is written at the end, also of a batch that is stopped.

    Raises:
        InUseError: Another process is in the output folder.
        ConfigError: An output that is no folder or the input's; nothing was written.
        DataError: There is nothing to classify, no place for the table, or another table in its place.
        ModelError: The model cannot be used.
    """
    return _Classification(order, console).complete()


class _Classification(Batch[ClassifierModel]):
    """The classification of many images with one model; all of them end in one table."""

    doing, done, place = "classifying", "classified", TABLE
    table: ClassTable

    def __init__(self, order: BatchOrder, console: Console) -> None:
        super().__init__(order, console)
        model = read_model(local_model(order.model, order.tracking), ClassifierDescription)
        config, origin = model.description.config, model.description.origin
        self.classes, self.domain = config.classes, config.domain
        self.trained_on, self.of_phantom = origin.trained_on, origin.phantom
        self.facts = {
            "Classification": True,
            "NotForClinicalUse": NOT_FOR_CLINICAL_USE,
            "Classes": list(config.classes),
            "Rule": RULE,
            "Model": model_origin(model.description),
            "Versions": library_versions(),
        }
        self.compute_with(model)

    def plan(self) -> Plan:
        """The images of the domain that is asked for, else of the model's."""
        order = self.order
        if order.output.exists() and not order.output.is_dir():
            raise ConfigError(f"{order.output} is a file and no folder; give a folder for {TABLE} and its records.")
        return find_jobs(order.input, order.output, order.domain or self.domain.name, table=TABLE)

    def begin(self, plan: Plan) -> Plan:
        """Take up the table of an earlier batch."""
        self.table = ClassTable(self.order.output, self.classes, self.facts, overwrite=self.order.overwrite)
        return plan

    def is_kept(self, job: Job, facts: Facts) -> bool:
        """Whether the table has the image."""
        return self.table.knows(job.name, facts["SourceSHA256"])

    def make(self, job: Job, facts: Facts) -> Sequence[str]:
        """Classify one image."""
        volume, warnings, _ = self.read(job)
        with self.device() as (model, fabric):
            found = classify_volume(model, volume, fabric)
        self.table.add(job.name, facts["SourceSHA256"], found, this_image(volume, self.trained_on))
        if self.of_phantom:
            warnings.append(OF_PHANTOM)
        if self.domain.window.percentiles and found.patches == 1:
            warnings.append("a single patch: its intensities were scaled by its own percentiles, not by its study's")
        return warnings

    def training(self, job: Job) -> ThisImage:
        """What the table says."""
        return self.table.seen.get(job.name, "unknown")

    def save(self) -> None:
        """Write the table."""
        self.table.write()
