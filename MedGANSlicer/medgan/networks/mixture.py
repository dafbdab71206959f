"""Tissues told apart by brightness, whatever the contrast: a Gaussian mixture that adapts to the scan at hand.

Given a rough answer as prior, every structure gets the mean and the spread that it has in this scan, a smooth field
takes the unevenness of the coil away, and Bayes' rule says what each voxel is likely to be (expectation maximisation
with an atlas as prior: Van Leemput et al., IEEE TMI 18:885, 1999; SAMSEG: Puonti et al., NeuroImage 143:235, 2016).
Contrast is gone from the answer, so a network on top of it need not learn all contrasts.

Shapes: S structures, N = D H W voxels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

ROUNDS = 5

SPREAD_FLOOR = 0.01
"""Smallest standard deviation of a structure, of the range of the scan."""

PRIOR_FLOOR = 1e-5

OUTLIERS = 0.01
"""Density of any brightness in every structure, on the range 0 to 1: in a voxel that two structures share, and that
looks like a third, the prior decides."""

CELL = 8
"""Voxels along a side over which the field is one number before it is smoothed."""


class Mixture(NamedTuple):
    """mean and variance (S,) of every structure, in the unit of the scan, and the field (1, 1, D, H, W) on top."""

    mean: Tensor
    variance: Tensor
    field: Tensor


@torch.no_grad()
def fitted(image: Tensor, prior: Tensor, alike: Sequence[Sequence[int]] = (), rounds: int = ROUNDS) -> Mixture:
    """The mixture of a scan (1, 1, D, H, W), 0 to 1, under prior probabilities (1, S, D, H, W).

    alike: groups of structures that are the same tissue and get one mean and one spread. A thin structure that is
    looked for in the wrong place would else take the brightness of what lies there, and never be found again.
    A voxel counts as much as the prior and the brightness agree on it: borders and mixed voxels say little.
    """
    posterior, field = prior, torch.zeros_like(image)
    for number in range(rounds):
        x = (image - field).flatten()
        powers = torch.stack([torch.ones_like(x), x, x * x], 1)
        sums = (posterior * prior)[0].flatten(1) @ powers
        for group in alike:
            sums[list(group)] = sums[list(group)].sum(0, keepdim=True)
        mass, first, second = sums.unbind(1)
        mean = first / mass.clamp_min(1e-3)
        variance = (second / mass.clamp_min(1e-3) - mean.square()).clamp_min(0.0) + SPREAD_FLOOR**2
        mixture = Mixture(mean, variance, field)
        if number < rounds - 1:
            posterior = likely(image, prior, mixture).exp()
            field = _field(image, posterior, mixture)
    return mixture


def likely(image: Tensor, prior: Tensor, mixture: Mixture) -> Tensor:
    """Logarithm of the probability (1, S, D, H, W) of every structure, from prior and brightness.

    The field of the mixture must be on the grid of the image (see :func:`for_voxels_of_half`).
    """
    x = (image - mixture.field).flatten()
    powers = torch.stack([torch.ones_like(x), x, x * x], 0)
    mean, variance = mixture.mean, mixture.variance
    constant = -0.5 * (mean.square() / variance + torch.log(2.0 * math.pi * variance))
    terms = torch.stack([constant, mean / variance, -0.5 / variance], 1)
    density = (terms @ powers).reshape(1, len(mean), *image.shape[2:]).exp_().add_(OUTLIERS)
    found = density.mul_(prior.clamp_min(PRIOR_FLOOR))
    return found.div_(found.sum(1, keepdim=True)).log_()


def for_voxels_of_half(mixture: Mixture, fine: Tensor, coarse: Tensor, inside: Tensor) -> Mixture:
    """The mixture of a scan ``coarse`` (1, 1, d, h, w) for its voxels of half the side ``fine`` (1, 1, 2d, 2h, 2w).

    They are noisier: by the median difference to their mean where ``inside`` (1, 1, d, h, w) is True.
    """
    field = F.interpolate(mixture.field, size=fine.shape[2:], mode="trilinear", align_corners=False)
    apart = (fine - F.interpolate(coarse, scale_factor=2, mode="nearest")).abs_()
    apart = apart[F.interpolate(inside.float(), scale_factor=2, mode="nearest") > 0.5]
    noise = apart.median() / 0.6745 if len(apart) else 0.0  # of a normal distribution half lies so near
    return mixture._replace(field=field, variance=mixture.variance + noise**2)


def _field(image: Tensor, posterior: Tensor, mixture: Mixture) -> Tensor:
    """What the scan is brighter than its structures, smooth over about 3 cells."""
    probabilities = posterior[0].flatten(1)
    certainty = (probabilities.T @ (1.0 / mixture.variance)).reshape(image.shape)
    expected = (probabilities.T @ (mixture.mean / mixture.variance)).reshape(image.shape)
    excess = image * certainty - expected
    weight, excess = (_smooth(F.avg_pool3d(each, CELL, ceil_mode=True)) for each in (certainty, excess))
    # Where little is certain, as in air, the field stays near 0.
    field = excess / (weight + 0.02 * weight.mean())
    return F.interpolate(field, size=image.shape[2:], mode="trilinear", align_corners=False)


def _smooth(coarse: Tensor) -> Tensor:
    for _ in range(2):
        coarse = F.avg_pool3d(F.pad(coarse, [1] * 6, mode="replicate"), 3, 1)
    return coarse
