"""How alike two images are, voxel by voxel and in structure. Numpy and scipy only; computed in float64.

The structural similarity is separable here, in slabs, and so takes seconds and little memory for a volume that a dense
11 x 11 x 11 convolution would take minutes for; its values are those of MONAI and scikit-image.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage

WINDOW = 11
"""Voxels along each axis of the Gaussian window of SSIM."""

SIGMA = 1.5
"""Standard deviation of that window, in voxels."""

K1, K2 = 0.01, 0.03
"""Stability constants, as shares of the data range."""

SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of the scales of MS-SSIM, from fine to coarse (Wang et al. 2003)."""

BINS = 100
"""Bins along each axis of the joint histogram of NMI."""

_SLAB = 32


@dataclass(eq=False)
class ImagePair:
    """Two images on one grid, any number of axes, and where and how they are compared.

    ``inside`` is a boolean array, None is everywhere. ``data_range`` is in the images' unit, above zero. ``scales``
    becomes the number of scales that MS-SSIM used. ``known`` becomes where both images are finite, None is everywhere;
    the windows of SSIM lie wholly there. Raises ``ValueError``.
    """

    result: np.ndarray
    reference: np.ndarray
    data_range: float
    inside: np.ndarray | None = None
    scales: int = field(default=0, init=False)
    known: np.ndarray | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        if not self.data_range > 0:
            raise ValueError("The data range is 0: the reference is constant, so give a data range.")
        if self.inside is not None and not self.inside.any():
            raise ValueError("The mask is empty on this grid; there is nothing to measure.")
        for name in ("result", "reference"):
            array = getattr(self, name)
            finite = np.isfinite(array)
            bad = int(self._of(~finite).sum())
            if bad:
                raise ValueError(
                    f"{bad} of the {self._of(finite).size} voxels of the {name} are not finite; mend them or give a "
                    "mask that leaves them out."
                )
            if not finite.all():
                setattr(self, name, np.where(finite, array, 0.0))
                self.known = finite if self.known is None else self.known & finite

    def _of(self, array: np.ndarray) -> np.ndarray:
        return array.ravel() if self.inside is None else array[self.inside]

    @property
    def values(self) -> tuple[np.ndarray, np.ndarray]:
        """Result and reference inside the mask, flat."""
        return self._of(self.result).astype(np.float64), self._of(self.reference).astype(np.float64)


def data_range(pair: ImagePair) -> float:
    """What PSNR, SSIM, MS-SSIM and NRMSE are relative to: the given range, or the robust range of the reference.

    That goes from 0, or from the 0.1 percentile where values are notably negative or all far above 0, to the 99.9
    percentile of the bright voxels.
    """
    return float(pair.data_range)


def mae(pair: ImagePair) -> float:
    """Mean absolute error, in the unit of the images."""
    result, reference = pair.values
    return float(np.abs(result - reference).mean())


def nrmse(pair: ImagePair) -> float:
    """Root mean square error over the data range."""
    return float(np.sqrt(_mean_square(pair)) / pair.data_range)


def psnr(pair: ImagePair) -> float:
    """10 log10(data range² / mean square error); infinite for identical images."""
    square = _mean_square(pair)
    return float("inf") if square == 0.0 else float(10.0 * np.log10(pair.data_range**2 / square))


def _mean_square(pair: ImagePair) -> float:
    result, reference = pair.values
    return float(np.square(result - reference).mean())


def nmi(pair: ImagePair) -> float | None:
    """Normalised mutual information (H(A) + H(B)) / H(A, B), 1 to 2 (Studholme et al. 1999), from 100 x 100 bins.

    Not defined for two constant images.
    """
    result, reference = (_bins(values) for values in pair.values)
    joint = np.bincount(result * BINS + reference, minlength=BINS**2).reshape(BINS, BINS)
    both = _entropy(joint)
    return (_entropy(joint.sum(axis=0)) + _entropy(joint.sum(axis=1))) / both if both > 0 else None


def _bins(values: np.ndarray) -> np.ndarray:
    """The bin of each value, between the smallest and the largest."""
    low, high = values.min(), values.max()
    if low == high:
        return np.zeros(values.shape, np.int64)
    return np.minimum((values - low) * (BINS / (high - low)), BINS - 1).astype(np.int64)


def _entropy(counts: np.ndarray) -> float:
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())


def ssim(pair: ImagePair) -> float | None:
    """Mean structural similarity (Wang et al. 2004), relative to the data range.

    Gaussian window of 11 voxels along each axis with sigma 1.5 voxels, K1 0.01, K2 0.03, population covariance; mean
    over the whole windows whose middle is inside the mask and that hold no voxel without a value. An axis shorter than
    11 voxels takes no part: its slices count one by one.
    """
    axes = windowed_axes(pair.result.shape)
    middles = _middles(pair.inside, pair.known, axes)
    found = _similarity(pair.result, pair.reference, middles, pair.data_range, axes)
    return None if found is None else found[0]


def ms_ssim(pair: ImagePair) -> float | None:
    """Structural similarity over five scales, each half as fine as the one before (Wang et al. 2003).

    Windows as for SSIM, weights 0.0448, 0.2856, 0.3001, 0.2363, 0.1333 from fine to coarse, negative similarities as 0.
    A scale needs 11 voxels along each axis that takes part, so five need 176; where fewer fit, the weights of those
    that do are scaled to a sum of 1.
    """
    result, reference, inside, known = pair.result, pair.reference, pair.inside, pair.known
    axes = windowed_axes(result.shape)
    found: list[tuple[float, float]] = []
    while len(found) < len(SCALE_WEIGHTS) and axes and min(result.shape[axis] for axis in axes) >= WINDOW:
        similarity = _similarity(result, reference, _middles(inside, known, axes), pair.data_range, axes)
        if similarity is None:
            break
        found.append(similarity)
        result, reference = halved(result, axes), halved(reference, axes)
        inside = None if inside is None else halved(inside, axes) >= 0.5
        known = None if known is None else halved(known, axes) == 1.0
    if not found:
        return None
    pair.scales = len(found)
    weights = np.array(SCALE_WEIGHTS[: len(found)])
    terms = np.maximum([contrast for _, contrast in found[:-1]] + [found[-1][0]], 0.0)
    return float(np.prod(terms ** (weights / weights.sum())))


def windowed_axes(shape: tuple[int, ...]) -> list[int]:
    """The axes that hold a whole window."""
    return [axis for axis, side in enumerate(shape) if side >= WINDOW]


def halved(array: np.ndarray, axes: list[int]) -> np.ndarray:
    """Means of neighbouring pairs along the axes, float64; an odd last voxel is dropped."""
    array = array.astype(np.float64)
    for axis in axes:
        even = array.shape[axis] // 2 * 2
        first = [slice(0, even, 2) if each == axis else slice(None) for each in range(array.ndim)]
        second = [slice(1, even, 2) if each == axis else slice(None) for each in range(array.ndim)]
        array = (array[tuple(first)] + array[tuple(second)]) / 2.0
    return array


def _middles(inside: np.ndarray | None, known: np.ndarray | None, axes: list[int]) -> np.ndarray | None:
    """Where the middles of the windows that count may lie: inside, and no voxel of the window unknown."""
    if known is None:
        return inside
    whole = ndimage.minimum_filter(known, [WINDOW if axis in axes else 1 for axis in range(known.ndim)])
    return whole if inside is None else whole & inside


def _similarity(
    first: np.ndarray, second: np.ndarray, inside: np.ndarray | None, data_range: float, axes: list[int]
) -> tuple[float, float] | None:
    """Means over the whole windows of the similarity and of its contrast part; None where there is no window."""
    if not axes:
        return None
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    total = contrast_total = count = 0.0
    for one, other, chosen in _slabs(first, second, inside, axes):
        mean_one, mean_other = _windowed(one, axes), _windowed(other, axes)
        square_one, square_other, product = mean_one**2, mean_other**2, mean_one * mean_other
        variances = _windowed(one * one, axes) + _windowed(other * other, axes) - square_one - square_other
        covariance = _windowed(one * other, axes) - product
        contrast = (2.0 * covariance + c2) / (variances + c2)
        similarity = (2.0 * product + c1) / (square_one + square_other + c1) * contrast
        if chosen is not None:
            contrast, similarity = contrast[chosen], similarity[chosen]
        total, contrast_total, count = total + similarity.sum(), contrast_total + contrast.sum(), count + contrast.size
    return (float(total / count), float(contrast_total / count)) if count else None


def _slabs(
    first: np.ndarray, second: np.ndarray, inside: np.ndarray | None, axes: list[int]
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray | None]]:
    """Both images in overlapping slabs along the first axis, and the mask at the middles of their windows."""
    margin = WINDOW - 1 if 0 in axes else 0
    middles = tuple(slice(WINDOW // 2, -(WINDOW // 2)) if axis in axes else slice(None) for axis in range(first.ndim))
    for start in range(0, first.shape[0] - margin, _SLAB):
        part = slice(start, min(start + _SLAB + margin, first.shape[0]))
        chosen = None if inside is None else inside[part][middles]
        if chosen is None or chosen.any():
            yield first[part].astype(np.float64), second[part].astype(np.float64), chosen


def _windowed(array: np.ndarray, axes: list[int]) -> np.ndarray:
    """Weighted mean of every whole window."""
    place = np.arange(WINDOW) - WINDOW // 2
    weights = np.exp(-((place / SIGMA) ** 2) / 2.0)
    weights /= weights.sum()
    for axis in axes:
        array = ndimage.correlate1d(array, weights, axis=axis, mode="constant")
        array = array[
            tuple(slice(WINDOW // 2, -(WINDOW // 2)) if each == axis else slice(None) for each in range(array.ndim))
        ]
    return array
