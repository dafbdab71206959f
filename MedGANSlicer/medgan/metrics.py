"""Every metric: one function and one line each. Imports without torch.

``METRICS`` has, for each thing that is measured, the metrics by name, in the order in which they are shown. A function
takes that thing (``ImagePair``, ``MaskPair``, ``SetPair``, ``Predictions``, ``Whole``, ``Segment``) and returns a
number, or None where the metric is not defined. What it says of itself in its docstring is what people read of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from medgan.evaluation import classes, distributions, overlap, quality, similarity
from medgan.evaluation.table import MetricInfo

Figure = Callable[[Any], "float | None"]


@dataclass(frozen=True)
class Metric:
    """A function, and what is said about it."""

    function: Figure
    info: MetricInfo


def _metric(
    function: Figure,
    title: str,
    unit: str = "",
    better: str = "",
    lowest: float | None = None,
    highest: float | None = None,
) -> Metric:
    description = " ".join((function.__doc__ or "").split())
    return Metric(function, MetricInfo(title, unit, better, description, lowest, highest))


METRICS: dict[str, dict[str, Metric]] = {
    "images": {
        "psnr": _metric(similarity.psnr, "PSNR", "dB", "higher"),
        "ssim": _metric(similarity.ssim, "SSIM", "", "higher", -1, 1),
        "ms_ssim": _metric(similarity.ms_ssim, "MS-SSIM", "", "higher", 0, 1),
        "nrmse": _metric(similarity.nrmse, "NRMSE", "", "lower", 0),
        "mae": _metric(similarity.mae, "MAE", "intensity", "lower", 0),
        "nmi": _metric(similarity.nmi, "NMI", "", "higher", 1, 2),
        "data_range": _metric(similarity.data_range, "Data range", "intensity", "", 0),
    },
    "segmentations": {
        "dice": _metric(overlap.dice, "Dice", "", "higher", 0, 1),
        "hd95": _metric(overlap.hausdorff, "HD95", "mm", "lower", 0),
        "assd": _metric(overlap.assd, "ASSD", "mm", "lower", 0),
        "nsd": _metric(overlap.nsd, "NSD", "", "higher", 0, 1),
        "sensitivity": _metric(overlap.sensitivity, "Sensitivity", "", "higher", 0, 1),
        "specificity": _metric(overlap.specificity, "Specificity", "", "higher", 0, 1),
        "precision": _metric(overlap.precision, "Precision", "", "higher", 0, 1),
        "volume_difference": _metric(overlap.volume_difference_ml, "Volume difference", "ml"),
        "volume_difference_percent": _metric(overlap.volume_difference_percent, "Volume difference", "%", "", -100),
        "volume_error_percent": _metric(overlap.volume_error_percent, "Volume error", "%", "lower", 0),
    },
    "sets": {
        "frechet": _metric(distributions.frechet, "Fréchet distance", "", "lower"),
        "kid": _metric(distributions.kid, "KID", "", "lower"),
        "mmd": _metric(distributions.mmd, "RBF-MMD", "", "lower"),
        "precision": _metric(distributions.precision, "Precision", "", "higher"),
        "recall": _metric(distributions.recall, "Recall", "", "higher"),
        "density": _metric(distributions.density, "Density", "", "higher"),
        "coverage": _metric(distributions.coverage, "Coverage", "", "higher"),
    },
    "classes": {
        "accuracy": _metric(classes.accuracy, "Accuracy", "", "higher"),
        "recall": _metric(classes.recall, "Recall", "", "higher"),
        "precision": _metric(classes.precision, "Precision", "", "higher"),
        "f1": _metric(classes.f1, "F1", "", "higher"),
        "auc": _metric(classes.auc, "AUC", "", "higher"),
    },
    "one class": {
        "recall": _metric(classes.class_recall, "Recall", "", "higher"),
        "precision": _metric(classes.class_precision, "Precision", "", "higher"),
        "f1": _metric(classes.class_f1, "F1", "", "higher"),
        "auc": _metric(classes.class_auc, "AUC", "", "higher"),
    },
    "volumes": {
        "noise_sigma": _metric(quality.noise_sigma, "Noise", "intensity", "lower", 0),
        "noise_percent": _metric(quality.noise_percent, "Noise", "%", "lower", 0),
        "blur": _metric(quality.blur, "Blur", "voxels", "lower", 0),
    },
    "segments": {
        "mean": _metric(quality.mean, "Mean", "intensity"),
        "sd": _metric(quality.deviation, "SD", "intensity", "", 0),
        "snr": _metric(quality.snr, "SNR", "", "higher"),
        "cnr": _metric(quality.cnr, "CNR", "", "higher", 0),
    },
}


OTHERS = {
    "sets": {
        "diversity": MetricInfo(
            "Pairwise MS-SSIM",
            "",
            "",
            "Mean MS-SSIM of pairs within a set, each volume brought to 0..1 by its robust range and to 48 x 48 x 48 "
            "voxels, in 3 scales. The nearer to that of the reference the better; above it the volumes are too alike.",
        )
    },
    "classes": {"correct": MetricInfo("Correct", "", "", "1 where the prediction is the truth.")},
}
"""Figures that are not taken of one thing by a function, but where the rows of an evaluation are made."""


def measure(kind: str, thing: Any) -> dict[str, float | None]:
    """Every metric of a thing, by name; None where it is not defined. An infinite PSNR stays infinite."""
    found: dict[str, float | None] = {}
    for name, metric in METRICS[kind].items():
        value = metric.function(thing)
        found[name] = None if value is None or math.isnan(value) else float(value)
    return found


def infos(*kinds: str) -> dict[str, MetricInfo]:
    """What is said of the metrics of these things, by name."""
    found: dict[str, MetricInfo] = {}
    for kind in kinds:
        found |= {name: metric.info for name, metric in METRICS[kind].items()} | OTHERS.get(kind, {})
    return found
