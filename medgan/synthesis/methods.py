"""From a name or a trained network to what makes synthetic cases."""

from collections.abc import Mapping

from torch import nn

from medgan.data.domains import Domain
from medgan.errors import ConfigError
from medgan.synthesis.carve_mix import CarveMix
from medgan.synthesis.copy_paste import CopyPaste
from medgan.synthesis.insertion import InsertionConfig
from medgan.synthesis.painted import Masks, Painted
from medgan.synthesis.sampled import Sampled
from medgan.synthesis.settings import LesionConfig
from medgan.synthesis.soft_poisson import SoftPoisson
from medgan.synthesis.synthesiser import Synthesiser

BASELINES: Mapping[str, type[CopyPaste] | type[CarveMix] | type[SoftPoisson]] = {
    each.name: each for each in (CopyPaste, CarveMix, SoftPoisson)
}
"""Methods that need no network, by name."""


def baseline(name: str, config: InsertionConfig, domain: Domain) -> Synthesiser:
    """A method that needs no network.

    Raises:
        ConfigError: No such method, or a placement that it does not know.
    """
    if name not in BASELINES:
        raise ConfigError(f"method '{name}' is none of {', '.join(BASELINES)}.")
    return BASELINES[name](config, domain)


def by_network(
    network: nn.Module, lesions: LesionConfig, config: InsertionConfig, masks: Masks = "real"
) -> Synthesiser:
    """A trained generator: one with a latent vector draws image and labels, any other paints what masks ask for.

    Args:
        network: The kept network, in evaluation mode, on its device.
        lesions: What it was trained on.
        config: What is inserted, where.
        masks: Where those that are painted come from.

    Raises:
        ConfigError: A placement that it does not know.
    """
    if hasattr(network, "latent"):
        return Sampled(network, lesions, config)
    return Painted(network, lesions, config, masks)
