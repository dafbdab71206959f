"""The figures of image pairs are those of MONAI and scikit-image, in three axes, in slices, and inside a mask."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.metrics import MAEMetric, MultiScaleSSIMMetric, PSNRMetric, RMSEMetric, SSIMMetric
from skimage import metrics as peers

import phantoms
from medgan.evaluation import quality, similarity
from medgan.evaluation.similarity import ImagePair
from medgan.metrics import METRICS, infos, measure

AGREE = 1e-4


def noisy_pair(shape=(23, 33, 29), scale=1.0, inside=None) -> ImagePair:
    """A head and a noisy, blurred, slightly brighter copy."""
    reference = phantoms.head(shape).astype(np.float64) * scale
    result = phantoms.rician(reference, 40.0 * scale).astype(np.float64) * 1.03
    return ImagePair(result, reference, 1000.0 * scale, inside)


def monai_value(metric, pair: ImagePair) -> float:
    first, second = (torch.from_numpy(array)[None, None] for array in (pair.result, pair.reference))
    metric(first, second)
    return float(metric.aggregate())


@pytest.fixture(scope="module")
def a_pair() -> ImagePair:
    return noisy_pair()


def test_errors_agree_with_monai(a_pair):
    found = measure("images", a_pair)
    assert found["mae"] == pytest.approx(monai_value(MAEMetric(), a_pair), rel=AGREE)
    assert found["nrmse"] == pytest.approx(monai_value(RMSEMetric(), a_pair) / 1000.0, rel=AGREE)
    assert found["psnr"] == pytest.approx(monai_value(PSNRMetric(max_val=1000.0), a_pair), rel=AGREE)
    assert found["data_range"] == 1000.0


def test_errors_and_mutual_information_agree_with_scikit_image(a_pair):
    result, reference = a_pair.result, a_pair.reference
    found = measure("images", a_pair)
    assert found["psnr"] == pytest.approx(peers.peak_signal_noise_ratio(reference, result, data_range=1000), abs=AGREE)
    assert found["nmi"] == pytest.approx(peers.normalized_mutual_information(reference, result), abs=AGREE)
    whole = np.rint(result), np.rint(reference)  # values on the borders of bins
    assert similarity.nmi(ImagePair(*whole, 1000.0)) == pytest.approx(
        peers.normalized_mutual_information(*whole), abs=AGREE
    )
    # Its "min-max" is the span of the reference, here 1000 too.
    by_span = peers.normalized_root_mse(reference, result, normalization="min-max")
    assert found["nrmse"] == pytest.approx(by_span, abs=AGREE)


@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e4])
def test_ssim_agrees_with_scikit_image_at_any_scale(scale):
    pair = noisy_pair(scale=scale)
    expected = peers.structural_similarity(
        pair.reference,
        pair.result,
        data_range=pair.data_range,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    assert similarity.ssim(pair) == pytest.approx(expected, abs=AGREE)


def test_ssim_agrees_with_monai(a_pair):
    unit = ImagePair(a_pair.result / 1000, a_pair.reference / 1000, 1.0)  # MONAI computes in float32
    assert similarity.ssim(unit) == pytest.approx(monai_value(SSIMMetric(3), unit), abs=AGREE)
    plane = ImagePair(unit.result[11], unit.reference[11], 1.0)
    assert similarity.ssim(plane) == pytest.approx(monai_value(SSIMMetric(2), plane), abs=AGREE)


def test_ssim_inside_a_mask_is_the_mean_of_the_windows_with_their_middle_there(a_pair):
    inside = np.zeros(a_pair.reference.shape, bool)
    inside[4:15, 2:20, 9:28] = True
    masked = ImagePair(a_pair.result, a_pair.reference, 1000.0, inside)
    _, local = peers.structural_similarity(
        a_pair.reference,
        a_pair.result,
        data_range=1000.0,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        full=True,
    )
    whole = np.zeros_like(inside)
    whole[5:-5, 5:-5, 5:-5] = True
    assert similarity.ssim(masked) == pytest.approx(local[inside & whole].mean(), abs=AGREE)


def test_what_is_not_finite_outside_the_mask_does_not_count(a_pair):
    """In neither image: SSIM is that of the windows that hold finite voxels only."""
    depth = len(a_pair.reference)
    inside = np.ones(a_pair.reference.shape, bool)
    inside[depth - 6 :] = False
    cut = ImagePair(a_pair.result[:-6], a_pair.reference[:-6], 1000.0)
    for place in range(2):
        arrays = [a_pair.result.copy(), a_pair.reference.copy()]
        arrays[place][~inside] = np.nan
        pair = ImagePair(*arrays, 1000.0, inside)
        assert similarity.ssim(pair) == pytest.approx(similarity.ssim(cut))
        assert similarity.ms_ssim(pair) == pytest.approx(similarity.ms_ssim(cut))


def test_masked_errors_are_those_of_the_voxels_inside(a_pair):
    inside = a_pair.reference > 500
    masked = ImagePair(a_pair.result, a_pair.reference, 1000.0, inside)
    ours = a_pair.result[inside], a_pair.reference[inside]
    assert similarity.mae(masked) == pytest.approx(np.abs(ours[0] - ours[1]).mean())
    assert similarity.psnr(masked) == pytest.approx(peers.peak_signal_noise_ratio(*ours[::-1], data_range=1000.0))
    assert similarity.nmi(masked) == pytest.approx(peers.normalized_mutual_information(*ours[::-1]), abs=AGREE)


def test_large_volume_is_cut_into_slabs_without_a_seam():
    rng = np.random.default_rng(0)
    reference = rng.random((75, 12, 13))
    pair = ImagePair(reference + rng.normal(0, 0.1, reference.shape), reference, 1.0)
    assert similarity.ssim(pair) == pytest.approx(monai_value(SSIMMetric(3), pair), abs=1e-6)


def test_ms_ssim_with_five_scales_agrees_with_monai():
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[0:200, 0:190]
    reference = 0.5 + 0.25 * np.sin(rows / 9) + 0.2 * np.cos(columns / 23)
    pair = ImagePair(reference + rng.normal(0, 0.15, reference.shape), reference, 1.0)
    expected = monai_value(MultiScaleSSIMMetric(2), pair)
    assert similarity.ms_ssim(pair) == pytest.approx(expected, abs=AGREE)
    assert pair.scales == 5
    torchmetrics = pytest.importorskip("torchmetrics.functional.image")
    first, second = (torch.from_numpy(array)[None, None].float() for array in (pair.result, pair.reference))
    found = torchmetrics.multiscale_structural_similarity_index_measure(first, second, data_range=1.0)
    # It pads by reflection, where MONAI and we count whole windows.
    assert similarity.ms_ssim(pair) == pytest.approx(float(found), abs=2e-3)


def test_small_volume_has_fewer_scales_with_their_weights_scaled_to_one():
    pair = noisy_pair((24, 30, 47), scale=1e-3)
    weights = np.array(similarity.SCALE_WEIGHTS[:2])
    metric = MultiScaleSSIMMetric(3, data_range=1.0, weights=tuple(weights / weights.sum()))
    assert similarity.ms_ssim(pair) == pytest.approx(monai_value(metric, pair), abs=AGREE)
    assert pair.scales == 2


def test_thin_axis_takes_no_part_in_structural_similarity():
    pair = noisy_pair((5, 40, 43), scale=1e-3)
    slices = [
        peers.structural_similarity(
            *planes, data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
        for planes in zip(pair.reference, pair.result, strict=True)
    ]
    assert similarity.ssim(pair) == pytest.approx(np.mean(slices), abs=AGREE)
    assert similarity.ms_ssim(pair) is not None
    tiny = ImagePair(pair.result[:, :6, :7], pair.reference[:, :6, :7], 1.0)
    assert similarity.ssim(tiny) is None
    assert similarity.ms_ssim(tiny) is None


def test_ms_ssim_inside_a_mask_sees_every_scale_of_it_and_nothing_else():
    pair = noisy_pair((48, 24, 25), scale=1e-3)
    result, inside = pair.result.copy(), np.zeros(pair.result.shape, bool)
    result[:32] = pair.reference[:32]
    inside[:20] = True  # windows reach 5 voxels farther, those of the second scale 10
    assert similarity.ms_ssim(ImagePair(result, pair.reference, 1.0, inside)) == pytest.approx(1.0, abs=1e-9)
    assert similarity.ms_ssim(ImagePair(result, pair.reference, 1.0, ~inside)) < 0.999
    inside[25, 12, 12] = True  # an eighth of its voxel at the second scale, whose window reaches what differs
    assert similarity.ms_ssim(ImagePair(result, pair.reference, 1.0, inside)) == pytest.approx(1.0, abs=1e-9)
    thin = np.zeros(pair.result.shape, bool)
    thin[11, 10:14, 10:14] = True  # half of the voxels that it is in at the second scale
    thinly = ImagePair(pair.result, pair.reference, 1.0, thin)
    assert 0.0 < similarity.ms_ssim(thinly) < 1.0
    assert thinly.scales == 2


@pytest.mark.parametrize(("axes", "expected"), [(2, 0.023176), (3, 0.061796)])
def test_monai_case_of_ms_ssim(axes, expected, monkeypatch):
    """Its published case: absolute normal noise of seed 0 over its largest value, two scales of weight 0.5."""
    monkeypatch.setattr(similarity, "SCALE_WEIGHTS", (0.5, 0.5))
    pair = ImagePair(*noise_of_monai((1, 1, *[64] * axes)), 1.0)
    assert similarity.ms_ssim(ImagePair(pair.result[0, 0], pair.reference[0, 0], 1.0)) == pytest.approx(
        expected, abs=AGREE
    )


@pytest.mark.parametrize(("axes", "expected"), [(2, 0.045415), (3, 0.017644)])
def test_monai_case_of_ssim(axes, expected):
    """Its published case: two images of three channels; the mean over all of them."""
    result, reference = noise_of_monai((2, 3, *[16] * axes))
    planes = zip(result.reshape(-1, *[16] * axes), reference.reshape(-1, *[16] * axes), strict=True)
    found = np.mean([similarity.ssim(ImagePair(*plane, 1.0)) for plane in planes])
    assert found == pytest.approx(expected, abs=AGREE)


def noise_of_monai(shape) -> tuple[np.ndarray, np.ndarray]:
    torch.manual_seed(0)
    result, reference = torch.randn(shape).abs(), torch.randn(shape).abs()
    return (result / result.max()).numpy(), (reference / reference.max()).numpy()


def test_monai_cases_of_errors():
    """Zeros against ones: every error is 1 and PSNR 0 dB; a copy: errors 0 and PSNR infinite."""
    zeros, ones = np.zeros((16, 16, 16)), np.ones((16, 16, 16))
    found = measure("images", ImagePair(zeros, ones, 1.0))
    assert (found["mae"], found["nrmse"], found["psnr"]) == (1.0, 1.0, 0.0)
    same = measure("images", ImagePair(ones * 0.3, ones * 0.3, 1.0))
    assert (same["mae"], same["nrmse"], same["psnr"]) == (0.0, 0.0, float("inf"))
    assert same["ssim"] == pytest.approx(1.0)
    assert same["nmi"] is None


def test_pairs_that_can_not_be_measured_say_why(a_pair):
    result, reference = a_pair.result.copy(), a_pair.reference
    with pytest.raises(ValueError, match="data range is 0"):
        ImagePair(result, reference, 0.0)
    with pytest.raises(ValueError, match="mask is empty"):
        ImagePair(result, reference, 1.0, np.zeros(reference.shape, bool))
    result[3, 4, 5] = np.nan
    with pytest.raises(ValueError, match=r"1 of the \d+ voxels of the result are not finite"):
        ImagePair(result, reference, 1.0)
    inside = np.ones(reference.shape, bool)
    inside[3, 4, 5] = False
    assert np.isfinite(similarity.ssim(ImagePair(result, reference, 1000.0, inside)))


def test_spread_of_a_segment_is_that_of_a_sample():
    segment, other = quality.Segment(np.array([1, 2, 3, 4], np.int16)), np.array([7.0, 9.0])
    assert quality.deviation(segment) == pytest.approx((5 / 3) ** 0.5)
    assert quality.snr(segment) == pytest.approx(2.5 / (5 / 3) ** 0.5)
    assert quality.cnr(quality.Segment(segment.voxels, other)) == pytest.approx(5.5 / ((5 / 3 + 2) / 2) ** 0.5)


def test_every_metric_says_its_formula_and_kernel():
    said = infos("images")
    assert "11 voxels" in said["ssim"].description
    assert "sigma 1.5" in said["ssim"].description
    assert "K1 0.01" in said["ssim"].description
    assert "robust range" in said["data_range"].description
    for kind in METRICS:
        for name, info in infos(kind).items():
            assert len(info.description) > 15, name
            assert info.better in ("higher", "lower", "")
