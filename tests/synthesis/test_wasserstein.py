"""One turn of the game by hand, and what it reaches on eight modes in a ring."""

import pytest
import torch
from torch import nn

from bench.ring import play
from medgan import losses
from medgan.synthesis.generator import GENERATOR
from medgan.synthesis.wasserstein import CRITIC, WassersteinConfig, WassersteinGame
