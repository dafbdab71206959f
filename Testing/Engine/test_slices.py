"""Thick slices as an operator: exact geometry, exact inverses, any ratio."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

import phantoms
from medgan.settings import SliceProfile
from medgan.slices import SliceOperator, along, expected_error, finer_grid, interpolation_error

operators = st.builds(
    lambda coarse, ratio, width, profile: SliceOperator(coarse, round(coarse * ratio), width, profile),
    st.integers(4, 24),
    st.floats(1.2, 8.0),
    st.floats(0.5, 1.0),
    st.sampled_from(SliceProfile),
)


@settings(max_examples=40, deadline=None)
@given(operators)
def test_restored_slices_measure_as_they_were(operator):
    slices = np.random.default_rng(operator.fine).normal(size=(operator.coarse, 3))
    assert np.abs(operator.measure @ (operator.restore @ slices) - slices).max() < 1e-6


@settings(max_examples=40, deadline=None)
@given(operators)
def test_constants_stay_constant_both_ways(operator):
    assert np.allclose(operator.measure @ np.ones(operator.fine), 1.0)
    assert np.allclose(operator.restore @ np.ones(operator.coarse), 1.0, atol=1e-4)


def test_touching_slabs_are_means_of_whole_voxels():
    operator = SliceOperator(3, 12)
    fine = np.arange(12.0)
    assert np.allclose(operator.measure @ fine, [1.5, 5.5, 9.5])


def test_slabs_of_a_ratio_that_is_not_whole_share_their_border_voxels():
    """Two slices of 1.5 voxels share the middle one by half, weighed so that the centre of each is its own."""
    assert np.allclose(SliceOperator(2, 3).measure, [[0.75, 0.25, 0], [0, 0.25, 0.75]])


def test_gap_leaves_the_voxels_between_slices_unseen():
    measure = SliceOperator(3, 12, width=0.5).measure
    assert np.allclose(measure[1], [0, 0, 0, 0, 0, 0.5, 0.5, 0, 0, 0, 0, 0])


def test_gaussian_slice_has_its_thickness_at_half_maximum():
    measure = SliceOperator(9, 9 * 40, profile=SliceProfile.GAUSSIAN).measure[4]
    assert abs((measure > 0.5 * measure.max()).sum() / 40 - 1.0) < 0.06


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_field_of_view_keeps_its_edges_and_a_ramp_its_world_values(axis):
    grid = phantoms.awkward_geometry()
    shape = [9, 11, 13]
    operator = SliceOperator(shape[axis], round(shape[axis] * 2.6))
    fine_shape = [operator.fine if a == axis else side for a, side in enumerate(shape)]
    new = finer_grid(grid, axis, operator.coarse, operator.fine)
    for corner in ((-0.5, -0.5, -0.5), (1.0, 1.0, 1.0)):
        old_ijk = [c if c < 0 else side - 0.5 for c, side in zip(corner, shape[::-1], strict=True)]
        new_ijk = [c if c < 0 else side - 0.5 for c, side in zip(corner, fine_shape[::-1], strict=True)]
        assert np.allclose(grid @ [*old_ijk, 1], new @ [*new_ijk, 1], atol=1e-6)
    normal = np.array([0.3, -0.8, 0.5])
    ramp, fine_ramp = (_ramp(s, m, normal) for s, m in ((shape, grid), (fine_shape, new)))
    assert np.abs(along(operator.measure, fine_ramp, axis) - ramp).max() < 1e-3
    assert np.abs(along(operator.restore, ramp, axis) - fine_ramp).max() < 1e-2


def test_expected_error_is_extrapolated_by_a_halving_at_ratio_2_and_not_at_all_from_4_on():
    smooth = ndimage.gaussian_filter(np.random.default_rng(0).normal(0, 100, (9, 10, 32)).astype(np.float32), (0, 0, 3))
    level = interpolation_error(smooth, 2)
    before = interpolation_error(along(SliceOperator(16, 32).measure, smooth, 2), 2)
    assert level < 0.7 * before
    for ratio, share in ((2.0, 1.0), (2.0**1.5, 0.5), (4.0, 0.0), (7.0, 0.0)):
        assert expected_error(smooth, 2, ratio) == pytest.approx(level * (level / before) ** share)


def _ramp(shape, matrix, normal) -> np.ndarray:
    """float32 [k, j, i] whose value is its place in the world along a direction, in mm."""
    k, j, i = np.meshgrid(*(np.arange(side) for side in shape), indexing="ij")
    world = np.einsum("rc,c...->r...", matrix, np.stack([i, j, k, np.ones_like(i)]))[:3]
    return np.einsum("r,r...->...", normal, world).astype(np.float32)
