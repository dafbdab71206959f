"""The evaluation of cases one by one: results of several methods against their references, or volumes alone.

A case that fails becomes a row with its reason and stops no other. One case is in memory at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from medgan.evaluation import pictures
from medgan.evaluation.conclusions import conclude
from medgan.evaluation.geometry import differences, on_grid_of
from medgan.evaluation.labels import label_names, mask_of, names_of, one_name_each, renamed, tell_names, values_of
from medgan.evaluation.overlap import MaskPair
from medgan.evaluation.quality import Segment, Whole
from medgan.evaluation.similarity import SCALE_WEIGHTS, ImagePair, windowed_axes
from medgan.evaluation.table import Evaluation
from medgan.metrics import infos, measure
from medgan.noise import AIR_HU, intensity_range, padding_as_air
from medgan.progress import Cancelled, Progress, part
from medgan.settings import EvaluateSettings, Figures
from medgan.volume import LabelMap, Volume, VolumeError
from medgan.writing import at_right_angles

Source = Callable[[], "Volume | LabelMap"]
"""Reads a volume when it is its turn. Raises ``ValueError`` with the reason why it can not."""

BEFORE = "before"
"""Stands as a method for the input that the results were made from, where no method is called so."""

SHOWN_ONLY = (
    "An input on another grid than the reference is shown beside the results, but no figures are taken of it; resample "
    "it, or allow resampling."
)

WHY_NONE = {
    "noise_sigma": "the volume is too small",
    "blur": "the volume is too small or has too few clear edges",
}
"""Why a figure of a volume without a reference is not defined."""


@dataclass
class Case:
    """One case: results by method, and what they are judged by. ``problem`` is why it can not be measured at all."""

    name: str
    results: dict[str, Source] = field(default_factory=dict)
    reference: Source | None = None
    before: Source | None = None
    mask: Source | None = None
    segments: Source | None = None
    problems: dict[str, str] = field(default_factory=dict)
    """Reasons, by method, why a result that should be there is not."""


@dataclass
class _Held:
    """What the methods of a case share, read and on the grid of the reference."""

    case: Case
    reference: Volume | LabelMap | None
    before: Volume | None
    mask: np.ndarray | None
    segments: LabelMap | None
    pictured: bool
    padding: np.ndarray | None = None
    """Where the reference had padding, which is air in it now; None: nowhere."""


def evaluate_cases(kind: Figures, cases: Sequence[Case], settings: EvaluateSettings, progress: Progress) -> Evaluation:
    """Rows, summary, comparisons and pictures of "images", "segmentations" or "volumes"."""
    measured = {Figures.IMAGES: _image, Figures.SEGMENTATIONS: _segmentation, Figures.VOLUMES: _alone}[kind]
    names = ("volumes", "segments") if kind is Figures.VOLUMES else (kind.value,)
    evaluation = Evaluation(kind.value, infos(*names), settings=settings.to_dict())
    name_of_input = f"{BEFORE} (input)" if any(BEFORE in case.results for case in cases) else BEFORE
    for number, case in enumerate(cases):
        progress(0.95 * number / len(cases), f"Measuring {case.name}" if case.name else "Measuring")
        evaluation.rows += [
            {"case": case.name, "method": method, "error": reason} for method, reason in case.problems.items()
        ]
        methods = dict(case.results)
        if case.before and kind is not Figures.SEGMENTATIONS:
            methods = {name_of_input: case.before} | methods
        try:
            held = _held(case, kind, evaluation, settings, len({picture.case for picture in evaluation.pictures}))
        except Cancelled:
            raise
        except Exception as error:
            evaluation.rows += [_failed(case, method, error) for method in methods]
            continue
        for place, (method, source) in enumerate(methods.items()):
            progress(0.95 * (number + place / len(methods)) / len(cases))
            try:
                volume = source()
                if (
                    source is case.before
                    and held.reference
                    and not settings.resample
                    and differences(volume, held.reference)
                ):
                    evaluation.tell(SHOWN_ONLY)
                    continue
                evaluation.rows += measured(held, method, volume, evaluation, settings)
            except Cancelled:
                raise
            except Exception as error:
                evaluation.rows.append(_failed(case, method, error))
    if kind is Figures.SEGMENTATIONS:
        evaluation.rows = _with_absent(evaluation)
    progress(0.95, "Intervals and comparisons")
    conclude(evaluation, settings, part(progress, 0.95, 1.0))
    progress(1.0, "Done")
    return evaluation


def _with_absent(evaluation: Evaluation) -> list[dict[str, Any]]:
    """The rows with one, in all that was measured, for every label of the evaluation that neither side has there.

    Which label it is stands in "value", which is taken off the rows; it is called the same in all of them.
    """
    names = one_name_each(evaluation, [(row["value"], row["label"]) for row in evaluation.rows if "value" in row])
    held: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in evaluation.rows:
        held.setdefault((row["case"], row["method"]), []).append(row)
    filled: list[dict[str, Any]] = []
    for (case, method), group in held.items():
        there = {row.pop("value"): row for row in group if "value" in row}
        for value, row in there.items():
            row["label"] = names[value]
        filled += [row for row in group if row.get("error") or row["label"] is not None]
        if any(row.get("error") for row in group):
            continue
        filled += [_nothing(case, method, name) for value, name in names.items() if value not in there]
        if not names:
            why = "Neither the result nor the reference has a label; there is nothing to measure."
            filled.append({"case": case, "method": method, "error": why})
    return filled


def _nothing(case: str, method: str, label: str) -> dict[str, Any]:
    """The row of a label that neither side has: it gets what is due for that."""
    empty = MaskPair(np.zeros((1, 1, 1), bool), np.zeros((1, 1, 1), bool), (1.0, 1.0, 1.0))
    return {"case": case, "method": method, "label": label, **measure("segmentations", empty)}


def _failed(case: Case, method: str, error: Exception) -> dict[str, Any]:
    said = " ".join(str(error).split())
    if isinstance(error, MemoryError):
        said = "The case does not fit into memory."
    elif not isinstance(error, (ValueError, OSError)) or not said:
        said = f"{type(error).__name__}: {said}"
    return {"case": case.name, "method": method, "error": said}


def _held(case: Case, kind: Figures, evaluation: Evaluation, settings: EvaluateSettings, pictured: int) -> _Held:
    reference, padding = case.reference() if case.reference else None, None
    if reference is None and kind is not Figures.VOLUMES:
        raise VolumeError(f"There is no reference for '{case.name}'.")
    if kind is Figures.IMAGES and isinstance(reference, LabelMap):
        raise VolumeError("The reference is a label map, but images are measured; choose figures: segmentations.")
    if kind is Figures.IMAGES and isinstance(reference, Volume):
        filled = padding_as_air(reference.array)
        padding = filled > reference.array
        reference = reference.like(filled)
    if kind is Figures.SEGMENTATIONS and not isinstance(reference, LabelMap):
        raise VolumeError("The reference is no label map, but segmentations are measured; choose figures: images.")
    held = _Held(case, reference, None, None, None, pictured < settings.pictures)
    if padding is not None and padding.any():
        evaluation.tell("What scanners write around what they saw counts as air, in the reference and in the results.")
        held.padding = padding

    if case.mask is not None and reference is not None and kind is Figures.IMAGES:
        mask, _, message = on_grid_of(_as_labels(case.mask()), reference, "mask", "reference", settings.resample)
        if message:
            evaluation.tell(_of_case(case, message))
        held.mask = mask.array > 0
        if not held.mask.any():
            raise VolumeError(f"The mask of '{case.name}' is empty; there is nothing to measure.")
    if case.before is not None and reference is not None and held.pictured:
        before = case.before()
        if isinstance(before, Volume):  # only looked at, so its grid does not matter
            held.before = on_grid_of(before, reference, "input", "reference", resample=True)[0]
    if kind is Figures.VOLUMES and case.segments is not None:
        segments = case.segments()
        if not isinstance(segments, LabelMap):
            raise VolumeError(f"The segments of '{case.name}' are no label map; SNR and CNR need one.")
        held.segments = segments
    return held


def _as_labels(mask: Volume | LabelMap) -> LabelMap:
    if isinstance(mask, LabelMap):
        return mask
    return LabelMap((np.nan_to_num(mask.array) > 0).astype(np.uint8), mask.ijk_to_ras)


def _of_case(case: Case, message: str) -> str:
    return f"{case.name}: {message}" if case.name else message


def _image(
    held: _Held, method: str, result: Volume | LabelMap, evaluation: Evaluation, settings: EvaluateSettings
) -> list[dict[str, Any]]:
    reference = held.reference
    assert isinstance(reference, Volume)
    if isinstance(result, LabelMap):
        raise VolumeError("The result is a label map and its reference an image; compare things of one kind.")
    result = result.like(padding_as_air(result.array))  # before it is blended with what is beside it
    result, within, message = on_grid_of(result, reference, "result", "reference", settings.resample)
    if message:
        evaluation.tell(_of_case(held.case, f"{method}: {message}"))
    if held.padding is not None:  # whoever changed it a little has no padding to be known by
        result = result.like(np.where(held.padding & np.isfinite(result.array), AIR_HU, result.array))
    inside, known = held.mask, result.array
    if within is not None:
        inside, known = within if held.mask is None else within & held.mask, np.where(within, known, np.nan)
    low, high = intensity_range(reference.array[np.isfinite(reference.array)])
    pair = ImagePair(known, reference.array, settings.data_range or high - low, inside)
    figures = measure("images", pair)
    _tell_scales(evaluation, pair)
    if figures["psnr"] == float("inf"):
        evaluation.tell(
            "A result that is the same as its reference has an infinite PSNR, which takes no part in means and tests.",
            "psnr",
        )
    if held.pictured and method in held.case.results:
        shown = {"before": held.before, "result": result, "reference": reference}
        there = {name: volume for name, volume in shown.items() if volume is not None}
        evaluation.pictures.append(pictures.of_images(held.case.name, method, there, held.mask))
    return [{"case": held.case.name, "method": method, **figures}]


def _tell_scales(evaluation: Evaluation, pair: ImagePair) -> None:
    axes, both = windowed_axes(pair.reference.shape), ("ssim", "ms_ssim")
    if not axes:
        evaluation.tell("SSIM and MS-SSIM need 11 voxels along an axis; they were left out for smaller images.", *both)
    elif len(axes) < 3:
        evaluation.tell(
            "SSIM and MS-SSIM were taken slice by slice where an axis has less than 11 voxels; MS-SSIM is the product "
            "of the means over all slices, not the mean of the slices' own.",
            *both,
        )
    if axes and pair.known is not None:
        none = "" if pair.scales else "; where there was no other, they were not measured"
        evaluation.tell(f"Windows of SSIM and MS-SSIM with voxels that have no value were left out{none}.", *both)
    if 0 < pair.scales < len(SCALE_WEIGHTS):
        evaluation.tell(
            f"MS-SSIM has {pair.scales} instead of {len(SCALE_WEIGHTS)} scales in small images and masks (five need "
            "176 voxels along each axis, or fewer than 11); compare it only with figures of as many scales.",
            "ms_ssim",
        )


def _segmentation(
    held: _Held, method: str, result: Volume | LabelMap, evaluation: Evaluation, settings: EvaluateSettings
) -> list[dict[str, Any]]:
    reference = held.reference
    assert isinstance(reference, LabelMap)
    if not isinstance(result, LabelMap):
        raise VolumeError("The result is no label map and its reference is one; compare things of one kind.")
    result, _, message = on_grid_of(result, reference, "result", "reference", settings.resample)
    if message:
        evaluation.tell(_of_case(held.case, f"{method}: {message}"))
    if settings.by_name:
        result = renamed(result, reference)
    else:
        tell_names(evaluation, result, reference)
    matrix = reference.ijk_to_ras
    axes_mm = None if at_right_angles(matrix) else matrix[:3, 2::-1].T
    called = result.labels | reference.labels
    rows = []
    for value, name in label_names(result, reference).items():
        masks = mask_of(result, value), mask_of(reference, value)
        pair = MaskPair(*masks, reference.spacing_mm[::-1], settings.tolerance_mm, axes_mm)
        named = {"case": held.case.name, "method": method, "label": called[value].name if value in called else ""}
        same = name.strip().lower() if settings.by_name else value
        rows.append({**named, "value": same, **measure("segmentations", pair)})  # see _with_absent
    if held.pictured:
        evaluation.pictures.append(pictures.of_labels(held.case.name, method, result, reference, held.before))
    return rows or [{"case": held.case.name, "method": method, "label": None}]


def _alone(
    held: _Held, method: str, result: Volume | LabelMap, evaluation: Evaluation, settings: EvaluateSettings
) -> list[dict[str, Any]]:
    if isinstance(result, LabelMap):
        raise VolumeError("A label map has no noise or contrast; give its reference to measure its overlap.")
    if not np.isfinite(result.array).all():
        raise VolumeError(f"{int((~np.isfinite(result.array)).sum())} voxels are not finite numbers; mend them first.")
    named = {"case": held.case.name, "method": method}
    figures = measure("volumes", Whole(result.array))
    for name, why in WHY_NONE.items():
        if figures[name] is None:
            evaluation.tell(_of_case(held.case, f"{evaluation.metrics[name].title} was not measured: {why}."), name)
    rows: list[dict[str, Any]] = [{**named, **figures}]
    if held.segments is not None:
        segments, _, message = on_grid_of(held.segments, result, "label map", "volume", settings.resample)
        if message:
            evaluation.tell(_of_case(held.case, message))
        rows += [named | row for row in _segment_rows(result, segments, evaluation, settings)]
    if held.pictured:
        evaluation.pictures.append(pictures.of_images(held.case.name, method, {"result": result}))
    return rows


def _segment_rows(
    volume: Volume, segments: LabelMap, evaluation: Evaluation, settings: EvaluateSettings
) -> list[dict[str, Any]]:
    names = names_of(values_of(segments), segments.labels)
    if not names:
        raise VolumeError("The label map has no segment here.")
    wanted = settings.contrast_to.strip().lower()
    other = next((value for value, name in names.items() if wanted in (name.strip().lower(), str(value))), None)
    if wanted and other is None:
        raise VolumeError(f"There is no segment '{settings.contrast_to}'; there are {', '.join(names.values())}.")
    other = min(names) if other is None else other
    evaluation.tell(f"CNR is the contrast to segment '{names[other]}'.", "cnr")
    theirs = volume.array[mask_of(segments, other)]
    rows = []
    for value, name in names.items():
        segment = Segment(volume.array[mask_of(segments, value)], None if value == other else theirs)
        rows.append({"label": name, **measure("segments", segment)})
    return rows
