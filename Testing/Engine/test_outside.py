"""What was cut out of its surroundings is told from what fades into them, and filled in from within."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

import phantoms
from medgan.outside import filled, outside

SHAPE = (40, 56, 64)


def a_soft_head() -> np.ndarray:
    return np.maximum(ndimage.gaussian_filter(phantoms.head(SHAPE), 1.2), 0.0)


def beyond_a_circle() -> np.ndarray:
    j, i = np.meshgrid(*(np.linspace(-1, 1, side) for side in SHAPE[1:]), indexing="ij")
    return np.broadcast_to(j**2 + i**2 > 0.4, SHAPE)


@pytest.mark.parametrize("value", [-2000.0, 0.0, 3000.0])
def test_circle_that_was_cut_out_is_found_whatever_is_around_it(value):
    cut = np.where(beyond_a_circle(), np.float32(value), a_soft_head() + 50.0)
    assert np.array_equal(outside(cut), beyond_a_circle())


def test_mask_is_found_with_its_holes():
    brain = a_soft_head() > 450
    brain[16:24, 24:32, 28:36] = brain[19:21, 24:44, 40] = False  # a thin one as well
    assert np.array_equal(outside(np.where(brain, a_soft_head(), 0.0)), ~brain)


def test_what_fades_into_its_background_was_not_cut_out():
    noise = np.random.default_rng(0).normal(0, 20, SHAPE).astype(np.float32)
    for array in (
        a_soft_head(),
        np.rint(a_soft_head()),
        np.maximum(a_soft_head() + noise, 0.0),
        np.hypot(a_soft_head() + noise, noise[::-1]),
        np.full(SHAPE, 7.0),
    ):
        assert outside(array) is None
        assert filled(array, None) is array


def test_filling_leaves_the_inside_and_no_jump():
    head, mask = a_soft_head(), beyond_a_circle()
    made = filled(np.where(mask, -2000.0, head), mask)
    assert np.array_equal(made[~mask], head[~mask])
    for axis in range(3):
        assert np.abs(np.diff(made, axis=axis)).max() < 1.2 * np.abs(np.diff(head, axis=axis)).max()


def test_circle_of_the_value_of_water_is_found_in_a_ct():
    """As resampling fills in where nothing was scanned."""
    j, i = np.meshgrid(*(np.linspace(-1, 1, side) for side in SHAPE[1:]), indexing="ij")
    beyond = np.broadcast_to(j**2 + i**2 > 0.58, SHAPE)  # next to tissue in most places
    cut = np.where(beyond, 0.0, np.rint(phantoms.ct_body(SHAPE, 40.0)))
    found, water = outside(cut), (cut == 0.0) & ~beyond
    assert found[beyond].all()
    assert (found & ~beyond).sum() < 0.1 * water.sum(), "what was scanned may have that value, too"


def test_what_is_clipped_at_its_bright_end_is_no_outside():
    soft = ndimage.gaussian_filter(phantoms.head((48, 56, 60)), 1.0)
    noisy = soft + np.random.default_rng(4).normal(0, 10, soft.shape)
    middle = (slice(14, 34), slice(16, 40), slice(16, 44))  # bright up to the faces
    clipped = np.minimum(noisy[middle], np.quantile(noisy[middle], 0.5)).astype(np.float32)
    assert outside(clipped) is None
