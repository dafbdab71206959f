"""How good a volume is, in numbers with units and a sentence each; for research, not a verdict on a patient's scan.

Always the same six findings, in this order: noise, blur, slice thickness, clipping, missing slices, ghosting. A value
is None where it can not be measured; the sentence then says why. Numpy and scipy only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from typing import Any

import numpy as np

from medgan.acquired import noise_level
from medgan.ghosting import strongest_ghost
from medgan.lost_slices import LostSlices, lost_slices
from medgan.noise import intensity_range, padding_as_air
from medgan.sharpness import estimate_blur
from medgan.thickness import drawn_thickness
from medgan.volume import Volume

BLOCKS = 30_000
"""Blocks of the volume in which the noise is measured."""

NOISY, NOISY_HU = 5.0, 40.0
"""Noise that is remarked: percent of the range; in CT, Hounsfield units."""

LITTLE, LITTLE_HU = 1.0, 12.0
"""Noise below which there is little."""

SOFT = 1.2
"""Blur in voxels (standard deviation) that is remarked; a sharp scan has 0.4 to 0.7."""

THICK = 2.5
"""Slices so many times thicker than their pixels are remarked."""

ISOTROPIC = 1.5
"""Up to this ratio of voxel sides, slices are looked at for having been interpolated."""

SLICES = 1.3
"""From this ratio of voxel sides on, the longest one is the direction of the slices."""

REPEATED = 0.25
"""Share of the slices from which exact repetitions are voxels drawn by the nearest one, and not measured twice."""

CLIPPED = 0.1
"""Percent of the foreground at the bright end of the intensities, or of all voxels at the dark, that is remarked."""

GHOSTED = 3.0
"""Percent of the body's intensity that is remarked."""

HOUNSFIELD_AIR = -500.0
"""A volume with values below this is in Hounsfield units."""

AXES = ("k", "j", "i")

TITLES = {
    "noise": ("Noise", "% of the range"),
    "blur": ("Blur", "voxels"),
    "slice thickness": ("Slice thickness", "x pixel"),
    "clipping": ("Clipping", "% of the voxels"),
    "missing slices": ("Missing slices", "slices"),
    "ghosting": ("Ghosting", "% of the signal"),
}
"""What is measured: its title and unit."""


def measure(volume: Volume, names: Collection[str] = ()) -> list[dict[str, Any]]:
    """The six findings as plain JSON values: {"name", "title", "value", "unit", "sentence", "remark"}.

    ``remark`` is true where the number is worth a look before the volume is used. ``names``: of those wanted, if not
    all are.
    """
    wanted = names or tuple(TITLES)
    array = np.asarray(volume.array)
    finite = np.isfinite(array)
    if not finite.any() or float(array[finite].min()) == float(array[finite].max()):
        why = "every voxel has the same value" if finite.any() else "no voxel is a finite number"
        return [_finding(name, None, f"Not measured: {why}.", False) for name in TITLES if name in wanted]
    if not finite.all():
        array = np.where(finite, array, np.median(array[finite]))
    array = padding_as_air(array)
    peak = float(np.abs(array).max())
    unit = peak if not 1e-12 < peak < 1e12 else 1.0  # squares of what lies beyond do not fit into float32
    array = (array / unit).astype(np.float32) if unit != 1.0 else array.astype(np.float32, copy=False)
    low, high = intensity_range(array)
    sides = np.array(volume.spacing_mm[::-1])  # along k, j, i
    noisy = not {"noise", "missing slices"}.isdisjoint(wanted)
    distinct, true_sides = _without_repetitions(array, sides)
    sigma = noise_level(distinct, BLOCKS) if noisy else None
    ways: dict[str, Callable[[], dict[str, Any]]] = {
        "noise": lambda: _noise(sigma, low, high, unit, float(array.min()) <= HOUNSFIELD_AIR),
        "blur": lambda: _blur(distinct, true_sides),
        "slice thickness": lambda: _thickness(distinct, true_sides, distinct is not array),
        "clipping": lambda: _clipping(array, low, high, unit),
        "missing slices": lambda: _missing(array, sides, sigma or 0.0),
        "ghosting": lambda: _ghosting(array),
    }
    return [way() for name, way in ways.items() if name in wanted]


def _without_repetitions(array: np.ndarray, sides: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The slices that differ along every axis, and how far they lie apart; the array itself where few are repeated."""
    sides = sides.copy()
    for axis in range(3):
        slices = np.moveaxis(array, axis, 0)
        repeated = [
            number
            for number in range(1, len(slices))
            if np.array_equal(slices[number, ::4, ::4], slices[number - 1, ::4, ::4])  # most differ here already
            and np.array_equal(slices[number], slices[number - 1])
            and np.ptp(slices[number]) > 0
        ]
        if len(repeated) >= REPEATED * len(slices):
            array = np.delete(array, repeated, axis)
            sides[axis] *= len(slices) / array.shape[axis]
    return array, sides


def _finding(name: str, value: float | None, sentence: str, remark: bool) -> dict[str, Any]:
    title, unit = TITLES[name]
    rounded = None if value is None else float(f"{value:.4g}")
    return {"name": name, "title": title, "value": rounded, "unit": unit, "sentence": sentence, "remark": bool(remark)}


def _noise(sigma: float | None, low: float, high: float, unit: float, hounsfield: bool) -> dict[str, Any]:
    if sigma is None:
        return _finding("noise", None, "Not measured: the volume is too small.", False)
    percent = 100.0 * sigma / (high - low) if high > low else 0.0
    remark = percent > NOISY or (hounsfield and sigma > NOISY_HU)
    little = sigma < LITTLE_HU if hounsfield else percent < LITTLE
    how = "Strong noise" if remark else "Little noise" if little else "Moderate noise"
    shown = f"{sigma * unit:.3g}{' HU' if hounsfield else ''}"
    sentence = f"{how}: its standard deviation is {shown}, {percent:.2g} % of the intensity range."
    return _finding("noise", percent, sentence, remark)


def _blur(array: np.ndarray, sides: np.ndarray) -> dict[str, Any]:
    within = [axis for axis in range(3) if sides[axis] < SLICES * sides.min()]
    if sum(array.shape[axis] >= 8 for axis in within) < 2:
        within = [0, 1, 2]
    if max(array.shape[axis] for axis in within) < 8:
        return _finding("blur", None, "Not measured: the volume is too small.", False)
    blur = estimate_blur(array, within)
    if math.isnan(blur):
        return _finding("blur", None, "Not measured: there are too few clear edges.", False)
    mm = blur * float(sides[within].mean())
    where = "" if len(within) == 3 else " within the slices"
    how = "Soft" if blur > SOFT else "Sharp"
    said = f"a blur of {blur:.2g} voxels ({mm:.2g} mm, standard deviation)" if blur else "no blur beyond their voxels"
    sentence = f"{how}: edges{where} have {said}."
    return _finding("blur", blur, sentence, blur > SOFT)


def _thickness(array: np.ndarray, sides: np.ndarray, repeated: bool) -> dict[str, Any]:
    """How many times thicker slices are than the voxels within them, by the header or by the detail there is."""
    across = int(sides.argmax())
    within = float(np.sort(sides)[:2].mean())
    ratio, said = float(sides[across]) / within, "by those that differ" if repeated else "by the voxel size"
    if sides.max() <= ISOTROPIC * sides.min():
        axis, drawn = drawn_thickness(array)
        if drawn > 1.0:
            within = float(np.delete(sides, axis).mean())
            ratio, said = drawn * float(sides[axis]) / within, f"by their detail along {AXES[axis]}: interpolated"
    how = "Thick slices" if ratio >= THICK else "Slices"
    sentence = f"{how} of about {ratio * within:.2g} mm, {ratio:.2g} times the {within:.2g} mm within them ({said})."
    return _finding("slice thickness", ratio, sentence, ratio >= THICK)


def _clipping(array: np.ndarray, low: float, high: float, unit: float) -> dict[str, Any]:
    """Voxels at the very end of the intensities: many at once means that what went beyond was cut off."""
    inside = int((array > low + 0.1 * (high - low)).sum())
    top, bottom = float(array.max()), float(array.min())
    ends = [(int((array == top).sum()), inside, "foreground", f"highest value {top * unit:.5g}")]
    if HOUNSFIELD_AIR < bottom < 0.0:  # 0 and the air of CT are no clipping
        ends.append((int((array == bottom).sum()), array.size, "volume", f"lowest value {bottom * unit:.5g}"))
    percent, part, where = max(
        (100.0 * count / whole if whole and count > 1 else 0.0, part, where) for count, whole, part, where in ends
    )
    if percent < CLIPPED:
        sentence = "Not clipped: hardly any voxel has the highest value." if percent else "Not clipped."
    else:
        sentence = f"Clipped: {percent:.2g} % of the {part} has the {where}; what lay beyond it is lost."
    return _finding("clipping", percent, sentence, percent >= CLIPPED)


def _missing(array: np.ndarray, sides: np.ndarray, sigma: float) -> dict[str, Any]:
    axes = (int(sides.argmax()),) if sides.max() > SLICES * sides.min() else (0, 1, 2)
    if min(array.shape[axis] for axis in axes) < 3:
        sentence = "Not measured: there are fewer than three slices."
        return _finding("missing slices", None, sentence, False)
    found = lost_slices(array, axes, sigma)
    parts = [
        _numbered(found.empty, "empty slice", "", found),
        _numbered(found.repeated, "exact repetition", " of the slice before", found),
        _numbered(found.gaps, "gap", " after the slice", found),
    ]
    said = ", ".join(part for part in parts if part)
    sentence = f"{said[0].upper()}{said[1:]}." if said else "No slice is empty, repeated or seen to be missing."
    return _finding("missing slices", float(found.count), sentence, found.count > 0)


def _numbered(places: list[int], what: str, more: str, found: LostSlices) -> str:
    if not places:
        return ""
    named = ", ".join(str(place) for place in places[:5]) + (", ..." if len(places) > 5 else "")
    return f"{len(places)} {what}{'s' * (len(places) > 1)}{more} ({AXES[found.axis]} = {named})"


def _ghosting(array: np.ndarray) -> dict[str, Any]:
    if float(array.min()) < -0.2 * float(array.max()):
        sentence = "Not measured: only images of magnitudes (MR) have air in which ghosts are seen."
        return _finding("ghosting", None, sentence, False)
    ghost = strongest_ghost(array)
    if ghost is None:
        sentence = "Not measured: there is too little air around, or it was masked out."
        return _finding("ghosting", None, sentence, False)
    percent = 100.0 * ghost.strength
    sentence = "No ghosts are seen in the air around."
    if percent:
        how = "Ghosts, as of motion" if percent > GHOSTED else "Hardly any ghosts"
        sentence = (
            f"{how}: a copy of {percent:.2g} % of the signal, moved along {AXES[ghost.axis]} by {ghost.shift:.2g} of "
            "the field of view."
        )
    return _finding("ghosting", percent, sentence, percent > GHOSTED)
