"""Results in files find their references by name; what does not fit is a row with its reason."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

import phantoms
from medgan import labelfiles
from medgan.evaluation.many import evaluate_files, is_label_map, match, stem
from medgan.labels import merged, segmentation_of
from medgan.progress import Cancelled
from medgan.settings import EvaluateSettings, Figures
from medgan.volume import Label, LabelMap, Volume, write_volume

SHAPE = (12, 16, 14)
QUICK = EvaluateSettings(bootstrap=100, pictures=1)
IMAGES = EvaluateSettings(figures=Figures.IMAGES, bootstrap=100, pictures=1)
"""For phantoms without noise, which look like label maps."""


def clean(scale: float = 1.0) -> Volume:
    return Volume(phantoms.head(SHAPE) * scale, phantoms.awkward_geometry(), voxel_type="int16")


def noisy(sigma: float, seed: int, scale: float = 1.0) -> Volume:
    return clean().like(phantoms.rician(phantoms.head(SHAPE) * scale, sigma, seed), "float32")


def boxes(shift: int = 0) -> LabelMap:
    array = np.zeros(SHAPE, np.uint8)
    array[2:9, 3 + shift : 11 + shift, 2:12] = 4
    return LabelMap(array, phantoms.awkward_geometry(), {4: Label("liver")})


@pytest.fixture
def study(tmp_path) -> Path:
    """References p1, p2, p10 and two methods, of which one lacks p10 and has a volume that nobody asked for."""
    for folder in ("truth", "ours", "theirs"):
        (tmp_path / folder).mkdir()
    for number, name in enumerate(("p1", "p2", "p10")):
        write_volume(clean(1 + number), tmp_path / "truth" / f"{name}.nii.gz")
        write_volume(noisy(20, number, 1 + number), tmp_path / "ours" / f"{name}_enhanced.nrrd")
        if name != "p10":
            write_volume(noisy(60, number, 1 + number), tmp_path / "theirs" / f"{name}.nii.gz")
    write_volume(noisy(20, 0), tmp_path / "ours" / "p1_enhanced_difference.nrrd")
    write_volume(noisy(20, 0), tmp_path / "theirs" / "q7.nii.gz")
    return tmp_path


def test_folders_are_methods_and_files_belong_together_by_name(study):
    evaluation = evaluate_files([study / "ours", study / "theirs"], study / "truth", QUICK)
    assert evaluation.kind == "images"
    rows = {(row["case"], row["method"]): row for row in evaluation.rows}
    assert {case for case, _ in rows} == {"p1", "p2", "p10", "q7"}
    assert rows["p10", "ours"]["data_range"] == pytest.approx(3000.0, rel=0.01)
    assert rows["p2", "ours"]["psnr"] > rows["p2", "theirs"]["psnr"] + 5
    failed = {(row["case"], row["method"]): row["error"] for row in evaluation.failed}
    assert failed == {
        ("p10", "theirs"): "There is no result for 'p10'.",
        ("q7", "theirs"): "There is no reference called 'q7' for 'q7.nii.gz'.",
    }
    (test,) = [entry for entry in evaluation.comparisons if entry["metric"] == "psnr"]
    assert test["n"] == 2


def test_damaged_file_is_a_row_and_stops_no_other(study):
    (study / "theirs" / "p1.nii.gz").write_bytes(b"no volume")
    (study / "truth" / "p2.nii.gz").write_bytes(b"")
    evaluation = evaluate_files([study / "ours", study / "theirs"], study / "truth", QUICK)
    failed = {(row["case"], row["method"]): row["error"] for row in evaluation.failed}
    assert "not in NIfTI format" in failed["p1", "theirs"]
    assert "p2.nii.gz' is empty" in failed["p2", "ours"]
    assert failed["p2", "ours"] == failed["p2", "theirs"]
    measured = [(row["case"], row["method"]) for row in evaluation.rows if not row.get("error")]
    assert measured == [("p1", "ours"), ("p10", "ours")]


def test_several_files_against_one_are_methods(study):
    one, other = study / "ours" / "p1_enhanced.nrrd", study / "theirs" / "p1.nii.gz"
    evaluation = evaluate_files([one, other], study / "truth" / "p1.nii.gz", QUICK)
    assert [(row["case"], row["method"]) for row in evaluation.rows] == [("p1", "p1_enhanced"), ("p1", "p1")]
    assert not evaluation.failed


def test_files_of_several_folders_are_methods_in_any_order(study):
    files = [study / folder / name for name in ("p1", "p2") for folder in ("truth", "theirs")]
    files = [file.with_name(file.name + ".nii.gz") for file in files]
    evaluation = evaluate_files(files, study / "truth", IMAGES)
    assert [(row["case"], row["method"]) for row in evaluation.rows if not row.get("error")] == [
        ("p1", "truth"), ("p1", "theirs"), ("p2", "truth"), ("p2", "theirs"),
    ]  # fmt: skip


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_links_are_called_as_they_are_and_not_as_what_they_lead_to(study):
    (study / "net").symlink_to(study / "ours", target_is_directory=True)
    assert evaluate_files([study / "net"], study / "truth", QUICK).methods == ["net"]
    (study / "p1").symlink_to(study / "truth", target_is_directory=True)
    assert stem(study / "p1") == "p1"


def test_masks_and_inputs_are_found_by_name(study):
    (study / "masks").mkdir()
    for name in ("p1", "p2"):
        inside = np.zeros(SHAPE, np.uint8)
        inside[3:6] = 1
        write_volume(LabelMap(inside, phantoms.awkward_geometry()), study / "masks" / f"{name}_mask.nii.gz")
    whole = evaluate_files([study / "ours"], study / "truth", QUICK)
    evaluation = evaluate_files([study / "ours"], study / "truth", QUICK, mask=study / "masks", before=study / "theirs")
    rows = {(row["case"], row["method"]): row for row in evaluation.rows}
    assert rows["p1", "before"]["psnr"] < rows["p1", "ours"]["psnr"]
    assert rows["p1", "ours"]["psnr"] != whole.rows[0]["psnr"]
    assert "There is no file for 'p10'" in rows["p10", "ours"]["error"]
    assert "before" in evaluation.pictures[0].images


def test_label_maps_are_told_from_images(study, tmp_path):
    assert is_label_map(Volume(boxes().array, np.eye(4)))
    assert not is_label_map(noisy(20, 0))
    assert not is_label_map(Volume(np.rint(phantoms.rician(phantoms.head(), 20)), np.eye(4)))
    for folder, shift in (("labels", 0), ("net", 1)):
        (tmp_path / folder).mkdir()
        write_volume(boxes(shift), tmp_path / folder / "p1.npz")
    evaluation = evaluate_files([tmp_path / "net"], tmp_path / "labels", QUICK)
    assert evaluation.kind == "segmentations"
    assert evaluation.rows[0]["label"] == "liver"
    assert evaluation.rows[0]["dice"] == pytest.approx(7 / 8)
    assert any("'labels/p1.npz' and 'net/p1.npz' look like label maps" in message for message in evaluation.messages)
    write_volume(noisy(20, 0), tmp_path / "net" / "p1.npz")  # a drawn reference of an image
    images = evaluate_files([tmp_path / "net"], tmp_path / "labels", QUICK)
    assert images.kind == "images"
    assert any(
        "'labels/p1.npz' looks like a label map and 'net/p1.npz' does not, so images" in said
        for said in images.messages
    )
    forced = evaluate_files([tmp_path / "net"], tmp_path / "labels", EvaluateSettings(figures=Figures.IMAGES))
    assert forced.kind == "images"


def spots(radius: float, seed: int) -> np.ndarray:
    """Small balls with the labels 1 and 2, as lesions are."""
    array = np.zeros((40, 40, 40), np.float32)
    places = np.ogrid[:40, :40, :40]
    for number, middle in enumerate(np.random.default_rng(seed).integers(4, 36, (12, 3))):
        distance = sum((place - at) ** 2 for place, at in zip(places, middle, strict=True))
        array[distance <= radius**2] = 1 + number % 2
    return array


@pytest.mark.parametrize("radius", [0, 1, 1.5, 2, 3])
def test_small_and_thin_structures_are_labels(radius):
    assert is_label_map(Volume(spots(radius, 0), np.eye(4)))
    mask = 255 * (spots(radius, 0) > 0)
    mask[0, 0, 0] = -1
    assert is_label_map(Volume(mask, np.eye(4)))
    shell = ndimage.binary_dilation(mask) & (mask == 0)
    assert is_label_map(Volume(7 * shell, np.eye(4)))


def test_images_of_few_whole_numbers_are_no_labels():
    array = phantoms.rician(phantoms.head((32, 40, 40)), 30.0)
    for voxels in (np.rint(array / 4), np.rint(array / 4)[8:24, 12:28, 12:28], np.rint(array - 1000)):
        assert not is_label_map(Volume(voxels, np.eye(4)))
    assert not is_label_map(Volume(np.zeros(SHAPE) - 1000, np.eye(4)))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_images_with_repeated_slices_are_no_labels(axis):
    slices = np.rint(phantoms.rician(phantoms.head((32, 40, 40)), 30.0))
    assert not is_label_map(Volume(np.repeat(slices, 5, axis), np.eye(4)))
    layers = np.moveaxis(np.broadcast_to(np.arange(1, 21), (20, 20, 20)), 2, axis)
    assert is_label_map(Volume(layers.astype(np.float32), np.eye(4)))


@pytest.mark.parametrize("name", ["p1.seg.nrrd", "p1.nii.gz"])
def test_reference_that_says_it_holds_labels_makes_segmentations(tmp_path, name):
    """A result that looks like none is one that can not be measured, or is measured as what the reference says."""
    for folder in ("truth", "net"):
        (tmp_path / folder).mkdir()
    labelfiles.write(segmentation_of([boxes()])[0], tmp_path / "truth" / name)
    write_volume(noisy(20, 0), tmp_path / "net" / "p1.npz")
    evaluation = evaluate_files([tmp_path / "net"], tmp_path / "truth", QUICK)
    assert evaluation.kind == "segmentations"
    assert "not whole numbers" in evaluation.failed[0]["error"]
    assert f"'{name}' holds labels, so segmentations were measured." in evaluation.messages


def test_empty_label_map_before_the_others_does_not_make_them_images(tmp_path):
    for folder in ("labels", "net"):
        (tmp_path / folder).mkdir()
        write_volume(LabelMap(np.zeros(SHAPE, np.uint8), phantoms.awkward_geometry()), tmp_path / folder / "p0.nii.gz")
        write_volume(boxes(), tmp_path / folder / "p1.nii.gz")
    evaluation = evaluate_files([tmp_path / "net"], tmp_path / "labels", QUICK)
    assert [(row["case"], row["label"], row["dice"]) for row in evaluation.rows] == [("p0", "4", 1.0), ("p1", "4", 1.0)]


def test_files_without_a_reference_are_measured_alone(study):
    evaluation = evaluate_files([study / "ours", study / "theirs" / "p1.nii.gz"], None, QUICK)
    assert evaluation.kind == "volumes"
    assert not evaluation.failed
    assert {row["case"] for row in evaluation.rows} == {
        "p1_enhanced", "p2_enhanced", "p10_enhanced", "p1",
    }  # fmt: skip
    assert any("beside their volume were left out (1)" in said for said in evaluation.messages)


def test_figure_that_a_small_volume_has_not_is_told(tmp_path):
    write_volume(Volume(noisy(20, 0).array[:6, :7, :7], np.eye(4)), tmp_path / "small.nrrd")
    evaluation = evaluate_files([tmp_path / "small.nrrd"], None, QUICK)
    assert evaluation.rows[0]["blur"] is None
    assert "small: Blur was not measured: the volume is too small or has too few clear edges." in evaluation.messages


def test_sets_of_files_need_no_common_names(study):
    (study / "other").mkdir()
    for number in range(3):
        write_volume(noisy(20, number), study / "other" / f"fake{number}.nii.gz")
    with pytest.raises(ValueError, match="compare them as sets"):
        evaluate_files([study / "other"], study / "truth", QUICK)

    def features(volumes, progress):
        return np.array([[volumes[0].array.mean(), volumes[0].array.std()]])

    evaluation = evaluate_files(
        [study / "other"], study / "truth", EvaluateSettings(figures=Figures.SETS), features=features
    )
    assert evaluation.rows[0]["case"] == "3 volumes against 3"
    assert evaluation.rows[0]["frechet"] > 0


def test_made_volumes_are_measured_as_a_set_without_their_label_maps(study):
    """In one folder, and as BIDS lays them out."""
    for number in range(3):
        anat = study / "bids" / f"sub-{number}" / "anat"
        anat.mkdir(parents=True)
        (study / "made").mkdir(exist_ok=True)
        for folder, name in ((study / "made", f"h{number}"), (anat, f"sub-{number}_T1w")):
            write_volume(noisy(20, number), folder / f"{name}.nii.gz")
        write_volume(boxes(), study / "made" / f"h{number}_labels.nii.gz")
        write_volume(boxes(), anat / f"sub-{number}_dseg.nii.gz")

    def features(volumes, progress):
        return np.array([[volumes[0].array.mean(), volumes[0].array.std()]])

    settings = EvaluateSettings(figures=Figures.SETS)
    evaluation = evaluate_files([study / "made", study / "bids"], study / "truth", settings, features=features)
    rows = [row for row in evaluation.rows if row["method"] != "ours"]
    assert [(row["case"], row["method"]) for row in rows] == [
        ("3 volumes against 3", "made"), ("3 volumes against 3", "bids"),
    ]  # fmt: skip
    assert any("beside their volume were left out (6)" in said for said in evaluation.messages)
    alone = evaluate_files([study / "bids"], None, QUICK)
    assert [row["case"] for row in alone.rows] == ["sub-0_T1w", "sub-1_T1w", "sub-2_T1w"]


def test_folder_called_before_is_a_method_as_any_other(study):
    (study / "theirs").rename(study / "before")
    (study / "before" / "q7.nii.gz").unlink()
    coarse = Volume(phantoms.head((6, 8, 7)), phantoms.awkward_geometry() @ np.diag([2.0, 2.0, 2.0, 1.0]))
    write_volume(coarse, study / "before" / "p1.nii.gz")
    evaluation = evaluate_files([study / "before", study / "ours"], study / "truth", IMAGES)
    failed = {(row["case"], row["method"]): row["error"] for row in evaluation.failed}
    assert "lies on another grid" in failed["p1", "before"]
    beside = evaluate_files([study / "before"], study / "truth", IMAGES, before=study / "truth")
    assert {(row["case"], row["method"]) for row in beside.rows if row.get("mae") == 0} == {
        ("p1", "before (input)"), ("p2", "before (input)"), ("p10", "before (input)"),
    }  # fmt: skip
    assert beside.pictures[0].method == "before"


def test_file_that_can_not_be_read_says_why(tmp_path):
    write_volume(clean(), tmp_path / "good.nii.gz")
    (tmp_path / "bad.nii.gz").write_bytes(b"")
    with pytest.raises(ValueError, match=r"holds no volume that can be read\. .*bad\.nii\.gz. is empty"):
        evaluate_files([tmp_path / "good.nii.gz"], tmp_path / "bad.nii.gz", QUICK)


def test_segments_that_overlap_are_one_mask(tmp_path):
    wrong = clean()
    first, second = (np.zeros(SHAPE, np.uint8) for _ in range(2))
    first[2:6, 2:9, 2:9], second[4:9, 4:12, 4:12] = 1, 1
    wrong.array[first > 0] += 4
    wrong.array[second > 0] += 4
    parts = [
        segmentation_of([LabelMap(array, phantoms.awkward_geometry(), {1: Label(name)})])[0]
        for array, name in ((first, "a"), (second, "b"))
    ]
    labelfiles.write(merged(parts), tmp_path / "mask.seg.nrrd")
    write_volume(clean(), tmp_path / "truth.nii.gz")
    write_volume(wrong, tmp_path / "net.nii.gz")
    found = evaluate_files(
        [tmp_path / "net.nii.gz"], tmp_path / "truth.nii.gz", IMAGES, mask=tmp_path / "mask.seg.nrrd"
    )
    union = np.count_nonzero(first | second)
    assert found.rows[0]["mae"] == pytest.approx(4 * (first.sum() + second.sum()) / union, rel=1e-4)


@pytest.mark.parametrize(
    ("name", "others", "expected"),
    [
        ("p1", ("p1", "p10"), "p1"),
        ("p10_enhanced", ("p1", "p10"), "p10"),
        ("p1-result", ("p1", "p10"), "p1"),
        ("p100", ("p1", "p10"), None),
        ("p1", ("p1_mask", "p2_mask"), "p1_mask"),
        ("p1", ("p1_a", "p1_b"), None),
        ("p1_flair_enhanced", ("p1", "p1_flair"), "p1_flair"),
    ],
)
def test_names_match_up_to_an_ending(name, others, expected):
    assert match(name, dict.fromkeys(others)) == expected


def test_evaluation_of_files_can_be_cancelled(study):
    seen = []

    def stop(fraction, message=""):
        seen.append(message)
        if fraction > 0.2:
            raise Cancelled

    with pytest.raises(Cancelled):
        evaluate_files([study / "ours"], study / "truth", QUICK, progress=stop)
    assert "Measuring p1" in seen


def test_what_can_not_be_evaluated_says_why(study):
    with pytest.raises(ValueError, match="There is no file or folder"):
        evaluate_files([study / "nowhere"], None, QUICK)
    with pytest.raises(ValueError, match="given twice"):
        evaluate_files([study / "ours", study / "ours", study / "ours"], study / "truth", QUICK)
    with pytest.raises(ValueError, match="need a reference"):
        evaluate_files([study / "ours"], None, EvaluateSettings(figures=Figures.IMAGES))
    write_volume(clean(), study / "truth" / "p1.nrrd")
    with pytest.raises(ValueError, match="keep one of them"):
        evaluate_files([study / "ours"], study / "truth", QUICK)


def test_two_folders_of_one_file_each_belong_together_only_by_name(tmp_path):
    for folder, name in (("made", "p1"), ("truth", "p2")):
        (tmp_path / folder).mkdir()
        write_volume(clean(), tmp_path / folder / f"{name}.nii.gz")
    with pytest.raises(ValueError, match="No result is named like a reference"):
        evaluate_files([tmp_path / "made"], tmp_path / "truth", EvaluateSettings())
    files = [tmp_path / "made" / "p1.nii.gz"], tmp_path / "truth" / "p2.nii.gz"
    assert evaluate_files(*files, IMAGES).rows[0]["mae"] == 0.0


def two_named(values: tuple[int, int], names: tuple[str, str]) -> LabelMap:
    array = np.zeros(SHAPE, np.uint8)
    array[1:5, 3:11, 2:12], array[6:9, 3:11, 2:12] = values
    return LabelMap(array, phantoms.awkward_geometry(), dict(zip(values, map(Label, names), strict=True)))


@pytest.mark.parametrize("ending", [".nii.gz", ".seg.nrrd"])
def test_labels_of_files_are_matched_by_the_names_in_them_or_beside_them(tmp_path, ending):
    """Label 1 of the result is called as label 2 of the reference, and lies where that does."""
    for folder, values in (("truth", (2, 1)), ("net", (1, 2))):
        (tmp_path / folder).mkdir()
        segmentation = segmentation_of([two_named(values, ("Liver", "Spleen"))])[0]
        labelfiles.write(segmentation, tmp_path / folder / f"p1{ending}")
    settings = EvaluateSettings(by_name=True, pictures=0)
    rows = evaluate_files([tmp_path / "net"], tmp_path / "truth", settings).rows
    assert {row["label"]: row.get("dice") for row in rows} == {"Liver": 1.0, "Spleen": 1.0}


def test_segments_of_a_file_that_overlap_are_measured_whole(tmp_path):
    brain, tumor, smaller = (np.zeros(SHAPE, np.uint8) for _ in range(3))
    brain[2:10, 2:14, 2:12], tumor[4:8, 4:8, 4:8], smaller[4:8, 4:8, 4:6] = 1, 1, 1
    for name, inner in (("truth", tumor), ("net", smaller)):
        parts = [
            segmentation_of([LabelMap(array, phantoms.awkward_geometry(), {1: Label(called)})])[0]
            for array, called in ((brain, "Brain"), (inner, "Tumor"))
        ]
        labelfiles.write(merged(parts), tmp_path / f"{name}.seg.nrrd")
    evaluation = evaluate_files([tmp_path / "net.seg.nrrd"], tmp_path / "truth.seg.nrrd", QUICK)
    assert evaluation.kind == "segmentations"
    assert {row["label"]: row.get("dice") for row in evaluation.rows} == {"Brain": 1.0, "Tumor": pytest.approx(2 / 3)}
    moved = EvaluateSettings(by_name=True, resample=True, figures=Figures.SEGMENTATIONS, pictures=0)
    write_volume(LabelMap(5 * brain[:, :, 1:], shifted(), {5: Label("brain")}), tmp_path / "moved.npz")
    rows = evaluate_files([tmp_path / "net.seg.nrrd"], tmp_path / "moved.npz", moved).rows
    assert rows[0]["dice"] == 1.0
    assert rows[1]["label"] == "Tumor"


def shifted() -> np.ndarray:
    matrix = phantoms.awkward_geometry()
    matrix[:, 3] = matrix @ [1, 0, 0, 1]
    return matrix
