"""What the panel sees in a volume: kind, noise and slices measured on phantoms with known answers."""

from __future__ import annotations

import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
import slicer
from scipy import ndimage

import phantoms
from medgan.noise import noise_profile, sampled_blocks
from medgan.samples import sample_path
from medgan.volume import read_volume
from MedGANSlicerLib import Estimates
from MedGANSlicerLib.Recommend import advise, look, lookAt


def a_card(name, restores, modality="MR, CT, PET"):
    return SimpleNamespace(name=name, task="enhance", modality=modality, restores=restores)


MODELS = [a_card("denoise", "noise")]
ALL_MODELS = [a_card("deblur", "blur"), *MODELS, a_card("superres", "resolution")]


def a_noisy_head(sigma, side=64):
    rng = np.random.default_rng(1)
    return (phantoms.head((side, side, side)) + rng.normal(0, sigma, (side, side, side))).astype(np.float32)


@pytest.mark.parametrize("sigma", [10.0, 60.0])
def test_sample_of_blocks_has_the_noise_of_the_whole(sigma):
    array = a_noisy_head(sigma, 96)
    sample = sampled_blocks(array, most=2000)
    assert sample.size < array.size / 4
    assert noise_profile(sample).sigma == pytest.approx(noise_profile(array).sigma, rel=0.15)


def test_noise_constant_is_the_quantile_that_it_claims_to_be():
    stats = pytest.importorskip("scipy.stats")
    from medgan import noise

    count = int((noise.cosine_orders() >= noise.HIGHEST_ORDER).sum())
    assert pytest.approx(stats.chi2.ppf(noise._QUANTILE, count), rel=1e-12) == noise._CHI_SQUARE


def test_noise_share_and_thickness_are_measured():
    seen = look(a_noisy_head(40.0), (1.0, 1.0, 5.0))
    assert seen.sigma == pytest.approx(40, rel=0.1)
    assert seen.share == pytest.approx(40 / 1000, rel=0.25)
    assert seen.thickness == 5.0
    assert advise(seen, MODELS).model == "denoise"


@pytest.mark.parametrize(
    ("array", "modality", "unit", "kind"),
    [
        (phantoms.rician(phantoms.head((32, 32, 32)), 30), "", "", "MR"),
        (np.where(phantoms.head((32, 32, 32)) > 0, 40, -1000) + 20.0, "", "", "CT"),
        (phantoms.head((32, 32, 32)), "PT", "", "PET"),
        (phantoms.head((32, 32, 32)), "CT", "", "CT"),
        (phantoms.head((32, 32, 32)), "", "Hounsfield unit", "CT"),
        (phantoms.head((32, 32, 32)), "", "Standardized Uptake Value body weight", "PET"),
        (phantoms.head((32, 32, 32)) - 500, "", "", ""),
        (phantoms.ct_body((32, 32, 32), 15.0).clip(-850), "", "", "CT"),
        (phantoms.ct_body((32, 32, 32), 15.0).clip(-100), "", "", ""),
        (2 * np.diff(phantoms.rician(phantoms.head((64, 64, 64)), 30)), "", "", ""),
    ],
)
def test_kind_of_intensity(array, modality, unit, kind):
    assert look(array.astype(np.float32), (1, 1, 1), modality, unit).kind == kind


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (phantoms.head((96, 96, 96)), "holds no noise"),
        (phantoms.head((3, 32, 32)), "too thin"),
        (np.zeros((16, 16, 16), np.float32), "holds no noise"),
    ],
)
def test_no_model_is_praised_where_none_helps(array, reason):
    advice = advise(look(array, (1, 1, 1)), MODELS)
    assert advice.task == ""
    assert reason in advice.reason


@pytest.mark.parametrize("edge", [0.0, 1.2])
def test_nothing_is_recommended_for_a_map(edge):
    mask = (phantoms.head((64, 64, 64)) > 500).astype(np.float32)
    advice = advise(look(ndimage.gaussian_filter(mask, edge), (1, 1, 1), "MR"), ALL_MODELS)
    assert advice.task == ""
    assert "map" in advice.reason


@pytest.mark.parametrize("brightest", [100.0, 99.0, 95.0])
def test_scan_between_0_and_1_is_no_map(brightest):
    brain = read_volume(sample_path()).array
    scaled = np.clip(brain / np.percentile(brain, brightest), 0.0, 1.0).astype(np.float32)
    assert advise(look(scaled, (1, 1, 1)), ALL_MODELS).task == "enhance"


def test_model_for_another_modality_is_not_recommended():
    seen = look(a_noisy_head(40.0), (1, 1, 1), "CT")
    assert "no model here was trained on CT" in advise(seen, [a_card("m", "noise", "MR")]).reason


def test_very_noisy_and_hardly_noisy_volumes_get_a_word_of_caution():
    assert "more noise than" in advise(look(a_noisy_head(400.0), (1, 1, 1)), MODELS).reason
    assert "little noise" in advise(look(a_noisy_head(3.0), (1, 1, 1)), MODELS).reason


def test_correlated_noise_of_a_ct_is_worth_denoising():
    for level, helps in ((30.0, True), (10.0, False)):
        seen = look(phantoms.ct_body((32, 64, 64), level, 0.8), (1, 1, 1), "CT")
        assert seen.sigma == pytest.approx(level, rel=0.25)
        assert ("little" not in advise(seen, MODELS).reason) == helps


def test_not_finite_voxels_do_not_spoil_the_look():
    array = a_noisy_head(40.0)
    array[::7, ::5, ::3] = np.nan
    assert look(array, (1, 1, 1)).sigma > 0
    assert look(np.full((16, 16, 16), np.nan, np.float32), (1, 1, 1)).sigma is None


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_one_voxel_that_is_no_number_is_as_if_it_was_not_there(value):
    array = np.tile(a_noisy_head(40.0), (2, 2, 2))
    plain = look(array, (1, 1, 1))
    array[17, 23, 29] = value  # in no block of the sample
    assert look(array, (1, 1, 1)).sigma == pytest.approx(plain.sigma, rel=0.05)


def test_padding_of_a_ct_is_no_intensity():
    array = a_noisy_head(20.0) - 1000
    array[:, :8] = -1024.0
    plain = look(array, (1, 1, 1)).share
    array[:, :8] = -3024.0
    assert look(array, (1, 1, 1)).share == pytest.approx(plain)


def test_node_is_looked_at_with_the_modality_of_its_hierarchy(a_scene, a_volume_node):
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(a_scene)
    item = hierarchy.CreateItem(hierarchy.GetSceneItemID(), a_volume_node)
    hierarchy.SetItemAttribute(item, "DICOM.Modality", "PT")
    assert lookAt(a_volume_node).kind == "PET"


def blurred(array, sigma):
    return ndimage.gaussian_filter(array, sigma)


@pytest.mark.parametrize(
    ("noise", "blur", "spacing", "model", "needs"),
    [
        (40.0, 0.0, (1.0, 1.0, 1.0), "denoise", ("noise",)),
        (40.0, 0.0, (1.0, 1.0, 4.0), "denoise+superres", ("noise", "resolution")),
        (0.5, 0.0, (3.0, 1.0, 1.0), "superres", ("resolution",)),
        (0.0, 2.0, (1.0, 1.0, 1.0), "deblur", ("blur",)),
        (40.0, 2.0, (1.0, 1.0, 1.0), "denoise+deblur", ("noise", "blur")),
        (40.0, 2.0, (0.7, 2.8, 0.7), "denoise+deblur+superres", ("noise", "blur", "resolution")),
        (0.0, 0.0, (1.0, 1.49, 1.0), "", ()),
    ],
)
def test_chain_is_recommended_for_what_was_measured(noise, blur, spacing, model, needs):
    # Between 300 and 1000, without air: the head keeps its edges whatever the noise.
    array = blurred(phantoms.head((64, 64, 64)), blur) + 500
    array += np.random.default_rng(1).normal(0, noise, array.shape).astype(np.float32)
    advice = advise(look(array, spacing), ALL_MODELS)
    assert (advice.model, advice.needs) == (model, needs)


@pytest.mark.parametrize("blur", [0.0, 1.2])
def test_blur_is_seen_within_thick_slices_of_a_brain(blur):
    brain = read_volume(sample_path())
    count = len(brain.array) // 3
    slices = brain.array[: 3 * count].reshape(count, 3, *brain.array.shape[1:]).mean(axis=1)
    soft = ndimage.gaussian_filter(slices, (0, blur, blur))
    needs = advise(look(soft, (1.0, 1.0, 3.0), "MR"), ALL_MODELS).needs
    assert ("blur" in needs, "resolution" in needs) == (blur > 0, True)


def test_what_is_not_in_the_catalogue_is_not_recommended():
    seen = look(a_noisy_head(40.0), (1.0, 1.0, 4.0), "MR")
    assert advise(seen, MODELS).model == "denoise"
    assert advise(seen, [a_card("superres", "resolution", "CT")]).task == ""
    assert "no model" in advise(seen, []).reason


def test_shipped_model_goes_before_one_of_the_same_kind():
    own = a_card("a better one", "noise")
    assert advise(look(a_noisy_head(40.0), (1, 1, 1)), [*ALL_MODELS, own]).model == "denoise"


def test_blur_is_not_measured_without_scipy(monkeypatch):
    monkeypatch.setitem(sys.modules, "medgan.blur", None)
    assert look(a_noisy_head(40.0), (1, 1, 1)).blur is None


def test_large_volume_is_looked_at_without_a_pause():
    """A part of it tells enough: eight times the voxels take far less than eight times as long."""
    array = np.random.default_rng(0).integers(0, 1000, (256, 256, 256), dtype=np.int16)

    def seconds(part):
        begun = time.process_time()
        look(part, (1, 1, 1))
        return time.process_time() - begun

    eighth = array[:128, :128, :128].copy()
    assert min(seconds(array) for _ in range(2)) < 4 * min(seconds(eighth) for _ in range(2))


def test_times_are_said_as_people_say_them():
    assert [Estimates.timeText(t) for t in (0.2, 7.4, 33, 61, 95, 3600, 7900)] == [
        "1 s", "7 s", "35 s", "60 s", "2 min", "60 min", "2 h 12 min",
    ]  # fmt: skip
    assert Estimates.secondsLeft(0.01, 5) is None
    assert Estimates.secondsLeft(0.25, 10) == pytest.approx(30)
