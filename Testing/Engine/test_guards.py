"""The guards name what a result invents, and keep quiet about what it does not."""

from __future__ import annotations

import numpy as np
import pytest

import phantoms
from medgan import guards
from medgan.restoration.step import Step, measured
from medgan.settings import EnhanceSettings
from medgan.tasks.enhance import run
from medgan.volume import Volume


@pytest.fixture
def a_state():
    noisy = 200 + phantoms.head((40, 40, 40)) + np.random.default_rng(0).normal(0, 20, (40, 40, 40))
    return measured(noisy.astype(np.float32), phantoms.awkward_geometry(), EnhanceSettings())


def named(state, result, restores="noise", unsure=None):
    class Card:
        pass

    card = Card()
    card.restores = restores
    step = Step(card, {}, state.ijk_to_ras, None, None, None, state.noise)
    residual = result - state.array
    return guards.suspicions(result, state.array, residual, unsure, state, state.ijk_to_ras, [step])


def test_removed_noise_is_no_suspicion(a_state):
    assert named(a_state, (200 + phantoms.head((40, 40, 40))).astype(np.float32)) == []


def test_invented_lesion_is_found_where_it_is(a_state):
    result = a_state.array.copy()
    result[22:26, 8:12, 24:28] += 80
    (place,) = named(a_state, result)
    assert place["kind"] == "contradicts"
    assert np.allclose(place["ras_mm"], (a_state.ijk_to_ras @ [25.5, 9.5, 23.5, 1])[:3], atol=2.0)
    assert place["volume_ml"] == pytest.approx(64 * 0.7 * 1.1 * 2.3 / 1000, rel=0.9)
    assert "does not explain the input" in place["sentence"]


def test_overshoot_beyond_its_surroundings_is_named_as_added(a_state):
    result = a_state.array.copy()
    result[10:13, 20:23, 20:23] += 600
    kinds = {place["kind"] for place in named(a_state, result, restores="blur")}
    assert kinds == {"contradicts", "added"}


def test_disagreement_is_named_as_unsure(a_state):
    unsure = np.zeros_like(a_state.array)
    unsure[10:14, 10:14, 10:14] = 300
    (place,) = named(a_state, a_state.array.copy(), unsure=unsure)
    assert place["kind"] == "unsure"


def test_at_most_20_places_are_named(a_state):
    result = a_state.array.copy()
    for k, j, i in np.ndindex(3, 3, 4):
        result[8 * k + 8 : 8 * k + 12, 8 * j + 8 : 8 * j + 12, 7 * i + 7 : 7 * i + 11] += 300
    assert len(named(a_state, result)) == 20


def test_uncertainty_is_the_spread_of_mirrored_results():
    array = np.random.default_rng(0).normal(size=(6, 7, 8)).astype(np.float32)
    state = measured(array, np.eye(4), EnhanceSettings())

    def lopsided(given: np.ndarray, character: float) -> np.ndarray:
        ramp = np.arange(8, dtype=np.float32)  # a result that depends on which way i runs
        return given + ramp + 10 * character

    found = guards.uncertainty(lopsided, state, (0.0, 1.0))
    ramp = np.arange(8.0)
    answers = np.stack([ramp, ramp + 10, ramp, ramp, ramp[::-1]])
    assert np.allclose(found, np.broadcast_to(answers.std(axis=0, ddof=1), found.shape), atol=1e-4)


def test_uncertainty_comes_with_a_run_and_does_not_change_its_result(an_oblique_volume: Volume):
    plain = run({"volume": an_oblique_volume}, EnhanceSettings())
    more = run({"volume": an_oblique_volume}, EnhanceSettings(uncertainty=True))
    assert np.array_equal(plain.volumes["volume"].array, more.volumes["volume"].array)
    map_ = more.volumes["uncertainty"]
    assert map_.shape == an_oblique_volume.shape
    assert (map_.array >= 0).all()
    assert map_.array.max() > 0
    assert "uncertainty" not in plain.volumes
