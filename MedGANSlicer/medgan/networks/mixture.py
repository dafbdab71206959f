"""Tissues told apart by brightness, whatever the contrast: a Gaussian mixture that adapts to the scan at hand.

Given a rough answer as prior, every structure gets the mean and the spread that it has in this scan, a smooth field
takes the unevenness of the coil away, and Bayes' rule says what each voxel is likely to be (expectation maximisation
with an atlas as prior: Van Leemput et al., IEEE TMI 18:885, 1999; SAMSEG: Puonti et al., NeuroImage 143:235, 2016).
Contrast is gone from the answer, so a network on top of it need not learn all contrasts.

Shapes: S structures, N = D H W voxels.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

ROUNDS = 5

SPREAD_FLOOR = 0.02
"""Smallest standard deviation of a structure, of the range of the scan."""

PRIOR_FLOOR = 1e-5

CELL = 8
"""Voxels along a side over which the field is one number before it is smoothed."""


class Mixture(NamedTuple):
    """mean and variance (S,) of every structure, in the unit of the scan, and the field (1, 1, D, H, W) on top."""

    mean: Tensor
    variance: Tensor
    field: Tensor


@torch.no_grad()
def fitted(image: Tensor, prior: Tensor, rounds: int = ROUNDS) -> Mixture:
    """The mixture of a scan (1, 1, D, H, W), 0 to 1, under prior probabilities (1, S, D, H, W)."""
    posterior, field = prior, torch.zeros_like(image)
    for number in range(rounds):
        x = (image - field).flatten()
        powers = torch.stack([torch.ones_like(x), x, x * x], 1)
        mass, first, second = (posterior[0].flatten(1) @ powers).unbind(1)
        mean = first / mass.clamp_min(1e-3)
        variance = (second / mass.clamp_min(1e-3) - mean.square()).clamp_min(0.0) + SPREAD_FLOOR**2
        mixture = Mixture(mean, variance, field)
        if number < rounds - 1:
            posterior = likely(image, prior, mixture).exp()
            field = _field(image, posterior, mixture)
    return mixture


def likely(image: Tensor, prior: Tensor, mixture: Mixture) -> Tensor:
    """Logarithm of the probability (1, S, D, H, W) of every structure, from prior and brightness.

    The field of the mixture must be on the grid of the image (see :func:`resized`).
    """
    x = (image - mixture.field).flatten()
    powers = torch.stack([torch.ones_like(x), x, x * x], 0)
    mean, variance = mixture.mean, mixture.variance
    terms = torch.stack([-0.5 * (mean.square() / variance + torch.log(variance)), mean / variance, -0.5 / variance], 1)
    scores = (terms @ powers).reshape(1, len(mean), *image.shape[2:])
    return F.log_softmax(scores + torch.log(prior.clamp_min(PRIOR_FLOOR)), 1)


def resized(mixture: Mixture, shape: torch.Size) -> Mixture:
    """The mixture for the same scan on a grid of another size (D, H, W)."""
    field = F.interpolate(mixture.field, size=shape, mode="trilinear", align_corners=False)
    return mixture._replace(field=field)


def _field(image: Tensor, posterior: Tensor, mixture: Mixture) -> Tensor:
    """What the scan is brighter than its structures, smooth over about 3 cells."""
    probabilities = posterior[0].flatten(1)
    certainty = (probabilities.T @ (1.0 / mixture.variance)).reshape(image.shape)
    expected = (probabilities.T @ (mixture.mean / mixture.variance)).reshape(image.shape)
    excess = image * certainty - expected
    weight, excess = (_smooth(F.avg_pool3d(each, CELL, ceil_mode=True)) for each in (certainty, excess))
    # Where little is certain, as in air, the field stays near 0.
    field = excess / (weight + 0.1 * weight.mean())
    return F.interpolate(field, size=image.shape[2:], mode="trilinear", align_corners=False)


def _smooth(coarse: Tensor) -> Tensor:
    for _ in range(2):
        coarse = F.avg_pool3d(F.pad(coarse, [1] * 6, mode="replicate"), 3, 1)
    return coarse
