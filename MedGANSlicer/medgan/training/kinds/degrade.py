"""Clean patches as a scanner would have delivered them, in the form that each restoring network takes.

One function for each thing that an enhancement takes away. All take a clean patch (1, D, H, W) of 0 to 1 and a
generator, and return what the network is given, with the patch that it should answer as "target".
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from medgan.deconvolution import blurred, inverse_for, noise_after
from medgan.degradation import NoiseKind, choose, kind_of, normal, uniform
from medgan.noise import BLOCK, SIGNED, NoiseProfile, noise_profile
from medgan.recipes.data import add_noise
from medgan.recipes.deblur import BLURS, MARGIN, NOISES
from medgan.recipes.superres import USUAL_RATIOS
from medgan.settings import SliceProfile
from medgan.slices import SliceOperator, expected_error

NOISE = {
    "MR": ((NoiseKind.RICIAN, 0.7), (NoiseKind.GAUSSIAN, 0.2), (NoiseKind.CORRELATED, 0.1)),
    "CT": ((NoiseKind.GAUSSIAN, 0.6), (NoiseKind.CORRELATED, 0.25), (NoiseKind.POISSON, 0.15)),
    "PET": ((NoiseKind.POISSON, 0.6), (NoiseKind.GAUSSIAN, 0.4)),
}
LEVELS = (0.007, 0.12)

SMALLEST_SIGMA = 1e-4


def noisy(clean: Tensor, own: NoiseProfile, modality: str, rng: torch.Generator) -> dict[str, Tensor]:
    """With noise of a random kind and level; "sigma" () and "spread" (64,) are what an estimator would say of it.

    ``own``: the noise that the clean patch brings along.
    """
    level = math.exp(uniform(math.log(LEVELS[0]), math.log(LEVELS[1]), rng))
    kind = choose(NOISE[kind_of(modality)], rng)
    answer, added = add_noise(clean[0], kind, level, rng)
    jitter = math.exp(uniform(-0.1, 0.1, rng))
    sigma = max(math.hypot(own.sigma * jitter, float(added[-1]) * level), SMALLEST_SIGMA)
    spread = jitter * torch.hypot(torch.from_numpy(own.spread).float(), added * level)
    if kind_of(modality) == "CT" or kind not in (NoiseKind.RICIAN, NoiseKind.POISSON):
        spread[0] = SIGNED * sigma
    return {"input": answer[None], "target": clean, "sigma": torch.tensor(sigma), "spread": spread}


def measured(patch: Tensor, modality: str) -> NoiseProfile:
    """The noise of a patch (1, D, H, W) as it is estimated in a volume."""
    profile = noise_profile(patch[0].numpy())
    if kind_of(modality) == "CT":
        profile = profile.signed()
    return NoiseProfile(max(profile.sigma, SMALLEST_SIGMA), np.maximum(profile.spread, SMALLEST_SIGMA))


def deconvolved(clean: Tensor, own: NoiseProfile, rng: torch.Generator) -> dict[str, Tensor]:
    """Blurred, noisy, and the blur undone: "input", with its noise "sigma" () and "spread" (64,), and "blur" () in
    voxels. The patch loses a margin on each side."""
    inner = (slice(None), *[slice(MARGIN, -MARGIN)] * 3)
    width = uniform(*BLURS, rng)
    added = math.exp(uniform(math.log(NOISES[0]), math.log(NOISES[1]), rng))
    soft = torch.from_numpy(blurred(clean[0].numpy(), width)).float()
    seen = (soft + added * normal(soft, rng)).numpy()
    noise = math.hypot(added, 0.2 * own.sigma) * math.exp(uniform(-0.1, 0.1, rng))
    told = width * math.exp(uniform(-0.08, 0.08, rng))
    inverse = inverse_for(seen, told, noise)
    profile = noise_after(inverse, NoiseProfile(noise, np.full(BLOCK**3, noise, np.float32)))
    return {
        "input": torch.from_numpy(inverse(seen)).float()[None][inner],
        "target": clean[inner],
        "sigma": torch.tensor(float(profile.sigma)),
        "spread": torch.from_numpy(profile.spread).float(),
        "blur": torch.tensor(told),
    }


def thick(clean: Tensor, rng: torch.Generator) -> dict[str, Tensor]:
    """Slices along the first axis, described by "operator" (4,): coarse, fine, width, Gaussian or not; and the "level"
    () of the error that interpolation makes of them. The slices themselves follow from the "target"."""
    longest = clean.shape[1]
    ratio = choose(USUAL_RATIOS, rng) or math.exp(uniform(math.log(1.2), math.log(8.0), rng))
    ratio = min(ratio, longest / 4.0)
    coarse = min(16, int(longest / ratio))
    width = 1.0 if uniform(0, 1, rng) < 0.7 else uniform(0.6, 1.0, rng)
    gaussian = uniform(0, 1, rng) >= 0.75
    numbers = torch.tensor([coarse, min(longest, round(coarse * ratio)), width, gaussian], dtype=torch.float32)
    operator = operator_of(numbers)
    slices = operator.measure.astype(np.float32) @ clean[0, : operator.fine].reshape(operator.fine, -1).numpy()
    level = expected_error(slices.reshape(coarse, *clean.shape[2:]), 0, operator.ratio)
    level = max(level, 1e-4) * math.exp(uniform(-0.25, 0.25, rng))
    return {"target": clean, "operator": numbers, "level": torch.tensor(level, dtype=torch.float32)}


def operator_of(numbers: Tensor) -> SliceOperator:
    """The slices that four numbers describe (see :func:`thick`)."""
    coarse, fine, width, gaussian = numbers.tolist()
    return SliceOperator(
        round(coarse), round(fine), width, SliceProfile.GAUSSIAN if gaussian > 0.5 else SliceProfile.BOXCAR
    )
