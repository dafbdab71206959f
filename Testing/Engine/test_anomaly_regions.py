"""Regions of a map of anomalies, the plane of symmetry, and the figures of detection: all with known answers."""

from __future__ import annotations

import math
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

import phantoms
from medgan.anomaly_mirror import Plane, reflected, symmetry_plane
from medgan.anomaly_regions import regions
from medgan.anomaly_slices import TOP, at, scale_of
from medgan.evaluation.detection import average_precision
from medgan.volume import Volume

sys.path.append(str(Path(__file__).resolve().parents[1] / "Benchmarks"))

from free_response import free_response, sensitivity_at


@pytest.fixture
def a_map() -> Volume:
    """Two boxes on an oblique, left-handed grid: 4 x 3 x 2 voxels of 0.9 and 2 x 1 x 1 of 0.6."""
    array = np.full(phantoms.ODD_SHAPE, 0.1, np.float32)
    array[5:7, 10:13, 20:24] = 0.9
    array[20, 30, 5:7] = 0.6
    return Volume(array, phantoms.awkward_geometry())


def test_regions_have_their_size_place_and_box(a_map):
    voxel_ml = 0.7 * 1.1 * 2.3 / 1000.0
    first, second = regions(a_map, 0.5)
    assert (first["number"], second["number"]) == (1, 2)
    assert first["score"] == pytest.approx(0.9)
    assert first["volume_ml"] == pytest.approx(24 * voxel_ml, abs=1e-4)
    assert second["volume_ml"] == pytest.approx(2 * voxel_ml, abs=1e-4)
    centre = (a_map.ijk_to_ras @ [21.5, 11.0, 5.5, 1.0])[:3]
    assert np.allclose(first["centre_ras"], centre, atol=1e-3)
    assert np.allclose(first["box_ras"]["centre"], centre, atol=1e-3)
    assert np.allclose(first["box_ras"]["size"], [4 * 0.7, 3 * 1.1, 2 * 2.3], atol=1e-3)
    assert np.allclose(np.array(first["box_ras"]["axes"]) * [0.7, 1.1, 2.3], a_map.ijk_to_ras[:3, :3], atol=1e-5)
    assert f"{abs(centre[0]):.0f} mm {'right' if centre[0] >= 0 else 'left'}" in first["sentence"]


def test_voxels_that_touch_with_a_corner_are_one_region_and_the_heaviest_comes_first():
    array = np.zeros((8, 8, 8), np.float32)
    array[1, 1, 1], array[2, 2, 2] = 0.6, 0.9
    array[6, 6, 6] = 1.0
    touching, alone = regions(Volume(array, np.eye(4)), 0.5)
    assert (touching["score"], alone["score"]) == (0.75, 1.0)
    assert touching["centre_ras"] == pytest.approx([1.6] * 3)  # the brighter one weighs more


def test_threshold_and_smallest_size_choose_regions(a_map):
    assert [region["score"] for region in regions(a_map, 0.7)] == [0.9]
    assert [region["score"] for region in regions(a_map, 0.5, smallest_ml=0.01)] == [0.9]
    assert regions(a_map, 0.95) == []
    assert len(regions(a_map, 0.05)) == 1  # all of it
    for threshold in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="threshold of a region must be above 0"):
            regions(a_map, threshold)
    with pytest.raises(ValueError, match="0 ml or more"):
        regions(a_map, 0.5, -1.0)


def test_regions_are_not_confused_by_what_is_no_number(a_map):
    a_map.array[0, 0, 0] = np.nan
    a_map.array[1, 1, 1] = np.inf
    assert len(regions(a_map, 0.5)) == 2


def test_region_as_large_as_the_map_is_weighed_without_a_list_of_its_voxels():
    """A slider is dragged meanwhile."""
    array = np.random.default_rng(0).uniform(0.5, 1.5, (40, 48, 56)).astype(np.float32)
    array[:20, :20, :30] += 2.0
    one = Volume(array, phantoms.awkward_geometry())
    tracemalloc.start()
    (found,) = regions(one, 0.1)
    _now, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 30 * array.size
    places = np.argwhere(np.ones(array.shape, bool))[:, ::-1]
    middle = np.average(places, axis=0, weights=array.ravel().astype(float))
    assert found["centre_ras"] == pytest.approx((one.ijk_to_ras @ [*middle, 1.0])[:3], abs=1e-3)
    assert found["score"] == pytest.approx(array.mean(dtype=float), abs=1e-4)
    assert found["largest"] == pytest.approx(array.max(), abs=1e-4)


@pytest.mark.parametrize(("tilt", "turn", "shift"), [(0.0, 0.0, 0.0), (6.0, -10.0, 3.0)])
def test_plane_of_symmetry_is_found(tilt, turn, shift):
    rng = np.random.default_rng(2)
    shape = (48, 64, 56)
    normal = np.array([math.sin(math.radians(tilt)), math.sin(math.radians(turn)), 1.0])
    normal /= np.linalg.norm(normal)
    middle = (np.array(shape) - 1) / 2
    plane = Plane(tuple(normal), float(normal @ middle + shift))
    k, j, i = np.meshgrid(*(np.arange(side) for side in shape), indexing="ij")
    at_middle = middle + shift * normal
    inside = ((k - at_middle[0]) / 18) ** 2 + ((j - at_middle[1]) / 25) ** 2 + ((i - at_middle[2]) / 20) ** 2 < 1
    one = ndimage.gaussian_filter(rng.standard_normal(shape), 3.0) * 20.0 + 5.0
    symmetric = np.where(inside, one + reflected(one, plane), 0.0)
    found = symmetry_plane(symmetric, inside, 2.0)
    assert math.degrees(math.acos(min(1.0, abs(float(np.dot(found.normal, normal)))))) < 2.0
    assert abs(float(np.dot(found.normal, at_middle)) - found.offset) < 1.0
    again = reflected(symmetric, found)
    close = ndimage.binary_erosion(inside, iterations=3)
    assert np.corrcoef(again[close], symmetric[close])[0, 1] > 0.9


def test_what_is_empty_is_mirrored_in_the_middle():
    plane = symmetry_plane(np.zeros((4, 5, 7)), np.zeros((4, 5, 7), bool), 1.5)
    assert plane == Plane((0.0, 0.0, 1.0), 3.0)
    rising = np.broadcast_to(np.arange(7.0), (4, 5, 7))
    assert np.allclose(reflected(rising, plane), rising[..., ::-1])


def test_scale_puts_the_median_at_a_half_and_goes_back():
    array = np.random.default_rng(0).uniform(0, 400, (12, 13, 14)).astype(np.float32)
    inside = array > 200
    scale = scale_of(array, inside)
    shown = scale.apply(array)
    assert np.median(shown[inside]) == pytest.approx(0.5, abs=1e-3)
    assert np.allclose(scale.invert(shown)[shown < TOP], array[shown < TOP], atol=0.1)
    assert np.isfinite(scale_of(np.full((3, 3, 3), 7.0)).apply(np.full((3, 3, 3), 7.0))).all()


def test_slices_beyond_the_ends_are_the_nearest():
    assert at(np.arange(5), np.array([-2, 0, 4, 9])).tolist() == [0, 0, 4, 4]


def test_average_precision_by_hand():
    truth = np.array([1, 0, 1, 0, 0], bool)
    assert average_precision(np.array([0.9, 0.8, 0.7, 0.2, 0.1]), truth) == pytest.approx((1.0 + 2.0 / 3.0) / 2)
    assert average_precision(np.array([0.9, 0.9, 0.1, 0.1, 0.1]), truth) == pytest.approx(0.5 * 0.5 + 0.5 * 0.4)
    assert average_precision(np.zeros(5), truth) == pytest.approx(0.4)  # chance: the share that is true
    assert math.isnan(average_precision(np.zeros(5), np.zeros(5)))


def test_free_response_by_hand():
    truth = np.zeros((4, 6, 12), int)
    truth[1, 1, 1:3], truth[2, 4, 8:10] = 1, 2
    scores = np.zeros(truth.shape)
    scores[1, 1, 2:4] = 0.9  # touches the first lesion
    scores[3, 0, 10:12] = 0.8  # touches none
    scores[0, 5, 0] = 0.95  # one voxel, touches none
    scores[2, 4, 8:10] = 0.3
    curve = free_response([scores, np.zeros(truth.shape)], [truth, np.zeros_like(truth)], [0.99, 0.85, 0.5, 0.2])
    assert [(p.sensitivity, p.false_regions) for p in curve] == [(0.0, 0.0), (0.5, 0.5), (0.5, 1.0), (1.0, 1.0)]
    larger = free_response([scores], [truth], [0.5], smallest_voxels=2)
    assert (larger[0].sensitivity, larger[0].false_regions) == (0.5, 1.0)
    assert sensitivity_at(curve, 0.5) == 0.5
    assert sensitivity_at(curve, 1.0) == 1.0
    assert sensitivity_at(curve, -1.0) == 0.0
