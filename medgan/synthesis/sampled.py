"""A sampler as synthesiser: it draws image and labels at once, and the lesion that it drew is put into a recipient."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from medgan.data.patches import cut_labels
from medgan.data.preparation import Prepared, denormalise
from medgan.errors import InsertionError
from medgan.segmentation.labelled import Labelled
from medgan.synthesis.blending import soft_poisson
from medgan.synthesis.canvas import Canvas, Site
from medgan.synthesis.insertion import ATTEMPTS, UNVARIED, Inserter, InsertionConfig
from medgan.synthesis.joint import split_joint
from medgan.synthesis.places import body_coordinates
from medgan.synthesis.settings import LesionConfig
from medgan.synthesis.shapes import Lesion, Piece, Voxel, cut, lesions_of, organ_of, reach_of
from medgan.synthesis.synthesiser import Synthetic


class Sampled(Inserter):
    """Lesions or whole cases by a network that draws joint patches of image and labels from noise.

    With ``add`` the largest lesion of a sample is placed, with ``replace`` all that it marks takes the place of the
    recipient's organ; what the network drew around it is not the recipient's, so its gradients are blended (see
    :func:`medgan.synthesis.blending.soft_poisson`). With ``whole`` the sample is the case, at the place of the
    recipient's labels: Bowles et al. 2018, arXiv:1810.10863. What a sample is asked to show (class, size, place) is
    what a drawn real lesion of the donors shows.

    Args:
        network: ``network.latent`` values z (B, latent) and a condition (B, D) to (B, 1 + K, *shape) in [-1, 1]; in
            evaluation mode, on the device where it shall run.
        lesions: What it was trained on.
        config: What is inserted, where; shapes are not varied, the network does that.
    """

    name = "sampled"

    def __init__(self, network: nn.Module, lesions: LesionConfig, config: InsertionConfig) -> None:
        super().__init__(config, lesions.domain)
        self.network, self.lesions = network, lesions

    def check(self, config: InsertionConfig) -> None:
        """Every placement is possible."""

    def synthesise(self, recipient: Labelled, donors: Sequence[Labelled], rng: np.random.Generator) -> Synthetic:
        """See :class:`medgan.synthesis.synthesiser.Synthesiser`; with ``whole`` the case is as large as a patch."""
        if self.config.placement != "whole":
            return super().synthesise(recipient, donors, rng)
        for _ in range(ATTEMPTS):
            image, labels = self._sample(donors, rng)
            if labels.any():
                case = _in_place_of(recipient, image, labels)
                return Synthetic(case, (recipient.subject,), {"method": self.name, "placement": "whole"})
        raise InsertionError(_NOTHING)

    def added(self, canvas: Canvas, donors: Sequence[Labelled], rng: np.random.Generator) -> Piece:
        """The largest lesion of a sample."""
        drawn = self._drawn(canvas, donors, rng)
        return self._piece(canvas, drawn, max(lesions_of(drawn), key=lambda lesion: lesion.voxels), (0, 0, 0), rng)

    def exchanged(self, canvas: Canvas, donors: Sequence[Labelled], least: Voxel, rng: np.random.Generator) -> Piece:
        """All that a sample marks."""
        drawn = self._drawn(canvas, donors, rng)
        organ = organ_of(drawn)
        assert organ is not None
        return self._piece(canvas, drawn, organ, least, rng)

    def fill(self, site: Site, rng: np.random.Generator) -> NDArray[np.float32]:
        """The image with the sample's gradients in the lesion and the recipient's values around it."""
        del rng
        return soft_poisson(site.before, site.inserted, site.share, site.spacing_mm)

    def _drawn(self, canvas: Canvas, donors: Sequence[Labelled], rng: np.random.Generator) -> Labelled:
        """A sample with a lesion in it, as a case on the recipient's spacing."""
        for _ in range(ATTEMPTS):
            image, labels = self._sample(donors, rng)
            if labels.any():
                affine = np.diag([*canvas.spacing_mm, 1.0])
                return Labelled("", Prepared(image, affine, tuple((0, n) for n in image.shape), (-1.0, 1.0)), labels)
        raise InsertionError(_NOTHING)

    def _piece(self, canvas: Canvas, drawn: Labelled, lesion: Lesion, least: Voxel, rng: np.random.Generator) -> Piece:
        margin = np.ceil(self.gap_mm(canvas) / canvas.spacing_mm).astype(int) * (np.array(drawn.labels.shape) > 1)
        x, y, z = (np.maximum(reach_of(drawn, lesion, np.eye(3), canvas.spacing_mm), least) + margin).tolist()
        return cut(drawn, lesion, np.eye(3), (x, y, z), canvas.spacing_mm, UNVARIED, rng)

    @torch.no_grad()
    def _sample(
        self, donors: Sequence[Labelled], rng: np.random.Generator
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """An image in [-1, 1] and its labels, (x, y, z); z = 1 of a 2D network."""
        device = next((each.device for each in self.network.parameters()), torch.device("cpu"))
        z = torch.from_numpy(rng.standard_normal((1, int(self.network.latent)), dtype=np.float32))  # type: ignore[arg-type]
        condition = torch.from_numpy(self._condition(donors, rng))[None]
        stack = self.network(z.to(device), condition.to(device)).float().cpu()
        if not torch.isfinite(stack).all():
            raise InsertionError("the generator answers with values that are no numbers; train it anew.")
        image, labels = (each.numpy().reshape((*self.lesions.shape, 1)[:3]) for each in split_joint(stack))
        return image.astype(np.float32), labels.astype(np.uint8)

    def _condition(self, donors: Sequence[Labelled], rng: np.random.Generator) -> NDArray[np.float32]:
        """What the patch around a drawn real lesion shows, (D,)."""
        every = [(donor, lesion) for donor in donors for lesion in lesions_of(donor)]
        if not every:
            raise InsertionError("no donor has a lesion to ask the generator for; give cases with lesions.")
        donor, lesion = every[int(rng.integers(len(every)))]
        extent = (*self.lesions.shape, 1)[:3]
        start = [round(at - (size - 1) / 2) for at, size in zip(lesion.centre, extent, strict=True)]
        labels = cut_labels(donor.labels, start, extent).astype(np.int64)
        place = body_coordinates(donor.image, lesion.centre)
        return self.lesions.condition.vector(self.lesions.names, labels, place, donor.subject)


_NOTHING = "the generator draws no lesion; train it longer, or choose another epoch."


def _in_place_of(recipient: Labelled, image: NDArray[np.float32], labels: NDArray[np.uint8]) -> Labelled:
    """A sample in the recipient's unit, where its organ (or the middle of its body) lies."""
    own = organ_of(recipient)
    middle = own.centre if own else [(first + last - 1) / 2 for first, last in recipient.image.body]
    start = [round(float(at) - (size - 1) / 2) for at, size in zip(middle, image.shape, strict=True)]
    affine = recipient.image.affine.copy()
    affine[:3, 3] = (affine @ (*start, 1))[:3]
    bounds = recipient.image.bounds
    body = tuple((0, size) for size in image.shape)
    return Labelled(recipient.subject, Prepared(denormalise(image, bounds), affine, body, bounds), labels)
