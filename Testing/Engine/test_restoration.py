"""Super-resolution, deblurring and chains with the shipped models: values, geometry, and what they must not do."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import ndimage

import phantoms
from medgan.blur import measure_blur
from medgan.inference import ChosenDevice, MemoryRefused, cpu_device
from medgan.models import find
from medgan.noise import NoiseProfile
from medgan.restoration import fit, superres
from medgan.restoration.denoise import conditioned_on
from medgan.restoration.fit import fitted
from medgan.restoration.step import Work, measured, network_of
from medgan.samples import sample_path
from medgan.settings import Axis, EnhanceSettings, SliceProfile
from medgan.slices import SliceOperator, along
from medgan.tasks.enhance import run
from medgan.volume import Volume, read_volume
from upsampling import bspline


def settings(model: str, **changed) -> EnhanceSettings:
    return EnhanceSettings(model=model, **{"character": 0.0, **changed})


@pytest.fixture
def a_fine_volume() -> Volume:
    """A head with soft edges and a little noise, oblique and left-handed, 48 x 44 x 40 voxels."""
    soft = ndimage.gaussian_filter(phantoms.head((40, 44, 48)), 0.5)
    noisy = soft + np.random.default_rng(0).normal(0, 5, soft.shape).astype(np.float32)
    return Volume(np.maximum(noisy, 0), phantoms.geometry((0.9, 0.9, 0.9), (15, -20, 30), (5, 6, 7), left_handed=True))


def thick(volume: Volume, axis: int, ratio: int) -> Volume:
    """What a scanner with thicker slices along an array axis would have seen."""
    side = volume.shape[axis]
    operator = SliceOperator(side // ratio, side)
    matrix = volume.ijk_to_ras.copy()
    column = 2 - axis
    matrix[:3, 3] += matrix[:3, column] * (ratio - 1) / 2
    matrix[:3, column] *= ratio
    return Volume(along(operator.measure, volume.array, axis), matrix)


@pytest.mark.parametrize("model", ["denoise", "superres"])
def test_padding_of_a_ct_stays_padding(a_fine_volume, model):
    """To the models it is air, so that neither it nor what is beside it changes by its value."""
    array = a_fine_volume.array - 1000
    array[:, :6] = -2000.0
    results = []
    for padding in (-2000.0, -1024.0):
        array[:, :6] = padding
        volume = thick(a_fine_volume.like(array), 0, 2) if model == "superres" else a_fine_volume.like(array)
        results.append(run({"volume": volume}, settings(model)).volumes)
    padded, air = (volumes["volume"].array for volumes in results)
    assert (padded[:, :6] == -2000.0).all()
    assert np.array_equal(padded[:, 6:], air[:, 6:])
    assert not results[0]["difference"].array[:, :6].any()


def test_empty_slice_of_padding_is_filled_in(a_fine_volume):
    volume = thick(a_fine_volume, 0, 4)
    array = volume.array - 1000
    array[:, :6] = array[5] = -2000.0
    outputs = run({"volume": volume.like(array)}, settings("superres"))
    result = outputs.volumes["volume"].array
    assert any("along k (5)" in message for message in outputs.report["messages"])
    assert result[20:24].min() > -1200.0
    assert (result[:20, :6] == -2000.0).all()


def test_empty_slice_of_a_mask_belongs_to_it():
    array = np.zeros((24, 32, 32), np.float32)
    array[4:11, 8:20, 8:20] = array[12:18, 10:26, 10:26] = 255.0
    messages = run({"volume": Volume(array, np.diag([1, 1, 3, 1.0]))}, settings("superres")).report["messages"]
    assert any("mask" in message for message in messages)
    assert not any("mpty" in message for message in messages)


@pytest.mark.parametrize(("axis", "chosen"), [(0, Axis.K), (2, Axis.AUTO)])
def test_thick_slices_come_back_on_the_grid_they_came_from(a_fine_volume, axis, chosen):
    outputs = run({"volume": thick(a_fine_volume, axis, 4)}, settings("superres", axis=chosen))
    result = outputs.volumes["volume"]
    assert result.shape == a_fine_volume.shape
    assert np.allclose(result.ijk_to_ras, a_fine_volume.ijk_to_ras, atol=1e-9)
    assert outputs.report["steps"][0]["axis"] == "kji"[axis]
    assert outputs.volumes["difference"].shape == result.shape
    assert outputs.volumes["residual"].shape == thick(a_fine_volume, axis, 4).shape


def test_super_resolution_of_a_real_scan_is_nearer_to_the_truth_than_a_spline():
    """The shipped scan is not among the training data."""
    whole = read_volume(sample_path())
    start = [side // 2 - 32 for side in whole.shape]
    scan = Volume(whole.array[tuple(slice(first, first + 64) for first in start)], whole.ijk_to_ras)
    given = thick(scan, 0, 4)
    result = run({"volume": given}, settings("superres")).volumes["volume"].array
    spline = bspline(given.array, [0], 4)
    gain = np.square(spline - scan.array).mean() / np.square(result - scan.array).mean()
    assert 10 * np.log10(gain) > 0.4


@pytest.mark.parametrize("model", ["superres", "denoise"])
def test_empty_slice_does_not_spoil_its_neighbours(a_fine_volume, model):
    whole = thick(a_fine_volume, 0, 4) if model == "superres" else a_fine_volume
    array = whole.array.copy()
    array[5] = 0.0
    good, broken = (run({"volume": each}, settings(model)) for each in (whole, whole.like(array)))
    result, expected = (outputs.volumes["volume"].array for outputs in (broken, good))
    ratio = len(result) // len(array)
    others = np.delete(np.arange(len(result)), np.arange(5 * ratio, 6 * ratio))
    assert np.abs(result - expected)[others].max() < 0.25 * array.max()
    assert np.array_equal(result[5], array[5]) == (model == "denoise")
    assert result[5 * ratio : 6 * ratio].mean() > 0.8 * expected[5 * ratio : 6 * ratio].mean() or model == "denoise"
    assert any("along k (5)" in message for message in broken.report["messages"])
    assert not broken.volumes["difference"].array[5].any() or model == "superres"
    assert not any("slices" in message for message in good.report["messages"])


def test_repeated_slice_is_named(a_fine_volume):
    array = a_fine_volume.array.copy()
    array[:, 20] = array[:, 19]
    said = run({"volume": a_fine_volume.like(array)}, settings("denoise")).report["messages"]
    assert any(message.startswith("Slices along j repeat the one before (20)") for message in said)


@pytest.mark.parametrize("ratio", [1.2, 2.7, 8.0])
def test_any_ratio_explains_the_slices_exactly_and_keeps_the_mean(a_fine_volume, ratio):
    given = thick(a_fine_volume, 0, 2)
    outputs = run({"volume": given}, settings("superres", axis=Axis.K, ratio=ratio, character=1.0))
    assert outputs.volumes["volume"].shape[0] == round(20 * ratio)
    step = outputs.report["consistency"]["residual_rms"]
    assert 20 * np.log10(given.array.max() / step) > 50
    assert abs(outputs.volumes["volume"].array.mean() / given.array.mean() - 1) < 0.005


def test_doubling_all_axes_halves_every_spacing(a_fine_volume):
    corner = Volume(a_fine_volume.array[:18, :20, :22], a_fine_volume.ijk_to_ras)
    outputs = run({"volume": corner}, settings("superres"))
    assert outputs.volumes["volume"].shape == (36, 40, 44)
    assert np.allclose(outputs.volumes["volume"].spacing_mm, 0.45)
    assert outputs.report["steps"][0]["axis"] == "all"


def test_strength_0_is_the_interpolation_without_a_network(a_fine_volume):
    given = thick(a_fine_volume, 0, 2)
    outputs = run({"volume": given}, settings("superres", strength=0.0))
    assert not outputs.volumes["difference"].array.any()
    assert "The strength is 0: the result is the input, interpolated." in outputs.report["messages"]


def test_half_the_strength_is_half_way_from_the_interpolation_to_the_network(a_fine_volume):
    given = thick(Volume(a_fine_volume.array[10:26, 8:24, 8:26], a_fine_volume.ijk_to_ras), 0, 2)
    none, half, full = (
        run({"volume": given}, settings("superres", strength=strength)).volumes["volume"].array
        for strength in (0.0, 0.5, 1.0)
    )
    assert np.abs(full - none).max() > 50
    assert np.allclose(half, 0.5 * (none + full), atol=0.5)


def test_slices_too_far_apart_for_isotropic_voxels_are_said_to_be(a_fine_volume):
    given = Volume(a_fine_volume.array[:5], np.diag([0.3, 0.3, 10.0, 1.0]))
    outputs = run({"volume": given}, settings("superres", strength=0.0))
    assert np.isclose(outputs.report["steps"][0]["spacing_mm_after"][2], 10 / 8)
    assert any("33.3 times as far apart" in message for message in outputs.report["messages"])


def test_gap_and_profile_are_taken_into_account(a_fine_volume):
    given = thick(a_fine_volume, 0, 4)
    gap = run({"volume": given}, settings("superres", slice_gap_mm=1.2))
    assert np.isclose(gap.report["steps"][0]["slice_thickness_share"], 1 - 1.2 / 3.6)
    soft = run({"volume": given}, settings("superres", slice_profile=SliceProfile.GAUSSIAN))
    plain = run({"volume": given}, settings("superres"))
    arrays = [outputs.volumes["volume"].array for outputs in (gap, soft, plain)]
    assert not np.array_equal(arrays[0], arrays[2])
    assert not np.array_equal(arrays[1], arrays[2])


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"ratio": 1.1}, "The ratio must be 1.2 to 8"),
        ({"axis": Axis.J}, "the finest of the volume"),
        ({"slice_gap_mm": 3.6}, "leaves nothing of slices"),
    ],
)
def test_impossible_wishes_are_refused(a_fine_volume, changed, sentence):
    with pytest.raises(ValueError, match=sentence):
        run({"volume": thick(a_fine_volume, 0, 4)}, settings("superres", **changed))


def test_constant_volume_stays_constant():
    flat = Volume(np.full((10, 20, 20), 500, np.float32), np.diag([1, 1, 3, 1.0]))
    for model in ("superres", "deblur"):
        outputs = run({"volume": flat}, settings(model, blur_sigma=1.0, noise_sigma=5.0))
        assert np.abs(outputs.volumes["volume"].array - 500).max() < 0.5, model


def test_point_becomes_narrower_when_deblurred():
    """A bright ball of half a voxel's spread, blurred: its width at half maximum shrinks, its sum stays."""
    array = np.zeros((33, 33, 33), np.float32)
    array[16, 16, 16] = 1.0
    sharp = 4000 * ndimage.gaussian_filter(array, 0.7)
    blurry = 100 + ndimage.gaussian_filter(sharp, 1.2)
    volume = Volume(blurry, np.eye(4))
    result = run({"volume": volume}, settings("deblur", blur_sigma=1.2, noise_sigma=0.5)).volumes["volume"].array
    assert _width(result - 100) < 0.92 * _width(blurry - 100)
    assert abs(result.mean() / blurry.mean() - 1) < 0.005


def _width(array: np.ndarray) -> float:
    """Full width at half maximum in voxels through the centre, by linear interpolation."""
    line = array[16, 16, 16:]
    beyond = int(np.argmax(line < line[0] / 2))
    above, below = line[beyond - 1], line[beyond]
    return 2 * (beyond - 1 + (above - line[0] / 2) / (above - below))


def test_deblurring_is_nearer_to_the_truth_and_explains_the_input(a_fine_volume):
    clean = a_fine_volume.array
    noisy = ndimage.gaussian_filter(clean, 1.2) + np.random.default_rng(1).normal(0, 10, clean.shape).astype(np.float32)
    outputs = run({"volume": a_fine_volume.like(noisy)}, settings("deblur", blur_sigma=1.2))
    result = outputs.volumes["volume"].array
    gain = np.square(noisy - clean).mean() / np.square(result - clean).mean()
    assert 10 * np.log10(gain) > 1.5
    assert outputs.report["consistency"]["residual_sigmas"] < 1.3


def test_sharp_volume_is_not_deblurred(a_volume):
    larger = [Volume(phantoms.head((side, side, side)), np.eye(4)) for side in (32, 48, 64)]
    for sharp in (a_volume, *larger):
        outputs = run({"volume": sharp}, settings("deblur"))
        assert np.array_equal(outputs.volumes["volume"].array, sharp.array)
        # Of a phantom with few edges nothing can be said.
        said = ("No blur was found", "set Blur (--blur) to its width")
        assert any(words in message for message in outputs.report["messages"] for words in said)


def test_blur_that_a_volume_can_not_have_is_not_taken_away(a_fine_volume):
    """The inverse of a wide blur would swing a sharp volume to many times its range."""
    given = thick(a_fine_volume, 0, 4)
    outputs = run({"volume": given}, settings("deblur", blur_sigma=2.0))
    result = outputs.volumes["volume"].array
    assert outputs.report["steps"][0]["blur_sigma"] < 1.2
    assert any("sharper than a blur of 2 voxels" in message for message in outputs.report["messages"])
    assert result.max() < 2.5 * given.array.max()
    assert outputs.report["consistency"]["residual_rms"] < 0.1 * given.array.max()


def test_a_few_sharp_voxels_that_a_blur_can_not_have_left_are_told():
    """As of metal: they hardly count in how far all voxels are spread."""
    body = ndimage.gaussian_filter(phantoms.ct_body((40, 56, 64)), 0.8)
    body[8::16, 8::16, 8::16] += 1000.0
    outputs = run({"volume": Volume(body, np.eye(4))}, settings("deblur", blur_sigma=0.8))
    assert outputs.volumes["volume"].array.min() > body.min() - 1000.0
    assert any("sharper than a blur of 0.8 voxels" in message for message in outputs.report["messages"])


def test_thick_slices_are_deblurred_within_only(a_fine_volume):
    """Blur of a slice's own voxels does not reach its neighbours; where it did, it is taken away there, too."""
    rng = np.random.default_rng(3)
    slices = thick(a_fine_volume, 0, 2)
    noise = rng.normal(0, 5, slices.shape).astype(np.float32)
    found = {}
    for across in (0.0, 1.2):
        soft = ndimage.gaussian_filter(slices.array, (across, 1.2, 1.2)) + noise
        outputs = run({"volume": slices.like(soft)}, settings("deblur", blur_sigma=1.2))
        errors = [np.square(each - slices.array).mean() for each in (outputs.volumes["volume"].array, soft)]
        found[across] = outputs.report["steps"][0]["blurred_axes"]
        assert errors[0] < 0.95 * errors[1]
        assert any("within them only" in message for message in outputs.report["messages"]) == (across == 0.0)
    assert found == {0.0: "ji", 1.2: "kji"}


@pytest.fixture(scope="module")
def a_scan() -> Volume:
    """The middle 64 x 64 x 64 voxels of the shipped scan."""
    whole = read_volume(sample_path())
    start = [side // 2 - 32 for side in whole.shape]
    return Volume(whole.array[tuple(slice(first, first + 64) for first in start)], np.eye(4))


def error_within(array: np.ndarray, clean: np.ndarray) -> float:
    inside = (slice(6, -6),) * 3
    return float(np.sqrt(np.square(array - clean)[inside].mean()))


@pytest.mark.parametrize(("ratio", "widths"), [(2, (0.5, 1.0, 1.0)), (1, (0.0, 1.2, 1.2))])
def test_each_axis_is_deblurred_by_what_it_has(a_scan, ratio, widths):
    """Twice as long a voxel has half of the blur of a scanner, in voxels; the inverse of the whole would ruin it."""
    sharp = thick(a_scan, 0, ratio)
    noise = np.random.default_rng(3).normal(0, 2.5, sharp.shape).astype(np.float32)
    soft = ndimage.gaussian_filter(sharp.array, widths) + noise
    for given in (0.0, max(widths)):
        outputs = run({"volume": sharp.like(soft)}, settings("deblur", blur_sigma=given))
        assert error_within(outputs.volumes["volume"].array, sharp.array) < 0.85 * error_within(soft, sharp.array)
        taken = outputs.report["steps"][0]["blur_along"]
        assert taken.get("k", 0.0) < 0.75 * taken["j"]


@pytest.mark.parametrize("given", [0.0, 1.2])
def test_deblurring_after_denoising_does_not_sharpen_what_noise_is_left(a_scan, given):
    """And takes the blur away that the noisy volume shows: a clean one shows it less."""
    noise = np.random.default_rng(4).normal(0, 7.5, a_scan.shape).astype(np.float32)
    soft = ndimage.gaussian_filter(a_scan.array, 1.2) + noise
    outputs = run({"volume": a_scan.like(soft)}, settings("denoise+deblur", blur_sigma=given))
    assert error_within(outputs.volumes["volume"].array, a_scan.array) < 0.8 * error_within(soft, a_scan.array)
    assert outputs.report["steps"][1]["blur_sigma"] == pytest.approx(1.2, rel=0.15)


def test_faint_blur_is_taken_away_only_when_it_is_given(a_scan):
    """Compression, metal and uneven slices show as much."""
    noise = np.random.default_rng(5).normal(0, 2.5, a_scan.shape).astype(np.float32)
    soft = ndimage.gaussian_filter(a_scan.array, 0.55) + noise
    assert 0.3 < 0.92 * measure_blur(soft, (1.0, 1.0, 1.0)).width < 0.45
    found, given = (run({"volume": a_scan.like(soft)}, settings("deblur", blur_sigma=width)) for width in (0.0, 0.4))
    assert np.array_equal(found.volumes["volume"].array, soft)
    assert any("can be told from none" in message for message in found.report["messages"])
    assert given.report["steps"][0]["blur_sigma"] == 0.4


def cut_out(shape: tuple[int, ...]) -> np.ndarray:
    """What is beyond a circle within the slices that leads through the brain (bool)."""
    j, i = np.meshgrid(*(np.linspace(-1, 1, side) for side in shape[1:]), indexing="ij")
    return np.broadcast_to(j**2 + i**2 > 0.9, shape)


@pytest.mark.parametrize(("model", "value"), [("deblur", 0.0), ("deblur", -2000.0), ("denoise+deblur", 0.0)])
def test_deblurring_leaves_the_rim_of_what_was_cut_out(a_scan, model, value):
    """Nothing that sharp was ever blurred; its inverse swings far beyond all intensities."""
    noise = np.random.default_rng(3).normal(0, 2.5, a_scan.shape).astype(np.float32)
    soft, beyond = ndimage.gaussian_filter(a_scan.array, 1.2) + noise, cut_out(a_scan.shape)
    padded = np.where(beyond, np.float32(value), soft)
    outputs = run({"volume": a_scan.like(padded)}, settings(model))
    result = outputs.volumes["volume"].array
    assert outputs.report["steps"][-1]["blur_sigma"] == pytest.approx(1.15, abs=0.2)
    error, before = (np.square(array - a_scan.array)[~beyond].mean() for array in (result, soft))
    assert error < 0.72 * before
    if model == "deblur":
        assert np.array_equal(result[beyond], padded[beyond])
    assert outputs.report["suspicions"] == []


def test_uncertainty_of_what_was_cut_out_is_that_of_its_inside(a_scan):
    """The mirrored copies have their outside elsewhere."""
    beyond = cut_out(a_scan.shape).copy()
    beyond[:, :, :20] = True
    soft = np.where(beyond, np.float32(0.0), ndimage.gaussian_filter(a_scan.array, 1.2))
    outputs = run({"volume": a_scan.like(soft)}, settings("deblur", blur_sigma=1.2, uncertainty=True))
    unsure = outputs.volumes["uncertainty"].array
    assert unsure[beyond].max() == 0.0
    assert 0.0 < unsure.max() < 60.0


def test_few_thick_slices_are_said_to_be_too_few(a_scan):
    few = Volume(ndimage.gaussian_filter(a_scan.array[:12], 1.2), np.diag([1.0, 1.0, 4.0, 1.0]))
    outputs = run({"volume": few}, settings("deblur", blur_sigma=1.2))
    assert outputs.report["steps"][0]["blurred_axes"] == "ji"
    assert any("too few slices to tell" in message for message in outputs.report["messages"])


def test_settings_of_other_models_are_named(a_fine_volume):
    outputs = run({"volume": a_fine_volume}, settings("denoise", ratio=3.0, blur_sigma=1.5))
    assert "Setting 'ratio' is for super-resolution and has no effect here." in outputs.report["messages"]
    assert "Setting 'blur_sigma' is for deblurring and has no effect here." in outputs.report["messages"]
    assert not any("axis" in message for message in outputs.report["messages"])


def test_strength_0_neither_deblurs_nor_fits_nor_says_so(a_fine_volume):
    outputs = run({"volume": a_fine_volume}, settings("deblur", blur_sigma=1.2, strength=0.0, fit_minutes=0.1))
    assert outputs.report["messages"] == ["The strength is 0: the result is the input."]
    assert outputs.report["steps"][0]["blur_sigma"] == 0.0
    assert outputs.report["steps"][0]["blurred_axes"] == ""
    assert "fit" not in outputs.report["steps"][0]


def test_all_axes_are_planned_before_the_work(a_fine_volume):
    """Not the first one alone: the last has the most voxels."""
    told = []
    with pytest.raises(MemoryRefused, match=r"needs at least .* and the limit is 0\.12 GB"):
        run(
            {"volume": a_fine_volume},
            settings("denoise+superres", axis=Axis.ALL, ratio=3.0, memory_limit_gb=0.12),
            lambda fraction, message="": told.append(fraction),
        )
    assert max(told) < 0.02


def test_blur_that_a_volume_has_is_believed(a_fine_volume):
    noise = np.random.default_rng(2).normal(0, 5, a_fine_volume.shape).astype(np.float32)
    for width in (0.8, 1.2, 1.8):
        blurry = a_fine_volume.like(ndimage.gaussian_filter(a_fine_volume.array, width) + noise)
        outputs = run({"volume": blurry}, settings("deblur", blur_sigma=width, strength=1e-3))
        assert outputs.report["steps"][0]["blur_sigma"] == width


def test_blur_that_can_not_be_measured_is_asked_for(a_fine_volume):
    small = Volume(a_fine_volume.array[:12, :12, :12], np.eye(4))
    outputs = run({"volume": small}, settings("deblur"))
    assert np.array_equal(outputs.volumes["volume"].array, small.array)
    assert any("set Blur (--blur) to its width" in message for message in outputs.report["messages"])


def test_blur_too_small_to_matter_is_named(a_fine_volume):
    outputs = run({"volume": a_fine_volume}, settings("deblur", blur_sigma=0.1))
    assert np.array_equal(outputs.volumes["volume"].array, a_fine_volume.array)
    assert any("A blur of 0.1 voxels is too small" in message for message in outputs.report["messages"])


def test_model_that_can_not_be_fitted_says_why(a_fine_volume):
    small = Volume(a_fine_volume.array[:12, :12, :12], np.eye(4))
    for model, why in (("denoise", "can not teach how to clean"), ("deblur", "is too small"), ("superres", "no axis")):
        outputs = run({"volume": small}, settings(model, fit_minutes=0.01, blur_sigma=0.6, ratio=6.0))
        assert any("was not fitted" in m and why in m for m in outputs.report["messages"]), model


def test_chain_runs_in_the_right_order_whatever_its_name(a_fine_volume):
    given = thick(a_fine_volume, 0, 4)
    outputs = run({"volume": given}, settings("superres+denoise"))
    assert [step["restores"] for step in outputs.report["steps"]] == ["noise", "resolution"]
    assert outputs.report["model"] == "denoise+superres"
    alone = run({"volume": given}, settings("denoise"))
    after = run({"volume": alone.volumes["volume"]}, settings("superres"))
    apart = outputs.volumes["volume"].array - after.volumes["volume"].array
    assert np.abs(apart).max() < 0.02 * given.array.max()


def test_same_seed_gives_the_same_voxels(a_fine_volume):
    given = thick(a_fine_volume, 0, 4)
    one, two = (run({"volume": given}, settings("denoise+superres")).volumes["volume"].array for _ in range(2))
    assert np.array_equal(one, two)


def test_fit_from_scratch_learns_from_the_sharp_axes_alone(a_fine_volume):
    given = thick(a_fine_volume, 0, 2)
    outputs = run({"volume": given}, settings("superres", fit_minutes=0.05, fit_from_scratch=True))
    fit = outputs.report["steps"][0]["fit"]
    assert fit["from_scratch"]
    assert fit["steps"] >= 1
    assert any("fitted to this volume" in m or "did not make it better" in m for m in outputs.report["messages"])
    assert outputs.report["consistency"]["residual_rms"] < 0.003 * given.array.max()


class Scaled(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.factor = torch.nn.Parameter(torch.tensor(0.998))

    def forward(self, image):
        return self.factor * image


def test_fit_keeps_the_weights_that_were_best_on_what_it_did_not_learn_from(a_fine_volume, monkeypatch):
    """Training is led past the best factor, 1; a clock that goes by the batches makes 60 seconds short."""
    seconds = iter(range(1000))
    now = [0]

    def batch(count, generator):
        now[0] = next(seconds)
        image = torch.ones(count, 1, 2, 2, 2)
        return SimpleNamespace(inputs=(image,), clean=image * (1.0 if now[0] < 6 else 2.0), before=0.5 * image)

    monkeypatch.setattr(fit, "time", SimpleNamespace(monotonic=lambda: now[0]))
    work = Work(settings("superres", fit_minutes=1.0), cpu_device())
    step = superres.prepare(
        measured(a_fine_volume.array, a_fine_volume.ijk_to_ras, work.settings), find("superres"), work
    )
    step.patches = lambda device: SimpleNamespace(batch=batch)
    network = fitted(Scaled(), step, work)
    assert step.details["fit"]["steps"] > 50
    assert network.factor.item() == pytest.approx(1.0, abs=6e-4)
    assert step.details["fit"]["gain_db"] > 10.0


def test_correlated_noise_of_a_ct_is_said_and_taken_away():
    """Most of it lies at lower frequencies than the highest."""
    clean = phantoms.ct_body((32, 64, 64))
    noisy = Volume(phantoms.ct_body((32, 64, 64), 40.0, 0.7), np.eye(4))
    outputs = run({"volume": noisy}, settings("denoise"))
    assert outputs.report["sigma_before"] == pytest.approx(40, rel=0.2)
    assert outputs.report["sigma_after"] < 0.5 * outputs.report["sigma_before"]
    result = outputs.volumes["volume"].array
    assert (result - clean).std() < 0.55 * (noisy.array - clean).std()
    told = run({"volume": noisy}, settings("denoise", noise_sigma=outputs.report["sigma_before"]))
    assert np.allclose(told.volumes["volume"].array, result, atol=2.0), "the level that was found changes nothing"
    assert not any("level given" in message for message in told.report["messages"])


def test_networks_of_others_take_volumes_of_any_size():
    """A UNet with two halvings asks for sides that are multiples of four."""
    from monai.networks.nets import UNet

    network = UNet(spatial_dims=3, in_channels=1, out_channels=1, channels=[4, 8, 16], strides=[2, 2])
    predict = conditioned_on(network, NoiseProfile(1.0, np.ones(64, np.float32)))(torch.device("cpu"))
    assert predict(torch.randn(1, 1, 37, 41, 29)).shape == (1, 1, 37, 41, 29)


def _fit_of(volume: Volume, chosen: ChosenDevice, full: set[str]) -> tuple[torch.nn.Module, Work]:
    """What is fitted with a device, where those named are out of memory: a true lack of it would end the test run."""
    card = find("superres")
    work = Work(settings("superres", fit_minutes=0.02), chosen)
    step = superres.prepare(measured(volume.array, volume.ijk_to_ras, work.settings), card, work)
    patches = step.patches

    def patches_in_memory(device: torch.device):
        if device.type in full:
            raise torch.OutOfMemoryError("out of memory")
        return patches(device)

    step.patches = patches_in_memory
    return fitted(network_of(card, 0.0, work), step, work), work


def test_what_a_device_has_no_memory_to_fit_is_fitted_by_the_cpu(a_fine_volume):
    given = thick(a_fine_volume, 0, 2)
    network, work = _fit_of(given, ChosenDevice(torch.device("meta"), "small GPU"), {"meta"})
    assert next(network.parameters()).device.type == "cpu"
    assert any("small GPU has too little memory to fit" in message for message in work.messages)
    with pytest.raises(MemoryRefused, match="ran out while 'superres' was fitted"):
        _fit_of(given, cpu_device(), {"cpu"})
