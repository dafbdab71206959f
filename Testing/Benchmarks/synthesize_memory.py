"""Did a model learn scans by heart? Nearest training neighbours of what it makes, beside those of a real patient.

- crops: distance of each crop of a made brain to the nearest crop of any scan of a head that a training may have seen,
  in the space of the network "features"; the share that lies nearer than the nearest 5 % of the held-out patient's.
- texture: the largest correlation of a cube of fine detail (16 voxels a side, what is finer than 2 voxels) with any
  place in those scans, wherever it lies. A copied scan would give 1.
- shape, for brains from noise: Dice of the three tissues with each of the training label maps at 4 mm, after both were
  centred and scaled to one size; real brains: the training maps among each other.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage
from scipy.fft import irfftn, next_fast_len, rfftn
from scipy.spatial.distance import cdist
from synthesize_real import tissues_of_codes

CUBE = 16
FINE = 2.0
GRID = 40
"""Voxels a side on which shapes are compared."""


def nearest(points: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Distance of each point (n, D) to the nearest one of those seen (m, D)."""
    return cdist(points, seen).min(axis=1)


def nearer_share(points: np.ndarray, seen: np.ndarray, real: np.ndarray) -> float:
    """Share of the points nearer to what was seen than 95 % of the real ones are; 0.05 is what chance gives."""
    return float((nearest(points, seen) < np.percentile(nearest(real, seen), 5)).mean())


def detail(image: np.ndarray) -> np.ndarray:
    """What is finer than 2 voxels."""
    return image - ndimage.gaussian_filter(image, FINE)


def cubes(image: np.ndarray, count: int, seed: int) -> list[np.ndarray]:
    """Cubes of detail from within a brain, the same places for a seed and a shape."""
    fine = detail(image)
    inside = ndimage.uniform_filter((image > 0).astype(np.float32), CUBE) > 0.999
    half = CUBE // 2
    places = np.argwhere(inside[half:-half, half:-half, half:-half])
    chosen = places[np.random.default_rng(seed).choice(len(places), count, replace=False)]
    return [fine[k : k + CUBE, j : j + CUBE, i : i + CUBE] for k, j, i in chosen]


def correlations(wanted: Sequence[np.ndarray], scan: np.ndarray) -> np.ndarray:
    """The largest correlation of each cube with any place in a scan."""
    fine = detail(scan).astype(np.float32)
    shape = [next_fast_len(side + CUBE, real=True) for side in fine.shape]
    spectrum = rfftn(fine, shape)
    volume = CUBE**3
    mean = ndimage.uniform_filter(fine, CUBE, origin=-(CUBE // 2))
    square = ndimage.uniform_filter(np.square(fine), CUBE, origin=-(CUBE // 2))
    spread = np.sqrt(np.maximum(square - mean**2, 0.0) * volume)
    valid = tuple(slice(0, side - CUBE + 1) for side in fine.shape)
    plain = spread > 0.1 * np.median(spread[valid][spread[valid] > 0])
    found = []
    for cube in wanted:
        centred = cube - cube.mean()
        turned = np.zeros(shape, np.float32)
        turned[:CUBE, :CUBE, :CUBE] = centred[::-1, ::-1, ::-1]
        product = irfftn(spectrum * rfftn(turned), shape)
        start = CUBE - 1
        whole = product[tuple(slice(start, start + side) for side in fine.shape)]
        score = whole[valid] / np.maximum(spread[valid] * np.sqrt(np.square(centred).sum()), 1e-9)
        found.append(float(score[plain[valid]].max()))
    return np.array(found)


def shape_of(codes: np.ndarray) -> np.ndarray:
    """The three tissues of a brain on GRID voxels a side, cut to the brain."""
    held = tissues_of_codes(codes)
    found = np.nonzero(held)
    held = held[tuple(slice(int(each.min()), int(each.max()) + 1) for each in found)]
    places = [((np.arange(GRID) + 0.5) * side / GRID).astype(int) for side in held.shape]
    return held[np.ix_(*places)]


def likeness(one: np.ndarray, other: np.ndarray) -> float:
    """Mean Dice of the three tissues."""
    found = []
    for tissue in (1, 2, 3):
        both = np.logical_and(one == tissue, other == tissue).sum()
        found.append(2.0 * both / max(1, (one == tissue).sum() + (other == tissue).sum()))
    return float(np.mean(found))
