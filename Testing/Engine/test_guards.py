"""The guards name what a result invents, and keep quiet about what it does not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

import phantoms
from medgan import guards
from medgan.restoration.step import Step, Work, measured
from medgan.settings import EnhanceSettings
from medgan.tasks import enhance
from medgan.tasks.enhance import run
from medgan.volume import Volume
from MedGANSlicerLib import Estimates


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
    right, posterior, superior = np.multiply(place["ras_mm"], (1, -1, 1))
    where = f"At R {right:.0f}, P {posterior:.0f}, S {superior:.0f} mm (0.099 ml) "
    assert place["sentence"].startswith(where)
    assert place["finding"] == "Here " + place["sentence"].partition(" mm ")[2], "the rest, wherever it then lies"


def test_place_is_as_long_as_its_region_along_each_axis(a_state):
    values = np.zeros(a_state.array.shape, np.float32)
    values[10:12, 20:25, 5:12] = 9.0
    (place,) = guards.named_places("added", values, 1.0, a_state.ijk_to_ras)
    assert place["size_mm"] == pytest.approx([7 * 0.7, 5 * 1.1, 2 * 2.3])


def test_correlated_noise_is_no_suspicion_but_an_invention_in_it_is():
    clean = 200 + ndimage.gaussian_filter(phantoms.head((40, 40, 40)), 0.7)
    noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(0, 1, clean.shape), 0.8)
    noisy = (clean + 20 / noise.std() * noise).astype(np.float32)
    state = measured(noisy, phantoms.awkward_geometry(), EnhanceSettings())
    assert state.finest < 5, "the finest detail tells little of such noise"
    assert state.level == pytest.approx(20, rel=0.3)
    assert named(state, clean) == []
    clean[22:26, 8:12, 24:28] += 150
    (place,) = named(state, clean)
    assert np.allclose(place["ras_mm"], (state.ijk_to_ras @ [25.5, 9.5, 23.5, 1])[:3], atol=2.0)


def test_a_level_that_can_not_be_silences_nothing(a_state):
    told = measured(a_state.array, a_state.ijk_to_ras, EnhanceSettings(noise_sigma=300.0))
    assert told.level == 300.0
    assert told.found_level == pytest.approx(a_state.level)
    flattened = np.full_like(a_state.array, 250.0)
    assert {place["kind"] for place in named(told, flattened)} == {"contradicts"}


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
    result[16:20, 16:20, 14:18] += 300
    places = named(a_state, result)
    assert len(places) == 20
    assert np.allclose(places[0]["ras_mm"], (a_state.ijk_to_ras @ [15.5, 17.5, 17.5, 1])[:3], atol=2.0)


def test_places_that_are_furthest_off_come_first(a_state):
    """What counts is how far each is beyond the limit of its kind."""
    result, unsure = a_state.array.copy(), np.zeros_like(a_state.array)
    result[8:16, 8:16, 8:16] += 80
    result[24:28, 24:28, 24:28] += 300
    unsure[24:28, 8:16, 8:16] = 320
    places = named(a_state, result, unsure=unsure)
    assert [place["kind"] for place in places] == ["contradicts", "unsure", "contradicts"]
    assert np.allclose(places[0]["ras_mm"], (a_state.ijk_to_ras @ [25.5, 25.5, 25.5, 1])[:3], atol=2.0)


@pytest.fixture
def a_blurred_volume() -> Volume:
    """Sharp edges blurred by 1.2 voxels, with noise of 5; thick slices, oblique, odd."""
    soft = 100 + ndimage.gaussian_filter(phantoms.head((25, 42, 37)), 1.2)
    noisy = soft + np.random.default_rng(1).normal(0, 5, soft.shape).astype(np.float32)
    return Volume(noisy, phantoms.awkward_geometry())


@pytest.mark.parametrize("model", ["deblur", "denoise+deblur", "denoise+deblur+superres"])
def test_input_that_is_returned_explains_itself(a_blurred_volume, model):
    settings = EnhanceSettings(model=model, strength=0.0, blur_sigma=1.2)
    outputs = run({"volume": a_blurred_volume}, settings)
    residual = outputs.volumes["residual"].array
    assert np.abs(residual).max() <= (0.5 if "superres" in model else 0.0), "interpolated slices are measured again"
    assert outputs.report["suspicions"] == []


def test_residual_is_that_of_the_share_that_was_changed(a_blurred_volume):
    """The share of a deblurred result that is the input is not blurred again."""
    residuals = {}
    for strength in (0.3, 1.0):
        settings = EnhanceSettings(model="deblur", strength=strength, blur_sigma=1.2)
        outputs = run({"volume": a_blurred_volume}, settings)
        residuals[strength] = outputs.volumes["residual"].array
        assert not [each for each in outputs.report["suspicions"] if each["kind"] == "contradicts"]
    assert residuals[1.0].std() > 1.0
    assert np.abs(residuals[0.3] - 0.3 * residuals[1.0]).max() < 1e-3 * np.abs(a_blurred_volume.array).max()


def test_residual_of_a_chain_at_half_the_strength_stays_below_the_noise(a_blurred_volume):
    settings = EnhanceSettings(model="denoise+deblur+superres", strength=0.5, blur_sigma=1.2)
    report = run({"volume": a_blurred_volume}, settings).report
    assert report["consistency"]["residual_sigmas"] < 1.0
    assert not [each for each in report["suspicions"] if each["kind"] == "contradicts"]


def test_uncertainty_is_the_spread_of_mirrored_results():
    array = np.random.default_rng(0).normal(size=(6, 7, 8)).astype(np.float32)
    state = measured(array, np.eye(4), EnhanceSettings())

    def lopsided(given: np.ndarray, character: float, progress=None) -> np.ndarray:
        ramp = np.arange(8, dtype=np.float32)  # a result that depends on which way i runs
        return given + ramp + 10 * character

    found = guards.uncertainty(lopsided, state, lopsided(array, 0.0), (0.0, 1.0))
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


@pytest.fixture
def count_passes(monkeypatch):
    """``count_passes(volume, settings)``: how often a network went over the whole volume."""

    def count(volume: Volume, settings: EnhanceSettings) -> int:
        calls = []
        plain = Work.tiles
        monkeypatch.setattr(Work, "tiles", lambda *given, **named: calls.append(1) or plain(*given, **named))
        run({"volume": volume}, settings)
        monkeypatch.setattr(Work, "tiles", plain)
        return len(calls)

    return count


@pytest.mark.parametrize(("character", "passes"), [(0.2, 6), (0.0, 5), (1.0, 5)])
def test_uncertainty_asks_each_character_once_and_takes_as_long_as_estimated(
    an_oblique_volume, count_passes, character, passes
):
    settings = EnhanceSettings(character=character, uncertainty=True)
    assert count_passes(an_oblique_volume, settings) == passes
    assert Estimates.passes(settings, varied=True) == passes


def test_estimate_of_passes_knows_when_there_is_one_character_or_no_map():
    assert Estimates.passes(EnhanceSettings(uncertainty=True), varied=False) == 4
    assert Estimates.passes(EnhanceSettings(uncertainty=True, strength=0.0), varied=True) == 1
    assert Estimates.passes(EnhanceSettings(), varied=True) == 1


@pytest.mark.parametrize(("model", "characters"), [("superres", [0.2]), ("denoise+superres", [0.2, 0.2, 0.0, 1.0])])
def test_uncertainty_of_a_fitted_model_is_that_of_its_own_weights(
    an_oblique_volume, monkeypatch, count_passes, model, characters
):
    """Only what can not be fitted is asked with the weights of other characters."""
    loaded, plain = [], enhance.network_of
    monkeypatch.setattr(enhance, "network_of", lambda card, *given: loaded.append(given[0]) or plain(card, *given))
    thick = Volume(an_oblique_volume.array[:8, :, :16], an_oblique_volume.ijk_to_ras)
    settings = EnhanceSettings(model=model, uncertainty=True, fit_minutes=0.01, fit_from_scratch=True)
    steps = len(model.split("+"))
    assert count_passes(thick, settings) == steps * (6 if "+" in model else 4)
    assert loaded == characters


@pytest.mark.parametrize("model", ["denoise", "denoise+superres"])
def test_progress_rises_through_every_variant(an_oblique_volume, model):
    said = []
    thick = Volume(an_oblique_volume.array[:8, :20, :20], an_oblique_volume.ijk_to_ras)
    run({"volume": thick}, EnhanceSettings(model=model, uncertainty=True), lambda *now: said.append(now))
    fractions = [fraction for fraction, _ in said]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert len({fraction for fraction, message in said if message.startswith("Denoising")}) >= 6
    assert max(np.diff(fractions)) < 0.5


def test_progress_of_all_axes_never_falls(an_oblique_volume):
    said = []
    small = Volume(an_oblique_volume.array[:8, :8, :8], np.eye(4))
    run({"volume": small}, EnhanceSettings(model="superres", uncertainty=True), lambda *now: said.append(now[0]))
    assert said == sorted(said)


@pytest.mark.parametrize("model", ["denoise", "superres"])
def test_uncertainty_where_no_model_worked_is_0(an_oblique_volume, model):
    thick = Volume(an_oblique_volume.array[:8, :20, :20], an_oblique_volume.ijk_to_ras)
    outputs = run({"volume": thick}, EnhanceSettings(model=model, uncertainty=True, strength=0.0))
    assert outputs.volumes["uncertainty"].shape == outputs.volumes["volume"].shape
    assert not outputs.volumes["uncertainty"].array.any()
    assert outputs.report["suspicions"] == []
