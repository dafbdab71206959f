"""Brings a made volume to the intensities that were asked for: 300 HU are 300 HU.

A network that has learned the texture of scans moves the mean and the spread of a label a little. Here they are
measured and put right: in the inside of each label, where all 27 voxels around are of it, the mean and the standard
deviation become the wanted ones; towards the borders the correction of the mean goes over into that of the neighbours,
so that partial volume stays as it is and no border gets sharper. With a reference the whole distribution of each label
is brought to the reference's, partial volume included.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from medgan.networks.render import PARTIAL_VOLUME

FEWEST = 40
"""Voxels in the inside of a label from which its mean and spread are measured; thin labels have fewer."""

FEWEST_OF_DISTRIBUTION = 300
"""Voxels of a label from which its whole distribution is."""

MOST_GAIN = 4.0

SOME = 20_000
"""Voxels of a thin label that are looked at."""

REACH = 2.5
"""Standard deviations that a voxel may lie above the brightest, or below the darkest, mean of the labels around it."""

BINS = 512
"""Steps of intensity, from 0 to 1, of a distribution."""


def calibrated(
    image: np.ndarray,
    index: np.ndarray,
    wanted: np.ndarray,
    distributions: Mapping[int, np.ndarray] | None = None,
) -> np.ndarray:
    """The image [k, j, i] with the wanted statistics; it is changed in place.

    index: of each voxel's label, uint8 or larger; wanted: (K, 2) mean and standard deviation of each, in the unit of
    the image; distributions: by index, how many voxels of a reference have each intensity (:func:`distribution`); their
    mean and deviation are then not looked at.
    """
    known = distributions or {}
    count = len(wanted)
    if not known:  # else what is beyond goes back into the distribution
        image = kept_near(image, index, wanted)
    inside = insides(index)
    places = index[inside]
    found = image[inside]
    size = np.bincount(places, minlength=count)
    mean = np.bincount(places, weights=found, minlength=count) / np.maximum(size, 1)
    square = np.bincount(places, weights=np.square(found), minlength=count) / np.maximum(size, 1)
    spread = np.sqrt(np.maximum(square - mean**2, 0.0))
    off = np.where(size >= FEWEST, wanted[:, 0] - mean, 0.0)
    thin = [value for value in range(count) if size[value] < FEWEST and value not in known]
    for value, by in _thin(image, index, wanted, thin).items():
        off[value] = by
    gain = np.clip(wanted[:, 1] / np.maximum(spread, 1e-9), 0.0, MOST_GAIN)
    gain[size < FEWEST] = 1.0
    for value in known:
        off[value], gain[value] = 0.0, 1.0
    if np.abs(gain - 1.0).max() > 1e-4:
        image[inside] = found + ((gain - 1.0)[places] * (found - mean[places])).astype(np.float32)
    if np.abs(off).max() > 1e-5:
        image += of_27(off.astype(np.float32)[index])
    if known:
        _as_distributed(image, index, known)
    return image


def kept_near(image: np.ndarray, index: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The image without voxels that are brighter or darker than any label around can be: grains that texture leaves at
    borders, where the contrast is large. It is changed in place."""
    ends = wanted[:, :1] + REACH * wanted[:, 1:] * [-1.0, 1.0]
    first, step = ends.min(), max(float(np.ptp(ends)) / 255.0, 1e-9)  # in whole numbers, which are compared faster
    low, high = (how((ends[:, n] - first) / step) for n, how in enumerate((np.floor, np.ceil)))
    for bound, further, keep in ((low, np.minimum, np.maximum), (high, np.maximum, np.minimum)):
        around = of_neighbours(np.clip(bound, 0, 255).astype(np.uint8)[index], further)
        keep(image, around * np.float32(step) + np.float32(first), out=image)
    return image


def of_neighbours(array: np.ndarray, further: np.ufunc) -> np.ndarray:
    """The smallest or largest (``np.minimum``, ``np.maximum``) of the 27 voxels around each."""
    for axis in range(3):
        found = array.copy()
        along, into = np.moveaxis(array, axis, 0), np.moveaxis(found, axis, 0)
        further(into[1:], along[:-1], out=into[1:])
        further(into[:-1], along[1:], out=into[:-1])
        array = found
    return array


def distribution(image: np.ndarray) -> np.ndarray:
    """(BINS,) how many of some voxels have each intensity from 0 to 1."""
    return np.bincount(_bin(image), minlength=BINS)


def insides(index: np.ndarray) -> np.ndarray:
    """Where all 27 voxels around are of one label; beyond the edge of the volume the outermost go on."""
    found = np.ones(index.shape, bool)
    for axis in range(3):
        here = np.moveaxis(found, axis, 0)
        along = np.moveaxis(index, axis, 0)
        same = along[1:] == along[:-1]
        if axis:  # neighbours along the other axes are so already
            before = here.copy()
            here[1:] &= before[:-1]
            here[:-1] &= before[1:]
        here[1:] &= same
        here[:-1] &= same
    return found


def of_27(array: np.ndarray) -> np.ndarray:
    """The mean of 27 voxels; beyond the edge the outermost go on."""
    for axis in range(3):
        along = np.moveaxis(array, axis, 0)
        total = np.empty_like(array)
        into = np.moveaxis(total, axis, 0)
        into[...] = along
        into[1:] += along[:-1]
        into[:1] += along[:1]
        into[:-1] += along[1:]
        into[-1:] += along[-1:]
        total *= np.float32(1.0 / 3.0)
        array = total
    return array


def _thin(image: np.ndarray, index: np.ndarray, wanted: np.ndarray, values: list[int]) -> dict[int, float]:
    """How much labels without an inside are too dark: what brings them to between their mean and the mixture of the
    means around each voxel, for a network may or may not show partial volume."""
    found = {}
    reach = np.array(image.shape).reshape(3, 1) - 1
    around = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3, indexing="ij")).reshape(3, -1, 1)
    for value in values:
        flat = np.flatnonzero(index == value)
        if not len(flat):
            continue
        places = np.stack(np.unravel_index(flat[:: 1 + len(flat) // SOME], image.shape))
        near = np.clip(places[:, None] + around, 0, reach[:, None])
        labels = index[tuple(near)]
        own = (labels == value).mean(axis=0)
        mixed = PARTIAL_VOLUME * (wanted[labels, 0].mean(axis=0) - wanted[value, 0])
        weight = own**2
        too_dark, lack = (float((weight * each).sum()) for each in (wanted[value, 0] - image[tuple(places)], mixed))
        off = too_dark - min(max(too_dark, min(-lack, 0.0)), max(-lack, 0.0))
        found[value] = float(np.clip(off / (weight * own).sum(), -0.5, 0.5))  # it is spread over the neighbourhood, too
    return found


def _as_distributed(image: np.ndarray, index: np.ndarray, wanted: Mapping[int, np.ndarray]) -> None:
    """Each of these labels with the distribution of intensities that it has in the reference."""
    count = int(index.max()) + 1
    bins = _bin(image)
    held = np.bincount(index.astype(np.int64).ravel() * BINS + bins.ravel(), minlength=count * BINS)
    held = held.reshape(count, BINS)
    edges = np.linspace(0.0, 1.0, BINS + 1)
    shift = np.zeros((count, BINS + 1), np.float32)
    for value, target in wanted.items():
        if value < count and held[value].sum() > 0:
            shares, goal = (np.concatenate([[0.0], np.cumsum(each) / each.sum()]) for each in (held[value], target))
            goal = goal + np.arange(BINS + 1) * 1e-9  # rising, so that it can be read the other way
            filled = np.flatnonzero(target)
            shown = np.interp(shares, goal, edges).clip(edges[filled[0]], edges[filled[-1] + 1])
            shift[value] = shown - edges
    place = np.clip(image, 0.0, 1.0) * np.float32(BINS)
    share = place - bins
    flat = shift.ravel()
    low = index.astype(np.int64) * (BINS + 1) + bins
    image += (1.0 - share) * flat[low] + share * flat[low + 1]


def _bin(image: np.ndarray) -> np.ndarray:
    found: np.ndarray = np.clip(image * BINS, 0, BINS - 1).astype(np.int64)
    return found
