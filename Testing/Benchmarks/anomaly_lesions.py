"""Lesions put into healthy scans at random, for measuring who finds them. Not those that the model was trained with."""

from __future__ import annotations

import numpy as np
from scipy import ndimage, special

RADII_MM = (2.0, 14.0)
"""Smallest and largest radius; small ones are more frequent (uniform in the logarithm)."""

CONTRASTS = {"T1": (-0.5, -0.15), "T2": (0.25, 0.9), "FLAIR": (0.2, 0.7)}
"""Change of the tissue's own intensity, as a share of the median of the brain, by kind of scan."""

OTHER_SIGN = 0.15
"""Share of lesions that are changed the other way."""


def with_lesions(
    array: np.ndarray, brain: np.ndarray, spacing_mm: float, kind: str, count: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """The scan [k, j, i] (voxels as long along all axes) with lesions, and their numbers from 1 (0: none).

    A lesion is an ellipsoid, bent by a smooth field, turned at random, with a soft edge, uneven inside, and in half of
    the cases with a halo of a third of its contrast. It starts at least 3 mm inside the brain and stays in it.
    """
    rng = np.random.default_rng(seed)
    result, numbers = array.astype(np.float32).copy(), np.zeros(array.shape, np.int16)
    middle = float(np.median(array[brain]))
    deep = ndimage.distance_transform_edt(brain) * spacing_mm
    free = deep > 3.0
    for number in range(1, count + 1):
        places = np.argwhere(free)
        if not len(places):
            break
        centre = places[rng.integers(len(places))]
        radius = float(np.exp(rng.uniform(*np.log(RADII_MM))))
        distance = shape_of(array.shape, centre, radius / spacing_mm, rng)
        low, high = CONTRASTS[kind]
        contrast = rng.uniform(low, high) * (-1.0 if rng.random() < OTHER_SIGN else 1.0) * middle
        profile = special.expit((1.0 - distance) * radius / (0.6 * spacing_mm))
        if rng.random() < 0.5:
            profile = np.maximum(profile, 0.33 * special.expit((1.6 - distance) * radius / (0.8 * spacing_mm)))
        grain = ndimage.gaussian_filter(rng.standard_normal(array.shape).astype(np.float32), 2.0 / spacing_mm)
        grain *= 0.2 / max(float(grain.std()), 1e-6)
        result += (contrast * (1.0 + grain) * profile * brain).astype(np.float32)
        inside = (distance < 1.0) & brain
        numbers[inside] = number
        free &= distance > 2.0
    return np.maximum(result, min(0.0, float(array.min()))), numbers


def shape_of(shape: tuple[int, ...], centre: np.ndarray, radius: float, rng: np.random.Generator) -> np.ndarray:
    """Distance from the centre in radii of a bent ellipsoid, float32; far away simply large."""
    turn, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    lengths = np.exp(rng.uniform(-0.35, 0.35, 3))
    reach = int(np.ceil(3.5 * radius * lengths.max())) + 3
    box = tuple(slice(max(0, c - reach), min(side, c + reach + 1)) for c, side in zip(centre, shape, strict=True))
    near = np.stack(np.meshgrid(*(np.arange(part.start, part.stop) for part in box), indexing="ij"), axis=-1) - centre
    bend = np.stack(
        [ndimage.gaussian_filter(rng.standard_normal(near.shape[:3]), max(1.0, 0.6 * radius)) for _ in range(3)], -1
    )
    bend *= 0.3 * radius / max(float(bend.std()), 1e-6)
    distance = np.full(shape, 1e3, np.float32)
    distance[box] = np.linalg.norm((near + bend) @ turn / (lengths * radius), axis=-1)
    return distance
