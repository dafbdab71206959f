"""Train the deblurring generator: ``python -m medgan.recipes.deblur --data DIR --out DIR --minutes 60``.

Patches of real and synthesised volumes are blurred by a Gaussian of 0.4 to 2.2 voxels and get noise of 0.2 to 4 %.
How it is trained: see medgan.recipes.training.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from medgan.deconvolution import blurred, inverse_for, noise_after
from medgan.degradation import normal, uniform
from medgan.networks.deblur import DeblurNet
from medgan.noise import BLOCK, NoiseProfile
from medgan.recipes.data import Pool, cut
from medgan.recipes.training import parser, run

BLURS = (0.4, 2.2)
NOISES = (0.002, 0.04)
MARGIN = 8
"""Voxels around a patch that are blurred and deblurred with it, so that its faces know their surroundings."""


@dataclass
class BlurBatch:
    """clean and deconvolved (B, 1, s, s, s); sigma (B,) and spread (B, 64) of the noise in the latter; blur (B,) in
    voxels; names of the sources."""

    clean: Tensor
    before: Tensor
    sigma: Tensor
    spread: Tensor
    blur: Tensor
    level: Tensor
    names: list[str]

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        return self.before, self.sigma, self.spread, self.blur


class BlurPatches:
    """Endless batches of clean cubes and their blurred, noisy, deconvolved copies, the same for the same generator."""

    def __init__(self, pool: Pool, patch: int) -> None:
        self.pool, self.patch = pool, patch
        self.synthesise = pool.synthesise

    def batch(self, size: int, generator: torch.Generator) -> BlurBatch:
        """``size`` patches, each with its own source, orientation, blur and noise."""
        picked = [self.pool.pick(generator) for _ in range(size)]
        arrays = [source.array for source in picked]
        names = [source.kind for source in picked]
        own = [source.sigma for source in picked]
        return blur_batch(arrays, own, names, self.patch, BLURS, NOISES, generator)


class OwnBlur:
    """Patches of one volume at half its size, where its blur is half as wide: to fit a network to that volume."""

    def __init__(self, half: Tensor, own_sigma: float, blur: float, noise: float, patch: int = 26) -> None:
        self.half, self.own, self.blur, self.noise, self.patch = half, own_sigma, blur, noise, patch

    def batch(self, size: int, generator: torch.Generator) -> BlurBatch:
        """``size`` patches with the blur and the noise of the volume."""
        blurs, noises = (self.blur, self.blur), (max(self.noise, 1e-4),) * 2
        return blur_batch([self.half] * size, [self.own] * size, ["own"] * size, self.patch, blurs, noises, generator)

    def synthesise(self, count: int, keep: int, seed: int) -> None:
        """There is nothing to synthesise: the volume is all there is."""


def blur_batch(
    arrays: list[Tensor],
    own: list[float],
    names: list[str],
    patch: int,
    blurs: tuple[float, float],
    noises: tuple[float, float],
    generator: torch.Generator,
) -> BlurBatch:
    """One patch of each array, with a blur and an added noise from the ranges; ``own``: the noise they bring along."""
    clean, before, sigmas, spreads, widths, said = [], [], [], [], [], []
    inner = tuple([slice(MARGIN, -MARGIN)] * 3)
    for array, own_sigma, name in zip(arrays, own, names, strict=True):
        box = cut(array, [patch + 2 * MARGIN] * 3, generator)
        order = torch.randperm(3, generator=generator, device=generator.device).tolist()
        box = box.permute(order).flip([axis for axis in range(3) if uniform(0, 1, generator) < 0.5])
        width = uniform(*blurs, generator)
        added = math.exp(uniform(math.log(noises[0]), math.log(noises[1]), generator))
        soft = torch.from_numpy(blurred(box.cpu().numpy(), width)).to(box)
        seen = (soft + added * normal(soft, generator)).cpu().numpy()
        # The noise that the clean volume brings along is blurred away but for little.
        noise = math.hypot(added, own_sigma * 0.2) * math.exp(uniform(-0.1, 0.1, generator))
        given = width * math.exp(uniform(-0.08, 0.08, generator))
        inverse = inverse_for(seen, given, noise)
        profile = noise_after(inverse, NoiseProfile(noise, np.full(BLOCK**3, noise, np.float32)))
        clean.append(box[inner][None])
        before.append(torch.from_numpy(inverse(seen)[inner]).to(box)[None])
        sigmas.append(profile.sigma)
        spreads.append(torch.from_numpy(profile.spread).to(box))
        widths.append(given)
        said.append(f"{name} {round(2 * width) / 2:g} {'much' if added > 0.01 else 'little'}")
    sigma, blur = (torch.tensor(values, device=clean[0].device) for values in (sigmas, widths))
    level = torch.ones_like(sigma)
    return BlurBatch(torch.stack(clean), torch.stack(before), sigma, torch.stack(spreads), blur, level, said)


def main(arguments: list[str] | None = None) -> None:
    options = parser(__doc__ or "", 34, "side in voxels; 2 more than a multiple of 4 wastes nothing").parse_args(
        arguments
    )
    run(options, DeblurNet, lambda sources, maps, device: BlurPatches(Pool(sources, maps, device), options.patch))


if __name__ == "__main__":
    main()
