"""The evaluation of sets of volumes without pairs: results against reference, and the reference against itself."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import ndimage

from medgan.evaluation.distributions import FEW, SetPair, median_distance, on_subsets
from medgan.evaluation.similarity import ImagePair, ms_ssim
from medgan.evaluation.table import FLOOR, Evaluation
from medgan.metrics import METRICS, infos, measure
from medgan.noise import intensity_range
from medgan.progress import Cancelled, Progress, part
from medgan.settings import EvaluateSettings
from medgan.volume import Volume

SIDE = 48
"""Voxels along each axis of the volumes whose diversity is measured."""

PAIRS = 40
"""Pairs of volumes that the diversity is the mean of at most."""

Features = Callable[[Sequence[Volume], Progress], np.ndarray]
Source = Callable[[], Any]


@dataclasses.dataclass
class _Set:
    rows: np.ndarray
    small: list[np.ndarray]


def evaluate_sets(
    results: Mapping[str, Mapping[str, Source]],
    reference: Mapping[str, Source],
    settings: EvaluateSettings,
    progress: Progress,
    features: Features,
) -> Evaluation:
    """Every set figure of each method's volumes against the reference, by the features that ``features`` gives.

    One row a method holds the figures of all its volumes. The summary holds the same on random subsets of equal size,
    with their 95 % range, and as a method called "reference against itself" the floor. A volume that can not be used is
    a row with its reason. Raises ``ValueError`` when fewer than two volumes of the reference can be used.
    """
    evaluation = Evaluation("sets", infos("sets"), settings=settings.to_dict())
    total = len(reference) + sum(len(held) for held in results.values())
    done = 0
    sets: dict[str, _Set] = {}
    for method, held in {FLOOR: reference, **results}.items():
        share = part(progress, 0.9 * done / total, 0.9 * (done + len(held)) / total)
        sets[method] = _read(method, held, evaluation, share, features)
        done += len(held)
    real = sets.pop(FLOOR)
    if len(real.rows) < 2:
        reasons = [row["error"] for row in evaluation.rows if row["method"] == FLOOR]
        said = f" {reasons[0]}" if reasons else ""
        raise ValueError(f"The reference needs at least two volumes, it has {len(real.rows)} that can be used.{said}")
    width = median_distance(real.rows)
    floor_done = False
    sizes = {method: len(ours.rows) for method, ours in sets.items() if len(ours.rows) > 1}
    fewest = min(sizes.values(), default=0)
    if fewest < min(max(sizes.values(), default=0), len(real.rows) // 2):
        evaluation.tell(
            f"'{min(sizes, key=lambda method: sizes[method])}' has the fewest volumes, {fewest}; the subsets of the "
            "summary have as many for every method, so that all have one bias and one floor."
        )
    for number, (method, ours) in enumerate(sets.items()):
        progress(0.9 + 0.1 * number / max(1, len(sets)), f"Comparing {method} with the reference")
        if len(ours.rows) < 2:
            evaluation.tell(f"'{method}' has {len(ours.rows)} volumes that can be used; a set needs at least two.")
            continue
        pair = SetPair(ours.rows, real.rows, settings.neighbours, width)
        diversity = _diversities(ours.small, settings.seed)
        row = {"case": f"{len(ours.rows)} volumes against {len(real.rows)}", "method": method, **measure("sets", pair)}
        evaluation.rows.append(row | {"diversity": float(np.mean(diversity)) if diversity else None})
        evaluation.summary += _summary(pair, method, diversity, settings, fewest, with_floor=not floor_done)
        floor_done = True
        _warn(evaluation, pair, method)
    real_diversity = _diversities(real.small, settings.seed)
    if real_diversity:
        evaluation.summary.append(_entry(FLOOR, "diversity", real_diversity, len(real.small)))
    evaluation.tell(
        "Summary: mean and 95 % range over random subsets of equal size (their spread, no confidence interval of the "
        f"population); '{FLOOR}' is what two such subsets of the reference differ by. Rows: all volumes."
    )
    progress(1.0, "Done")
    return evaluation


def _read(
    method: str, held: Mapping[str, Source], evaluation: Evaluation, progress: Progress, features: Features
) -> _Set:
    """Features and a small copy of every volume; one volume in memory at a time."""
    rows: list[np.ndarray] = []
    small: list[np.ndarray] = []
    for number, (case, source) in enumerate(held.items()):
        progress(number / len(held), f"Reading {case}")
        try:
            volume = source()
            found = features([volume], lambda fraction, message="": progress(number / len(held)))  # noqa: B023
            rows += list(np.atleast_2d(np.asarray(found, dtype=np.float64)))
            small.append(reduced(volume.array))
        except Cancelled:
            raise
        except Exception as error:
            reason = str(error) or type(error).__name__
            evaluation.rows.append({"case": case, "method": method, "error": reason})
    progress(1.0)
    return _Set(np.array(rows), small)


def reduced(array: np.ndarray) -> np.ndarray:
    """The volume in 0..1 on 48 x 48 x 48 voxels, float32."""
    array = np.nan_to_num(array)
    low, high = intensity_range(array)
    scaled = np.clip((array - low) / (high - low) if high > low else array * 0.0, 0.0, 1.0)
    # Smoothed as far as it is made smaller, else fine texture would alias.
    scaled = ndimage.gaussian_filter(scaled, [0.5 * max(side / SIDE - 1.0, 0.0) for side in array.shape])
    zoomed = ndimage.zoom(scaled, [SIDE / side for side in array.shape], order=1, mode="nearest", grid_mode=True)
    return zoomed.astype(np.float32)


def _diversities(small: Sequence[np.ndarray], seed: int) -> list[float]:
    """MS-SSIM of pairs of different volumes."""
    pairs = list(itertools.combinations(range(len(small)), 2))
    if len(pairs) > PAIRS:
        chosen = np.random.default_rng(seed).choice(len(pairs), PAIRS, replace=False)
        pairs = [pairs[place] for place in np.sort(chosen)]
    found = (ms_ssim(ImagePair(small[one], small[other], 1.0)) for one, other in pairs)
    return [value for value in found if value is not None]


def _summary(
    pair: SetPair, method: str, diversity: Sequence[float], settings: EvaluateSettings, size: int, with_floor: bool
) -> Iterable[dict[str, Any]]:
    """Entries of a method on subsets of at most that size, and once those of the floor."""
    found = []
    for name, metric in METRICS["sets"].items():
        values, floor, count = on_subsets(pair, metric.function, settings.seed, size)
        if values:
            found.append(_entry(method, name, values, count))
        if floor and with_floor:
            found.append(_entry(FLOOR, name, floor, count))
    if diversity:
        found.append(_entry(method, "diversity", diversity, len(pair.result)))
    return found


def _entry(method: str, metric: str, values: Sequence[float], count: int) -> dict[str, Any]:
    low, high = np.percentile(values, [2.5, 97.5])
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
    figures = {"mean": float(np.mean(values)), "sd": spread, "median": float(np.median(values))}
    return {"method": method, "metric": metric, "n": count, **figures, "low": float(low), "high": float(high)}


def _warn(evaluation: Evaluation, pair: SetPair, method: str) -> None:
    fewest, features = min(len(pair.result), len(pair.reference)), pair.result.shape[1]
    if fewest < FEW:
        evaluation.tell(
            f"'{method}' is compared on {len(pair.result)} and {len(pair.reference)} volumes, which is few: the "
            f"Fréchet distance of {features} features is then mostly bias. Judge by KID and RBF-MMD, and by the "
            "summary, where results and reference are drawn in equal number.",
            "frechet",
        )
    if pair.neighbours > fewest - 1:
        evaluation.tell(
            f"A set of {fewest} volumes has only {fewest - 1} neighbours, so {fewest - 1} were taken instead of "
            f"{pair.neighbours} (precision, recall, density, coverage).",
            "precision",
            "recall",
            "density",
            "coverage",
        )
