"""The measures of the synthesis benchmark, where the answer is known."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).resolve().parents[1] / "Benchmarks"))

import synthesize_figures as figures
import synthesize_memory as memory
import synthesize_real as real
import synthesize_report as report
import synthesize_samples as samples
import synthesize_use as use


@pytest.fixture(scope="module")
def labels() -> np.ndarray:
    """Four blocks of 24 voxels a side in air."""
    array = np.zeros((32, 56, 56), np.int32)
    for number, (j, i) in enumerate(((4, 4), (4, 28), (28, 4), (28, 28)), 1):
        array[4:28, j : j + 24, i : i + 24] = number
    return array


TOLD = {0: (0.0, 0.0), 1: (0.2, 0.02), 2: (0.5, 0.05), 3: (0.8, 0.03), 4: (0.35, 0.01)}


def test_the_mixture_has_the_statistics_that_it_is_told(labels):
    image = samples.rendered(labels, TOLD, seed=1)
    inner = [image[8:24, j : j + 16, i : i + 16] for j, i in ((8, 8), (8, 32), (32, 8), (32, 32))]
    for value, part in enumerate(inner, 1):
        assert part.mean() == pytest.approx(TOLD[value][0], abs=0.005)
        assert part.std() == pytest.approx(TOLD[value][1], rel=0.08)
    assert np.array_equal(image, samples.rendered(labels, TOLD, seed=1))


def test_intensities_of_a_label_are_compared_by_how_far_they_moved(labels):
    image = samples.rendered(labels, TOLD, seed=1)
    assert figures.histogram_distance(image, image, labels) == 0.0
    assert figures.histogram_distance(image + 0.07, image, labels) == pytest.approx(7.0, rel=1e-4)


def test_noise_is_compared_by_its_spectrum(labels):
    one, other, weaker = (samples.rendered(labels, TOLD, seed) for seed in (1, 2, 3))
    quiet = {value: (mean, spread / 2) for value, (mean, spread) in TOLD.items()}
    weaker = samples.rendered(labels, quiet, seed=3)
    inside = labels > 0
    same = figures.spectrum_distance(*(figures.left_over(each, labels) for each in (one, other)), inside)
    half = figures.spectrum_distance(*(figures.left_over(each, labels) for each in (one, weaker)), inside)
    assert same < 1.0
    assert half == pytest.approx(20 * np.log10(2), abs=1.0)


def test_a_copied_detail_is_found_wherever_it_lies():
    rng = np.random.default_rng(0)
    scan = rng.random((40, 44, 48)).astype(np.float32) + 0.1
    copied = memory.detail(scan)[10:26, 7:23, 21:37]
    foreign = memory.detail(rng.random((16, 16, 16)).astype(np.float32))
    found = memory.correlations([2.5 * copied + 1.0, foreign], scan)
    assert found[0] == pytest.approx(1.0, abs=1e-3)
    assert found[1] < 0.2
    at_the_end = memory.detail(scan)[24:40, 28:44, 32:48]
    assert memory.correlations([at_the_end], scan)[0] == pytest.approx(1.0, abs=1e-3)


def test_points_nearer_than_real_ones_are_counted():
    rng = np.random.default_rng(0)
    seen = rng.normal(size=(200, 8))
    held_out, copies = rng.normal(size=(300, 8)), seen[:50] + 0.01
    assert memory.nearer_share(copies, seen, held_out) == 1.0
    assert memory.nearer_share(rng.normal(size=(400, 8)), seen, held_out) == pytest.approx(0.05, abs=0.04)


def test_shapes_are_compared_without_place_and_size():
    codes = np.zeros((60, 70, 66), np.int32)
    codes[10:50, 10:60, 8:58], codes[18:42, 20:50, 18:48], codes[26:34, 30:40, 28:38] = 3, 2, 4
    moved = np.zeros((90, 100, 96), np.int32)
    moved[25:65, 40:90, 30:80] = codes[10:50, 10:60, 8:58]
    bigger = np.kron(codes, np.ones((2, 2, 2), np.int32))
    for other in (moved, bigger):
        assert memory.likeness(memory.shape_of(codes), memory.shape_of(other)) == pytest.approx(1.0, abs=0.02)
    hollow = np.where(codes == 2, 3, codes)
    assert memory.likeness(memory.shape_of(codes), memory.shape_of(hollow)) < 0.7


def test_a_distance_to_the_same_kind_is_as_small_as_the_floor():
    rng = np.random.default_rng(0)
    one, other, far = rng.normal(size=(60, 6)), rng.normal(size=(60, 6)), rng.normal(2.0, size=(60, 6))
    near, away = (figures.distribution([rows], one, 0) for rows in (other, far))
    floor = figures.floors(one, other, 0)["same patient"]
    for name in ("kid", "mmd", "frechet"):
        assert away[name] > 5 * abs(near[name])
    assert abs(near["mmd"] - floor["mmd"]) < 0.05


def test_a_segmenter_learns_what_it_is_shown(monkeypatch):
    monkeypatch.setattr(use, "SIDE", 64)
    monkeypatch.setattr(use, "PATCH", 48)
    rng = np.random.default_rng(0)
    tissues = np.zeros((8, 60, 64), np.uint8)
    tissues[:, 5:55, 5:60], tissues[:, 15:45, 15:50], tissues[:, 25:35, 25:40] = 2, 3, 1
    image = np.array([0.0, 0.2, 0.5, 0.9], np.float32)[tissues]
    noisy = np.where(tissues > 0, image + rng.normal(0, 0.03, image.shape), 0).astype(np.float32)
    network = use.taught([(noisy, tissues)], 60, 0)
    assert use.dice(network, noisy, tissues)["mean"] > 0.8
    swapped = np.array([0, 1, 3, 2], np.uint8)[tissues]
    assert use.dice(network, noisy, swapped)["mean"] < 0.5


def test_groups_and_gaussians_find_three_tissues():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 3000)
    rows = np.array([[0.1, 0.9], [0.5, 0.5], [0.9, 0.2]])[truth] + rng.normal(0, 0.05, (3000, 2))
    assert (real.grouped(rows, np.array([[0.3, 0.7], [0.5, 0.6], [0.7, 0.4]])) == truth).mean() > 0.99


def test_verdicts_say_what_falls_short():
    rows = [
        {"group": "real", "method": "other patient", "contrast": "T1", "kid": 0.1, "mmd": 0.1, "frechet": 9.0},
        {"group": "heads", "method": "model", "contrast": "T1", "kid": 1.0, "mmd": 0.14, "frechet": 30.0},
        {"group": "heads", "method": "mixture", "contrast": "T1", "kid": 5.0, "mmd": 0.3, "frechet": 20.0},
    ]
    said = {entry["asked"]: entry for entry in report.verdicts({"figures": rows})}
    whole = said["heads: better than the mixture on every figure"]
    assert whole["verdict"] == "FALLS SHORT"
    assert "Fréchet distance 30.0 against 20.0 (worse)" in whole["numbers"]
    assert said["heads: KID at most 0.3 of the mixture's"]["verdict"] == "PASS"
    assert said["heads: RBF-MMD at most 1.5 times that of two real patients"]["verdict"] == "PASS"
    held = {"models": {"labels": "x"}, "seed": 0, "quick": True, "made": {"heads": 3.0}, "figures": rows}
    assert "| heads" in report.markdown(held)
