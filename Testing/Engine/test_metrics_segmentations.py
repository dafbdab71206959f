"""The figures of segments are those of MONAI in mm, also for oblong voxels, at borders and for empty labels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.metrics import (
    ConfusionMatrixMetric,
    DiceMetric,
    compute_average_surface_distance,
    compute_hausdorff_distance,
    compute_surface_dice,
)
from scipy import ndimage

from medgan.evaluation import overlap
from medgan.evaluation.overlap import MaskPair
from medgan.metrics import measure

pytestmark = pytest.mark.filterwarnings("ignore:.*always_return_as_numpy")  # MONAI's own affair

AGREE = 1e-4
ONE = (1.0, 1.0, 1.0)
SPACING = (2.3, 1.1, 0.7)


def blob(seed: int, shape=(17, 23, 29), threshold=0.15) -> np.ndarray:
    """A ragged random segment that also touches borders."""
    noise = np.random.default_rng(seed).normal(size=shape)
    return ndimage.gaussian_filter(noise, 2.0) > threshold * 0.3


def ball(radius=20.0, centre=(49, 49, 49), spacing=ONE, side=99) -> np.ndarray:
    """The spheres of MONAI's tests: voxels within ``radius`` of ``centre``, both in mm."""
    places = np.ogrid[:side, :side, :side]
    return sum((p * s - c) ** 2 for p, s, c in zip(places, spacing, centre, strict=True)) <= radius**2


def batch(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array.astype(np.float32))[None, None]


@pytest.mark.parametrize("seeds", [(0, 1), (2, 3), (4, 4)])
@pytest.mark.parametrize("spacing", [ONE, SPACING])
def test_distances_agree_with_monai(seeds, spacing):
    result, reference = blob(seeds[0]), blob(seeds[1])
    found = measure("segmentations", MaskPair(result, reference, spacing, 1.5))
    ours, theirs = batch(result), batch(reference)
    hd95 = compute_hausdorff_distance(ours, theirs, include_background=True, percentile=95, spacing=spacing)
    assert found["hd95"] == pytest.approx(float(hd95), abs=AGREE)
    assd = compute_average_surface_distance(ours, theirs, include_background=True, symmetric=True, spacing=spacing)
    assert found["assd"] == pytest.approx(float(assd), abs=AGREE)
    nsd = compute_surface_dice(ours, theirs, [1.5], include_background=True, spacing=spacing)
    assert found["nsd"] == pytest.approx(float(nsd), abs=AGREE)


def test_counts_agree_with_monai():
    result, reference = blob(5), blob(6)
    found = measure("segmentations", MaskPair(result, reference, SPACING))
    names = ["sensitivity", "specificity", "precision"]
    peer = ConfusionMatrixMetric(metric_name=names)
    peer(batch(result), batch(reference))
    for name, expected in zip(names, peer.aggregate(), strict=True):
        assert found[name] == pytest.approx(float(expected), abs=AGREE)
    dice = DiceMetric()(batch(result), batch(reference))
    assert found["dice"] == pytest.approx(float(dice), abs=AGREE)


def test_distances_are_those_worked_out_by_hand():
    """Two plates one voxel thick, 3 voxels of 2.3 mm apart; the nearest voxel is straight above."""
    result, reference = np.zeros((9, 6, 6), bool), np.zeros((9, 6, 6), bool)
    result[2, 1:5, 1:5] = True
    reference[5, 1:5, 1:5] = True
    found = measure("segmentations", MaskPair(result, reference, SPACING, 7.0))
    assert found["hd95"] == found["assd"] == pytest.approx(6.9)
    assert found["nsd"] == 1.0
    assert overlap.nsd(MaskPair(result, reference, SPACING, 6.8)) == 0.0
    assert found["dice"] == 0.0


@pytest.mark.parametrize("rounded", [np.float32(0.2), 0.2000004, 0.1999996])
def test_tolerance_of_one_voxel_holds_whatever_a_header_rounds(rounded):
    result, reference = np.zeros((20, 20, 20), bool), np.zeros((20, 20, 20), bool)
    reference[6:14, 6:14, 6:14], result[5:15, 5:15, 5:15] = True, True
    exact = overlap.nsd(MaskPair(result, reference, (0.2, 0.2, 0.2), 0.2))
    assert exact > 0.8  # all but the edges
    assert overlap.nsd(MaskPair(result, reference, (float(rounded),) * 3, 0.2)) == exact


def test_distances_along_sheared_axes_are_those_in_the_patient():
    """Plates of 5 mm slices that a gantry tilted by 25 degrees shifts against each other."""
    result, reference = np.zeros((6, 40, 4), bool), np.zeros((6, 40, 4), bool)
    result[1, 2:38], reference[3, 2:38] = True, True
    axes = np.array([[0, 5 * np.tan(np.radians(25)), 5], [0, 1, 0], [1, 0, 0]])
    shift = 10 * np.tan(np.radians(25)) - 5  # of the voxel five rows back, the nearest one but at the ends
    found = MaskPair(result, reference, np.linalg.norm(axes, axis=1), 10.1, axes)
    assert overlap.nsd(found) == pytest.approx(1 - 8 / 72)  # four rows at one end of each
    assert float(np.median(found.distances_mm[0])) == pytest.approx(np.hypot(10, shift))


def test_volume_differences_are_in_ml_and_percent():
    result, reference = np.zeros((10, 10, 10), bool), np.zeros((10, 10, 10), bool)
    result[:5, :4, :5] = True  # 100 voxels of 2 mm³
    reference[:5, :5, :5] = True
    found = measure("segmentations", MaskPair(result, reference, (2.0, 1.0, 1.0)))
    assert found["volume_difference"] == pytest.approx(-0.05)
    assert found["volume_difference_percent"] == pytest.approx(-20.0)
    assert found["volume_error_percent"] == pytest.approx(20.0)


def test_empty_labels_have_a_defined_meaning():
    nothing, something = np.zeros((4, 5, 6), bool), np.zeros((4, 5, 6), bool)
    something[1, 2, 3] = True
    diagonal = float(np.hypot(np.hypot(4 * 2.3, 5 * 1.1), 6 * 0.7))
    both = measure("segmentations", MaskPair(nothing, nothing, SPACING))
    assert (both["dice"], both["nsd"], both["hd95"], both["assd"]) == (1.0, 1.0, 0.0, 0.0)
    assert (both["sensitivity"], both["precision"], both["volume_difference_percent"]) == (None, None, None)
    missed = measure("segmentations", MaskPair(nothing, something, SPACING))
    assert (missed["dice"], missed["nsd"], missed["sensitivity"], missed["precision"]) == (0.0, 0.0, 0.0, 0.0)
    assert missed["hd95"] == missed["assd"] == pytest.approx(diagonal)
    invented = measure("segmentations", MaskPair(something, nothing, SPACING))
    assert (invented["dice"], invented["nsd"], invented["precision"], invented["sensitivity"]) == (0.0, 0.0, 0.0, None)
    assert invented["hd95"] == pytest.approx(diagonal)
    assert invented["specificity"] == pytest.approx(119 / 120)


def test_single_slice_is_measured_as_a_plane():
    result, reference = blob(7, (1, 40, 41)), blob(8, (1, 40, 41))
    found = measure("segmentations", MaskPair(result, reference, SPACING))
    flat = batch(result[0]), batch(reference[0])
    hd95 = compute_hausdorff_distance(*flat, include_background=True, percentile=95, spacing=SPACING[1:])
    assert found["hd95"] == pytest.approx(float(hd95), abs=AGREE)


TEST_SPACING = (0.85, 1.2, 0.9)
HAUSDORFF_CASES = [
    (ball(), ball(), ONE, 100, 0.0),
    (ball(20, (20, 20, 20)), ball(20, (19, 19, 19)), ONE, 100, 1.7320508),
    (ball(33, (19, 33, 22)), ball(33, (20, 33, 22)), ONE, 100, 1.0),
    (ball(20, (20, 33, 22)), ball(40, (20, 33, 22)), ONE, 100, 20.22374842),
    (ball(20, (20, 33, 22)), ball(40, (20, 33, 22)), ONE, 95, 20.09975124),
    (ball(20, (20,) * 3, TEST_SPACING), ball(20, (19,) * 3, TEST_SPACING), TEST_SPACING, 100, 2.2671568),
    (ball(15, (20, 33, 22), TEST_SPACING), ball(30, (20, 33, 22), TEST_SPACING), TEST_SPACING, 100, 15.62594),
]


@pytest.mark.parametrize("case", range(len(HAUSDORFF_CASES)))
def test_monai_cases_of_the_hausdorff_distance(case):
    """Its undirected values: the larger of both directions."""
    result, reference, spacing, percentile, expected = HAUSDORFF_CASES[case]
    assert overlap.hausdorff(MaskPair(result, reference, spacing), percentile) == pytest.approx(expected, abs=AGREE)


@pytest.mark.parametrize(
    ("result", "reference", "spacing", "expected"),
    [
        (ball(), ball(), ONE, 0.0),
        (ball(33, (19, 33, 22)), ball(33, (20, 33, 22)), ONE, 0.350217),
        (ball(20, (20, 33, 22)), ball(40, (20, 33, 22)), ONE, 15.117741),
        (ball(33, (42, 45, 52), TEST_SPACING), ball(33, (43, 45, 52), TEST_SPACING), TEST_SPACING, 0.4951),
    ],
    ids=range(4),
)
def test_monai_cases_of_the_surface_distance(result, reference, spacing, expected):
    assert overlap.assd(MaskPair(result, reference, spacing)) == pytest.approx(expected, abs=AGREE)


@pytest.mark.parametrize(("tolerance", "equal"), [(0.0, True), (9.0, False), (12.0, None)])
@pytest.mark.parametrize("background", [False, True])
def test_monai_cases_of_surface_dice_in_a_plane(tolerance, equal, background):
    """Half planes of 480 x 640 pixels of 0.85 x 1.2 mm, ten columns apart; the known share is that at tolerance 0."""
    result, reference = np.zeros((1, 480, 640), bool), np.zeros((1, 480, 640), bool)
    result[0, :, 50:], reference[0, :, 60:] = True, True
    if background:
        result, reference = ~result, ~reference
        at_zero = 1 - (478 + 480 + 9 * 2) / (480 * 4 + 48 * 2 + 58 * 2)
    else:
        at_zero = 1 - (478 + 480 + 9 * 2) / (480 * 4 + 588 * 2 + 578 * 2)
    found = overlap.nsd(MaskPair(result, reference, (5.0, 0.85, 1.2), tolerance))
    if equal is None:
        assert found == 1.0
    elif equal:
        assert found == pytest.approx(at_zero, abs=AGREE)
    else:
        assert at_zero < found < 1.0


def test_monai_case_of_surface_dice_in_a_volume():
    result, reference = np.zeros((200, 110, 80), bool), np.zeros((200, 110, 80), bool)
    result[:, :, 20:], reference[:, :, 30:] = True, True
    moved = 200 * 110 + 198 * 108 + 9 * 200 * 2 + 9 * 108 * 2
    expected = 1 - moved / (200 * 110 * 4 + (58 + 48) * 200 * 2 + (58 + 48) * 108 * 2)
    pair = MaskPair(result, reference, ONE, 0.0)
    assert overlap.nsd(pair) == pytest.approx(expected, abs=AGREE)
    pair.tolerance_mm = 10.0
    assert overlap.nsd(pair) == 1.0


@pytest.mark.parametrize(("tolerance", "expected"), [(0.0, 0.0), (5.5, 1 - 4 / 6), (6.0, 1 - 2 / 6)])
def test_monai_case_of_surface_dice_of_two_bars(tolerance, expected):
    result, reference = np.zeros((1, 10, 10), bool), np.zeros((1, 10, 10), bool)
    result[0, 1:4, 1], reference[0, 5:8, 6] = True, True
    assert overlap.nsd(MaskPair(result, reference, ONE, tolerance)) == pytest.approx(expected, abs=AGREE)


def test_monai_cases_of_dice():
    """One image of 2 x 2 pixels, and three channels of two images; and all zeros or ones."""

    def dice(result, reference) -> float:
        pair = [np.array(array, bool).reshape(1, *np.shape(array)) for array in (result, reference)]
        return overlap.dice(MaskPair(*pair, ONE))

    assert dice([[1, 0], [0, 1]], [[1, 0], [1, 1]]) == pytest.approx(0.8)
    assert dice([[0, 0], [1, 1]], [[1, 0], [1, 0]]) == pytest.approx(0.5)
    assert dice([[1, 0], [0, 0]], [[0, 1], [0, 0]]) == 0.0
    assert dice([[1, 0], [0, 0]], [[1, 1], [0, 0]]) == pytest.approx(0.6667, abs=AGREE)
    assert dice([[0, 1], [1, 0]], [[0, 0], [1, 0]]) == pytest.approx(0.6667, abs=AGREE)
    assert dice([[1, 1], [1, 0]], [[1, 1], [1, 1]]) == pytest.approx(0.857143, abs=AGREE)
    assert dice(np.zeros((3, 3)), np.zeros((3, 3))) == 1.0
    assert dice(np.ones((3, 3)), np.zeros((3, 3))) == 0.0


def test_monai_cases_of_the_confusion_matrix():
    """Its means over two images of sensitivity, specificity and precision, for three channels."""
    result = np.array(
        [
            [[[0, 1], [0, 0]], [[0, 0], [1, 1]], [[1, 0], [0, 0]]],
            [[[0, 0], [0, 1]], [[1, 0], [0, 0]], [[0, 1], [1, 0]]],
        ],
        bool,
    )
    reference = np.array(
        [
            [[[0, 0], [0, 1]], [[1, 0], [1, 0]], [[0, 1], [0, 0]]],
            [[[0, 0], [0, 1]], [[1, 1], [0, 0]], [[0, 0], [1, 0]]],
        ],
        bool,
    )
    expected = {"sensitivity": (0.5, 0.5, 0.5), "specificity": (0.8333, 0.75, 0.6667), "precision": (0.5, 0.75, 0.25)}
    for name, values in expected.items():
        for channel, value in enumerate(values):
            found = [
                measure("segmentations", MaskPair(result[image, channel][None], reference[image, channel][None], ONE))
                for image in range(2)
            ]
            assert np.mean([each[name] for each in found]) == pytest.approx(value, abs=AGREE)
