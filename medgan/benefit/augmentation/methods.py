"""From a method's name to what makes synthetic cases."""

from medgan.benefit.augmentation.arms import Method
from medgan.benefit.augmentation.generators import trained_generator
from medgan.benefit.augmentation.plan import AugmentationPlan, Draw
from medgan.synthesis.carve_mix import CarveMix
from medgan.synthesis.copy_paste import CopyPaste
from medgan.synthesis.synthesiser import Synthesiser
