"""Quality is measured in numbers: known degradations of a phantom are found, a good scan gives no remark."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import ndimage

import phantoms
from medgan.ghosting import strongest_ghost
from medgan.lost_slices import filled_between, lost_slices
from medgan.quality import measure
from medgan.thickness import drawn_thickness
from medgan.volume import Volume

NAMES = ["noise", "blur", "slice thickness", "clipping", "missing slices", "ghosting"]
SHAPE = (44, 60, 56)


@pytest.fixture(scope="module")
def a_scan() -> np.ndarray:
    """A body with a core, soft edges, air around and little Rician noise, float32 [k, j, i]."""
    k, j, i = np.meshgrid(*(np.linspace(-1, 1, side) for side in SHAPE), indexing="ij")
    body = 700.0 * (k**2 + (j / 0.7) ** 2 + (i / 0.7) ** 2 < 0.9)
    body[k**2 + (j / 0.4) ** 2 + (i / 0.4) ** 2 < 0.6] = 1000.0
    return phantoms.rician(ndimage.gaussian_filter(body.astype(np.float32), 0.6), 8.0)


@pytest.fixture(scope="module")
def a_texture() -> np.ndarray:
    """Detail of all sizes everywhere, the finest a voxel wide."""
    rng = np.random.default_rng(0)
    sizes = (0.6, 1.2, 2.4)
    return 500 + sum(100 * s**1.5 * ndimage.gaussian_filter(rng.normal(0, 1, (48, 56, 52)), s) for s in sizes)


def found(array: np.ndarray, spacing_mm=(1.0, 1.0, 1.0)) -> dict:
    matrix = phantoms.geometry(spacing_mm, (10.0, 20.0, -30.0), (5.0, 6.0, 7.0), left_handed=True)
    findings = measure(Volume(np.asarray(array, np.float32), matrix))
    assert [finding["name"] for finding in findings] == NAMES
    json.dumps(findings, allow_nan=False)
    for finding in findings:
        assert finding["sentence"].endswith(".")
        assert finding["title"]
        assert finding["unit"]
    return {finding["name"]: finding for finding in findings}


def test_good_scan_gives_numbers_and_no_remark(a_scan):
    said = found(a_scan)
    assert not [name for name in NAMES if said[name]["remark"]]
    assert 0.5 < said["noise"]["value"] < 1.5  # 8 of 1000
    assert 0.3 < said["blur"]["value"] < 1.0
    assert said["slice thickness"]["value"] == pytest.approx(1.0)
    assert said["missing slices"]["value"] == 0
    assert said["clipping"]["value"] == 0
    assert said["ghosting"]["value"] < 1.0


@pytest.mark.parametrize("percent", [3.0, 8.0])
def test_noise_is_found(a_scan, percent):
    noisy = phantoms.rician(a_scan, percent * 10.0)
    said = found(noisy)["noise"]
    assert said["value"] == pytest.approx(percent, rel=0.25)
    assert said["remark"] == (percent > 5)


def test_noise_of_ct_is_said_in_hounsfield_units(a_scan):
    said = found(a_scan * 2 - 1000)["noise"]
    assert " HU, " in said["sentence"]


def test_blur_is_found_within_thick_slices(a_scan):
    soft = ndimage.gaussian_filter(a_scan, [0, 1.5, 1.5])
    said = found(soft, (1.0, 1.0, 4.0))
    assert said["blur"]["remark"]
    assert said["blur"]["value"] == pytest.approx(1.6, abs=0.35)
    assert "within the slices" in said["blur"]["sentence"]
    assert said["slice thickness"]["value"] == pytest.approx(4.0)
    assert "4 mm" in said["slice thickness"]["sentence"]


@pytest.mark.parametrize("axis", [0, 2])
def test_interpolated_slices_are_as_thick_as_they_were(a_texture, axis):
    assert drawn_thickness(a_texture) == (0, 1.0)
    turned = np.moveaxis(a_texture, axis, 0)
    thick = turned[: len(turned) // 4 * 4].reshape(-1, 4, *turned.shape[1:]).mean(axis=1)
    drawn = ndimage.zoom(thick, [4, 1, 1], order=1, mode="nearest", grid_mode=True)
    drawn = np.moveaxis(drawn, 0, axis)
    assert drawn_thickness(drawn) == (axis, pytest.approx(4.0, abs=1.0))
    said = found(drawn)["slice thickness"]
    assert said["remark"]
    assert f"along {'kji'[axis]}" in said["sentence"]


def test_clipping_is_the_share_that_was_cut_off(a_scan):
    inside = a_scan[a_scan > 100]
    top = np.quantile(inside, 0.98)
    said = found(np.minimum(a_scan, np.float32(top)))["clipping"]
    assert said["value"] == pytest.approx(2.0, rel=0.15)
    assert f"highest value {top:.5g}" in said["sentence"]
    windowed = found(np.maximum(a_scan - 500, -160.0))["clipping"]
    assert windowed["remark"]
    assert windowed["value"] == pytest.approx(100 * (a_scan - 500 <= -160).mean(), rel=1e-3)
    assert "lowest value -160" in windowed["sentence"]
    assert found(np.maximum(a_scan - 1000, -990.0))["clipping"]["value"] == 0  # the air of CT


def test_empty_repeated_and_missing_slices_are_named(a_scan, a_texture):
    broken = a_scan.copy()
    broken[20] = 0
    broken[30] = broken[29]
    said = found(broken)["missing slices"]
    assert said["value"] == 2
    assert said["sentence"] == "1 empty slice (k = 20), 1 exact repetition of the slice before (k = 30)."
    smooth = ndimage.gaussian_filter(a_texture, 1.5)
    lost = lost_slices(np.delete(smooth, [24, 25, 26], 0), (0,))
    assert (lost.axis, lost.empty, lost.repeated, lost.gaps) == (0, [], [], [23])
    assert lost_slices(smooth, (0, 1, 2)).count == 0
    noisy = np.delete(smooth, [24, 25, 26], 0)
    spread = 2.0 * float(np.sqrt(((noisy[1:] - noisy[:-1]) ** 2).mean()))
    noisy += np.random.default_rng(1).normal(0, spread, noisy.shape)
    assert lost_slices(noisy, (0,)).gaps == []
    assert lost_slices(noisy, (0,), spread).gaps == [23]  # the noise is taken out of every step
    repeated = smooth.copy()
    repeated[30] = repeated[29]
    lost = lost_slices(repeated, (0,))
    assert (lost.repeated, lost.gaps) == ([30], [])  # though the next step is that of two slices


def test_noise_as_large_as_the_steps_makes_no_gaps(a_texture):
    smooth = ndimage.gaussian_filter(a_texture, 1.5)
    step = float(np.sqrt(((smooth[1:] - smooth[:-1]) ** 2).mean()))
    for times, error in ((3, 1.02), (5, 1.0), (8, 1.02)):
        for seed in range(3):
            noise = times * step * np.random.default_rng(seed).standard_normal(smooth.shape)
            assert lost_slices(smooth + noise, (0, 1, 2), error * times * step).gaps == []
    lost = np.delete(smooth + 3 * step * np.random.default_rng(0).standard_normal(smooth.shape), [24, 25, 26], 0)
    assert lost_slices(lost, (0,), 3 * step).gaps == [23]
    said = found(np.delete(smooth, [24, 25, 26], 0))["missing slices"]["sentence"]
    assert said == "1 gap after the slice (k = 23)."


@pytest.mark.parametrize("axis", [0, 2])
def test_slices_drawn_by_the_nearest_have_the_noise_and_thickness_of_those_that_were_measured(a_scan, axis):
    few = np.take(a_scan, range(0, a_scan.shape[axis], 4), axis)
    sides = [1.0, 1.0, 1.0]
    sides[2 - axis] = 4.0
    drawn, measured = found(np.repeat(few, 4, axis)), found(few, sides)
    for name in ("noise", "blur", "slice thickness"):
        assert drawn[name]["value"] == pytest.approx(measured[name]["value"], rel=1e-3), name
    assert drawn["noise"]["value"] > 0.3
    assert "4 times the 1 mm within them (by those that differ)" in drawn["slice thickness"]["sentence"]
    assert "exact repetitions of the slice before" in drawn["missing slices"]["sentence"]


def test_empty_slices_between_two_legs_are_not_filled(a_scan):
    broken = a_scan.copy()
    broken[20:22] = 0
    filled, numbers = filled_between(broken, lost_slices(broken, (0,)))
    assert numbers == [20, 21]
    assert np.allclose(filled[20], (2 * a_scan[19] + a_scan[22]) / 3, atol=1e-3)
    broken[18:24] = 0
    filled, numbers = filled_between(broken, lost_slices(broken, (0,)))
    assert numbers == []
    assert filled is broken


def test_slices_without_a_body_are_not_lost(a_scan):
    """Air of little noise at the end, and an empty slice within it."""
    air = np.random.default_rng(0).uniform(1, 5, (3, *a_scan.shape[1:])).astype(np.float32)
    air[1] = 0
    assert lost_slices(np.concatenate([air, a_scan]), (0,)).count == lost_slices(a_scan, (0,)).count == 0


@pytest.mark.parametrize("radius", [14, 18, 22])
def test_round_field_of_view_has_no_gaps(a_texture, radius):
    """Its rim moves by many voxels from slice to slice where it is narrow, and ends there."""
    smooth = ndimage.gaussian_filter(a_texture, 1.5) - 700
    j, i = np.ogrid[: smooth.shape[1], : smooth.shape[2]]
    smooth[:, (j - 28) ** 2 + (i - 26) ** 2 > radius**2] = -1024
    assert lost_slices(smooth, (0, 1, 2)).count == 0
    assert lost_slices(np.delete(smooth, [24, 25, 26], 0), (0,)).gaps == [23]


@pytest.mark.parametrize(("axis", "part", "strength"), [(1, 0.5, 0.08), (2, 0.5, 0.05), (1, 0.45, 0.25)])
def test_ghost_is_found_with_its_strength_axis_and_shift(a_scan, axis, part, strength):
    moved = np.roll(a_scan, round(part * SHAPE[axis]), axis)
    ghost = strongest_ghost(np.abs(a_scan + strength * np.exp(1.3j) * moved).astype(np.float32))
    assert ghost is not None
    assert ghost.strength == pytest.approx(strength, rel=0.3)
    assert ghost.axis == axis
    assert ghost.shift == pytest.approx(part, abs=0.05)


def test_light_in_the_air_that_follows_the_body_a_little_is_no_ghost(a_scan):
    """A gradient, as a surface coil leaves it: it correlates with the moved body, but not clearly."""
    light = np.linspace(0, 60, SHAPE[1], dtype=np.float32)[:, None]
    ghost = strongest_ghost(a_scan + light)
    assert ghost is not None
    assert ghost.strength == 0


def test_ghosts_are_not_looked_for_where_they_can_not_be_seen(a_scan):
    masked = np.where(a_scan > 100, a_scan, 0)
    assert "masked out" in found(masked)["ghosting"]["sentence"]
    assert "only images of magnitudes" in found(a_scan - 1000)["ghosting"]["sentence"]


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4, 4)),
        np.ones((1, 1, 1)),
        np.full((5, 5, 5), np.nan),
        np.arange(64.0).reshape(1, 8, 8),
        np.arange(27.0).reshape(3, 3, 3),
        np.random.default_rng(0).random((2, 60, 3)),
        np.random.default_rng(0).random((9, 10, 11)) * 1e30,
        np.random.default_rng(0).random((9, 10, 11)) * 1e-30,
    ],
    ids=["zero", "one voxel", "nan", "one slice", "27 voxels", "flat", "huge", "tiny"],
)
def test_odd_volumes_get_six_sentences(array):
    said = found(array)
    if np.isnan(array).any() or np.ptp(array) == 0:
        assert all(said[name]["value"] is None for name in NAMES)
    else:
        assert (said["noise"]["value"] is None) == (min(array.shape) < 4), "too few slices, and these too small"
        assert (said["missing slices"]["value"] is None) == (min(array.shape) < 3)


@pytest.mark.parametrize("slices", [1, 2, 3])
def test_noise_of_few_slices_is_that_of_the_whole(a_scan, slices):
    large = ndimage.zoom(a_scan[20 : 20 + slices], (1, 4, 4), order=1)
    said = found(phantoms.rician(large, 50.0))
    assert said["noise"]["value"] == pytest.approx(5.0, rel=0.25)
    assert (said["missing slices"]["value"] is None) == (slices < 3)


@pytest.mark.parametrize("padding", [-2000, -3024, -32768])
def test_padding_of_ct_changes_nothing(a_scan, padding):
    """What lies outside of the circle that the scanner saw is air or padding."""
    _, j, i = np.meshgrid(*(np.linspace(-1, 1, side) for side in SHAPE), indexing="ij")
    seen = 2 * a_scan - 1000 - 40 * (a_scan < 10)  # noise takes air below -1024
    air, padded = (np.where(j**2 + i**2 < 1, seen, value) for value in (-1024, padding))
    assert found(padded) == found(air)


def test_voxels_that_are_no_numbers_change_little(a_scan):
    broken = a_scan.copy()
    broken[::7, ::11, ::5] = np.nan
    broken[3, 3, 3] = np.inf
    assert found(broken)["noise"]["value"] == pytest.approx(found(a_scan)["noise"]["value"], rel=0.3)
