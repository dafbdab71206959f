"""Volumes that were filled up from a coarser matrix are known by their noise, and denoised on that matrix."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import fft, ndimage

import phantoms
from degrading import zero_filled
from medgan.acquired import acquired_grid, acquired_matrix, acquired_sigma, cut_off, enlarged, reduced
from medgan.blur import blur_along, measure_blur
from medgan.describe import describe
from medgan.noise import noise_profile
from medgan.quality import measure
from medgan.restoration.step import measured
from medgan.samples import sample_path
from medgan.settings import EnhanceSettings, EvaluateSettings
from medgan.tasks import enhance, evaluate
from medgan.volume import Volume, read_volume, spacing_of

SHAPE = (48, 64, 72)
SIGMA = 25.0


def shape_of(array: np.ndarray) -> tuple[int, ...]:
    matrix = acquired_matrix(array)
    return array.shape if matrix is None else matrix.shape


def a_soft_head() -> np.ndarray:
    return np.maximum(ndimage.gaussian_filter(phantoms.head(SHAPE), 0.7), 0.0)


def magnitudes(array: np.ndarray, matrix: tuple[int, ...]) -> np.ndarray:
    return np.abs(zero_filled(array, matrix)).astype(np.float32)


def scanned(clean: np.ndarray, matrix: tuple[int, ...], sigma: float = SIGMA) -> np.ndarray:
    real, imaginary = np.random.default_rng(1).normal(size=(2, *clean.shape)) * sigma
    return magnitudes(clean + real + 1j * imaginary, matrix)


def error(array: np.ndarray, clean: np.ndarray) -> float:
    inside = clean > 100
    return float(np.sqrt(np.square(array[inside] - clean[inside]).mean()))


@pytest.mark.parametrize("matrix", [(48, 44, 72), (48, 44, 50), (48, 32, 36), (48, 54, 72), (30, 64, 72)])
@pytest.mark.parametrize("sigma", [20.0, 60.0])
def test_matrix_is_found(matrix, sigma):
    found = shape_of(scanned(a_soft_head(), matrix, sigma))
    assert np.abs(np.subtract(found, matrix)).max() <= 2
    assert [a < b for a, b in zip(found, SHAPE, strict=True)] == [a < b for a, b in zip(matrix, SHAPE, strict=True)]


@pytest.mark.parametrize("sigma", [1.0, 8.0, 60.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_white_noise_reaches_everywhere(sigma, seed):
    noise = np.random.default_rng(seed).normal(size=SHAPE) * sigma
    assert shape_of((a_soft_head() + noise).astype(np.float32)) == SHAPE
    assert shape_of(noise.astype(np.float32)) == SHAPE


def test_short_axes_and_constants_are_left_alone():
    few = scanned(a_soft_head(), (48, 32, 36))[:10]
    assert shape_of(few)[0] == 10
    assert shape_of(few[:, :20, :20]) == (10, 20, 20)
    assert shape_of(np.full(SHAPE, 7.0, np.float32)) == SHAPE


def test_scale_of_the_values_does_not_matter():
    array = scanned(a_soft_head(), (48, 44, 50))
    assert shape_of(array * np.float32(1e25)) == shape_of(array * np.float32(1e-25)) == shape_of(array)
    assert shape_of(np.rint(array).astype(np.int16)) == pytest.approx(shape_of(array), abs=1)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_voxel_that_is_no_number_changes_nothing(value):
    array = scanned(a_soft_head(), (48, 44, 50))
    found = acquired_sigma(array)
    for place in ((0, 0, 0), (24, 5, 36), (47, 63, 71)):
        broken = array.copy()
        broken[place] = value
        assert acquired_sigma(broken) == pytest.approx(found, rel=0.05)
    assert acquired_sigma(np.full(SHAPE, value, np.float32)) is None


def test_coarser_grid_and_back():
    coarse = np.random.default_rng(2).normal(3.0, 1.0, (48, 44, 50)).astype(np.float32)
    fine = enlarged(coarse, SHAPE)
    assert fine.shape == SHAPE
    assert fine.mean() == pytest.approx(coarse.mean(), rel=1e-5)
    assert fine.std() == pytest.approx(coarse.std(), rel=0.05)
    assert np.allclose(reduced(fine, coarse.shape), coarse, atol=1e-4)
    # The centre of voxel n of N lies at (n + 1/2) / N of the field of view on both grids.
    ramp = np.cos(np.pi * (np.arange(72) + 0.5) / 72)[None, None].astype(np.float32)
    assert np.allclose(reduced(ramp, (1, 1, 50))[0, 0], np.cos(np.pi * (np.arange(50) + 0.5) / 50), atol=1e-5)


def test_coarser_grid_fills_the_same_box():
    fine, few = phantoms.awkward_geometry(), (48, 44, 50)
    boxes = ((fine, SHAPE), (acquired_grid(fine, SHAPE, few), few))
    for end in (0, 1):
        one, other = (grid @ [*(end * side - 0.5 for side in shape[::-1]), 1.0] for grid, shape in boxes)
        assert one == pytest.approx(other)


def test_coarser_grid_of_what_is_nowhere_below_0_is_not_either():
    sharp = np.where(a_soft_head() > 300, np.float32(1000.0), np.float32(0.0))
    assert reduced(sharp, (48, 44, 50)).min() < -20
    assert reduced(sharp, (48, 44, 50), positive=True).min() == 0.0


def test_noise_is_that_of_the_matrix():
    array = scanned(a_soft_head(), (48, 44, 50))
    true = SIGMA * np.sqrt(44 * 50 / (64 * 72))
    assert noise_profile(array).sigma < 0.7 * true  # the finest detail knows little of it
    volume = Volume(array, phantoms.geometry())
    (noise,) = measure(volume, ["noise"])
    (row,) = evaluate.run({"result": volume}, EvaluateSettings()).report["rows"]
    for found in (acquired_sigma(array), describe(volume)["noise_sigma"], row["noise_sigma"]):
        assert found == pytest.approx(true, rel=0.15)
    assert noise["value"] == pytest.approx(100 * true / np.ptp(a_soft_head()), rel=0.3)


def test_denoising_takes_place_on_the_matrix():
    clean = magnitudes(a_soft_head(), (48, 44, 50))
    noisy = scanned(a_soft_head(), (48, 44, 50))
    outputs = enhance.run({"volume": Volume(noisy, phantoms.geometry())}, EnhanceSettings())
    result = outputs.volumes["volume"].array
    assert error(result, clean) < 0.6 * error(noisy, clean)
    assert outputs.report["sigma_before"] == pytest.approx(SIGMA * np.sqrt(44 * 50 / (64 * 72)), rel=0.15)
    assert outputs.report["sigma_after"] < 0.4 * outputs.report["sigma_before"]
    assert [message for message in outputs.report["messages"] if "% along j" in message and "% along i" in message]
    assert outputs.report["suspicions"] == []
    # What lies beyond the matrix stays as it is, but for what would be below 0.
    beyond = fft.dctn(result - noisy, norm="ortho")[:, 48:]
    assert np.sqrt(np.mean(np.square(beyond))) < 0.1 * SIGMA


def elliptic(array: np.ndarray, axes: tuple[int, ...], radius: float) -> np.ndarray:
    """Magnitudes of an array of which an ellipse of k-space was acquired."""
    squared = sum(
        np.square(2.0 * np.fft.fftfreq(side)).reshape([-1 if each == axis else 1 for each in range(3)])
        for axis, side in enumerate(array.shape)
        if axis in axes
    )
    return np.abs(np.fft.ifftn(np.fft.fftn(array) * (squared <= radius**2))).astype(np.float32)


ELLIPSES = [((0, 1), 1.0), ((1, 2), 0.75), ((0, 1, 2), 1.0)]


@pytest.mark.parametrize(("axes", "radius"), ELLIPSES)
def test_noise_within_an_ellipse_is_found_and_taken_away(axes, radius):
    real, imaginary = np.random.default_rng(1).normal(size=(2, *SHAPE)) * 2 * SIGMA
    clean, noisy = (elliptic(a_soft_head() + noise, axes, radius) for noise in (0.0, real + 1j * imaginary))
    matrix = acquired_matrix(noisy)
    assert matrix.ellipse.axes == axes
    side = matrix.shape[1] * matrix.ellipse.radius / SHAPE[1]
    assert side == pytest.approx(radius, abs=0.06)
    volume = Volume(noisy, phantoms.geometry())
    outputs = enhance.run({"volume": volume}, EnhanceSettings())
    result = outputs.volumes["volume"].array
    assert error(result, clean) < 0.75 * error(noisy, clean)
    inside = clean > 100
    there = float((noisy - clean)[inside].std()) / np.sqrt(np.prod(matrix.shape) / np.prod(SHAPE))
    there *= np.prod(matrix.shape) / np.prod(SHAPE)  # of a voxel of the matrix, in the unit of the volume
    for said in (outputs.report["sigma_before"], describe(volume)["noise_sigma"]):
        assert said == pytest.approx(there, rel=0.3)
    assert any("an ellipse of" in message for message in outputs.report["messages"])
    assert outputs.report["suspicions"] == []
    beyond = fft.dctn(result - noisy, norm="ortho")[-4:, -4:, -4:]
    assert np.sqrt(np.mean(np.square(beyond))) < 0.2 * SIGMA
    given = enhance.run({"volume": volume}, EnhanceSettings(noise_sigma=outputs.report["sigma_before"]))
    assert error(given.volumes["volume"].array, result) < 0.1 * error(noisy, clean)


def test_no_ellipse_is_seen_where_noise_fades():
    for width in (0.0, 0.7, 1.0):
        assert acquired_matrix(phantoms.ct_body(SHAPE, 40.0, width)) is None


def filtered_backprojection(shape: tuple[int, int, int], kernel: str, seed: int) -> np.ndarray:
    """HU of a bottle of water with noise as that kernel of CT shapes it, up to half of the sampling frequency."""
    frequency = np.hypot(np.fft.fftfreq(shape[1])[:, None], np.fft.rfftfreq(shape[2]))
    within = np.minimum(frequency, 0.5)
    window = {"hann": 0.5 + 0.5 * np.cos(2 * np.pi * within), "cosine": np.cos(np.pi * within), "sharp": within < 0.5}
    j, i = np.meshgrid(*(np.arange(side) - side / 2 for side in shape[1:]), indexing="ij")
    water = ndimage.gaussian_filter(np.where(np.hypot(j, i) < 0.4 * shape[1], 40.0, -1000.0), 0.7)
    white = np.random.default_rng(seed).standard_normal(shape)
    noise = np.fft.irfft2(np.fft.rfft2(white) * frequency * window[kernel], s=shape[1:])
    return (water + 45.0 / noise.std() * noise).astype(np.float32)


@pytest.mark.parametrize(("kernel", "seed"), [("hann", 3), ("cosine", 100), ("sharp", 3)])
def test_kernel_of_ct_ends_the_noise_only_where_it_is_cut_off(kernel, seed):
    matrix = acquired_matrix(filtered_backprojection((40, 128, 128), kernel, seed))
    assert (matrix is not None) == (kernel == "sharp")


def test_smooth_volumes_without_noise_stay_as_they_are():
    smooth = ndimage.gaussian_filter((phantoms.head(SHAPE) > 0).astype(np.float32), 1.2)
    outputs = enhance.run({"volume": Volume(smooth, phantoms.geometry())}, EnhanceSettings())
    assert np.array_equal(outputs.volumes["volume"].array, smooth)
    assert any("nothing was denoised" in message for message in outputs.report["messages"])


def test_strength_none_changes_nothing():
    noisy = scanned(a_soft_head(), (48, 44, 50))
    outputs = enhance.run({"volume": Volume(noisy, phantoms.geometry())}, EnhanceSettings(strength=0.0))
    assert np.array_equal(outputs.volumes["volume"].array, noisy)


def test_outside_stays_and_its_rim_does_not_ring():
    whole = scanned(a_soft_head(), (48, 44, 50))
    inside = ndimage.binary_erosion(a_soft_head() > 100, iterations=4)
    noisy = np.where(inside, whole, np.float32(0.0))
    outputs = enhance.run({"volume": Volume(noisy, phantoms.geometry())}, EnhanceSettings())
    result, clean = outputs.volumes["volume"].array, magnitudes(a_soft_head(), (48, 44, 50))
    assert [message for message in outputs.report["messages"] if "% along j" in message]
    assert np.array_equal(result[~inside], noisy[~inside])
    assert np.abs(result - clean)[inside].mean() < 0.7 * np.abs(noisy - clean)[inside].mean()


def test_what_was_never_acquired_is_no_blur():
    clean = np.maximum(ndimage.gaussian_filter(phantoms.head((72, 96, 96)), 0.6), 0.0)
    volume = Volume(scanned(clean, (72, 48, 48), 8.0), phantoms.geometry())
    assert min(blur_along(volume.array)[1:]) > 0.5
    matrix = measured(volume.array, volume.ijk_to_ras, EnhanceSettings()).on_matrix()
    assert matrix.array.shape == pytest.approx((72, 47, 47), abs=2)
    assert max(measure_blur(matrix.array, spacing_of(matrix.ijk_to_ras)[::-1]).along[1:]) < 0.45
    given = enhance.run({"volume": volume}, EnhanceSettings("deblur", blur_sigma=1.0))
    assert given.report["steps"][0]["blur_sigma"] == pytest.approx(1.0, rel=0.02), "in voxels of the volume"
    assert given.report["consistency"]["residual_sigmas"] < 3.0


def test_one_side_of_k_space_left_out_is_no_blur():
    """Partial Fourier, filled up with zeros."""
    sharp = read_volume(sample_path()).array[34:98, 40:136, 40:136]
    real, imaginary = np.random.default_rng(6).normal(size=(2, *sharp.shape)) * 3.0
    k_space = np.fft.fftshift(np.fft.fftn(sharp + real + 1j * imaginary))
    assert cut_off(np.abs(sharp + real + 1j * imaginary)) == ()
    assert cut_off(ndimage.gaussian_filter(np.abs(sharp + real + 1j * imaginary), (0, 0.8, 0))) == ()
    k_space[:, :24] = 0.0
    partial = np.abs(np.fft.ifftn(np.fft.ifftshift(k_space))).astype(np.float32)
    assert blur_along(partial)[1] > 0.45
    found = measure_blur(partial, (1.0, 1.0, 1.0))
    assert (found.cut, found.along[1]) == ((1,), 0.0)
    outputs = enhance.run({"volume": Volume(partial, np.eye(4))}, EnhanceSettings("deblur"))
    assert outputs.report["steps"][0]["blurred_axes"] == ""
    assert any("left out along j" in message for message in outputs.report["messages"])
    given = enhance.run({"volume": Volume(partial, np.eye(4))}, EnhanceSettings("deblur", blur_sigma=1.0))
    assert "j" not in given.report["steps"][0]["blurred_axes"]


@pytest.mark.parametrize("order", [0, 1])
def test_interpolated_slices_are_no_matrix(order):
    noise = np.random.default_rng(3).normal(size=SHAPE) * SIGMA
    doubled = ndimage.zoom(
        (a_soft_head() + noise).astype(np.float32), (2, 1, 1), order=order, grid_mode=True, mode="nearest"
    )
    assert shape_of(doubled) == doubled.shape


@pytest.mark.parametrize("change", [lambda array: array - 300.0, lambda array: (array - array.mean()) / array.std()])
def test_an_ellipse_is_found_in_magnitudes_with_values_below_0(change):
    """Only kernels of CT let noise fade where it ends."""
    real, imaginary = np.random.default_rng(1).normal(size=(2, *SHAPE)) * 2 * SIGMA
    noisy = elliptic(a_soft_head() + real + 1j * imaginary, (0, 1), 1.0)
    assert acquired_matrix(change(noisy).astype(np.float32)).ellipse.axes == (0, 1)
