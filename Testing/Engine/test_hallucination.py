"""Enhancements invent no small structures and keep those that are there; and the checks that say so can say no."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from lesion_checks import Fate, Invention, Pair, fates, inventions, planted_found, visibility
from lesion_phantom import RANGE, Lesion, draw, grid_phantom, scattered_lesions
from lesion_tasks import LesionTask, deblurring, denoising, super_resolution
from medgan.models import catalogue

SHAPE = (48, 44, 44)
TASKS = {task.name: task for task in (denoising(), deblurring(), super_resolution(2), super_resolution(4))}
LEAST_CONTRAST = {"denoise": 0.8, "deblur 1.2": 0.6, "superres x2": 0.8, "superres x4": 0.5}
"""Share of the true contrast that the lesions have to keep on the mean; the input itself keeps 1, 0.5, 0.9 and 0.7."""


@functools.lru_cache(maxsize=1)
def a_phantom() -> np.ndarray:
    return grid_phantom(SHAPE)


@functools.lru_cache(maxsize=4)
def lesions_at(sigma: float) -> list[Lesion]:
    return scattered_lesions(a_phantom(), np.ones(SHAPE, bool), sigma, seed=3, most=6, radii=(1.5, 3.0))


def noise(shape: tuple[int, ...], sigma: float) -> np.ndarray:
    return (sigma * np.random.default_rng(0).standard_normal(shape)).astype(np.float32)


@functools.lru_cache(maxsize=16)
def outcome(name: str, character: float) -> tuple[list[Invention], list[Invention], list[Fate]]:
    """What a task invents without and with lesions, and what becomes of the lesions."""
    task: LesionTask = TASKS[name]
    if task.model not in catalogue():
        pytest.skip(f"The model '{task.model}' is not shipped.")
    sigma = task.noise_percent / 100.0 * RANGE
    lesions = lesions_at(sigma)
    clean = (a_phantom(), a_phantom() + draw(lesions, SHAPE))
    degraded = [task.degrade(one) for one in clean]
    given = [one + noise(one.shape, sigma) for one in degraded]
    seen = [visibility(task.degrade(draw([one], SHAPE)), sigma) for one in lesions]
    plain = Pair(*(task.plain(one) for one in given))
    result = Pair(*(task.enhance(one, character) for one in given))
    without = inventions(result.without, plain.without, clean[0], sigma, task.reach)
    with_lesions = inventions(result.with_lesions, plain.with_lesions, clean[1], sigma, task.reach)
    return without, with_lesions, fates(lesions, clean[0], result, plain, seen, task.reach)


@pytest.mark.parametrize("character", [0.0, 0.3])
@pytest.mark.parametrize("name", TASKS)
def test_phantom_without_lesions_stays_free_of_them(name: str, character: float) -> None:
    without, with_lesions, _ = outcome(name, character)
    assert without == []
    assert with_lesions == []


@pytest.mark.parametrize("character", [0.0, 0.3])
@pytest.mark.parametrize("name", TASKS)
def test_every_lesion_is_kept_where_it_is(name: str, character: float) -> None:
    _, _, found = outcome(name, character)
    assert len(found) >= 4
    assert all(one.visible and one.kept for one in found)
    assert np.mean([one.contrast for one in found]) > LEAST_CONTRAST[name]
    assert max(one.shift for one in found) <= max(1.0, TASKS[name].ratio / 2)


@pytest.mark.parametrize("name", TASKS)
def test_natural_character_costs_no_contrast_to_noise(name: str) -> None:
    faithful, gated = ([one.contrast_to_noise for one in outcome(name, character)[2]] for character in (0.0, 0.3))
    assert np.mean(gated) >= 0.95 * np.mean(faithful)


@pytest.mark.parametrize("contrast", [200.0, -200.0])
def test_a_planted_blob_is_found(contrast: float) -> None:
    clean, sigma = a_phantom(), 30.0
    given = clean + noise(SHAPE, sigma)
    false = Lesion((24.0, 20.0, 26.0), 2.0, contrast)
    found = inventions(given + draw([false], SHAPE), given, clean, sigma)
    assert len(found) == 1
    assert np.linalg.norm(np.subtract(found[0].place, false.centre)) < 2.0
    assert np.sign(found[0].error_sigmas) == np.sign(contrast)
    assert 3.0 < found[0].excess_sigmas < abs(found[0].error_sigmas) < 7.0


def test_the_check_is_sharp_in_flat_tissue_and_says_where_it_is_not() -> None:
    clean, sigma = a_phantom(), 30.0
    given = clean + noise(SHAPE, sigma)
    blobs = [Lesion((24.0, 20.0, 26.0), 2.0, 200.0), Lesion((24.0, 20.0, 26.0), 2.0, 60.0)]
    assert planted_found(blobs, given, given, clean, sigma) == (1, 1)
    assert planted_found(blobs, given, given + 400.0, clean, sigma) == (0, 0)


def test_a_structure_drawn_wrong_is_not_outside_the_inputs_structures() -> None:
    clean = np.zeros(SHAPE, np.float32)
    clean[:, :, 22:] = 1000.0
    soft = gaussian_filter(clean, (0.0, 0.0, 1.0))
    moved = np.zeros(SHAPE, np.float32)
    moved[:, :, 23:] = 1000.0
    drawn_wrong = inventions(moved, soft, clean, 20.0)
    assert drawn_wrong
    assert not any(one.outside for one in drawn_wrong)
    blob = inventions(soft + draw([Lesion((24.0, 24.0, 10.0), 2.5, 150.0)], SHAPE), soft, clean, 20.0)
    assert [one.outside for one in blob] == [True]


def test_two_planted_blobs_are_two_inventions() -> None:
    clean = a_phantom()
    false = [Lesion((16.0, 16.0, 16.0), 3.0, 200.0), Lesion((32.0, 30.0, 28.0), 2.5, 200.0)]
    found = inventions(clean + draw(false, SHAPE), clean + noise(SHAPE, 30.0), clean, 30.0)
    assert len(found) == 2
    assert found[0].voxels > found[1].voxels


def test_noise_and_blur_that_stay_are_not_inventions() -> None:
    clean, sigma = a_phantom(), 30.0
    given = clean + noise(SHAPE, sigma)
    assert inventions(given, given, clean, sigma) == []
    blurred = gaussian_filter(given, 1.2)
    assert inventions(blurred, blurred, clean, sigma) == []
    assert inventions(clean, given, clean, sigma) == []


def test_a_lesion_that_is_wiped_out_is_lost_and_a_hole() -> None:
    clean, sigma = a_phantom(), 30.0
    lesions = lesions_at(sigma)
    given = clean + noise(SHAPE, sigma)
    largest = max(lesions, key=lambda one: one.radius)
    everything = given + draw(lesions, SHAPE)
    wiped = everything - draw([largest], SHAPE)
    found = fates(lesions, clean, Pair(given, wiped), Pair(given, everything), [99.0] * len(lesions))
    assert [one.lesion for one in found if not one.kept] == [largest]
    assert abs(next(one for one in found if not one.kept).contrast) < 0.02
    assert len(inventions(wiped, everything, clean + draw(lesions, SHAPE), sigma)) == 1


def test_contrast_and_shift_are_measured() -> None:
    clean = a_phantom()
    lesions = lesions_at(30.0)
    plain = Pair(clean, clean + draw(lesions, SHAPE))
    half = Pair(clean, clean + 0.5 * draw(lesions, SHAPE))
    moved = Pair(clean, clean + np.roll(draw(lesions, SHAPE), 1, axis=2))
    seen = [99.0] * len(lesions)
    for one in fates(lesions, clean, half, plain, seen):
        assert one.contrast == pytest.approx(0.5, abs=0.01)
        assert one.shift == pytest.approx(0.0, abs=0.01)
    for one in fates(lesions, clean, moved, plain, seen):
        assert one.shift == pytest.approx(1.0, abs=0.1)
        assert one.plain_shift == pytest.approx(0.0, abs=0.01)


def test_visibility_is_the_energy_in_sigmas() -> None:
    cube = np.zeros((6, 6, 6))
    cube[2:4, 2:4, 2:4] = 6.0
    assert visibility(cube, 2.0) == pytest.approx(3.0 * np.sqrt(8.0))


def test_lesions_lie_apart_and_inside_the_mask() -> None:
    inside = np.zeros((64, 64, 64), bool)
    inside[8:56, 8:56, 4:40] = True
    lesions = scattered_lesions(np.where(inside, 500.0, 0.0), inside, 10.0, seed=1)
    assert len(lesions) >= 6
    for number, one in enumerate(lesions):
        assert 40.0 <= abs(one.contrast) <= 100.0
        assert draw([one], inside.shape)[~inside].max() == 0.0
        for other in lesions[:number]:
            assert np.linalg.norm(np.subtract(one.centre, other.centre)) > 8.0
    assert {np.sign(one.contrast) for one in lesions} == {-1.0, 1.0}
