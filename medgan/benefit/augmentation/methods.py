"""From a method's name to what makes synthetic cases of a draw."""

from collections.abc import Sequence

import numpy as np

from medgan.benefit.augmentation.arms import Method
from medgan.benefit.augmentation.generators import trained_generator
from medgan.benefit.augmentation.plan import AugmentationPlan, Draw
from medgan.segmentation.labelled import Labelled
from medgan.synthesis.insertion import Synthesiser, Synthetic
from medgan.synthesis.methods import Bent, Elastic, baseline
from medgan.synthesis.network_methods import by_network
from medgan.training.device import make_fabric


class AsTheyAre:
    """Adds nothing: what healthy scans alone do for a segmenter that generated lesions could be credited with."""

    name = "healthy"

    def synthesise(self, recipient: Labelled, donors: Sequence[Labelled], rng: np.random.Generator) -> Synthetic:
        """See :class:`medgan.synthesis.insertion.Synthesiser`."""
        del donors, rng
        return Synthetic(recipient, (recipient.subject,), {"method": self.name})


def synthesiser_of(plan: AugmentationPlan, method: Method, draw: Draw) -> Synthesiser:
    """What makes a method's cases of a draw.

    Raises:
        ConfigError: A placement that the method does not know, or a generator that was trained with other settings.
        LeakageError: A generator that has learnt from anybody else.
        ModelError: One that is incomplete or altered.
    """
    if method == "healthy":
        return AsTheyAre()
    elastic = Elastic(plan.config.insertion.variation)
    if method == "elastic":
        return elastic
    made = _inserter(plan, method, draw)
    return Bent(made, elastic) if plan.config.bend else made


def _inserter(plan: AugmentationPlan, method: Method, draw: Draw) -> Synthesiser:
    insertion = plan.config.insertion_of(method)
    if method != "generator":
        return baseline(method, insertion, plan.segmenter.domain)
    model = trained_generator(plan, draw)
    network = make_fabric(plan.order.device, "32").to_device(model.network)
    return by_network(network, model.description.config, insertion)
