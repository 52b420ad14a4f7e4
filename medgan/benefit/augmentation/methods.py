"""From a method's name to what makes synthetic cases."""

from medgan.benefit.augmentation.arms import Method
from medgan.benefit.augmentation.generators import trained_generator
from medgan.benefit.augmentation.plan import AugmentationPlan, Draw
from medgan.synthesis.carve_mix import CarveMix
from medgan.synthesis.copy_paste import CopyPaste
from medgan.synthesis.synthesiser import Synthesiser


def synthesiser_of(plan: AugmentationPlan, method: Method, draw: Draw) -> Synthesiser:
    """What makes a method's cases of a draw.

    Raises:
        LeakageError: A generator that has learnt from anybody else.
        MedganError: A generator that is not there or cannot be used.
    """
    insertion, domain = plan.config.insertion, plan.segmenter.domain
    if method == "copy-paste":
        return CopyPaste(insertion, domain)
    if method == "carve-mix":
        return CarveMix(insertion, domain)
    raise NotImplementedError(trained_generator(plan, draw))
