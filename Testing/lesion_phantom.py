"""Volumes whose every structure is known: a grid in smooth tissue, and small lesions to put into it or into a scan."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import distance_transform_edt, gaussian_filter, uniform_filter

RANGE = 1000.0
"""Intensity that percentages of noise refer to in the grid phantom."""

EDGE = 0.5
"""Width in voxels of a lesion's border: the contrast is at half its value at the radius."""


@dataclass(frozen=True)
class Lesion:
    """A sphere with a smooth edge: centre (k, j, i) and radius in voxels, contrast in the unit of the volume."""

    centre: tuple[float, float, float]
    radius: float
    contrast: float


def grid_phantom(shape: tuple[int, int, int], pitch: int = 16) -> np.ndarray:
    """float32 [k, j, i] in 200..900: three soft-edged tissues, with planes and lines 2 voxels thick every ``pitch``.

    Planes (+120) lie across i, lines (+180) run along k and cross them. There is nothing small besides.
    """
    k, j, i = np.meshgrid(*(np.linspace(-1.0, 1.0, side) for side in shape), indexing="ij")
    tissue = np.full(shape, 300.0)
    tissue[(k / 1.3) ** 2 + (j / 0.9) ** 2 + (i / 0.8) ** 2 < 1.0] = 500.0
    tissue[k**2 + ((j - 0.1) / 0.5) ** 2 + ((i + 0.15) / 0.45) ** 2 < 0.5] = 700.0
    grid = np.zeros(shape)
    planes, lines = (np.arange(side) % pitch // 2 == pitch // 4 for side in (shape[2], shape[1]))
    grid[:, :, planes] = 120.0
    grid[:, np.ix_(lines, planes)[0], np.ix_(lines, planes)[1]] = 180.0
    return gaussian_filter(tissue, 1.0).astype(np.float32) + gaussian_filter(grid, 0.6).astype(np.float32)


def draw(lesions: Iterable[Lesion], shape: tuple[int, ...]) -> np.ndarray:
    """What the lesions add to a volume of this shape, float32 [k, j, i]."""
    total = np.zeros(shape, np.float32)
    for lesion in lesions:
        total += lesion.contrast * profile(lesion, shape)
    return total


def profile(lesion: Lesion, shape: tuple[int, ...]) -> np.ndarray:
    """Share of the contrast that each voxel gets, 0 to 1, float32 [k, j, i]."""
    outside = np.clip((distance_to(lesion, shape) - lesion.radius) * (2.0 / EDGE), -30.0, 30.0)
    share = 1.0 / (1.0 + np.exp(outside))
    return np.where(share < 1e-3, 0.0, share).astype(np.float32)


def distance_to(lesion: Lesion, shape: tuple[int, ...]) -> np.ndarray:
    """Distance in voxels of every voxel centre from the lesion's."""
    k, j, i = np.ogrid[tuple(slice(0, side) for side in shape)]
    ck, cj, ci = lesion.centre
    return np.sqrt((k - ck) ** 2 + (j - cj) ** 2 + (i - ci) ** 2)


def scattered_lesions(
    clean: np.ndarray,
    inside: np.ndarray,
    sigma: float,
    seed: int,
    most: int = 12,
    radii: tuple[float, float] = (1.5, 4.0),
    contrasts: tuple[float, float] = (4.0, 10.0),
) -> list[Lesion]:
    """Up to ``most`` lesions at random places inside a mask, none near its border, the array's or another lesion.

    Radii (voxels) and contrasts (units of ``sigma``) are spread evenly over their ranges, centres lie between voxels.
    Half of the lesions are darker than their surroundings, as long as that leaves them above the noise.
    """
    generator = np.random.default_rng(seed)
    depth = distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1, 1:-1]
    margin = int(radii[1]) + 5
    far = np.zeros(clean.shape, bool)
    far[tuple(slice(margin, side - margin) for side in clean.shape)] = True
    background = uniform_filter(clean, 5)
    chosen: list[Lesion] = []
    shares = generator.permutation(np.linspace(0.0, 1.0, most)), generator.permutation(np.linspace(0.0, 1.0, most))
    for number, (size, strength) in enumerate(zip(*shares, strict=True)):
        radius = radii[0] + size * (radii[1] - radii[0])
        places = np.argwhere(far & (depth > radius + 3.0))
        if not len(places):
            continue
        for place in places[generator.permutation(len(places))[:200]]:
            gaps = [np.linalg.norm(place - one.centre) - one.radius - radius for one in chosen]
            if min(gaps, default=99.0) >= 8.0:
                contrast = sigma * (contrasts[0] + strength * (contrasts[1] - contrasts[0]))
                dark = number % 2 == 1 and background[tuple(place)] - clean.min() - contrast > 3.0 * sigma
                centre = tuple(float(value) for value in place + generator.uniform(-0.5, 0.5, 3))
                chosen.append(Lesion(centre, float(radius), float(-contrast if dark else contrast)))
                break
    return chosen
