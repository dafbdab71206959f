"""The figures of sets are those of MONAI, torchmetrics and prdc, and their floor is that of two real halves."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from monai.metrics import FIDMetric, MMDMetric
from scipy.spatial.distance import cdist

from medgan.evaluation import distributions
from medgan.evaluation.distributions import SetPair, on_subsets
from medgan.metrics import measure

AGREE = 1e-4


def gaussian_sets(count=40, other=50, features=8, shift=0.2) -> SetPair:
    rng = np.random.default_rng(0)
    return SetPair(rng.normal(shift, 1.0, (count, features)), rng.normal(0.0, 1.1, (other, features)))


def test_frechet_distance_agrees_with_monai_and_torchmetrics():
    pair = gaussian_sets()
    ours, theirs = torch.from_numpy(pair.result), torch.from_numpy(pair.reference)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MONAI calls scipy the old way
        assert distributions.frechet(pair) == pytest.approx(float(FIDMetric()(ours, theirs)), abs=AGREE)
    peer = pytest.importorskip("torchmetrics.image.fid")
    expected = peer._compute_fid(ours.mean(0), ours.T.cov(), theirs.mean(0), theirs.T.cov())
    assert distributions.frechet(pair) == pytest.approx(float(expected), abs=AGREE)


def test_frechet_distance_of_fewer_volumes_than_features_is_that_of_the_space_they_span():
    """Five points of a plane in 64 dimensions: turning and padding with zeros changes nothing."""
    rng = np.random.default_rng(1)
    flat = rng.normal(size=(5, 2)), rng.normal(1.0, 2.0, (6, 2))
    turned, _ = np.linalg.qr(rng.normal(size=(64, 64)))
    wide = SetPair(*(np.pad(rows, ((0, 0), (0, 62))) @ turned for rows in flat))
    assert distributions.frechet(wide) == pytest.approx(distributions.frechet(SetPair(*flat)), abs=1e-9)


def test_monai_case_of_the_frechet_distance():
    pair = SetPair([[1, 2], [1, 2], [1, 2]], [[2, 2], [1, 2], [1, 2]])
    assert distributions.frechet(pair) == pytest.approx(0.4444, abs=AGREE)


def test_kernel_distance_agrees_with_torchmetrics():
    peer = pytest.importorskip("torchmetrics.image.kid")
    for pair in (gaussian_sets(40, 40), gaussian_sets(12, 12, 128)):
        expected = peer.poly_mmd(torch.from_numpy(pair.result), torch.from_numpy(pair.reference))
        assert distributions.kid(pair) == pytest.approx(float(expected), abs=AGREE)


def test_unbiased_estimate_agrees_with_monai_for_its_linear_kernel():
    pair = gaussian_sets(30, 30)
    expected = MMDMetric()(torch.from_numpy(pair.reference), torch.from_numpy(pair.result))
    found = distributions._unbiased(pair, lambda one, other: one @ other.T)
    assert found == pytest.approx(float(expected), abs=AGREE)


def test_monai_case_of_mmd():
    """Two sets of three equal images differ by 0."""
    pair = SetPair(np.ones((3, 144)), np.ones((3, 144)))
    assert distributions.mmd(pair) == distributions.kid(pair) == 0.0
    assert distributions.frechet(pair) == 0.0
    assert distributions.mmd(SetPair(np.zeros((3, 4)), np.ones((3, 4)))) == 2.0


def test_mmd_is_the_double_sum_of_its_definition():
    pair = gaussian_sets(6, 7, 3)
    upper = cdist(pair.reference, pair.reference)[np.triu_indices(7, 1)]
    widths = [float(np.median(upper)) / 2**number for number in range(4)]

    def kernel(one, other) -> float:
        return float(np.mean([np.exp(-((one - other) ** 2).sum() / (2 * width**2)) for width in widths]))

    def within(rows) -> float:
        return np.mean([kernel(a, b) for i, a in enumerate(rows) for j, b in enumerate(rows) if i != j])

    across = np.mean([kernel(a, b) for a in pair.result for b in pair.reference])
    expected = within(pair.result) + within(pair.reference) - 2 * across
    assert distributions.mmd(pair) == pytest.approx(expected, abs=1e-12)


def test_precision_recall_density_and_coverage_agree_with_prdc():
    """Expected: what the package prdc gives for the same three draws, one after the other."""
    rng = np.random.default_rng(0)
    for count, other, neighbours, expected in (
        (40, 50, 5, (0.875, 0.9, 1.02, 1.0)),
        (12, 30, 3, (1.0, 0.9666667, 1.0277778, 0.7)),
        (7, 9, 5, (0.8571429, 1.0, 0.7714286, 1.0)),
    ):
        pair = SetPair(rng.normal(0.2, 1, (count, 8)), rng.normal(0, 1.1, (other, 8)), neighbours)
        found = measure("sets", pair)
        names = ("precision", "recall", "density", "coverage")
        assert [found[name] for name in names] == pytest.approx(expected, abs=AGREE)


def test_support_is_that_worked_out_by_hand():
    """On a line, one neighbour: the reference reaches 1 around 0 and 1, and 4 around 5; one result is far away."""
    pair = SetPair([[0.5], [4.0], [40.0]], [[0.0], [1.0], [5.0]], neighbours=1)
    found = measure("sets", pair)
    assert found["precision"] == pytest.approx(2 / 3)
    assert found["coverage"] == pytest.approx(1.0)
    assert found["density"] == pytest.approx(3 / 3)
    # The results reach 3.5 around 0.5 and 4, and 36 around 40: all of the reference.
    assert found["recall"] == 1.0


def test_floor_is_the_bias_of_few_volumes_and_an_equal_set_lies_at_it():
    rng = np.random.default_rng(3)
    same = SetPair(rng.normal(size=(30, 32)), rng.normal(size=(60, 32)))
    values, floor, size = on_subsets(same, distributions.frechet, seed=0)
    assert size == 30
    assert np.mean(values) == pytest.approx(np.mean(floor), rel=0.15)
    assert np.mean(floor) > 10.0  # pure bias: the sets are alike
    worse = SetPair(same.result + 1.0, same.reference)
    assert np.mean(on_subsets(worse, distributions.frechet, seed=0)[0]) > 1.5 * np.mean(floor)
    kernel_values, kernel_floor, _ = on_subsets(same, distributions.kid, seed=0)
    assert abs(np.mean(kernel_floor)) < 0.5 * abs(np.mean(on_subsets(worse, distributions.kid, seed=0)[0]))
    assert np.mean(kernel_values) == pytest.approx(0.0, abs=0.2)
    assert on_subsets(SetPair(same.result[:3], same.reference[:3]), distributions.kid, seed=0)[:2] == ([], [])


def test_sets_that_can_not_be_compared_say_why():
    with pytest.raises(ValueError, match="at least two volumes"):
        SetPair(np.zeros((1, 4)), np.zeros((3, 4)))
    with pytest.raises(ValueError, match="4 features, the reference has 5"):
        SetPair(np.zeros((3, 4)), np.zeros((3, 5)))
