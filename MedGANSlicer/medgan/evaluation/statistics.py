"""How certain the figures of several cases are, and whether two methods differ on the same cases."""

from __future__ import annotations

import bisect
import inspect
import itertools
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from medgan.evaluation.table import NOT_METRICS, MetricInfo
from medgan.progress import Progress, silent
from medgan.settings import PairedTest

CONFIDENCE = 0.95

FEWEST = 3
"""Cases from which an interval is computed."""

FEWEST_FOR_BOOTSTRAP = 15
"""Cases below which resampling gives intervals that are far too narrow."""

LEVEL = 0.05
"""Corrected p below which a difference is called clear."""

PERMUTATIONS = 9999

MOST_FOR_EXACT = 50
"""Pairs up to which the signed ranks have their exact distribution, as in SciPy without ties."""

_SEED_NAME = "rng" if "rng" in inspect.signature(stats.bootstrap).parameters else "random_state"

Row = Mapping[str, Any]


def interval(
    values: Sequence[float],
    seed: int = 0,
    resamples: int = 2000,
    lowest: float | None = None,
    highest: float | None = None,
) -> tuple[float | None, float | None]:
    """95 % interval of the mean of values that can not lie outside of ``lowest`` and ``highest``.

    Bootstrap, bias-corrected and accelerated (BCa, Efron 1987), or its percentiles where that is not defined, which
    happens when almost all values are the same; of fewer than 15 values Student's. (None, None) for fewer than three,
    and where nothing varies, which says nothing of what else there may be.
    """
    sample = np.asarray(values, dtype=np.float64)
    if len(sample) < FEWEST or np.ptp(sample) == 0.0:
        return None, None
    if len(sample) < FEWEST_FOR_BOOTSTRAP:
        reach = stats.t.ppf(0.5 + CONFIDENCE / 2, len(sample) - 1) * sample.std(ddof=1) / np.sqrt(len(sample))
        low, high = float(sample.mean() - reach), float(sample.mean() + reach)
        return low if lowest is None else max(low, lowest), high if highest is None else min(high, highest)
    for method in ("BCa", "percentile"):
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")  # tells of a degenerate sample, which the answer tells too
            found = stats.bootstrap(
                (sample,),
                np.mean,
                confidence_level=CONFIDENCE,
                n_resamples=resamples,
                method=method,
                vectorized=True,
                **{_SEED_NAME: np.random.default_rng(seed)},
            ).confidence_interval
        if np.isfinite(found).all():
            break
    return float(found.low), float(found.high)


def paired_p(differences: Sequence[float], test: PairedTest = PairedTest.WILCOXON, seed: int = 0) -> float | None:
    """Two-sided p of paired differences, exact up to 50 pairs (Wilcoxon signed rank) or 13 (permutation of signs).

    1 where all differences are 0, None for fewer than two.
    """
    sample = np.asarray(differences, dtype=np.float64)
    if len(sample) < 2:
        return None
    if not sample.any():
        return 1.0
    if test is PairedTest.WILCOXON:
        return _wilcoxon(sample)
    found = stats.permutation_test(
        (sample,),
        np.mean,
        permutation_type="samples",
        vectorized=True,
        n_resamples=PERMUTATIONS,
        **{_SEED_NAME: np.random.default_rng(seed)},
    )
    return float(found.pvalue)


def _wilcoxon(differences: np.ndarray) -> float:
    """Two-sided p of the signed ranks of differences that are not all 0; those that are take no part.

    From all signs that there can be, also with ties, for which SciPy draws them one by one.
    """
    sample = np.round(differences / np.abs(differences).max(), 9)  # what only rounding tells apart is a tie
    sample = sample[sample != 0]
    if len(sample) > MOST_FOR_EXACT:
        return float(stats.wilcoxon(sample).pvalue)
    ranks = np.rint(2.0 * stats.rankdata(np.abs(sample))).astype(np.int64)  # ties share a rank and a half
    chance = np.ones(1)  # of every sum of the positive ranks
    for rank in ranks:
        chance = (np.pad(chance, (0, rank)) + np.pad(chance, (rank, 0))) / 2.0
    seen = int(ranks[sample > 0].sum())
    return float(min(1.0, 2.0 * min(chance[: seen + 1].sum(), chance[seen:].sum())))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """The p of a family of tests, corrected for their number (Holm 1979). None stays None and does not count."""
    known = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, place) in enumerate(known):
        largest = max(largest, min(1.0, p * (len(known) - rank)))
        corrected[place] = largest
    return corrected


def add_corrected(family: Sequence[dict[str, Any]]) -> None:
    """Add ``p_corrected`` to comparisons that are a family of tests, and ``p_least``, below which that can not be.

    n pairs have 2ⁿ signs, so p is 2 / 2ⁿ at the least; at best all tests with more pairs come first in the correction.
    """
    counts = sorted(entry["n"] for entry in family if entry["p"] is not None)
    for entry, corrected in zip(family, holm([entry["p"] for entry in family]), strict=True):
        entry["p_corrected"] = corrected
        entry["p_least"] = min(1.0, max(1, bisect.bisect_right(counts, entry["n"])) * 2.0 ** (1 - entry["n"]))


def over_labels(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """One row a case and method: the mean over its labels. Empty unless all rows have a label and there are several."""
    measured = [row for row in rows if not row.get("error")]
    if len({row.get("label") for row in measured}) < 2 or not all(row.get("label") is not None for row in measured):
        return []
    grouped: dict[tuple[str, str], list[Row]] = {}
    for row in measured:
        grouped.setdefault((row["case"], row["method"]), []).append(row)
    means: list[dict[str, Any]] = []
    for (case, method), group in grouped.items():
        mean: dict[str, Any] = {"case": case, "method": method}
        for metric in dict.fromkeys(name for row in group for name in row if name not in NOT_METRICS):
            values = [row[metric] for row in group if row.get(metric) is not None]
            mean[metric] = float(np.mean(values)) if values else None
        means.append(mean)
    return means


def summarise(
    rows: Sequence[Row], metrics: Mapping[str, MetricInfo], seed: int, resamples: int, progress: Progress = silent
) -> list[dict[str, Any]]:
    """Mean, spread and interval of every metric by method and label; entries without a label are over all labels.

    Values that are None or infinite take no part, and ``n`` does not count them.
    """
    found = []
    for begin, group in ((0.0, over_labels(rows)), (0.5, rows)):
        grouped = _grouped(group)
        keys = list(itertools.product(grouped, metrics))
        for number, ((method, label), metric) in enumerate(keys):
            progress(begin + 0.5 * number / len(keys))
            values = list(_values(grouped[method, label], metric).values())
            if values:
                info = metrics[metric]
                low, high = interval(values, seed, resamples, info.lowest, info.highest)
                found.append(_entry(method, label, metric, values, low, high))
    return found


def _entry(
    method: str, label: str | None, metric: str, values: Sequence[float], low: float | None, high: float | None
) -> dict[str, Any]:
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
    named = {"method": method} if label is None else {"method": method, "label": label}
    figures = {"mean": float(np.mean(values)), "sd": spread, "median": float(np.median(values))}
    return {**named, "metric": metric, "n": len(values), **figures, "low": low, "high": high}


def compare(
    rows: Sequence[Row],
    metrics: Mapping[str, MetricInfo],
    test: PairedTest,
    seed: int,
    resamples: int,
    progress: Progress = silent,
) -> list[dict[str, Any]]:
    """Paired comparison of every two methods in every metric that judges, over the cases that both have.

    ``p_corrected`` is Holm's, over all metrics and pairs of methods; the tests of single labels are a family of their
    own, over the labels too.
    """
    found: list[dict[str, Any]] = []
    for begin, group in ((0.0, over_labels(rows)), (0.5, rows)):
        family: list[dict[str, Any]] = []
        grouped = _grouped(group)
        methods = list(dict.fromkeys(row["method"] for row in group))
        judged = [name for name, info in metrics.items() if info.better]
        pairs = list(itertools.combinations(methods, 2))
        for number, (first, second) in enumerate(pairs):
            labels = [label for method, label in grouped if method == first]
            for label, metric in itertools.product(labels, judged):
                progress(begin + 0.5 * number / len(pairs))
                ours = _values(grouped[first, label], metric)
                theirs = _values(grouped.get((second, label), []), metric)
                both = [ours[case] - theirs[case] for case in ours if case in theirs]
                if not both:
                    continue
                low, high = interval(both, seed, resamples)
                named = {"a": first, "b": second} | ({} if label is None else {"label": label})
                figures = {"n": len(both), "difference": float(np.mean(both)), "low": low, "high": high}
                p = paired_p(both, test, seed)
                family.append({**named, "metric": metric, **figures, "p": p, "test": test.label()})
        add_corrected(family)
        found += family
    return found


def bootstrap_of(
    count: int, figures: Callable[[np.ndarray], Mapping[str, float | None]], seed: int, resamples: int
) -> dict[str, tuple[float | None, float | None, float]]:
    """Percentile interval and standard deviation of any figures of ``count`` cases, by name.

    ``figures`` gets the places of cases drawn anew. Those that are defined in less than half of the samples are left
    out; nothing comes back for fewer than three cases, and no interval for fewer than 15, or where nothing varies.
    """
    rng = np.random.default_rng(seed)
    values: dict[str, list[float]] = {}
    for _ in range(resamples if count >= FEWEST else 0):
        for name, value in figures(rng.integers(0, count, count)).items():
            if value is not None:
                values.setdefault(name, []).append(value)
    found = {}
    for name, drawn in values.items():
        if len(drawn) >= resamples / 2:
            low, high = np.percentile(drawn, [50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE)])
            ends = (float(low), float(high)) if count >= FEWEST_FOR_BOOTSTRAP and low < high else (None, None)
            found[name] = *ends, float(np.std(drawn, ddof=1))
    return found


def wilson(right: int, total: int) -> tuple[float, float] | tuple[None, None]:
    """95 % interval of a share of cases (Wilson 1927), which few cases do not make certain as resampling them does."""
    if not total:
        return None, None
    share, z = right / total, float(stats.norm.ppf(0.5 + CONFIDENCE / 2))
    middle = share + z * z / (2 * total)
    reach = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return max(0.0, (middle - reach) / (1 + z * z / total)), min(1.0, (middle + reach) / (1 + z * z / total))


def _grouped(rows: Sequence[Row]) -> dict[tuple[str, str | None], list[Row]]:
    """The rows that were measured, by method and label, in their order."""
    groups: dict[tuple[str, str | None], list[Row]] = {}
    for row in rows:
        if not row.get("error"):
            groups.setdefault((row["method"], row.get("label")), []).append(row)
    return groups


def _values(rows: Sequence[Row], metric: str) -> dict[str, float]:
    """The finite values of a metric, by case."""
    found = {row["case"]: row.get(metric) for row in rows}
    return {case: float(value) for case, value in found.items() if value is not None and math.isfinite(value)}
