"""Guards against invention: does the result agree with the scan, with itself, and where does it go further?

All arrays are float32 [k, j, i] in the unit of the input.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy import ndimage

from medgan.noise import noise_of_means
from medgan.places import place_text
from medgan.progress import Progress, part, silent
from medgan.restoration.step import State, Step

CONTRADICTS_SIGMAS = 1.5
"""A mean over 27 voxels of what the result leaves unexplained; noise alone, with 1/27 of its variance, stays below."""

UNSURE_SHARE = 0.08
"""Disagreement, as a share of the intensity range, above which a place is named."""

ADDED_SHARE = 0.15
ADDED_SHARE_SHARPER = 0.3
"""Share of the intensity range by which a result may pass its neighbourhood in the input without being named; more
where a blur was taken away, because that had flattened fine structures."""

FEWEST_VOXELS = 8
MOST_PLACES = 20


def consistency(residual: np.ndarray, state: State) -> dict[str, Any]:
    """Root mean square of the residual in the unit of the input and in standard deviations of its noise."""
    size = float(np.sqrt(np.mean(np.square(residual, dtype=np.float64))))
    return {"residual_rms": size, "residual_sigmas": size / state.level if state.level > 0 else None}


def uncertainty(
    variant: Callable[[np.ndarray, float, Progress], np.ndarray],
    state: State,
    result: np.ndarray,
    characters: Sequence[float],
    progress: Progress = silent,
) -> np.ndarray:
    """Standard deviation over the volume with each of the characters, and mirrored along each axis with the first.

    ``result`` is that of the volume with the first; the characters differ. ``variant(array, character, progress)`` is
    the result for another array of the input's shape.
    """
    unit = np.float32(state.normalisation.scale)  # squares of very large or small numbers do not fit float32
    mean, squares = result / unit, np.zeros_like(result)
    variants: list[tuple[int | None, float]] = [(None, character) for character in characters[1:]]
    variants += [(axis, characters[0]) for axis in range(3)]
    for number, (axis, character) in enumerate(variants):
        share = part(progress, number / len(variants), (number + 1) / len(variants))
        if axis is None:
            made = variant(state.array, character, share)
        else:
            made = np.flip(variant(np.ascontiguousarray(np.flip(state.array, axis)), character, share), axis)
        made = made / unit
        step = made - mean  # Welford: exact for small differences of large numbers
        mean += step / (number + 2)
        squares += step * (made - mean)
        del made, step  # memory: the next variant takes much
    return unit * np.sqrt(np.maximum(squares, 0.0) / len(variants))


def suspicions(
    result: np.ndarray,
    start: np.ndarray,
    residual: np.ndarray,
    unsure: np.ndarray | None,
    state: State,
    grid: np.ndarray,
    steps: Sequence[Step],
) -> list[dict[str, Any]]:
    """Places that were changed by more than the input supports, worst first, at most 20, each with a sentence.

    Three kinds. *contradicts*: averaged over 27 voxels, the result seen through the scanner differs from the input by
    more than 1.5 sigma of its noise and more than correlated noise does, within the anatomy. *added*: the result goes
    beyond the darkest and brightest value of its neighbourhood in the input by more than noise and sharpening explain.
    *unsure*: the model disagrees with itself by more than 8 % of the intensity range (only with an uncertainty map).
    ``start`` is the input on the grid of the result.
    """
    scale, sigma = state.normalisation.scale, state.finest
    places = _contradictions(residual, state)
    if any(step.card.restores != "noise" for step in steps):
        width = max((float(step.details.get("blur_sigma", 0.0)) for step in steps), default=0.0)
        reach = [_reach(state.ijk_to_ras, grid, axis, width) for axis in range(3)]
        limit = (ADDED_SHARE_SHARPER if width else ADDED_SHARE) * scale + 3.0 * sigma
        places += named_places("added", _beyond(result, start, reach), limit, grid)
    if unsure is not None:
        places += named_places(
            "unsure", ndimage.uniform_filter(unsure, 3), max(UNSURE_SHARE * scale, 2.0 * sigma), grid
        )
    places.sort(key=lambda place: -place.pop("severity"))
    return places[:MOST_PLACES]


def _contradictions(residual: np.ndarray, state: State) -> list[dict[str, Any]]:
    """The places of the kind *contradicts*."""
    scale, sigma = state.normalisation.scale, state.finest
    anatomy = ndimage.uniform_filter(state.array, 3) > state.normalisation.low + max(4.0 * sigma, 0.03 * scale)
    mean = ndimage.uniform_filter(residual, 3)
    limit = max(CONTRADICTS_SIGMAS * sigma, 0.01 * scale, _correlated(mean[anatomy], state))
    mean[~anatomy] = 0.0
    return named_places("contradicts", mean, limit, state.ijk_to_ras)


def _beyond(result: np.ndarray, start: np.ndarray, reach: Sequence[int]) -> np.ndarray:
    """How far the result is above the brightest and, negative, below the darkest of its neighbourhood in ``start``."""
    beyond = ndimage.minimum_filter(start, reach)
    np.minimum(np.subtract(result, beyond, out=beyond), 0.0, out=beyond)
    above = ndimage.maximum_filter(start, reach)
    np.maximum(np.subtract(result, above, out=above), 0.0, out=above)
    return np.add(beyond, above, out=beyond)


def _correlated(means: np.ndarray, state: State) -> float:
    """How far means over 27 voxels of what the result leaves unexplained reach where noise is correlated, as in
    filtered scans: there it does not average out, and the finest detail tells little of it.

    Five times the spread of ``means``, which few inventions do not change; but not of more than the noise explains that
    is found at all frequencies where the volume is flattest.
    """
    if not means.size or state.found is None:
        return 0.0
    spread = 1.4826 * float(np.median(np.abs(means)))
    return 5.0 * min(spread, noise_of_means(state.found) * state.normalisation.scale)


def _reach(before: np.ndarray, after: np.ndarray, axis: int, blur: float) -> int:
    """Voxels of the new grid that hold a voxel of the old one and its neighbours, as far as blurred; odd."""
    column = 2 - axis
    ratio = float(np.linalg.norm(before[:3, column]) / np.linalg.norm(after[:3, column]))
    return 2 * math.ceil(max(1.5, 2.5 * blur) * ratio) + 1


def named_places(kind: str, values: np.ndarray, limit: float, ijk_to_ras: np.ndarray) -> list[dict[str, Any]]:
    """Connected regions in which ``values`` is beyond ``limit`` in either direction.

    The "finding" is the sentence with "Here" for the place, which somebody may have to name in other coordinates.
    """
    labels, count = ndimage.label(np.abs(values) > limit)
    if count == 0:
        return []
    voxel_ml = abs(float(np.linalg.det(ijk_to_ras[:3, :3]))) / 1000.0
    steps_mm = np.linalg.norm(ijk_to_ras[:3, :3], axis=0)
    sizes = np.bincount(labels[labels > 0])  # the background would be most of it
    found = []
    boxes = ndimage.find_objects(labels)
    for number in np.argsort(sizes[1:])[::-1][: 4 * MOST_PLACES] + 1:
        if sizes[number] < FEWEST_VOXELS:
            break
        box = boxes[number - 1]
        inside = labels[box] == number
        part = np.where(inside, np.abs(values[box]), 0.0)
        peak = float(values[box][np.unravel_index(int(part.argmax()), part.shape)])
        k, j, i = (first.start + centre for first, centre in zip(box, ndimage.center_of_mass(part), strict=True))
        place = [round(float(x), 2) for x in (ijk_to_ras @ [i, j, k, 1.0])[:3]]
        size = [float(steps_mm[2 - axis] * (box[axis].stop - box[axis].start)) for axis in (2, 1, 0)]
        volume = float(sizes[number] * voxel_ml)
        finding = _finding(kind, volume, peak)
        found.append(
            {
                "ras_mm": place,
                "size_mm": [round(x, 2) for x in size],
                "volume_ml": round(volume, 4),
                "kind": kind,
                "finding": finding,
                "sentence": finding.replace("Here", f"At {place_text(place)}", 1),
                "severity": abs(peak) / limit,
            }
        )
    return found


def _finding(kind: str, volume_ml: float, peak: float) -> str:
    here = f"Here ({volume_ml:.2g} ml)"
    if kind == "contradicts":
        return f"{here} the result does not explain the input: it is up to {abs(peak):.3g} off there."
    if kind == "added":
        way = "brighter" if peak > 0 else "darker"
        return f"{here} the result is up to {abs(peak):.3g} {way} than anything around that place in the input."
    return f"{here} the model is unsure by up to {abs(peak):.3g}; do not rely on detail there."
