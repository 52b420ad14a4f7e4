"""Adversarial, reconstruction and class losses: pure functions of raw scores and images."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Adversarial = Literal["vanilla", "least_squares", "hinge", "wasserstein"]
Critic = Callable[[Tensor], Tensor]
Total = Callable[[Tensor], Tensor]
"""Sums over a batch from those over this process's share of it."""
DICE_SMOOTHING = 1e-5
"""Voxels that are added to both sides of a Dice, so that a label that is nowhere has one."""


def _alone(sums: Tensor) -> Tensor:
    return sums


def generator_loss(kind: Adversarial, fake_scores: Tensor, weight: Tensor | None = None) -> Tensor:
    """What a generator minimises: low where the discriminator takes its images for real.

    Scores are raw discriminator output, (B, 1, *patches), without activation. ``weight`` is how much each counts, 1
    on average.

    Sources: ``vanilla`` is the non-saturating form of Goodfellow et al. 2014, section 3; ``least_squares`` Mao et al.
    2017, arXiv:1611.04076, Eq. 2; ``hinge`` Lim and Ye 2017, arXiv:1705.02894; ``wasserstein`` Arjovsky et al. 2017,
    arXiv:1701.07875, which needs :func:`gradient_penalty` beside its discriminator's loss.
    """
    if kind == "vanilla":
        return binary_cross_entropy(fake_scores, weight, real=True)
    if kind == "least_squares":
        return least_squares(fake_scores, weight, real=True)
    return -_mean(fake_scores, weight)


def discriminator_loss(
    kind: Adversarial, real_scores: Tensor, fake_scores: Tensor, weight: Tensor | None = None
) -> Tensor:
    """What a discriminator minimises; halved for the two-sided games, as both references do.

    Scores are raw output, (B, 1, *patches), those of generated images with their generator detached; ``weight`` is
    theirs as in :func:`generator_loss`.
    """
    if kind == "vanilla":
        of_real = binary_cross_entropy(real_scores, weight, real=True)
        return (of_real + binary_cross_entropy(fake_scores, weight, real=False)) / 2
    if kind == "least_squares":
        return (least_squares(real_scores, weight, real=True) + least_squares(fake_scores, weight, real=False)) / 2
    if kind == "hinge":
        return (_mean(F.relu(1 - real_scores), weight) + _mean(F.relu(1 + fake_scores), weight)) / 2
    return _mean(fake_scores, weight) - _mean(real_scores, weight)


def _mean(values: Tensor, weight: Tensor | None) -> Tensor:
    """The mean of values times their weights, which are 1 on average."""
    return (values if weight is None else weight * values).mean()


def binary_cross_entropy(scores: Tensor, weight: Tensor | None = None, *, real: bool) -> Tensor:
    """Binary cross-entropy of raw patch scores with their label, 1 for real and 0 for fake."""
    return F.binary_cross_entropy_with_logits(scores, torch.full_like(scores, float(real)), weight)


def least_squares(scores: Tensor, weight: Tensor | None = None, *, real: bool) -> Tensor:
    """Mean squared distance of patch scores to their label, 1 for real and 0 for fake.

    Source: Mao et al. 2017, arXiv:1611.04076, Eq. 2 with a = 0, b = c = 1.
    """
    return _mean((scores - float(real)).square(), weight)


def gradient_penalty(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
    """Mean squared distance of the critic's gradient norm to 1 on lines between real and fake, (B, C, *spatial).

    Source: Gulrajani et al. 2017, arXiv:1704.00028, Eq. 3 without its weight (10 there).
    """
    share = torch.rand(real.shape[0], *[1] * (real.dim() - 1), device=real.device, dtype=real.dtype)
    between = (share * real + (1 - share) * fake).detach().requires_grad_()
    scores = critic(between)
    (gradient,) = torch.autograd.grad(scores.sum(), between, create_graph=True)
    norm: Tensor = gradient.flatten(1).norm(dim=1)
    return (norm - 1).square().mean()


def reconstruction(fake: Tensor, real: Tensor, weight: Tensor | None = None, total: Total = _alone) -> Tensor:
    """Mean absolute distance to the true target on the same grid (L1 of Isola et al. 2017, Eq. 3), (B, 1, *spatial).

    ``weight`` is a non-negative weight of each voxel; its mean over the batch is divided out.
    """
    distance = (fake - real).abs()
    if weight is None:
        return distance.mean()
    weighted, weights = total((weight * distance).sum()), total(weight.sum())
    return weighted / weights.clamp_min(torch.finfo(distance.dtype).eps)


def dice(scores: Tensor, labels: Tensor, total: Total = _alone) -> Tensor:
    """One less the soft Dice of each label, the mean over labels but the background, 0.

    Raw scores (B, 1 + K, *spatial) meet a label map (B, 1, *spatial). Sums go over the batch: in a patch without an
    organ its own Dice would say nothing but "none of it".

    Source: Milletari et al. 2016, arXiv:1606.04797, with the sizes not squared as in Isensee et al. 2021.
    """
    predicted = scores.softmax(1)[:, 1:]
    truth = F.one_hot(labels[:, 0].long(), scores.shape[1]).movedim(-1, 1)[:, 1:].to(predicted.dtype)
    axes = (0, *range(2, scores.dim()))
    overlap, sizes = total(torch.stack([(truth * predicted).sum(axes), truth.sum(axes) + predicted.sum(axes)]))
    each: Tensor = 1 - (2 * overlap + DICE_SMOOTHING) / (sizes + DICE_SMOOTHING)
    return each.mean()


def grain(fake: Tensor, real: Tensor, inside: Tensor) -> Tensor:
    """How far the mean roughness of a region is from the true one, the mean over patches; which lies where is free.

    Roughness is the absolute difference of a voxel to the mean of its neighbourhood, 3 voxels wide. What L1 cannot
    predict it leaves out; this asks for as much of it as there was. ``inside`` is 1 in the region and 0 elsewhere; a
    patch without one counts 0. All are (B, 1, *spatial).

    One moment of one level of the texture model of Heeger and Bergen 1995, doi:10.1145/218380.218446.
    """
    pool = {2: F.avg_pool2d, 3: F.avg_pool3d}[fake.dim() - 2]
    rough = [(image - pool(image, 3, 1, 1, count_include_pad=False)).abs() for image in (fake, real)]
    voxels = inside.flatten(1).sum(dim=1).clamp_min(1)
    painted, true = ((inside * each).flatten(1).sum(dim=1) / voxels for each in rough)
    return F.l1_loss(painted, true)


def smoothness(displacement: Tensor) -> Tensor:
    """Mean squared norm of the gradient of a displacement (B, axes, *spatial), in (voxels per voxel) squared.

    Gradients are differences of neighbours; along an axis of one voxel there are none.

    Source: Kong et al. 2021, arXiv:2110.06465, the smoothness term of section 3; after Balakrishnan et al. 2019,
    arXiv:1809.05231, Eq. 8.
    """
    steps = [displacement.diff(dim=axis) for axis in range(2, displacement.dim()) if displacement.shape[axis] > 1]
    return torch.stack([step.square().mean() for step in steps]).sum()


def patch_nce(queries: Tensor, keys: Tensor, temperature: float) -> Tensor:
    """How surely each patch is told from the others of its image: cross-entropy with the right one as the class.

    ``-log(exp(v.v+ / t) / (exp(v.v+ / t) + sum over n of exp(v.v-_n / t)))``, the mean over patches.

    ``queries`` are v, features of length 1 of the translated image's patches, (B, patches, channels); ``keys`` those of
    the same places in the input: v+ at the query's own place, v- at all others. No gradient passes through the keys:
    the input must not learn to resemble its translation. The lower the temperature, the more the likest of the wrong
    patches count.

    Source: Park et al. 2020, arXiv:2007.15651, Eqs. 2 and 3; negatives from the same image only ("internal").
    """
    similarity = torch.einsum("bqc,bkc->bqk", queries, keys.detach()) / temperature
    right = torch.arange(queries.shape[1], device=queries.device).expand(queries.shape[0], -1)
    return F.cross_entropy(similarity.flatten(0, 1), right.flatten())


# Losses of discriminators that classify: C + 1 outputs, of which the last says "made by the generator".
#
# A softmax does not change when one number is taken from all of its scores, so the score of the last output may be
# fixed at 0 and C scores are enough (Salimans et al. 2016, arXiv:1606.03498, section 5). With Z = sum over c of
# exp(score_c) the probability of class c is exp(score_c) / (Z + 1), and that of a fake 1 / (Z + 1). All is computed
# from log Z, which ``logsumexp`` gives without overflow. Scores are (B, C), raw; generators are detached.


def labelled_loss(scores: Tensor, classes: Tensor) -> Tensor:
    """Mean of -log p(class | image, real): what every classifier minimises on labelled images.

    Source: Salimans et al. 2016, L_supervised of section 5. Odena 2016 (arXiv:1606.01583) takes -log p(class | image)
    over all C + 1 outputs; the two differ by the loss of :func:`real_loss` on the labelled images.
    """
    return F.cross_entropy(scores, classes)


def real_loss(scores: Tensor) -> Tensor:
    """Mean of -log p(real | image), whatever the class: what a discriminator minimises on images without a label.

    ``-log(Z / (Z + 1)) = softplus(log Z) - log Z = softplus(-log Z)``.

    Source: Salimans et al. 2016, first term of L_unsupervised.
    """
    return F.softplus(-torch.logsumexp(scores, dim=1)).mean()


def fake_loss(scores: Tensor) -> Tensor:
    """Mean of -log p(fake | image): what a discriminator minimises on generated images.

    ``-log(1 / (Z + 1)) = softplus(log Z)``.

    Source: Salimans et al. 2016, second term of L_unsupervised; Odena 2016, the class FAKE.
    """
    return F.softplus(torch.logsumexp(scores, dim=1)).mean()


def feature_matching(real: Tensor, fake: Tensor) -> Tensor:
    """Squared distance between the mean features of real and of generated images, over their number.

    A generator that minimises it gives the discriminator images with the statistics of the real ones, but not the real
    ones themselves: that is what makes the unlabelled images help a classifier.

    Both are a layer of the discriminator, (B, F); no gradient passes through the real one.

    Source: Salimans et al. 2016, section 3.1, where the squares are summed.
    """
    return (real.detach().mean(0) - fake.mean(0)).square().mean()
