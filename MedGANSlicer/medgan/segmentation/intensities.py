"""From the voxels of a scan to what a segmentation network was trained on: where the body is, and in which unit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medgan.noise import intensity_range
from medgan.segmentation.description import Intensities
from medgan.segmentation.grid import Grid

MARGIN_MM = 10.0
"""Air that is kept around the body."""

EMPTY_SHARE = 0.005
"""A plane of voxels with less than this share of foreground is air; single noisy voxels do not make a body."""

FAT_HU = -200.0
"""Below are air and lung: no other tissue is so dark."""

_MOST_SAMPLES = 500_000
_BLOCK = 4


def looks_like_ct(array: np.ndarray) -> bool:
    """Whether a tenth of the voxels is air in Hounsfield units."""
    sample = _sample(array)
    return bool((sample < -300.0).mean() > 0.1 and (sample > -300.0).any())


def may_not_be_hounsfield(array: np.ndarray, intensities: Intensities) -> bool:
    """Whether a network wants Hounsfield units and nothing is as dark as air or lung."""
    return intensities.kind == "hounsfield" and intensities.window[0] < 0 and not bool((array < FAT_HU).any())


def background_of(array: np.ndarray) -> float:
    """The intensity of nothing: 0 in MR and PET, about -1000 in CT; what lies outside a scan is filled with it."""
    return intensity_range(array)[0]


def windowed(array: np.ndarray, intensities: Intensities) -> np.ndarray:
    """The array clipped to the window for CT, where the network wants that and the volume looks like CT."""
    if intensities.ct_window is None or not looks_like_ct(array):
        return array
    return np.clip(array, *intensities.ct_window)


def body_box(array: np.ndarray, grid: Grid) -> tuple[slice, slice, slice]:
    """The voxels with something in them and a margin; all of them when there is nothing.

    Means of blocks are compared, so that noise is no body: with a level halfway between the darkest ones and what
    parts the dark from the bright ones best.
    """
    steps = [min(_BLOCK, side) for side in array.shape]
    counts = [side // step for side, step in zip(array.shape, steps, strict=True)]
    whole = array[tuple(slice(0, count * step) for count, step in zip(counts, steps, strict=True))]
    blocks = whole.reshape(counts[0], steps[0], counts[1], steps[1], counts[2], steps[2])
    means = blocks.mean(axis=(1, 3, 5), dtype=np.float64)  # sums of float32 may overflow
    low = float(np.percentile(means, 1))
    foreground = means > low + 0.5 * (_dividing_level(means) - low)
    box = []
    for axis, side in enumerate(array.shape):
        margin = int(np.ceil(MARGIN_MM / float(np.linalg.norm(grid.ijk_to_ras[:3, 2 - axis]))))
        share = foreground.mean(axis=tuple(n for n in range(3) if n != axis))
        lines = np.flatnonzero(share > EMPTY_SHARE)
        if not len(lines):
            return tuple(slice(0, length) for length in array.shape)  # type: ignore[return-value]
        first, last = int(lines[0]) * steps[axis], (int(lines[-1]) + 1) * steps[axis]
        box.append(slice(max(0, first - margin), min(side, last + margin)))
    return tuple(box)  # type: ignore[return-value]


def _dividing_level(values: np.ndarray) -> float:
    """The level that parts values into two groups with the largest variance between them (Otsu, 1979)."""
    counts, edges = np.histogram(values, 256)
    centres = 0.5 * (edges[1:] + edges[:-1])
    below = np.cumsum(counts)[:-1]
    above = values.size - below
    total = np.cumsum(counts * centres)
    means = total[:-1] / np.maximum(below, 1), (total[-1] - total[:-1]) / np.maximum(above, 1)
    return float(edges[1:-1][np.argmax(below * above * (means[0] - means[1]) ** 2)])


def in_unit_of_network(arrays: Sequence[np.ndarray], intensities: Intensities) -> np.ndarray:
    """Float32 channels (C, D, H, W) in the network's unit. Raises ``ValueError``."""
    if not intensities.transforms:
        return np.stack([normalised(array, intensities) for array in arrays])
    import monai.transforms

    image = np.stack(arrays).astype(np.float32)
    for name, arguments in intensities.transforms:
        try:
            image = np.asarray(getattr(monai.transforms, name)(**arguments)(image), dtype=np.float32)
        except (TypeError, ValueError, IndexError) as error:
            raise ValueError(f"The model's transform '{name}' can not be used: {error}") from error
    return image


def normalised(array: np.ndarray, intensities: Intensities) -> np.ndarray:
    """Float32 voxels of one channel in the network's unit."""
    if intensities.kind == "none":
        return array.astype(np.float32)
    if intensities.kind == "z-score":
        return ((array - float(array.mean())) / (float(array.std()) or 1.0)).astype(np.float32)
    if intensities.kind == "hounsfield":
        low, high = intensities.window
    elif intensities.kind == "range":
        low, high = intensity_range(array)
    else:
        low, high = (float(number) for number in np.percentile(_sample(array), (0.5, 99.5)))
    scaled = (array - np.float32(low)) / np.float32(max(high - low, 1e-6))
    if intensities.clip or intensities.kind != "hounsfield":
        scaled = np.clip(scaled, 0.0, 1.0)
    return scaled.astype(np.float32)


def _sample(array: np.ndarray) -> np.ndarray:
    flat = array.ravel()
    return flat[:: max(1, flat.size // _MOST_SAMPLES)]
