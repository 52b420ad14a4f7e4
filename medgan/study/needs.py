"""What a study asks of a pipeline: translators to choose between, and pix2pix's settings."""

from collections.abc import Sequence
from typing import Any, get_args

from medgan import catalog
from medgan.errors import ConfigError


def check_translators(pipeline: str, wanted: Sequence[str]) -> None:
    """Refuse a pipeline that a study cannot take apart.

    Args:
        pipeline: Its name.
        wanted: Translators that its setting ``translator`` must offer, each with a group of settings of its name.

    Raises:
        ConfigError: There is no such pipeline, or it lacks one of them.
    """
    fields = catalog.load(pipeline).settings.model_fields
    offered: tuple[Any, ...] = get_args(fields["translator"].annotation) if "translator" in fields else ()
    lacking = [name for name in wanted if name not in offered or name not in fields]
    if lacking:
        there = ", ".join(map(str, offered)) or "no choice of translators"
        raise ConfigError(
            f"pipeline '{pipeline}' has no {' and no '.join(lacking)}, which this study compares; it has {there}. "
            "Choose another pipeline, or compare settings of your own with `medgan sweep`."
        )


def adversarial_game(settings: dict[str, Any]) -> str:
    """The adversarial loss that pix2pix's arms play: the configured one, or the paper's where that is none."""
    configured = str(settings["pix2pix"]["adversarial"])
    return "vanilla" if configured == "none" else configured
