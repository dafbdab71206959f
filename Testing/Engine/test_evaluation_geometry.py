"""Grids that differ are told apart in numbers, and resampling puts voxels where they were in the patient."""

from __future__ import annotations

import numpy as np
import pytest

import phantoms
from medgan.evaluation.geometry import differences, on_grid_of, resampled
from medgan.volume import Label, LabelMap, Volume, VolumeError


def ramp(shape, matrix) -> Volume:
    """A volume whose intensity is 3 R - 2 A + 5 S + 7 at every place in mm."""
    k, j, i = np.meshgrid(*map(np.arange, shape), indexing="ij")
    places = np.stack([i, j, k, np.ones(shape)], axis=-1) @ matrix.T
    return Volume(places @ np.array([3.0, -2.0, 5.0, 7.0]), matrix)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"spacing_mm": (0.7, 1.1, 2.4)}, "spacing 0.7 x 1.1 x 2.3 and 0.7 x 1.1 x 2.4 mm"),
        ({"origin_mm": (12.3, -45.6, 80.9)}, "origin 12.3 x -45.6 x 78.9 and 12.3 x -45.6 x 80.9 mm (RAS)"),
        ({"degrees": (20.0, -35.0, 53.0)}, "direction of the axes i, j, k by"),
        ({"left_handed": False}, "direction of the axes i, j, k by 0 x 180 x 0 degrees"),
    ],
)
def test_what_differs_is_said_in_numbers(changes, expected):
    usual = {
        "spacing_mm": (0.7, 1.1, 2.3),
        "degrees": (20.0, -35.0, 50.0),
        "origin_mm": (12.3, -45.6, 78.9),
        "left_handed": True,
    }
    first = Volume(np.zeros((5, 6, 7)), phantoms.geometry(**usual))
    second = Volume(np.zeros((5, 6, 7)), phantoms.geometry(**{**usual, **changes}))
    found = differences(first, second)
    assert len(found) == 1
    assert expected in found[0]
    assert differences(first, first) == []


def test_size_is_told_in_the_order_of_the_person_and_everything_else_with_it():
    first = Volume(np.zeros((5, 6, 7)), phantoms.geometry((1.0, 1.0, 2.0)))
    second = Volume(np.zeros((10, 6, 7)), phantoms.geometry((1.0, 1.0, 1.0)))
    found = differences(first, second)
    assert found[0] == "size 7 x 6 x 5 and 7 x 6 x 10 voxels"
    assert found[1] == "spacing 1 x 1 x 2 and 1 x 1 x 1 mm"
    with pytest.raises(
        VolumeError, match=r"result lies on another grid than the reference: size 7 x 6 x 5 and 7 x 6 x"
    ):
        on_grid_of(first, second, "result", "reference", resample=False)


def test_rounding_of_headers_is_no_difference():
    matrix = phantoms.awkward_geometry()
    rounded = matrix.astype(np.float32).astype(float)
    rounded[:3, 3] = np.round(rounded[:3, 3], 3)
    first, second = Volume(np.zeros((200, 6, 300)), matrix), Volume(np.zeros((200, 6, 300)), rounded)
    assert differences(first, second) == []
    assert on_grid_of(first, second, "result", "reference", resample=False) == (first, None, "")


def test_linear_resampling_keeps_every_place_in_the_patient():
    source = ramp((31, 35, 33), phantoms.awkward_geometry())
    middle = source.ijk_to_ras @ [16, 17, 15, 1]
    grid = phantoms.geometry((0.9, 0.8, 1.3), (-10.0, 5.0, 30.0))
    grid[:3, 3] = (middle - grid @ [3, 4, 5, 0])[:3]
    expected = ramp((11, 9, 7), grid)
    moved, message = on_grid_of(source, expected, "result", "reference", resample=True)[::2]
    assert np.abs(moved.array - expected.array).max() < 1e-2
    assert "linear interpolation" in message
    assert (moved.ijk_to_ras == expected.ijk_to_ras).all()


def test_turned_and_mirrored_axes_come_back_exactly():
    source = Volume(phantoms.rician(phantoms.head((7, 9, 8)), 30.0), phantoms.awkward_geometry())
    turned = source.array.transpose(2, 0, 1)[::-1]  # k, j, i of the other are i (mirrored), k, j of this one
    matrix = np.zeros((4, 4))
    matrix[:, 2] = -source.ijk_to_ras[:, 0]
    matrix[:, 1], matrix[:, 0] = source.ijk_to_ras[:, 2], source.ijk_to_ras[:, 1]
    matrix[:, 3] = source.ijk_to_ras @ [7, 0, 0, 1]
    other = Volume(turned, matrix)
    moved, within, _ = on_grid_of(other, source, "result", "reference", resample=True)
    assert within is None
    assert np.array_equal(moved.array, source.array)


def test_labels_are_resampled_to_the_nearest_and_outside_is_background():
    labels = LabelMap(np.array([[[3, 7, 9, 9]]], np.int16), phantoms.geometry((2.0, 1.0, 1.0)), {3: Label("liver")})
    grid = Volume(np.zeros((1, 1, 10)), phantoms.geometry((1.0, 1.0, 1.0), origin_mm=(-2.0, 0.0, 0.0)))
    moved, within, message = on_grid_of(labels, grid, "result", "reference", resample=True)
    assert moved.array.ravel()[[0, 2, 4, 6, 8]].tolist() == [0, 3, 7, 9, 9]
    assert set(moved.array.ravel().tolist()) == {0, 3, 7, 9}
    assert moved.labels[3].name == "liver"
    assert within.ravel().tolist() == [False, *[True] * 9]
    assert "nearest neighbour" in message
    assert "10 % of that grid lies outside of it and counts as background" in message


def test_labels_beyond_the_grid_are_counted_and_said():
    array = np.zeros((6, 6, 6), np.uint8)
    array[1:3, 1:3, 1:3], array[5, 4:, 2:] = 1, 2
    labels = LabelMap(array, phantoms.geometry((1.0, 2.0, 5.0)))
    grid = Volume(np.zeros((4, 6, 6)), labels.ijk_to_ras)
    message = on_grid_of(labels, grid, "result", "reference", resample=True)[2]
    assert "8 of its labelled voxels (0.08 ml) lie outside of that grid and do not count." in message
    array[5] = 0
    assert "labelled" not in on_grid_of(labels, grid, "result", "reference", resample=True)[2]


def test_volumes_that_do_not_overlap_are_refused():
    first = Volume(np.zeros((4, 4, 4)), phantoms.geometry())
    second = Volume(np.zeros((4, 4, 4)), phantoms.geometry(origin_mm=(100.0, 0.0, 0.0)))
    with pytest.raises(VolumeError, match="do not overlap: origin 0 x 0 x 0 and 100 x 0 x 0 mm"):
        on_grid_of(first, second, "result", "reference", resample=True)


def test_sheared_grid_can_be_resampled():
    sheared = phantoms.geometry((1.0, 1.2, 1.5))
    sheared[0, 2] = 0.4
    source = ramp((12, 14, 16), sheared)
    grid = phantoms.geometry((1.0, 1.0, 1.0), origin_mm=(6.0, 5.0, 5.0))
    moved, within = resampled(source, Volume(np.zeros((4, 4, 4)), grid))
    assert within.all()
    assert np.abs(moved.array - ramp((4, 4, 4), grid).array).max() < 1e-3
