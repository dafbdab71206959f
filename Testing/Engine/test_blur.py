"""The blur along each axis of a volume, as small networks tell it from edges, spectrum and noise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

import phantoms
from medgan import blur
from medgan.blur import blur_along, measure_blur
from medgan.recipes import blur as recipe
from medgan.samples import sample_path
from medgan.volume import LabelMap, Volume, read_volume, write_volume


@pytest.fixture(scope="module")
def a_scan() -> np.ndarray:
    """The middle of the shipped scan, which no training has seen, in 0 to 1."""
    array = read_volume(sample_path()).array
    start = [side // 2 - 40 for side in array.shape]
    cut = array[tuple(slice(first, first + 80) for first in start)]
    return cut / np.float32(np.quantile(cut, 0.995))


def noisy(array: np.ndarray, sigma: float = 0.01) -> np.ndarray:
    return array + np.random.default_rng(0).normal(0.0, sigma, array.shape).astype(np.float32)


@pytest.mark.parametrize("width", [0.7, 1.2, 1.8])
def test_known_blur_of_a_scan_is_found_along_every_axis(a_scan, width):
    found = blur_along(noisy(ndimage.gaussian_filter(a_scan, width)))
    assert np.exp(np.log(found).mean()) == pytest.approx(width, rel=0.2)
    assert np.abs(np.log(found / width)).max() < 0.45


@pytest.mark.parametrize("width", [1.2, 1.8])
def test_blur_is_found_without_noise_too(width):
    """The faces of what is measured lead through blurred anatomy, which the spectrum must not take for detail."""
    whole = read_volume(sample_path()).array
    assert measure_blur(ndimage.gaussian_filter(whole, width), (1.0, 1.0, 1.0)).width == pytest.approx(width, rel=0.15)


def test_rims_of_masks_and_padding_are_no_sharp_edges(a_scan):
    """They are the sharpest edges that there are, and along two axes only where a circle was cut out."""
    soft = noisy(ndimage.gaussian_filter(a_scan, 1.2))
    j, i = np.meshgrid(*(np.linspace(-1, 1, side) for side in soft.shape[1:]), indexing="ij")
    for cut in (j**2 + i**2 > 0.9, ndimage.binary_erosion(a_scan < 0.2, iterations=2)):
        found = measure_blur(np.where(cut, np.float32(0.0), soft), (1.0, 1.0, 1.0))
        assert found.width == pytest.approx(measure_blur(soft, (1.0, 1.0, 1.0)).width, rel=0.2)
        assert found.shares() == (1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("along", "spacing", "width", "shares"),
    [
        ((1.2, 1.1, 1.25), (1, 1, 1), 1.18, (1, 1, 1)),
        ((0.1, 1.2, 1.2), (1, 1, 1), 1.2, (0, 1, 1)),
        ((0.7, 1.5, 1.5), (2, 1, 1), 1.5, (0.467, 1, 1)),
        ((1.4, 1.5, 1.5), (2, 1, 1), 1.5, (1, 1, 1)),
        ((0.3, 1.2, 1.2), (4, 1, 1), 1.2, (0, 1, 1)),
        ((np.nan, 1.2, 1.2), (4, 1, 1), 1.2, (0, 1, 1)),
        ((np.nan, 1.2, 1.2), (1, 1, 1), 1.2, (1, 1, 1)),
        ((0.1, 0.2, 0.0), (1, 1, 1), None, (1, 1, 1)),
        ((np.nan, np.nan, np.nan), (4, 1, 1), None, (0, 1, 1)),
    ],
)
def test_axes_share_the_width_as_far_as_they_are_blurred(along, spacing, width, shares):
    """Blur that is the same in mm is half as wide in voxels that are twice as long; the measurement errs by a fifth."""
    reference = blur._reference(np.array(along), spacing)
    assert blur.Blur(np.array(along), reference, spacing).shares() == pytest.approx(shares, abs=0.01)
    if width is not None:
        assert reference == pytest.approx(width, abs=0.02)


def test_axis_along_which_k_space_was_cut_has_no_share():
    assert blur.Blur(np.array([0.1, 0.0, 0.0]), 0.1, (1, 1, 1), cut=(1, 2)).shares() == (1.0, 0.0, 0.0)


def test_sharp_scan_is_sharp(a_scan):
    assert blur_along(noisy(a_scan)).max() < 0.5


def test_blur_along_one_axis_is_found_there_alone(a_scan):
    k, j, i = blur_along(noisy(ndimage.gaussian_filter1d(a_scan, 1.5, axis=1)))
    assert j == pytest.approx(1.5, rel=0.3)
    assert max(k, i) < 0.6


def test_unit_offset_and_a_few_voxels_that_are_no_numbers_do_not_matter(a_scan):
    blurry = noisy(ndimage.gaussian_filter(a_scan, 1.2))
    holes = blurry.copy()
    holes[10, 20, 30] = np.nan
    plain = blur_along(blurry)
    np.testing.assert_allclose(blur_along(3e4 * blurry - 1000), plain, rtol=0.01)
    np.testing.assert_allclose(blur_along(holes), plain, rtol=0.1)


def test_axes_that_are_short_and_volumes_without_edges_are_not_measured(a_scan):
    k, j, i = blur_along(a_scan[:12])
    assert np.isnan(k)
    assert np.isfinite([j, i]).all()
    assert np.isnan(blur_along(np.full((32, 32, 32), 7.0))).all()
    assert np.isnan(blur_along(np.full((32, 32, 32), np.nan))).all()
    assert np.isnan(blur_along(np.zeros((2, 40, 40)))).all()


def test_recipe_learns_to_tell_blur_and_gives_the_same_for_the_same_seed(tmp_path, monkeypatch, capsys):
    head = phantoms.head((48, 52, 50))
    write_volume(Volume(noisy(head, 10.0), np.eye(4)), tmp_path / "one.nii.gz")
    labels = np.digitize(head, [1, 350, 600, 900]).astype(np.int16)
    write_volume(LabelMap(labels, np.eye(4)), tmp_path / "labels.nii.gz")
    rows = ["file,modality", "one.nii.gz,MR T1", "labels.nii.gz,label map (FreeSurfer codes)"]
    (tmp_path / "manifest.csv").write_text("\n".join(rows) + "\n")
    monkeypatch.setattr(recipe, "EPOCHS", 60)
    monkeypatch.setattr(recipe, "SYNTHESISED", 1)
    for name in ("first", "second"):
        recipe.main(["--data", str(tmp_path), "--out", str(tmp_path / name), "--crops", "24"])
    with np.load(tmp_path / "first" / "blur.npz") as one, np.load(tmp_path / "second" / "blur.npz") as other:
        assert sorted(one.files) == sorted(other.files)
        assert all(np.array_equal(one[name], other[name]) for name in one.files)
    assert float(capsys.readouterr().out.split("mean error ")[1].split()[0]) < 0.3
    monkeypatch.setattr(blur, "WEIGHTS", tmp_path / "first" / "blur.npz")
    blur._weights.cache_clear()
    try:
        sharp, soft = (np.nanmean(blur_along(noisy(ndimage.gaussian_filter(head, s), 10.0))) for s in (0.0, 2.0))
    finally:
        monkeypatch.undo()
        blur._weights.cache_clear()
    assert soft > sharp + 0.5
    with pytest.raises(SystemExit, match="names no MR or CT volume"):
        recipe.main(["--data", str(tmp_path), "--out", str(tmp_path), "--leave-out", "one"])
