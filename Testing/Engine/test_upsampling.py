"""The plain methods of the benchmarks and of the lesion checks are what they say they are."""

from __future__ import annotations

import numpy as np
import pytest

import phantoms
from degrading import blurred_by, thick_geometry, thicken
from upsampling import METHODS, back_projected, bspline, linear, nearest


def world_ramp(shape: tuple[int, int, int], ijk_to_ras: np.ndarray) -> np.ndarray:
    """A volume whose value is a sum of the world coordinates of each voxel centre."""
    k, j, i = np.meshgrid(*map(np.arange, shape), indexing="ij")
    places = np.stack([i, j, k, np.ones(shape)], axis=-1) @ ijk_to_ras.T
    return places[..., :3] @ np.array([1.0, -0.5, 2.0])


@pytest.mark.parametrize(("axes", "ratio"), [((0,), 4), ((1,), 3), ((2,), 2), ((0, 1, 2), 2)])
def test_thick_slices_lie_where_their_matrix_says(axes: tuple[int, ...], ratio: int) -> None:
    shape, matrix = (24, 18, 30), phantoms.awkward_geometry()
    thick = thicken(world_ramp(shape, matrix), axes, ratio)
    np.testing.assert_allclose(thick, world_ramp(thick.shape, thick_geometry(matrix, axes, ratio)), atol=1e-4)


def test_thick_slices_need_a_whole_number() -> None:
    with pytest.raises(ValueError, match="10 voxels can not be parted into slices of 4"):
        thicken(np.zeros((10, 4, 4)), (0,), 4)


@pytest.mark.parametrize("method", [linear, bspline, back_projected])
@pytest.mark.parametrize("ratio", [2, 3, 4])
def test_a_ramp_comes_back_away_from_its_ends(method, ratio: int) -> None:
    fine = np.broadcast_to(np.arange(24.0 * ratio)[:, None, None], (24 * ratio, 5, 4)).astype(np.float32)
    result = method(thicken(fine, (0,), ratio), (0,), ratio)
    assert result.shape == fine.shape
    middle = slice(10 * ratio, -10 * ratio)
    np.testing.assert_allclose(result[middle], fine[middle], atol=0.02)


def test_linear_gives_the_values_worked_out_by_hand() -> None:
    coarse = np.array([0.0, 8.0], np.float32)[:, None, None]
    np.testing.assert_allclose(linear(coarse, (0,), 4)[:, 0, 0], [0.0, 0.0, 1.0, 3.0, 5.0, 7.0, 8.0, 8.0], atol=1e-5)
    np.testing.assert_array_equal(nearest(coarse, (0,), 2)[:, 0, 0], [0.0, 0.0, 8.0, 8.0])


def test_each_method_brings_a_head_nearer_to_the_original() -> None:
    head = blurred_by(phantoms.head((48, 40, 44)), 1.0)
    coarse = thicken(head, (0,), 4)
    errors = [float(np.square(function(coarse, (0,), 4) - head).mean()) for _, function in METHODS.values()]
    assert errors == sorted(errors, reverse=True)


def test_back_projection_gives_the_input_back() -> None:
    coarse = thicken(phantoms.head((48, 40, 44)), (0,), 4)
    left = np.abs(thicken(back_projected(coarse, (0,), 4), (0,), 4) - coarse).max()
    assert left < 0.01 * np.abs(thicken(bspline(coarse, (0,), 4), (0,), 4) - coarse).max()
