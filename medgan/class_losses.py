"""Losses of discriminators that classify: C + 1 outputs, of which the last says "made by the generator".

A softmax does not change when one number is taken from all of its scores, so the score of the last output may be fixed
at 0 and C scores are enough (Salimans et al. 2016, arXiv:1606.03498, section 5). With Z = sum over c of exp(score_c)
the probability of class c is exp(score_c) / (Z + 1), and that of a fake 1 / (Z + 1). All is computed from log Z, which
``logsumexp`` gives without overflow.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def labelled_loss(scores: Tensor, classes: Tensor) -> Tensor:
    """Mean of -log p(class | image, real): what every classifier minimises on labelled images.

    Args:
        scores: Raw scores of the real classes, (B, C).
        classes: The true ones, (B,) of 0 to C - 1.

    Source: Salimans et al. 2016, L_supervised of section 5. Odena 2016 (arXiv:1606.01583) takes -log p(class | image)
    over all C + 1 outputs; the two differ by the loss of :func:`real_loss` on the labelled images.
    """
    return F.cross_entropy(scores, classes)


def real_loss(scores: Tensor) -> Tensor:
    """Mean of -log p(real | image), whatever the class: what a discriminator minimises on images without a label.

    ``-log(Z / (Z + 1)) = softplus(log Z) - log Z = softplus(-log Z)``.

    Args:
        scores: Raw scores of the real classes, (B, C).

    Source: Salimans et al. 2016, first term of L_unsupervised.
    """
    return F.softplus(-torch.logsumexp(scores, dim=1)).mean()


def fake_loss(scores: Tensor) -> Tensor:
    """Mean of -log p(fake | image): what a discriminator minimises on generated images.

    ``-log(1 / (Z + 1)) = softplus(log Z)``.

    Args:
        scores: Raw scores of the real classes for generated images, (B, C), their generator detached.

    Source: Salimans et al. 2016, second term of L_unsupervised; Odena 2016, the class FAKE.
    """
    return F.softplus(torch.logsumexp(scores, dim=1)).mean()


def feature_matching(real: Tensor, fake: Tensor) -> Tensor:
    """Squared distance between the mean features of real and of generated images, over their number.

    A generator that minimises it gives the discriminator images with the statistics of the real ones, but not the real
    ones themselves: that is what makes the unlabelled images help a classifier.

    Args:
        real: A layer of the discriminator for real images, (B, F); no gradient passes through it.
        fake: The same for generated ones, (B, F).

    Source: Salimans et al. 2016, section 3.1, where the squares are summed.
    """
    return (real.detach().mean(0) - fake.mean(0)).square().mean()
