"""Which images of a place are real and which are synthetic."""

from dataclasses import dataclass
from pathlib import Path

from medgan.data.layouts import Study
from medgan.data.location import AS_IT_IS, Location, Options
from medgan.data.sidecars import sidecar
from medgan.data.studies import read_cohort
from medgan.data.tables import is_table
from medgan.errors import ConfigError, DataError
from medgan.evaluation.matching import read_images, split_place

Place = str | Path


@dataclass(frozen=True)
class Row:
    """An image and what is known of where it comes from."""

    study: Study
    synthetic: bool
    """Whether its sidecar says so."""
    recipient: str | None
    """The real subject whose image a synthetic one was made from."""


def read_rows(place: Place, options: Options = AS_IT_IS) -> list[Row]:
    """The images of a cohort (CSV, folders, BIDS, nnU-Net raw), of ``COHORT:DOMAIN``, or of a folder of images.

    Raises:
        DataError: The place holds no image, or does not exist.
        ConfigError: A cohort of several domains, of which none is named.
    """
    path, domain = split_place(place)
    cohort = None
    if path.is_dir() or is_table(path):
        cohort = read_cohort(Location(path, options), (domain,) if domain else (), tested=True)
    if cohort is None:
        return [_row(Study(image.subject, "", image.path)) for image in read_images(place).images]
    domains = sorted({study.domain for study in cohort.studies})
    if domain and domain not in domains:
        raise DataError(f"{path} has no image of domain {domain}; it has {', '.join(domains)}.")
    if not domain and len(domains) > 1:
        raise ConfigError(f"{path} has images of {', '.join(domains)}; say which, as in {path}:{domains[0]}.")
    return [_row(study) for study in cohort.studies if study.domain == (domain or domains[0])]


def divided(synthetic: Place, reference: Place | None, options: Options = AS_IT_IS) -> tuple[list[Row], list[Row]]:
    """Synthetic rows and real ones: by the sidecars of one cohort, or those of two places.

    Raises:
        DataError: One place, in which no image, or every one, is marked as synthetic; or a reference of marked ones.
    """
    given = read_rows(synthetic, options)
    marked = [row for row in given if row.synthetic]
    if reference is not None:
        real = [row for row in read_rows(reference, options) if not row.synthetic]
        if not real:
            raise DataError(f"{reference} holds synthetic images only; give real ones with --reference.")
        return marked or given, real
    if not marked:
        raise DataError(
            f"no sidecar in {synthetic} marks an image as synthetic; give an augmented cohort as `medgan augment` "
            "writes it, or the real images with --reference."
        )
    if len(marked) == len(given):
        raise DataError(f"{synthetic} holds synthetic images only; give the real ones with --reference.")
    return marked, [row for row in given if not row.synthetic]


def _row(study: Study) -> Row:
    facts = sidecar(study.image)
    parents = facts.get("Parents")
    known = isinstance(parents, list) and parents and isinstance(parents[0], str)
    return Row(study, facts.get("Synthetic") is True, parents[0] if known and isinstance(parents, list) else None)
