"""Intervals, tests and corrections have the values that theory or scipy gives, and the same seed the same ones."""

from __future__ import annotations

import copy
import itertools

import numpy as np
import pytest
from scipy import stats

from medgan.evaluation.conclusions import without
from medgan.evaluation.statistics import (
    bootstrap_of,
    compare,
    holm,
    interval,
    over_labels,
    paired_p,
    summarise,
    wilson,
)
from medgan.evaluation.table import Evaluation, MetricInfo
from medgan.settings import PairedTest

INFOS = {"psnr": MetricInfo("PSNR", "dB", "higher"), "data_range": MetricInfo("Data range")}


def rows_of(values: dict[str, list[float | None]], metric="psnr", **more) -> list[dict]:
    return [
        {"case": f"p{number}", "method": method, metric: value, **more}
        for method, held in values.items()
        for number, value in enumerate(held)
    ]


def test_interval_is_the_bca_bootstrap_of_the_mean():
    values = np.random.default_rng(0).exponential(size=25)
    expected = stats.bootstrap((values,), np.mean, method="BCa", n_resamples=20000).confidence_interval
    assert interval(values, resamples=20000) == pytest.approx((expected.low, expected.high), abs=0.04)
    low, high = interval(values, seed=3)
    assert interval(values, seed=3) == (low, high)
    assert interval(values, seed=4) != (low, high)
    # Skewed to the right: the interval reaches farther to that side, which that of Student would not.
    assert high - values.mean() > values.mean() - low


def test_interval_holds_the_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(200):
        low, high = interval(rng.normal(5.0, 2.0, 20), resamples=300)
        hits += low <= 5.0 <= high
    assert 0.88 <= hits / 200 <= 0.98


def test_interval_of_samples_in_which_nothing_varies():
    assert interval([1.0, 2.0]) == (None, None)
    assert interval([0.7] * 5) == interval([0.7] * 20) == (None, None)
    low, high = interval([0.0] * 19 + [1.0])
    assert 0.0 <= low < high <= 1.0


def test_interval_of_few_values_is_students_within_the_range_of_the_figure():
    values = [0.8, 0.9, 0.95, 0.99]
    expected = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert interval(values) == pytest.approx(expected)
    assert interval(values, lowest=0.0, highest=1.0) == (pytest.approx(expected[0]), 1.0)
    rng = np.random.default_rng(0)
    hits = [low <= 5.0 <= high for low, high in (interval(rng.normal(5.0, 2.0, 4)) for _ in range(300))]
    assert 0.92 <= np.mean(hits) <= 0.98


def test_interval_of_any_figure_is_that_of_the_normal_distribution_for_a_mean():
    values = np.random.default_rng(0).normal(5.0, 2.0, 40)
    low, high, spread = bootstrap_of(40, lambda places: {"mean": float(values[places].mean())}, 0, 1000)["mean"]
    standard_error = values.std(ddof=1) / 40**0.5
    assert spread == pytest.approx(standard_error, rel=0.1)
    assert high - low == pytest.approx(2 * 1.96 * standard_error, rel=0.1)
    assert low < values.mean() < high


def test_interval_of_a_share_is_wilsons():
    assert wilson(8, 10) == (pytest.approx(0.4902, abs=1e-4), pytest.approx(0.9433, abs=1e-4))
    assert wilson(10, 10) == (pytest.approx(0.7225, abs=1e-4), pytest.approx(1.0))
    assert wilson(0, 0) == (None, None)


@pytest.mark.parametrize("values", [[1, 2, 2, -1, 4, 3, 1, 1, 5, -2, 1, 2, 0], [3, -1, 2, 5, -4, 6]])
def test_p_of_signed_ranks_is_that_of_all_signs(values):
    """Also with ties, with zeros, and where only rounding tells equal differences apart."""
    ranks = stats.rankdata(np.abs([value for value in values if value]))
    signs = np.array(list(itertools.product((0, 1), repeat=len(ranks))))
    sums, seen = signs @ ranks, ranks[[value > 0 for value in values if value]].sum()
    expected = min(1.0, 2 * min((sums <= seen).mean(), (sums >= seen).mean()))
    assert paired_p(values) == pytest.approx(expected)
    assert paired_p([0.7 * (value + 30) - 0.7 * 30 for value in values]) == pytest.approx(expected)
    assert paired_p([1e-10 * value for value in values]) == pytest.approx(expected), "whatever the unit"


def test_p_of_many_signed_ranks_is_scipys():
    for count in (49, 60):
        differences = np.random.default_rng(1).normal(0.2, 1.0, count)
        assert paired_p(differences) == pytest.approx(stats.wilcoxon(differences).pvalue)


@pytest.mark.parametrize("test", list(PairedTest))
def test_p_of_six_differences_of_one_sign_is_two_of_64(test):
    assert paired_p([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], test) == pytest.approx(2 / 64)
    assert paired_p([-1.0, -2.0, -3.0, -4.0, -5.0, -6.0], test) == pytest.approx(2 / 64)
    assert paired_p([0.0, 0.0, 0.0], test) == 1.0
    assert paired_p([2.0], test) is None
    assert paired_p([1.0, -1.0, 2.0, -2.0, 3.0, -3.0], test) > 0.9


def test_permutation_of_many_differences_is_seeded_and_near_the_t_test():
    differences = np.random.default_rng(1).normal(0.4, 1.0, 30)
    found = paired_p(differences, PairedTest.PERMUTATION, seed=5)
    assert found == paired_p(differences, PairedTest.PERMUTATION, seed=5)
    assert found == pytest.approx(stats.ttest_1samp(differences, 0.0).pvalue, abs=0.01)


def test_holm_correction_is_that_worked_out_by_hand():
    assert holm([0.01, 0.04, 0.03, None]) == [0.03, 0.06, 0.06, None]
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_summary_leaves_out_what_is_not_defined_or_infinite():
    rows = rows_of({"A": [30.0, None, 32.0, float("inf"), 34.0]})
    rows.append({"case": "p9", "method": "A", "error": "It was cut off."})
    (entry,) = summarise(rows, INFOS, seed=0, resamples=200)
    assert (entry["n"], entry["mean"], entry["median"]) == (3, 32.0, 32.0)
    assert entry["sd"] == pytest.approx(2.0)
    assert (entry["low"], entry["high"]) == pytest.approx(stats.t.interval(0.95, 2, 32.0, 2 / 3**0.5))


def test_interval_of_a_summary_stays_within_the_range_of_the_figure():
    dice = {"dice": MetricInfo("Dice", "", "higher", lowest=0.0, highest=1.0)}
    for values, end in (([0.8, 0.9, 0.95, 0.99], ("high", 1.0)), ([0.01, 0.05, 0.1, 0.2], ("low", 0.0))):
        (entry,) = summarise(rows_of({"A": values}, "dice"), dice, seed=0, resamples=200)
        assert entry[end[0]] == end[1]


def test_figures_of_labels_are_also_summed_up_over_the_labels_of_each_case():
    rows = rows_of({"A": [0.8, 0.9]}, "dice", label="liver") + rows_of({"A": [0.6, None]}, "dice", label="spleen")
    assert over_labels(rows) == [
        {"case": "p0", "method": "A", "dice": pytest.approx(0.7)},
        {"case": "p1", "method": "A", "dice": pytest.approx(0.9)},
    ]
    found = {entry.get("label"): entry for entry in summarise(rows, {"dice": MetricInfo("Dice")}, 0, 200)}
    assert found[None]["mean"] == pytest.approx(0.8)
    assert found["liver"]["mean"] == pytest.approx(0.85)
    assert found["spleen"]["n"] == 1
    assert over_labels(rows_of({"A": [1.0]}, "dice", label="liver")) == []


def test_comparison_takes_the_cases_that_both_methods_have():
    better = [30.0 + n for n in range(8)]
    rows = rows_of({"A": [*better, 99.0], "B": [value - 1.0 - 0.1 * n for n, value in enumerate(better)]})
    rows[2]["psnr"] = None
    for row in rows:
        row["data_range"] = 1000.0
    (entry,) = compare(rows, INFOS, PairedTest.WILCOXON, seed=0, resamples=200)
    assert (entry["a"], entry["b"], entry["metric"], entry["n"]) == ("A", "B", "psnr", 7)
    assert entry["difference"] == pytest.approx(np.mean([1.0, 1.1, 1.3, 1.4, 1.5, 1.6, 1.7]))
    assert entry["low"] > 1.0
    assert entry["p"] == entry["p_corrected"] == pytest.approx(2 / 2**7)


def test_correction_is_over_metrics_and_pairs_of_methods():
    rng = np.random.default_rng(0)
    rows = []
    for method, level in (("A", 0.0), ("B", 0.5), ("C", 1.0)):
        for number in range(12):
            values = {"psnr": level + rng.normal(0, 0.2), "ssim": level + rng.normal(0, 0.2)}
            rows.append({"case": str(number), "method": method, **values})
    infos = {"psnr": MetricInfo("PSNR", "", "higher"), "ssim": MetricInfo("SSIM", "", "higher")}
    found = compare(rows, infos, PairedTest.WILCOXON, 0, 200)
    assert [(entry["a"], entry["b"]) for entry in found[::2]] == [("A", "B"), ("A", "C"), ("B", "C")]
    assert [entry["p_corrected"] for entry in found] == holm([entry["p"] for entry in found])
    assert min(entry["p_corrected"] for entry in found) == pytest.approx(6 * min(entry["p"] for entry in found))


def test_metrics_left_out_take_no_part_in_the_correction():
    rng = np.random.default_rng(0)
    metrics = {name: MetricInfo(name, "", "higher") for name in ("dice", "nsd", "precision")}
    rows = [
        {"case": case, "method": method, "label": label} | dict(zip(metrics, rng.normal(size=3), strict=True))
        for case, method, label in itertools.product(range(9), "AB", ("left", "right"))
    ]
    every = Evaluation("segmentations", metrics, rows)
    every.comparisons = compare(rows, metrics, PairedTest.WILCOXON, 0, 100)
    before = copy.deepcopy(every.comparisons)
    left = without(every, ["nsd", "precision"])
    expected = compare(rows, {"dice": metrics["dice"]}, PairedTest.WILCOXON, 0, 100)
    assert left.comparisons == expected
    assert next(entry for entry in left.comparisons if "label" not in entry)["p_corrected"] == expected[0]["p"]
    assert list(left.metrics) == ["dice"]
    assert every.comparisons == before


class Counted(list):
    """Rows that count how often they are gone through."""

    times = 0

    def __iter__(self):
        self.times += 1
        return super().__iter__()


def test_rows_are_gone_through_once_however_many_labels_and_metrics_there_are():
    metrics = {name: MetricInfo(name, better="higher") for name in ("dice", "hd95", "asd")}

    def times(labels: int) -> int:
        rows = Counted(
            {"case": case, "method": method, "label": f"l{label}", **dict.fromkeys(metrics, 0.1 * case + label)}
            for method in "ab"
            for case in range(3)
            for label in range(labels)
        )
        assert len(summarise(rows, metrics, 0, 10)) == 2 * (labels + 1) * 3
        assert len(compare(rows, metrics, PairedTest.WILCOXON, 0, 10)) == (labels + 1) * 3
        return rows.times

    assert times(2) == times(8)
