"""Translation between T1, T2 and FLAIR: its curves, its unit and its guards."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
import torch

import phantoms
from medgan.networks.contrast import BRIGHTEST, ContrastNet, laid_on
from medgan.recipes.contrast import fitted_curves
from medgan.recipes.contrast_data import Pairs, worsened
from medgan.settings import SynthesizeSettings, Target
from medgan.synthesis import contrast
from medgan.synthesis.contrast import contrast_seen, unit_of
from medgan.synthesis.sets import Order, make
from medgan.tasks import synthesize
from medgan.volume import LabelMap, Volume, VolumeError, read_volume, write_volume


@pytest.fixture(scope="module")
def a_head():
    """A head in T1-like intensities: white matter 700, ventricles 100, noise, oblique and left-handed."""
    array = phantoms.head((30, 40, 36))
    array[array == 400] = 100.0
    noisy = array + 10 * np.random.default_rng(0).standard_normal(array.shape) * (array > 0)
    return Volume(noisy.clip(0).astype(np.float32), phantoms.awkward_geometry(), {}, "int16")


def translated(volume, source=Target.T1, target=Target.T2, **settings):
    return synthesize.run({"volume": volume}, SynthesizeSettings("translate", source=source, target=target, **settings))


@pytest.fixture(scope="module")
def a_translation(a_head):
    return translated(a_head)


def test_a_curve_is_linear_between_its_knots():
    curve = torch.tensor([0.0, 1.0, 0.4])[None, :, None, None, None]
    image = torch.tensor([-1.0, 0.0, 0.375, 0.75, 1.125, 1.5, 9.0]).view(1, 1, 1, 1, 7)
    shown = laid_on(curve.expand(1, 3, 1, 1, 7), image).flatten()
    assert BRIGHTEST == 1.5
    assert torch.allclose(shown, torch.tensor([0.0, 0.0, 0.5, 1.0, 0.7, 0.4, 0.4]))


def test_the_untrained_network_shows_each_pair_by_its_curve():
    network = ContrastNet()
    with torch.no_grad():
        network.curves[0, 1] = 1.0 - torch.linspace(0.0, BRIGHTEST, network.knots)
    image = torch.full((2, 1, 9, 10, 13), 0.3)
    with torch.inference_mode():
        same, turned = network(image, torch.tensor([2, 0]), torch.tensor([2, 1]))[:, 0]
    assert torch.allclose(same, torch.tensor(0.3), atol=1e-5)
    assert torch.allclose(turned, torch.tensor(0.7), atol=1e-5)


def test_the_fitted_curve_is_the_one_that_made_the_pair():
    t1 = torch.rand(20, 20, 20, generator=torch.Generator().manual_seed(0))
    triple = torch.stack([t1, (t1 - 0.6).abs() + 0.1, 0.8 * t1])
    curves = fitted_curves({"one": triple}, 16)
    knots = torch.linspace(0.0, BRIGHTEST, 16)
    assert torch.allclose(curves[0, 1, 1:10], ((knots - 0.6).abs() + 0.1)[1:10], atol=0.06)
    assert torch.allclose(curves[0, 2, 1:10], 0.8 * knots[1:10], atol=0.06)
    assert torch.equal(curves[0, 0], knots)


def test_the_unit_does_not_depend_on_the_scale_or_on_the_air():
    head = phantoms.head((20, 24, 22))
    assert unit_of(7 * head) == pytest.approx(unit_of(head) / 7)
    assert unit_of(np.pad(head, 10)) == pytest.approx(unit_of(head))
    assert np.median((unit_of(head) * head)[head > 150]) == pytest.approx(0.5)


def test_what_gives_nothing_usable_is_refused_in_one_sentence(a_head):
    with pytest.raises(ValueError, match=r"does not make a T2 of a FLAIR: [^.]*\.$"):
        translated(a_head, Target.FLAIR, Target.T2)


def test_crops_follow_from_the_generator_and_air_stays_air():
    triple = {"mni26": torch.rand(3, 30, 30, 30).half(), "long12": torch.rand(3, 30, 30, 30).half()}
    pairs = Pairs(triple, [np.full((30, 30, 30), 2, np.int16)], 16)
    one, other = ([pairs.crop(torch.Generator().manual_seed(seed)) for seed in (3, 4, 3)][n] for n in (0, 2))
    assert torch.equal(one.source, other.source)
    assert torch.equal(one.target, other.target)
    assert one.source_code != one.target_code
    image = torch.rand(8, 8, 8)
    image[:4] = 0
    assert not worsened(image, torch.Generator().manual_seed(1))[:4].any()


def test_fluid_gets_bright_on_t2_and_air_stays_dark(a_head, a_translation):
    made = a_translation.volumes["sample 1"]
    assert np.array_equal(made.ijk_to_ras, a_head.ijk_to_ras)
    assert made.shape == a_head.shape
    fluid = phantoms.head(a_head.shape) == 400
    brain = phantoms.head(a_head.shape) == 700
    assert made.array[fluid].mean() > a_head.array[fluid].mean() + 100
    assert made.array[fluid].mean() / made.array[brain].mean() > 0.8  # it was 0.14
    assert np.abs(made.array[:2, :2, :2]).max() == 0.0


def test_guards_say_what_the_result_does_not_explain(a_head, a_translation):
    sample, volumes = a_translation.report["samples"][0], a_translation.volumes
    assert (sample["from"], sample["to"]) == ("T1", "T2")
    assert volumes[sample["difference"]].shape == volumes[sample["uncertainty"]].shape == a_head.shape
    assert volumes[sample["uncertainty"]].array.min() >= 0.0
    assert volumes[sample["uncertainty"]].array[15, 20, 18] > 0.0
    assert sample["consistency"]["residual_rms"] > 0.0
    for place in sample["suspicions"]:
        assert place["kind"] in ("contradicts", "unsure")
        assert place["sentence"].startswith("At ")
    assert any("lesions" in message for message in a_translation.report["messages"])
    assert a_translation.report["synthetic"] is True


def test_a_place_that_nothing_explains_is_named():
    residual = np.zeros((20, 20, 20), np.float32)
    residual[8:12, 8:12, 8:12] = 0.5
    found = contrast._suspicions(residual, np.zeros_like(residual), phantoms.geometry(origin_mm=(1, 2, 3)), 100.0)
    assert len(found) == 1
    assert found[0]["kind"] == "contradicts"
    assert found[0]["ras_mm"] == pytest.approx([10.5, 11.5, 12.5], abs=0.1)
    assert "up to 50 off" in found[0]["sentence"]


def test_another_unit_of_the_scan_is_that_of_the_result(a_head, a_translation):
    larger = translated(Volume(12 * a_head.array, a_head.ijk_to_ras)).volumes["sample 1"].array
    assert np.allclose(larger, 12 * a_translation.volumes["sample 1"].array, rtol=1e-3, atol=5)


def test_voxels_that_are_no_numbers_stay_so(a_head):
    array = a_head.array.copy()
    array[10, 20, 18] = np.inf
    outputs = translated(Volume(array, a_head.ijk_to_ras))
    assert np.flatnonzero(~np.isfinite(outputs.volumes["sample 1"].array)).tolist() == [
        np.ravel_multi_index((10, 20, 18), array.shape)
    ]
    assert any("1 voxels of the input are NaN or infinite" in message for message in outputs.report["messages"])


@pytest.mark.parametrize(
    ("array", "settings", "sentence"),
    [
        (phantoms.head(), {"target": Target.ANY}, "Choose the contrast to make: 'Contrast', or --target"),
        (phantoms.head(), {"target": Target.T1}, "The scan is a T1 already"),
        (phantoms.head(), {"count": 2}, "set the count to 1"),
        (np.zeros((9, 9, 9)), {}, "shows nothing to translate"),
        (np.full((9, 9, 9), 5.0), {}, "shows nothing to translate"),
    ],
)
def test_what_can_not_be_translated_is_said_in_one_sentence(array, settings, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        translated(Volume(array, np.eye(4)), **{"source": Target.T1, "target": Target.T2, **settings})


@pytest.mark.parametrize(
    ("label", "confidence", "says"),
    [("MR T2", 0.97, ""), ("MR T2", 0.8, "it looks like a T2 (80 %)"), ("MR", 0.99, "was not recognised"),
     ("unknown", 0.3, "was not recognised")],
)  # fmt: skip
def test_only_a_contrast_that_is_sure_is_translated_unasked(label, confidence, says):
    what = {"kind": {"label": label, "confidence": confidence}}
    if not says:
        assert contrast_seen(what) == "T2"
        return
    with pytest.raises(ValueError, match=re.escape(says) + ".*--source T1, T2 or FLAIR"):
        contrast_seen(what)


def test_a_label_map_is_no_scan():
    with pytest.raises(ValueError, match="needs a scalar volume"):
        synthesize.run({"labels": LabelMap(np.ones((8, 8, 8), np.uint8), np.eye(4))},
                       SynthesizeSettings("translate", source=Target.T1, target=Target.T2))  # fmt: skip


def test_one_slice_and_one_voxel_do_not_break_it():
    for shape in ((1, 40, 36), (1, 1, 30)):
        array = phantoms.head((9, *shape[1:]))[4:5] if shape[1] > 1 else phantoms.head((9, 9, 30))[4:5, 4:5]
        made = translated(Volume(array, np.eye(4))).volumes["sample 1"].array
        assert made.shape == shape
        assert np.isfinite(made).all()


def test_the_guards_are_written_beside_the_result_and_not_over_other_files(a_head, a_translation, tmp_path):
    write_volume(a_head, tmp_path / "t1.nii.gz")
    settings = SynthesizeSettings("translate", source=Target.T1, target=Target.T2)
    order = Order(settings, tmp_path / "t2.nii.gz", (tmp_path / "t1.nii.gz",), one_file=True)
    (tmp_path / "t2_uncertainty.nii.gz").write_text("mine")
    with pytest.raises(VolumeError, match=r"t2_uncertainty.nii.gz' exists already; add --overwrite"):
        make(order)
    assert not (tmp_path / "t2.nii.gz").exists()
    make(replace(order, overwrite=True))
    for name, what in (("t2", "volume"), ("t2_difference", "difference"), ("t2_uncertainty", "uncertainty")):
        written = read_volume(tmp_path / f"{name}.nii.gz")
        expected = a_translation.volumes[a_translation.report["samples"][0][what]]
        assert np.allclose(written.ijk_to_ras, a_head.ijk_to_ras, atol=1e-4)
        assert np.abs(written.array - expected.array).max() < 0.02 * np.abs(expected.array).max()
