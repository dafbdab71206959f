"""The steps of a segmentation one by one: grids, pieces, groups, uncertainty, and what bundles say."""

from __future__ import annotations

import json

import monai.transforms
import numpy as np
import pytest
import torch
from monai.networks.nets import UNet

import phantoms
from medgan import freesurfer
from medgan.bundle import ModelError, read_card
from medgan.parts import STRUCTURES, values
from medgan.segmentation.coarse import channels_of, groups_of
from medgan.segmentation.description import Description, Intensities, Part, describe
from medgan.segmentation.grid import Grid, resampled, working_grid
from medgan.segmentation.intensities import body_box, in_unit_of_network, normalised, windowed
from medgan.segmentation.network import exclusive, partners
from medgan.segmentation.orientation import axes_of
from medgan.segmentation.pieces import cleaned, filled
from medgan.segmentation.result import entropy, indices_on, measures, values_of
from medgan.settings import Device, SegmentSettings
from medgan.tasks.segment import grouped, run
from medgan.volume import Label, Volume
from segment_models import zoo_bundle

GRID = Grid((9, 11, 13), phantoms.awkward_geometry())


def places(grid: Grid) -> np.ndarray:
    """RAS of every voxel centre, (3, k, j, i)."""
    k, j, i = np.indices(grid.shape)
    return np.tensordot(grid.ijk_to_ras[:3, :3], np.stack([i, j, k]), 1) + grid.ijk_to_ras[:3, 3, None, None, None]


def test_working_grid_runs_along_the_patient_and_holds_every_voxel():
    grid = working_grid(GRID, (1.0, 1.5, 2.0), "LPS")
    assert grid.ijk_to_ras[:3, :3] == pytest.approx(np.diag([-1.0, -1.5, 2.0]))
    inside = np.linalg.inv(grid.ijk_to_ras) @ np.vstack([places(GRID).reshape(3, -1), np.ones(np.prod(GRID.shape))])
    assert (inside[:3] >= -0.5).all()
    last = np.array(grid.shape[::-1])[:, None] - 0.5
    assert (inside[:3] <= last).all()


def test_linear_intensities_stay_linear_on_another_grid():
    slope = np.array([2.0, -1.0, 0.5])
    there = np.tensordot(slope, places(GRID), 1)
    grid = working_grid(GRID, (1.0, 1.0, 1.0), "RAS")
    result = resampled(there.astype(np.float32), GRID, grid, fill=np.nan)
    inner = np.isfinite(resampled(np.ones(GRID.shape), GRID, grid, np.nan))
    source = np.linalg.inv(GRID.ijk_to_ras) @ np.vstack([places(grid).reshape(3, -1), np.ones(np.prod(grid.shape))])
    last = np.array(GRID.shape[::-1])[:, None] - 3.5
    deep = ((source[:3] > 2.5) & (source[:3] < last)).all(axis=0).reshape(grid.shape)
    assert deep.sum() > 50
    assert result[deep] == pytest.approx(np.tensordot(slope, places(grid), 1)[deep], abs=1e-3)
    assert 0.2 < inner.mean() < 1.0, "the corners lie outside of the scan"


def test_reordering_copies_voxels_exactly():
    array = np.random.default_rng(0).random(GRID.shape).astype(np.float32)
    grid = working_grid(GRID, None, "RAS")
    directions = grid.ijk_to_ras[:3, :3] / np.linalg.norm(grid.ijk_to_ras[:3, :3], axis=0)
    assert (np.diag(directions) > 0.5).all()
    there = resampled(array, GRID, grid)
    assert sorted(there.ravel()) == sorted(array.ravel())
    assert np.array_equal(resampled(there, grid, GRID), array)
    part = grid.box((slice(1, 5), slice(2, 6), slice(0, 4)))
    assert np.array_equal(resampled(there[1:5, 2:6, 0:4], part, grid)[1:5, 2:6, 0:4], there[1:5, 2:6, 0:4])


def test_coarser_grid_averages_instead_of_skipping():
    noise = np.random.default_rng(0).normal(0, 1, (48, 48, 48))
    fine = Grid(noise.shape, np.diag([1.0, 1.0, 1.0, 1.0]))
    assert resampled(noise, fine, working_grid(fine, (4.0, 4.0, 4.0), "RAS")).std() < 0.2


def test_orientation_is_checked():
    assert axes_of("ras") == pytest.approx(np.eye(3))
    for wrong in ("RAX", "RLS", "RA", "RAA"):
        with pytest.raises(ValueError, match="is no orientation"):
            axes_of(wrong)


def blobs() -> np.ndarray:
    """(3, 8, 8, 24) probabilities: label 1 in a large, a middle and a tiny piece; label 2 is next best in the last."""
    first = np.zeros((8, 8, 24), np.float32)
    first[2:6, 2:6, 2:8] = 0.8
    first[2:5, 2:5, 11:14] = 0.8
    first[3, 3, 20] = 0.6
    second = np.zeros_like(first)
    second[3, 3, 20] = 0.3
    return np.stack([1 - first - second, first, second])


def parts(one_piece: bool) -> list[Part]:
    return [Part(5, Label("one"), one_piece), Part(6, Label("two"))]


def test_a_structure_of_one_piece_keeps_its_largest():
    probabilities = blobs()
    labels, changed = cleaned(probabilities, parts(True), 0)
    assert (labels == 1).sum() == 4 * 4 * 6
    assert labels[3, 3, 20] == 2, "the next best label takes the piece"
    assert labels[3, 3, 12] == 0
    assert changed == 27 + 1
    assert probabilities.sum(axis=0) == pytest.approx(np.ones((8, 8, 24)))
    assert probabilities[:, 3, 3, 20] == pytest.approx([0.25, 0.0, 0.75]), "else interpolation brings it back"


def test_a_piece_that_fits_nowhere_becomes_background():
    """It is given to a structure of one piece, too, which has its own elsewhere."""
    probabilities = np.zeros((3, 4, 4, 20), np.float32)
    probabilities[1, ..., :6] = probabilities[2, ..., 8:14] = 1.0
    probabilities[1:, 1, 1, 17] = 0.4, 0.6
    probabilities[0] = 1.0 - probabilities[1:].sum(axis=0)
    labels, changed = cleaned(probabilities, [Part(n, Label(f"{n}"), one_piece=True) for n in (5, 6)], 0)
    assert labels[1, 1, 17] == 0
    assert ((labels == 1).sum(), (labels == 2).sum(), changed) == (96, 96, 1)


def test_a_structure_of_many_pieces_loses_only_tiny_ones():
    labels, changed = cleaned(blobs(), parts(False), 5)
    assert (labels == 1).sum() == 4 * 4 * 6 + 27
    assert labels[3, 3, 20] == 2
    assert changed == 1


def test_enclosed_background_is_filled():
    probabilities = np.zeros((3, 4, 9, 9), np.float32)
    probabilities[0] = 1.0
    probabilities[:2, :, 2:7, 2:7] = np.array([0.0, 1.0])[:, None, None, None]
    probabilities[:2, :, 4, 4] = np.array([1.0, 0.0])[:, None]  # open at both ends, as lungs at the end of a scan
    assert filled(probabilities, 2) == 4
    labels = probabilities.argmax(axis=0)
    assert (labels[:, 4, 4] == 2).all()
    assert (labels == 2).sum() == 4
    assert (labels == 1).sum() == 4 * 24


def test_labels_follow_probabilities_to_another_grid():
    working = Grid((8, 8, 24), np.diag([1.0, 1.0, 1.0, 1.0]))
    probabilities = blobs()
    assert np.array_equal(indices_on(probabilities, working, working), probabilities.argmax(axis=0))
    matrix = np.diag([0.5, 0.5, 0.5, 1.0])
    matrix[:3, 3] = -0.25
    fine = indices_on(probabilities, working, Grid((16, 16, 48), matrix))
    assert (fine == 1).sum() == pytest.approx(8 * (96 + 27), rel=0.25)
    far = np.diag([1.0, 1.0, 1.0, 1.0])
    far[0, 3] = 500.0
    assert not indices_on(probabilities, working, Grid((4, 4, 4), far)).any()
    for value in (255, 256, 65535, 65536, 70000):
        made = values_of(np.array([0, 1, 2]), [Part(value, Label("a")), Part(3, Label("b"))])
        assert made.tolist() == [0, value, 3]


def test_voxels_without_a_number_count_in_the_volume_of_a_label_and_not_in_its_mean():
    array = np.array([[[np.nan, 2.0, 4.0, np.nan, np.inf, 9.0]]], np.float32)
    labels = np.array([[[1, 1, 1, 2, 2, 0]]], np.uint8)
    table = {1: Label("some"), 2: Label("none"), 3: Label("nowhere")}
    rows = measures(labels, Volume(array, np.diag([10.0, 10.0, 20.0, 1.0])), table, np.full(labels.shape, 0.25))
    assert [row["voxels"] for row in rows] == [3, 2, 0]
    assert [row["volume_ml"] for row in rows] == pytest.approx([6.0, 4.0, 0.0])
    assert [(row["mean"], row["sd"]) for row in rows] == [(3.0, 1.0), (None, None), (None, None)]
    assert [row["uncertainty"] for row in rows] == [0.25, 0.25, None]


def test_in_thick_slices_the_answer_at_the_middle_of_the_slice_counts():
    working = Grid((10, 4, 4), np.eye(4))
    probabilities = np.zeros((3, 10, 4, 4), np.float32)
    probabilities[1], probabilities[2, 2], probabilities[1, 2] = 1.0, 1.0, 0.0  # one plane alone says otherwise
    thick = np.diag([1.0, 1.0, 5.0, 1.0])
    thick[2, 3] = 2.0
    labels = indices_on(probabilities, working, Grid((2, 4, 4), thick))
    assert (labels[0] == 2).all()
    assert (labels[1] == 1).all()


def test_entropy_by_hand():
    probabilities = np.array([[1.0, 0.5, 1 / 3], [0.0, 0.5, 1 / 3], [0.0, 0.0, 1 / 3]]).reshape(3, 1, 1, 3)
    assert entropy(probabilities).ravel() == pytest.approx([0.0, np.log(2) / np.log(3), 1.0], abs=1e-6)


def test_groups_add_up_probabilities():
    found = grouped(np.array([0.4, 0.25, 0.05, 0.3]).reshape(4, 1, 1, 1), [[0, 2], [1]])
    assert found.ravel() == pytest.approx([0.4, 0.55, 0.05])


def test_brain_structures_have_a_coarse_variant():
    brain = Description(tuple(Part(value, Label(str(value))) for value in values()[1:]))
    groups = groups_of(brain, "brain")
    assert [group.part.label.name for group in groups] == [
        "CSF", "grey matter", "white matter", "skull", "other tissue of the head",
    ]  # fmt: skip
    members = channels_of(groups, brain)
    assert sorted(n for group in members for n in group) == list(range(len(values()) - 1)), "each in one group"
    named = {value: s.coarse for s in STRUCTURES[1:] for value in (s.left, s.right)}
    for group, name in zip(groups, ("CSF", "grey matter", "white matter", "skull", "rest"), strict=True):
        assert {named[value] for value in group.members} == {name}


def test_codes_of_freesurfer_have_a_coarse_variant():
    table = freesurfer.table().labels
    codes = (2, 3, 4, 31, 63, 85, 514, 515)
    groups = groups_of(Description(tuple(Part(code, table[code]) for code in codes)), "aseg")
    found = {group.part.label.name: group.members for group in groups}
    assert found == {
        "CSF": (4, 31, 63), "grey matter": (3,), "white matter": (2, 85), "skull": (515,),
        "other tissue of the head": (514,),
    }  # fmt: skip


def test_label_values_have_a_type_that_slicer_shows():
    indices = np.array([0, 1])
    for value, kind in ((255, np.uint8), (530, np.int16), (40000, np.int32)):
        values = values_of(indices, [Part(value, Label("one"))])
        assert (values.dtype, values.tolist()) == (kind, [0, value])


def test_sides_are_found_by_name():
    names = ["Left-Thalamus", "kidney_right", "Brain-Stem", "Right Thalamus", "kidney_left"]
    assert partners([Part(n + 1, Label(name)) for n, name in enumerate(names)]) == [3, 4, 2, 0, 1]


def test_overlapping_answers_give_way_to_the_smaller_structure():
    whole = np.zeros((2, 2, 8), np.float32)
    whole[..., :6] = 0.9
    core = np.zeros_like(whole)
    core[..., :2] = 0.8
    described = Description((Part(1, Label("whole")), Part(2, Label("core"))), background=False, activation="sigmoid")
    labels = exclusive(np.stack([whole, core]), described)
    assert labels.sum(axis=0) == pytest.approx(np.ones(whole.shape))
    assert labels.argmax(axis=0)[0, 0].tolist() == [2, 2, 1, 1, 1, 1, 0, 0]


def test_intensities_by_hand():
    array = np.linspace(-1000, 1000, 20_001).reshape(1, 1, -1)
    percentiles = normalised(array, Intensities("percentiles"))
    assert float(np.interp(0.5, percentiles[0, 0], array[0, 0])) == pytest.approx(0, abs=1)
    assert percentiles.min() == 0
    assert (percentiles == 0).mean() == pytest.approx(0.005, abs=1e-4)
    window = normalised(array, Intensities("hounsfield", (-100.0, 300.0)))
    assert window[0, 0, [0, 9000, 11000, -1]].tolist() == pytest.approx([0.0, 0.0, 0.5, 1.0], abs=1e-3)
    standard = normalised(array, Intensities("z-score"))
    assert (standard.mean(), standard.std()) == pytest.approx((0.0, 1.0), abs=1e-4)
    brain = Intensities("percentiles", ct_window=(-100.0, 150.0))
    assert windowed(array, brain).min() == -100
    assert windowed(array + 1000, brain).min() == 0, "no CT: left as it is"


def test_body_is_found_in_noise():
    rng = np.random.default_rng(0)
    array = np.zeros((60, 70, 80))
    array[20:50, 16:40, 30:60] = 800
    noisy = np.hypot(array + rng.normal(0, 90, array.shape), rng.normal(0, 90, array.shape))
    box = body_box(noisy, Grid(array.shape, np.diag([2.0, 2.0, 2.0, 1.0])))
    wanted = ((20, 50), (16, 40), (30, 60))
    for part, (first, last), side in zip(box, wanted, array.shape, strict=True):
        assert max(0, first - 13) <= part.start <= max(0, first - 5)
        assert min(side, last + 5) <= part.stop <= min(side, last + 13)
    assert body_box(np.ones((9, 9, 9)), Grid((9, 9, 9), np.eye(4))) == (slice(0, 9),) * 3


def test_zoo_bundle_is_read_and_none_of_its_code_runs(tmp_path):
    described = describe(read_card(zoo_bundle(tmp_path / "zoo")))
    assert [(part.value, part.label.name) for part in described.parts] == [(1, "liver"), (2, "tumour")]
    assert described.spacing_mm == (2.0, 2.0, 2.0)
    assert described.orientation == "RAS"
    window = {"a_min": -100, "a_max": 300, "b_min": 0.0, "b_max": 1.0, "clip": True}
    assert described.intensities == Intensities("MONAI", transforms=(("ScaleIntensityRange", window),))
    assert (described.intensities.of_the_body, described.notes) == (True, ())
    assert (described.axes, described.background, described.activation) == ("ijk", True, "softmax")
    overlapping = describe(read_card(zoo_bundle(tmp_path / "brats", sigmoid=True, **{"0": "core", "1": "whole"})))
    assert [part.label.name for part in overlapping.parts] == ["core", "whole", "label 3"]
    assert not overlapping.background


@pytest.mark.parametrize(
    ("transforms", "left_out"),
    [
        ({"NormalizeIntensity": {"nonzero": True}, "ScaleIntensity": {"minv": -1.0, "maxv": 1.0}}, ""),
        ({"ScaleIntensityRangePercentiles": {"lower": 5, "upper": 95, "b_min": -1, "b_max": 1, "relative": True}}, ""),
        ({"NormalizeIntensity": {"subtrahend": 100, "divisor": 50}}, ""),
        ({"ScaleIntensityRange": {"a_min": -100, "a_max": 300}, "NormalizeIntensity": {"channel_wise": True}}, ""),
        ({"ClipIntensityPercentiles": {"lower": 2, "upper": 98}, "ThresholdIntensity": {"threshold": 0}}, ""),
        ({"Lambda": {"func": "$abs"}, "NormalizeIntensity": {"nonzero": False}}, "'Lambda' is not known here"),
        ({"ShiftIntensity": {"offset": 9}, "ScaleIntensity": {"maxv": 9.0}}, "'ShiftIntensity' is not known here"),
    ],
)
def test_intensities_of_a_zoo_bundle_are_those_of_its_transforms(tmp_path, transforms, left_out):
    """Compared with MONAI's own for dictionaries; two channels, of which it takes the statistics together."""
    said = [{"_target_": f"{name}d", "keys": "image", **arguments} for name, arguments in transforms.items()]
    described = describe(read_card(zoo_bundle(tmp_path / "zoo", channels=2, intensities=said)))
    image = np.random.default_rng(5).normal(60, 200, (2, 9, 10, 11)).astype(np.float32)
    image[:, :3] = 0
    expected = {"image": image.copy()}
    for name, arguments in transforms.items():
        if f"'{name}'" not in left_out:
            expected = getattr(monai.transforms, f"{name}d")("image", **arguments)(expected)
    found = in_unit_of_network(list(image), described.intensities)
    assert found == pytest.approx(np.asarray(expected["image"]), abs=1e-5)
    assert left_out in " ".join(described.notes)
    assert bool(described.notes) == bool(left_out)


def test_intensities_that_are_written_as_code_are_left_out_and_told(tmp_path):
    said = [
        {"_target_": "ScaleIntensityRanged", "keys": "image", "a_min": "@low", "a_max": 300, "b_min": 0, "b_max": 1}
    ]
    described = describe(read_card(zoo_bundle(tmp_path / "zoo", intensities=said)))
    assert described.notes == (
        "The model's transform 'ScaleIntensityRange' was left out: its 'a_min' could not be read.",
        "The model's intensities could not be read; 0 to 1 by percentiles is assumed.",
    )


@pytest.mark.parametrize("said", ["@steps", "$@steps", ["@none", "@steps"], ["$@steps", "@circle"], "$@none + @steps"])
def test_intensities_of_a_zoo_bundle_are_read_from_a_list_of_another_name(tmp_path, said):
    bundle = zoo_bundle(tmp_path / "zoo")
    expected = describe(read_card(bundle)).intensities
    file = bundle / "configs" / "inference.json"
    config = json.loads(file.read_text())
    steps, config["preprocessing"]["transforms"] = config["preprocessing"]["transforms"], said
    file.write_text(json.dumps({"steps": steps, "circle": ["@circle"], **config}))
    described = describe(read_card(bundle))
    assert (described.intensities, described.notes) == (expected, ())


def test_zoo_network_gives_what_monai_gives(tmp_path):
    """MONAI's axes are i, j, k; the answer of the network on the volume as MONAI would load it."""
    bundle = zoo_bundle(tmp_path / "zoo")
    array = np.random.default_rng(1).uniform(-100, 300, (32, 32, 64)).astype(np.float32)
    volume = Volume(array, np.diag([2.0, 2.0, 2.0, 1.0]))
    settings = SegmentSettings(str(bundle), clean_up=False, device=Device.CPU)
    labels = run({"volume": volume}, settings).volumes["labels"].array
    network = UNet(spatial_dims=3, in_channels=1, out_channels=3, channels=(4, 8), strides=(2,)).eval()
    network.load_state_dict(torch.load(bundle / "models" / "model.pt", weights_only=True)["model"])
    image = torch.from_numpy((array.transpose(2, 1, 0) + 100) / 400)[None, None]
    with torch.inference_mode():
        expected = network(image).argmax(1)[0].numpy().transpose(2, 1, 0)
    assert len(np.unique(expected)) > 1
    assert (labels == expected).mean() > 0.999


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"labels": []}, "names no labels"),
        ({"labels": [{"index": 2, "name": "x"}]}, "indices 1, 2, 3"),
        ({"labels": [{"index": 1, "value": 0}]}, "label values must differ"),
        ({"labels": [{"index": 1, "value": 10**12}]}, "label values must be 2147483647 at most"),
        ({"normalise": "magic"}, "'normalise' must be one of percentiles"),
        ({"orientation": "UP"}, "'UP' is no orientation"),
        ({"spacing_mm": [1, 0, 1]}, "three numbers above zero"),
        ({"labels": "none"}, "can not be read"),
    ],
)
def test_what_a_bundle_says_wrong_is_named(tmp_path, change, sentence):
    folder = zoo_bundle(tmp_path / "zoo")
    ours = {
        "task": "segment",
        "network": "UNet",
        "weights": {"faithful": {"file": "models/model.pt", "sha256": "0" * 64}},
        "labels": [{"index": 1, "name": "a"}],
    }
    path = folder / "configs" / "metadata.json"
    path.write_text(json.dumps({"medgan": {**ours, **change}}))
    with pytest.raises(ModelError, match=sentence):
        describe(read_card(folder))


def test_network_with_another_number_of_answers_is_refused(tmp_path):
    bundle = zoo_bundle(tmp_path / "zoo", outputs=3)
    config = json.loads((bundle / "configs" / "metadata.json").read_text())
    config["medgan"] = {
        "task": "segment",
        "network": "UNet",
        "network_arguments": {
            "spatial_dims": 3,
            "in_channels": 1,
            "out_channels": 3,
            "channels": [4, 8],
            "strides": [2],
        },
        "weights": {"faithful": {"file": "models/model.pt", "sha256": ""}},
        "labels": [{"index": 1, "name": "a"}],
    }
    from medgan.models import sha256_of

    config["medgan"]["weights"]["faithful"]["sha256"] = sha256_of(bundle / "models" / "model.pt")
    (bundle / "configs" / "metadata.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="do not belong together"):
        run(
            {"volume": Volume(np.indices((32, 32, 32))[0] / 31.0, np.eye(4))},
            SegmentSettings(str(bundle), device=Device.CPU),
        )
