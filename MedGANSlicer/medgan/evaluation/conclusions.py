"""What follows from the rows of an evaluation: summary, comparisons, and how they are to be read."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from medgan.evaluation.statistics import (
    FEWEST,
    FEWEST_FOR_BOOTSTRAP,
    LEVEL,
    add_corrected,
    compare,
    over_labels,
    summarise,
)
from medgan.evaluation.table import Evaluation
from medgan.progress import Progress, part, silent
from medgan.settings import EvaluateSettings


def conclude(evaluation: Evaluation, settings: EvaluateSettings, progress: Progress = silent) -> None:
    """Add summary, comparisons, and what is to be said about how they were made, to the rows."""
    rows = evaluation.rows
    chance = settings.seed, settings.bootstrap
    evaluation.summary = summarise(rows, evaluation.metrics, *chance, part(progress, 0.0, 0.5))
    evaluation.comparisons = compare(rows, evaluation.metrics, settings.test, *chance, part(progress, 0.5, 1.0))
    measured = [row for row in rows if not row.get("error")]
    if evaluation.kind == "images" and measured:
        _tell_images(evaluation, measured, settings)
    if evaluation.kind == "segmentations" and measured:
        evaluation.tell(
            f"NSD has a tolerance of {settings.tolerance_mm:g} mm. A label that only one side has gets Dice and NSD 0 "
            "and the diagonal of the volume as distance; one that neither has gets Dice and NSD 1 and distance 0.",
            "dice",
            "hd95",
            "assd",
            "nsd",
        )
    if over_labels(rows):
        evaluation.tell("Figures without a label are means over the labels of each case.")
    if any(entry["low"] is not None for entry in evaluation.summary):
        evaluation.tell(
            f"Intervals: 95 % of the mean over cases, BCa bootstrap with {settings.bootstrap} resamples (percentiles "
            f"where BCa is not defined); of fewer than {FEWEST_FOR_BOOTSTRAP} cases Student's, within the range of the "
            "figure; none where all cases are the same."
        )
    elif measured:
        evaluation.tell(f"Intervals need at least {FEWEST} cases that differ.")
    if evaluation.comparisons:
        evaluation.tell(
            f"Comparisons: {settings.test.label()} test of the paired differences, two-sided; p_corrected is Holm's "
            "over all metrics and pairs of methods (labels: over these too)."
        )
        if few := _too_few(evaluation.comparisons):
            evaluation.tell(few)
    if evaluation.failed:
        evaluation.tell(f"{len(evaluation.failed)} results could not be measured; their rows say why.")


def _too_few(comparisons: Sequence[Mapping[str, Any]]) -> str:
    """That some comparison has fewer cases than a clear difference needs, whatever they are; '' where none has."""
    worst = max(comparisons, key=lambda entry: entry.get("p_least", 0.0), default=None)
    if worst is None or worst.get("p_least", 0.0) < LEVEL:
        return ""
    family = sum(("label" in entry) == ("label" in worst) for entry in comparisons)
    count, needed = worst["n"], worst["n"]
    while family * 2.0 ** (1 - needed) >= LEVEL:
        needed += 1
    corrected = f", corrected for {family} comparisons" if family > 1 else ""
    cases = "common case" if count == 1 else "common cases"
    return f"{count} {cases} can not reach p = {LEVEL:g}{corrected}; it takes {needed} or more."


def without(evaluation: Evaluation, hidden: Collection[str]) -> Evaluation:
    """The evaluation without some metrics; p is corrected for those that remain, as if only they had been measured."""
    metrics = {name: info for name, info in evaluation.metrics.items() if name not in hidden}
    comparisons = [dict(entry) for entry in evaluation.comparisons if entry["metric"] in metrics]
    apart = evaluation.kind == "segmentations"  # there the single labels are a family of their own
    for single in (False, True):
        add_corrected([entry for entry in comparisons if (apart and "label" in entry) == single])
    messages = [
        said for said in evaluation.messages if any(one in metrics for one in evaluation.about.get(said, metrics))
    ]
    few = _too_few(evaluation.comparisons)
    if few in messages:
        messages = [_too_few(comparisons) if said == few else said for said in messages]
    return dataclasses.replace(
        evaluation,
        metrics=metrics,
        messages=[said for said in messages if said],
        rows=[{name: value for name, value in row.items() if name not in hidden} for row in evaluation.rows],
        summary=[entry for entry in evaluation.summary if entry["metric"] in metrics],
        comparisons=comparisons,
    )


def _tell_images(evaluation: Evaluation, rows: Sequence[Mapping[str, Any]], settings: EvaluateSettings) -> None:
    ranges = [row["data_range"] for row in rows]
    span = f"{min(ranges):.6g}" if min(ranges) == max(ranges) else f"{min(ranges):.6g} to {max(ranges):.6g}"
    source = "as given" if settings.data_range else "the robust range of each reference"
    scaled = ("psnr", "ssim", "ms_ssim", "nrmse", "data_range")
    evaluation.tell(f"Data range of PSNR, SSIM, MS-SSIM and NRMSE: {span}, {source}.", *scaled)
    kernel = "Gaussian, 11 voxels along each axis, sigma 1.5 voxels, K1 0.01, K2 0.03"
    evaluation.tell(f"Kernel of SSIM and MS-SSIM: {kernel}.", "ssim", "ms_ssim")
