"""The shipped denoising model, on a real scan and on awkward ones."""

from __future__ import annotations

import json
import math
import tracemalloc

import numpy as np
import pytest
import torch
from scipy import ndimage

import phantoms
from medgan import inference
from medgan.models import sha256_of
from medgan.noise import intensity_range, noise_profile
from medgan.progress import Cancelled
from medgan.restoration.step import Work
from medgan.samples import sample_path
from medgan.settings import EnhanceSettings
from medgan.tasks.enhance import run
from medgan.volume import Volume, read_volume
from model_folders import write_bundle


def settings(**changed) -> EnhanceSettings:
    return EnhanceSettings(**{"character": 0.0, **changed})


@pytest.fixture(scope="module")
def a_scan() -> Volume:
    """The middle 64 x 64 x 64 voxels of the shipped scan, which is not among the training data."""
    whole = read_volume(sample_path())
    start = [side // 2 - 32 for side in whole.shape]
    cut = whole.array[tuple(slice(first, first + 64) for first in start)]
    return Volume(cut, whole.ijk_to_ras, voxel_type="float32")


def psnr(result: np.ndarray, clean: np.ndarray) -> float:
    """In the foreground, in dB of the robust range."""
    high = intensity_range(clean)[1]
    inside = clean > 0.1 * high
    return float(10 * np.log10(high**2 / np.square(result - clean)[inside].mean()))


def test_shipped_model_gains_3_db_on_a_real_scan_at_5_percent_noise(a_scan):
    sigma = 0.05 * intensity_range(a_scan.array)[1]
    noisy = a_scan.like(phantoms.rician(a_scan.array, sigma))
    outputs = run({"volume": noisy}, settings())
    gain = psnr(outputs.volumes["volume"].array, a_scan.array) - psnr(noisy.array, a_scan.array)
    assert gain >= 3.0
    assert outputs.report["sigma_after"] < 0.5 * outputs.report["sigma_before"]


def test_natural_weights_keep_the_gain_within_2_db(a_scan):
    sigma = 0.05 * intensity_range(a_scan.array)[1]
    noisy = a_scan.like(phantoms.rician(a_scan.array, sigma))
    faithful, natural = (run({"volume": noisy}, settings(character=c)).volumes["volume"].array for c in (0.0, 1.0))
    assert not np.array_equal(faithful, natural)
    assert psnr(natural, a_scan.array) > psnr(faithful, a_scan.array) - 2.0


def test_strength_0_returns_the_input_bit_by_bit(an_oblique_volume):
    outputs = run({"volume": an_oblique_volume}, settings(strength=0.0))
    assert np.array_equal(outputs.volumes["volume"].array, an_oblique_volume.array)
    assert not outputs.volumes["difference"].array.any()


def test_half_the_strength_is_half_the_change(an_oblique_volume):
    full, half = (
        run({"volume": an_oblique_volume}, settings(strength=s)).volumes["difference"].array for s in (1.0, 0.5)
    )
    assert np.abs(half - 0.5 * full).max() < 1e-3 * np.abs(full).max()
    assert np.abs(full).max() > 50


def test_odd_oblique_volume_keeps_grid_and_voxel_type(an_oblique_volume):
    before = an_oblique_volume.array.copy()
    outputs = run({"volume": an_oblique_volume}, settings())
    result = outputs.volumes["volume"]
    assert result.shape == phantoms.ODD_SHAPE
    assert np.array_equal(result.ijk_to_ras, an_oblique_volume.ijk_to_ras)
    assert result.voxel_type == "int16"
    assert np.array_equal(an_oblique_volume.array, before)
    clean = phantoms.head(phantoms.ODD_SHAPE)
    assert np.square(result.array - clean).mean() < 0.5 * np.square(before - clean).mean()
    assert np.allclose(outputs.volumes["difference"].array, result.array - before)


def test_same_seed_gives_the_same_voxels(an_oblique_volume):
    one, other = (run({"volume": an_oblique_volume}, settings(seed=7)).volumes["volume"].array for _ in range(2))
    assert np.array_equal(one, other)


def test_tiles_leave_no_seam(a_scan, monkeypatch):
    from medgan.tasks import enhance

    whole = run({"volume": a_scan}, settings())
    plain = inference.plan_tiles

    def small_tiles(shape, per_voxel, free, on_cpu, most_voxels, *more):
        return plain(shape, per_voxel, free, on_cpu, 44**3, *more)

    monkeypatch.setattr(inference, "plan_tiles", small_tiles)
    said: list[str] = []
    tiled = enhance.run({"volume": a_scan}, settings(), lambda f, m="": said.append(m))
    assert any("tile 2 of" in message for message in said)
    # Measured: at most 0.02 of the noise, on the mean 0.0004.
    apart = np.abs(tiled.volumes["volume"].array - whole.volumes["volume"].array)
    sigma = whole.report["sigma_before"]
    assert apart.max() < 0.05 * sigma
    assert apart.mean() < 0.002 * sigma


def test_scaled_and_shifted_units_give_the_scaled_result(an_oblique_volume):
    plain = run({"volume": an_oblique_volume}, settings()).volumes["volume"].array
    scaled = run({"volume": an_oblique_volume.like(50 * an_oblique_volume.array, "float32")}, settings())
    assert np.allclose(scaled.volumes["volume"].array, 50 * plain, rtol=1e-3, atol=10)


def test_constant_volume_comes_back_as_it_is(a_volume):
    flat = a_volume.like(np.full(a_volume.shape, 33.0, np.float32))
    outputs = run({"volume": flat}, settings())
    assert np.array_equal(outputs.volumes["volume"].array, flat.array)
    assert outputs.report["messages"][-1] == "There is no noise in this volume: nothing was denoised."


def test_voxels_that_are_no_numbers_are_kept_and_counted(an_oblique_volume):
    array = an_oblique_volume.array.copy()
    array[4, 5, 6] = np.nan
    outputs = run({"volume": an_oblique_volume.like(array, "float32")}, settings())
    result = outputs.volumes["volume"].array
    assert np.isnan(result[4, 5, 6])
    assert int(np.isnan(result).sum()) == 1
    assert outputs.report["messages"][0].startswith("1 voxels were not finite numbers")


def test_an_outside_that_is_no_number_stays_so_and_changes_little_within(an_oblique_volume):
    array = an_oblique_volume.array.copy()
    array[phantoms.head(array.shape) == 0.0] = np.nan
    assert np.isnan(array).mean() > 0.1
    outputs = run({"volume": an_oblique_volume.like(array, "float32")}, settings())
    result, whole = (
        outputs.volumes["volume"].array,
        run({"volume": an_oblique_volume}, settings()).volumes["volume"].array,
    )
    broken = np.isnan(array)
    assert np.array_equal(np.isnan(result), broken)
    noise = outputs.report["sigma_before"]
    assert np.abs(result - whole)[~broken].mean() < noise
    assert 0 < outputs.report["mean_absolute_change"] < 2 * noise


def test_a_noise_level_that_is_given_is_used(an_oblique_volume):
    little, much = (run({"volume": an_oblique_volume}, settings(noise_sigma=s)) for s in (5.0, 100.0))
    assert little.report["sigma_before"] == pytest.approx(5.0)
    assert little.report["sigma_source"] == "given"
    assert little.report["mean_absolute_change"] < 0.5 * much.report["mean_absolute_change"]


@pytest.mark.parametrize("edge", [0.0, 1.0])
def test_map_is_said_to_be_no_scan(edge):
    mask = (phantoms.head((40, 44, 48)) > 500).astype(np.float32)
    maps = Volume(ndimage.gaussian_filter(mask, edge), np.eye(4))
    assert "not like a scan" in run({"volume": maps}, settings()).report["messages"][0]


def test_edges_of_a_mask_are_no_uneven_noise(a_scan):
    mask = a_scan.like((a_scan.array > 151).astype(np.float32))
    outputs = run({"volume": mask}, settings())
    assert np.abs(outputs.volumes["volume"].array - mask.array).mean() < 0.1
    assert not any("noise varies" in message for message in outputs.report["messages"])


@pytest.mark.parametrize("value", [0.0, -1024.0])
def test_what_is_outside_of_a_mask_or_circle_stays_so(value):
    body, lung = phantoms.ct_body((24, 48, 48), 40.0), (slice(None), slice(24, 36), slice(14, 26))
    body[lung] -= 1050.0
    body = np.maximum(body, -1024.0)  # cuts noise off
    j, i = np.meshgrid(*(np.linspace(-1, 1, 48),) * 2, indexing="ij")
    beyond = np.broadcast_to(np.hypot(j, i) > 0.85, body.shape)
    outputs = run({"volume": Volume(np.where(beyond, np.float32(value), body), np.eye(4))}, settings(uncertainty=True))
    result, changed, unsure = (outputs.volumes[name].array for name in ("volume", "difference", "uncertainty"))
    assert np.array_equal(np.unique(result[beyond]), [value])
    assert not changed[beyond].any()
    assert not unsure[beyond].any()
    assert (result[lung] == -1024.0).sum() < 0.05 * (body[lung] == -1024.0).sum(), "cut off noise is not outside"


def test_a_noise_level_far_from_what_is_found_is_said(an_oblique_volume):
    found = run({"volume": an_oblique_volume}, settings()).report["sigma_before"]
    (message,) = run({"volume": an_oblique_volume}, settings(noise_sigma=4 * found)).report["messages"]
    assert f"is 4 times what is found in the volume, {found:.3g}" in message
    assert run({"volume": an_oblique_volume}, settings(noise_sigma=2 * found)).report["messages"] == []
    with pytest.raises(ValueError, match="A noise of 1e-30 is nothing beside the intensity range of this volume"):
        run({"volume": an_oblique_volume}, settings(noise_sigma=1e-30))
    with pytest.raises(ValueError, match=r"A noise of 1e\+05 is more than the whole intensity range of this volume"):
        run({"volume": an_oblique_volume}, settings(noise_sigma=1e5))


def test_what_rounding_makes_is_no_noise(an_oblique_volume):
    clean = an_oblique_volume.like(180.0 * (phantoms.head(an_oblique_volume.shape) > 0), "float32")
    outputs = run({"volume": clean}, settings())
    assert np.array_equal(outputs.volumes["volume"].array, clean.array)
    assert outputs.report["messages"][-1] == "There is no noise in this volume: nothing was denoised."
    assert outputs.report["sigma_before"] == outputs.report["sigma_after"] == 0.0
    assert outputs.report["consistency"]["residual_sigmas"] is None
    assert outputs.report["suspicions"] == []


def test_thin_volume_is_refused_with_its_size(a_single_slice):
    with pytest.raises(ValueError, match=r"needs 4 voxels along every axis; this volume has 31 x 33 x 1"):
        run({"volume": a_single_slice}, settings())


def test_too_little_memory_is_refused_with_numbers(a_volume):
    with pytest.raises(ValueError, match=r"needs at least .* GB of memory and the limit is 0\.001 GB; raise it"):
        run({"volume": a_volume}, settings(memory_limit_gb=0.001))


def test_the_uncertainty_map_counts_in_the_plan_of_memory(a_scan, monkeypatch):
    copies = []
    plain = inference.plan_tiles

    def look(*given):
        copies.append(given[-2])  # before the memory beside a GPU
        return plain(*given)

    monkeypatch.setattr(inference, "plan_tiles", look)
    one_tile = 1e-9 * (40**3 * 450 + a_scan.array.nbytes * inference.VOLUME_COPIES) / 0.8
    with pytest.raises(ValueError, match="needs at least"):
        run({"volume": a_scan}, settings(memory_limit_gb=1.01 * one_tile, uncertainty=True))
    run({"volume": a_scan}, settings(memory_limit_gb=1.01 * one_tile))
    assert copies == [inference.COPIES_WITH_UNCERTAINTY, inference.VOLUME_COPIES]


@pytest.mark.parametrize(
    ("model", "uncertainty"), [("denoise", False), ("deblur", False), ("denoise", True), ("deblur", True)]
)
def test_no_more_memory_is_used_than_was_planned(monkeypatch, model, uncertainty):
    """Beside the network, which is slow here: a copy stands in for its answer."""
    monkeypatch.setattr(Work, "tiles", lambda self, network, array, *more: array.copy())
    shape = (400, 40, 40)  # long, since what is done slice by slice, or in the middle, takes the same in any volume
    head = np.tile(phantoms.head((40, 40, 40)), (10, 1, 1))
    array = np.where(head > 0.0, phantoms.rician(head, 20.0), 0.0)  # cut out of its surroundings
    changes = {"model": model, "uncertainty": uncertainty, "blur_sigma": 1.2 if model == "deblur" else 0.0}
    planned = inference.COPIES_WITH_UNCERTAINTY if uncertainty else inference.VOLUME_COPIES
    run({"volume": Volume(array[:40], np.eye(4))}, settings(**changes))  # what is loaded once
    tracemalloc.start()
    try:
        run({"volume": Volume(array, np.eye(4))}, settings(**changes))
        used = tracemalloc.get_traced_memory()[1] / (4 * math.prod(shape))
    finally:
        tracemalloc.stop()
    assert used < planned


def test_cancel_is_passed_on(an_oblique_volume):
    def cancel(fraction: float, message: str = "") -> None:
        if fraction > 0.02:
            raise Cancelled

    with pytest.raises(Cancelled):
        run({"volume": an_oblique_volume}, settings(), cancel)


def test_report_says_what_made_the_result(an_oblique_volume):
    report = run({"volume": an_oblique_volume}, settings(seed=3)).report
    assert report["model"] == "denoise"
    assert report["seed"] == 3
    assert report["synthetic"] is True
    assert all(len(digest) == 64 for digest in report["model_sha256"].values())
    assert report["sigma_before"] == pytest.approx(noise_profile(an_oblique_volume.array).sigma, rel=1e-3)


@pytest.mark.parametrize("unit", [1e-28, 1e22])
def test_uncertainty_has_the_unit_of_the_volume_however_small_or_large(an_oblique_volume, unit):
    cut = an_oblique_volume.array[:12, :12, :12]
    plain, scaled = (
        run({"volume": Volume(cut * np.float32(factor), np.eye(4))}, settings(uncertainty=True)).volumes["uncertainty"]
        for factor in (1.0, unit)
    )
    assert plain.array.max() > 0
    np.testing.assert_allclose(scaled.array / np.float32(unit), plain.array, rtol=0.05, atol=0.01 * plain.array.max())


def test_model_that_answers_with_nothing_is_blamed_for_it(a_scan, tmp_path, monkeypatch):
    folder = write_bundle(tmp_path / "broken")
    path = folder / "configs" / "metadata.json"
    metadata = json.loads(path.read_text())
    for weight in metadata["medgan"]["weights"].values():
        file = folder / weight["file"]
        state = {name: torch.full(held.shape, 1e30) for name, held in torch.load(file, weights_only=True).items()}
        torch.save(state, file)
        weight["sha256"] = sha256_of(file)
    path.write_text(json.dumps(metadata))
    with pytest.raises(ValueError, match="'broken' answered with numbers that are not finite"):
        run({"volume": a_scan.like(a_scan.array)}, settings(model=str(folder)))
