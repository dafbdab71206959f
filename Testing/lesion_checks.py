"""Did an enhancement invent small structures, and did it keep the ones that were there?

Both questions are asked against a plain method that can not invent (the noisy input itself, or its interpolation),
because where the input lacks detail every method is wrong somewhere.

*Invented*: s(x) is the 3 x 3 x 3 mean. A voxel of the result is invented when its error |s(result - clean)| exceeds, by
more than 3 standard deviations of the input's noise, the largest error |s(plain - clean)| of the plain method within
one voxel of the input (``reach``, in voxels of the result along k, j, i). An invention is a connected component (26
neighbours) of at least 8 such voxels. So noise that stays, blur that stays and an edge that is a little sharper or
softer than the truth are none; a blob of 3 sigma where the plain method shows none is one, and so is a hole. An
invention lies *outside the input's structures* when its error, at its worst voxel, is larger than the whole contrast
(brightest less darkest 3 x 3 x 3 mean) that the plain method shows within ``reach``: no displaced or sharpened edge of
the input explains it. The others are structures of the input that were drawn worse than the plain method draws them.

*Kept*: the enhancement is run with and without the lesions, with the same noise. What the lesion adds to the result, in
the mean over its core (more than half of its contrast), is the contrast that is left of it. It is kept when that is at
least half of what is left in the plain method's. The contrast-to-noise ratio divides it by the standard deviation of
result minus clean in a shell 2 to 5 voxels outside the lesion. Its shift is that of the centre of mass of what is
there. A lesion counts only when the input shows it: its energy in the input is at least 5 sigma (Rose, 1948).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.ndimage import label, maximum_filter, maximum_position, minimum_filter, uniform_filter

from lesion_phantom import Lesion, distance_to, profile

THRESHOLD_SIGMAS = 3.0
FEWEST_VOXELS = 8
KEPT_SHARE = 0.5
VISIBLE_SIGMAS = 5.0


@dataclass(frozen=True)
class Invention:
    """One component. The excess, the error and the input's contrast are those at its worst voxel, in sigmas; the error
    is negative where the result is too dark."""

    voxels: int
    place: tuple[int, int, int]
    excess_sigmas: float
    error_sigmas: float
    contrast_sigmas: float

    @property
    def outside(self) -> bool:
        """Whether it lies outside the input's structures."""
        return abs(self.error_sigmas) > self.contrast_sigmas


@dataclass(frozen=True)
class Fate:
    """What became of one lesion. Contrasts are shares of the true one, shifts are voxels of the result."""

    lesion: Lesion
    visible_sigmas: float
    contrast: float
    plain_contrast: float
    contrast_to_noise: float
    plain_contrast_to_noise: float
    shift: float
    plain_shift: float

    @property
    def visible(self) -> bool:
        return self.visible_sigmas >= VISIBLE_SIGMAS

    @property
    def kept(self) -> bool:
        return self.contrast >= KEPT_SHARE * self.plain_contrast

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "visible": self.visible, "kept": self.kept}


def excess(result: np.ndarray, plain: np.ndarray, clean: np.ndarray, sigma: float, reach: Sequence[int]) -> np.ndarray:
    """By how many sigmas the result is more wrong than the plain method within ``reach``, [k, j, i]; often negative."""
    wrong, plainly = (np.abs(uniform_filter(one - clean, 3)) for one in (result, plain))
    return (wrong - maximum_filter(plainly, tuple(2 * step + 1 for step in reach))) / sigma


def inventions(
    result: np.ndarray, plain: np.ndarray, clean: np.ndarray, sigma: float, reach: Sequence[int] = (1, 1, 1)
) -> list[Invention]:
    """Every invention in a result, the worst first. All arrays on the grid of the clean volume."""
    beyond = excess(result, plain, clean, sigma, reach)
    components, count = label(beyond > THRESHOLD_SIGMAS, np.ones((3, 3, 3)))
    sizes = np.bincount(components.ravel(), minlength=count + 1)
    large = [number for number in range(1, count + 1) if sizes[number] >= FEWEST_VOXELS]
    if not large:
        return []
    wrong = uniform_filter(result - clean, 3) / sigma
    seen, box = uniform_filter(plain, 3) / sigma, tuple(2 * step + 1 for step in reach)
    contrast = maximum_filter(seen, box) - minimum_filter(seen, box)
    found = []
    for number, where in zip(large, maximum_position(beyond, components, large), strict=True):
        place = (int(where[0]), int(where[1]), int(where[2]))
        told = (float(one[place]) for one in (beyond, wrong, contrast))
        found.append(Invention(int(sizes[number]), place, *told))
    return sorted(found, key=lambda one: -one.excess_sigmas)


def planted_found(
    blobs: Sequence[Lesion],
    result: np.ndarray,
    plain: np.ndarray,
    clean: np.ndarray,
    sigma: float,
    reach: Sequence[int] = (1, 1, 1),
) -> tuple[int, int]:
    """How many of some blobs, each put into the result alone, are found, and how many outside the input's structures.

    It says how sharp :func:`inventions` is: not very, where the plain method itself is far off, as it is in finely
    folded anatomy at a high ratio.
    """
    found = outside = 0
    for blob in blobs:
        planted = result + blob.contrast * profile(blob, clean.shape)
        near = distance_to(blob, clean.shape) < blob.radius + 1.0
        hits = [one for one in inventions(planted, plain, clean, sigma, reach) if near[one.place]]
        found += bool(hits)
        outside += any(one.outside for one in hits)
    return found, outside


@dataclass(frozen=True)
class Pair:
    """One method's results with and without the lesions, on the grid of the clean volume."""

    without: np.ndarray
    with_lesions: np.ndarray


def fates(
    lesions: Sequence[Lesion],
    clean: np.ndarray,
    result: Pair,
    plain: Pair,
    visible_sigmas: Sequence[float],
    reach: Sequence[int] = (1, 1, 1),
) -> list[Fate]:
    """What became of each lesion. ``clean`` is the volume without them, ``visible_sigmas`` as :func:`visibility`."""
    others = [profile(lesion, clean.shape) for lesion in lesions]
    truth = sum((one.contrast * share for one, share in zip(lesions, others, strict=True)), np.zeros_like(clean))
    found = []
    for lesion, share, visible in zip(lesions, others, visible_sigmas, strict=True):
        distance = distance_to(lesion, clean.shape)
        near = distance < lesion.radius + 2.0 + max(reach)
        shell = (distance > lesion.radius + 2.0) & (distance < lesion.radius + 5.0)
        true_place = _centre(share * lesion.contrast, near, lesion.contrast)
        told = []
        for pair in (result, plain):
            added = pair.with_lesions - pair.without
            contrast = float(added[share > 0.5].mean() / (share[share > 0.5].mean() * lesion.contrast))
            noise = float((pair.with_lesions - clean - truth)[shell].std())
            shift = float(np.linalg.norm(_centre(added, near, lesion.contrast) - true_place))
            told.append((contrast, contrast * abs(lesion.contrast) / max(noise, 1e-12), shift))
        (contrast, ratio, shift), (plain_contrast, plain_ratio, plain_shift) = told
        found.append(Fate(lesion, float(visible), contrast, plain_contrast, ratio, plain_ratio, shift, plain_shift))
    return found


def visibility(lesion_in_input: np.ndarray, sigma: float) -> float:
    """How clearly an ideal observer sees a lesion in the input: root of its energy there, in sigmas of the noise."""
    return float(np.sqrt(np.square(lesion_in_input, dtype=np.float64).sum()) / sigma)


def _centre(added: np.ndarray, near: np.ndarray, contrast: float) -> np.ndarray:
    """Centre of mass (k, j, i) of what is at least a quarter as strong as the strongest; NaN when nothing is."""
    weight = np.where(near, added * np.sign(contrast), 0.0).astype(np.float64)
    weight[weight < 0.25 * max(weight.max(), 1e-12)] = 0.0
    places = np.argwhere(weight > 0)
    if not len(places):
        return np.full(3, np.nan)
    return np.average(places, axis=0, weights=weight[weight > 0])
