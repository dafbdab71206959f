"""The data step of a training: real files of every format, pairs by name, what is rejected and why, samples."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import model_folders
import phantoms
from medgan import exchange, models
from medgan.settings import Pairing, Restores, TrainKind, TrainSettings
from medgan.training.data import DataError, TrainingData, prepare
from medgan.training.data_cases import Case
from medgan.training.data_checks import load
from medgan.training.data_files import Found, search
from medgan.volume import Label, LabelMap, Volume, write_volume

SHAPE = (19, 23, 21)


def a_head(seed: int, shape=SHAPE, geometry=None) -> Volume:
    noisy = phantoms.rician(phantoms.head(shape), 20.0, seed)
    return Volume(np.rint(noisy), phantoms.awkward_geometry() if geometry is None else geometry, voxel_type="int16")


def labels_of(shape=SHAPE, geometry=None, factor: int = 1) -> LabelMap:
    values = {0: 0, 300: 1, 700: 2, 400: 3, 1000: 9}
    array = np.vectorize(values.get)(phantoms.head(shape)).astype(np.int16) * factor
    return LabelMap(array, phantoms.awkward_geometry() if geometry is None else geometry)


def prepared(folder: Path, kind: TrainKind = TrainKind.ENHANCE, run: str = "run", inputs=None, **more) -> TrainingData:
    data = "" if inputs else str(folder)
    settings = TrainSettings(kind=kind, data=data, patch=16, batch=2, **more)
    out = folder.parent / run
    out.mkdir(exist_ok=True)
    return prepare(inputs or {}, settings, out)


def begun(data: TrainingData, run: Path) -> None:
    """The run folder as a training leaves it that has had this data."""
    (run / "checkpoint.pt").touch()
    exchange.write_json(data.report, run / "data.json")


def why(data: TrainingData) -> dict[str, str]:
    return {one["name"]: one["why"] for one in data.report["rejected"]}


def test_label_values_beyond_their_type_are_refused(tmp_path):
    array = np.zeros((8, 8, 8), np.float32)
    array[2:5] = 2.0**31
    case = Case("p1", "p1", {"labels": [Found("labels/p1", volume=Volume(array, np.eye(4)))]})
    with pytest.raises(ValueError, match=r"voxels up to 2\.147e\+09; label values are whole numbers up to 2147483647"):
        load(case, paired=False)


def test_every_format_is_read_and_the_split_is_by_patient(tmp_path):
    folder = tmp_path / "dätä"
    folder.mkdir()
    endings = [".nii.gz", ".nrrd", ".mha", ".mhd", ".npz", ".nii"]
    for number, ending in enumerate(endings):
        write_volume(a_head(number), folder / f"p{number // 2}_ses-{number % 2}{ending}")
    phantoms.write_dicom_series(folder / "dicom" / "p9", np.rint(a_head(9).array).astype(np.int16))
    (folder / "notes.txt").write_text("not a volume")
    data = prepared(folder)
    read = data.report["read"]
    assert len(read) == 7
    assert data.report["patients"] == {"train": 3, "validation": 1}
    use = {}
    for one in read:
        use.setdefault(one["patient"], set()).add(one["use"])
    assert set(use) == {"p0", "p1", "p2", "p9"}
    assert all(len(uses) == 1 for uses in use.values())  # no patient on both sides
    assert {tuple(one["size_voxels"]) for one in read} == {(21, 23, 19)}
    assert data.fingerprint["patients"] == 4


def test_what_can_not_be_used_is_named_with_the_reason(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    for number in range(2):
        write_volume(a_head(number), folder / f"good{number}.nii.gz")
    write_volume(a_head(0), folder / "copy.nii.gz")
    flat = a_head(2)
    write_volume(flat.like(np.full(SHAPE, 7.0)), folder / "flat.nii.gz")
    nan = Volume(np.where(np.indices(SHAPE).sum(axis=0) % 2 == 0, np.nan, flat.array), flat.ijk_to_ras)
    write_volume(nan, folder / "nan.nrrd")
    few = flat.array.copy()
    few[5, 5, 5] = np.nan
    write_volume(Volume(few, flat.ijk_to_ras), folder / "one_nan.nrrd")
    write_volume(Volume(flat.array[:2], flat.ijk_to_ras), folder / "thin.nrrd")
    (folder / "broken.nii.gz").write_bytes(b"\x1f\x8b broken")
    write_volume(labels_of(), folder / "good0_seg.nii.gz")
    data = prepared(folder)
    reasons = why(data)
    assert sorted(one["name"] for one in data.report["read"]) == ["copy.nii.gz", "good1.nii.gz", "one_nan.nrrd"]
    assert "same voxels as 'copy.nii.gz'" in reasons["good0.nii.gz"]
    assert "constant: every voxel is 7" in reasons["flat.nii.gz"]
    assert "not finite numbers" in reasons["nan.nrrd"]
    assert "at least 4 are needed" in reasons["thin.nrrd"]
    assert "broken.nii.gz" in reasons
    assert "A label map by its name" in reasons["good0_seg.nii.gz"]
    assert any("1 voxels are NaN" in message for message in data.messages)
    assert (tmp_path / "run" / "data.json").is_file()


def test_folders_of_nnunet_make_cases_of_several_channels(tmp_path):
    folder = tmp_path / "Dataset001"
    for name in ("imagesTr", "labelsTr", "imagesTs"):
        (folder / name).mkdir(parents=True)
    (folder / "dataset.json").write_text('{"labels": {"background": 0, "skull": 1, "tumour": 9}}')
    for number in range(3):
        for channel in range(2):
            write_volume(a_head(10 * number + channel), folder / "imagesTr" / f"case_{number}_{channel:04d}.nii.gz")
        write_volume(labels_of(), folder / "labelsTr" / f"case_{number}.nii.gz")
    write_volume(a_head(70), folder / "imagesTs" / "case_7_0000.nii.gz")
    data = prepared(folder, TrainKind.SEGMENT)
    assert data.facts.channels == 2
    assert [(one["value"], one["name"]) for one in data.facts.labels] == [
        (1, "skull"), (2, "label 2"), (3, "label 3"), (9, "tumour"),
    ]  # fmt: skip
    sample = data.samples.sample(torch.Generator().manual_seed(0))
    assert sample["image"].shape == (2, 16, 16, 16)
    assert sample["labels"].dtype == torch.int64
    assert set(sample["labels"].unique().tolist()) <= {0, 1, 2, 3, 4}
    assert "test volume" in why(data)["imagesTs/case_7_0000.nii.gz"]


def test_labels_that_do_not_fit_are_rejected(tmp_path):
    folder = tmp_path / "data"
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    moved = phantoms.awkward_geometry()
    moved[:3, 3] += 5.0
    cases = {
        "good1": labels_of(), "good2": labels_of(), "moved": labels_of(geometry=moved),
        "small": labels_of((9, 23, 21)), "fraction": Volume(labels_of().array * 0.5, phantoms.awkward_geometry()),
        "empty": LabelMap(np.zeros(SHAPE, np.int16), phantoms.awkward_geometry()),
    }  # fmt: skip
    for number, (name, labels) in enumerate(cases.items()):
        write_volume(a_head(number), folder / "images" / f"{name}.nrrd")
        write_volume(labels, folder / "labels" / f"{name}.nrrd")
    write_volume(a_head(50), folder / "images" / "alone.nrrd")
    reasons = why(prepared(folder, TrainKind.SEGMENT))
    assert "corners lie 8.66 mm apart" in reasons["images/moved.nrrd"]
    assert "21 x 23 x 19 voxels and 21 x 23 x 9" in reasons["images/small.nrrd"]
    assert "not whole numbers" in reasons["images/fraction.nrrd"]
    assert "holds the value 0 only" in reasons["images/empty.nrrd"]
    assert reasons["images/alone.nrrd"] == "There is no label map of its name."
    assert len(reasons) == 5


def test_image_and_labels_of_a_sample_belong_together(tmp_path):
    folder = tmp_path / "data"
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    for number in range(3):
        clean = Volume(phantoms.head(SHAPE) * (1 + 0.1 * number), phantoms.awkward_geometry())
        write_volume(clean, folder / "images" / f"p{number}.nrrd")
        write_volume(labels_of(), folder / "labels" / f"p{number}.nrrd")
    data = prepared(folder, TrainKind.SEGMENT)
    for seed in range(6):
        sample = data.samples.sample(torch.Generator().manual_seed(seed))
        image, labels = sample["image"][0], sample["labels"]
        for index, intensity in ((0, 0.0), (1, 0.3), (2, 0.7), (3, 0.4), (4, 1.0)):
            if (labels == index).any():
                assert abs(float(image[labels == index].mean()) - intensity) < 0.05


def test_contrasts_at_the_end_of_names_are_source_and_target(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    for number in range(3):
        geometry = phantoms.geometry((1.0, 1.0, 1.0 + number))  # its own spacing each
        write_volume(a_head(number, geometry=geometry), folder / f"p{number}_T1.nrrd")
        write_volume(a_head(number + 9, geometry=geometry), folder / f"p{number}_T2.nrrd")
    data = prepared(folder, TrainKind.TRANSLATE)
    assert data.facts.paired
    assert any("Source is 't1' and target 't2'" in message for message in data.messages)
    assert data.facts.working_spacing_mm == (1.0, 1.0, 2.0)  # the median
    for run, source, target in (("words", "T2", "T1"), ("endings", "_T2", "_T1")):
        swapped = prepared(folder, TrainKind.TRANSLATE, run, source=source, target=target)
        files = {one["files"]["source"] for one in swapped.report["read"]}
        assert files == {"p0_T2.nrrd", "p1_T2.nrrd", "p2_T2.nrrd"}


def test_two_folders_without_pairs_are_two_sets(tmp_path):
    folder = tmp_path / "data"
    for place, side in enumerate("AB"):
        (folder / side).mkdir(parents=True)
        for number in range(2):
            write_volume(a_head(10 * place + number), folder / side / f"{side}x{number}.nrrd")
    data = prepared(folder, TrainKind.TRANSLATE)
    assert not data.facts.paired
    assert set(data.samples.sample(torch.Generator().manual_seed(1))) == {"source", "target"}
    with pytest.raises(DataError, match="No source has a target of its name"):
        prepared(folder, TrainKind.TRANSLATE, "other", pairing=Pairing.PAIRED)


def test_both_sides_have_sources_and_targets_whoever_is_in_both_sets(tmp_path):
    inputs = {f"source/p{n}": a_head(n) for n in range(2)} | {f"target/p{n}": a_head(10 + n) for n in range(3)}
    for seed in range(4):  # one of them would keep p2 alone, of whom there is no source
        data = prepared(
            tmp_path / "none", TrainKind.TRANSLATE, f"run{seed}", inputs, seed=seed, pairing=Pairing.UNPAIRED
        )
        for entries in (data.samples.training, data.samples.checking):
            assert {role for entry in entries for role in entry.sources} == {"source", "target"}
        assert data.samples.validation()[0]["source"].shape == data.samples.validation()[0]["target"].shape


@pytest.mark.parametrize("targets", ["bt", "btu", "tu"])
def test_patients_who_are_alone_in_their_sets_are_on_different_sides(tmp_path, targets):
    names = {"source": "ab" if "b" in targets else "a", "target": targets}
    inputs = {
        f"{role}/{name}": a_head(100 * place + ord(name))
        for place, (role, patients) in enumerate(names.items())
        for name in patients
    }
    wanted = {"kind": TrainKind.TRANSLATE, "inputs": inputs, "pairing": Pairing.UNPAIRED}
    if "b" not in targets:
        with pytest.raises(DataError, match=r"only one patient with a source to train on \('a'\)"):
            prepared(tmp_path / "none", **wanted)
        return
    data = prepared(tmp_path / "none", **wanted)
    for entries in (data.samples.training, data.samples.checking):
        assert {role for entry in entries for role in entry.sources} == {"source", "target"}


def test_two_sets_of_which_one_can_not_be_used_are_told(tmp_path):
    same = {f"{role}/p{n}": a_head(n) for role in ("source", "target") for n in range(2)}
    with pytest.raises(DataError, match=r"No target can be used\. Left out: 'target/p0': It has the same voxels"):
        prepared(tmp_path / "none", TrainKind.TRANSLATE, inputs=same, pairing=Pairing.UNPAIRED)


def test_list_names_volumes_and_patients(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    rows = [["image", "label", "patient"]]
    for number in range(4):
        write_volume(a_head(number), folder / f"scan{number}.nrrd")
        write_volume(labels_of(), folder / f"scan{number}.mask.nrrd")
        rows.append([f"scan{number}.nrrd", f"scan{number}.mask.nrrd", "AbaB"[number]])
    rows.append(["scan9.nrrd", "scan0.mask.nrrd", "C"])
    rows.append(["scan0.nrrd", "", "C"])
    with (folder / "list.csv").open("w", newline="") as file:
        csv.writer(file, delimiter=";").writerows(rows)
    settings = TrainSettings(kind=TrainKind.SEGMENT, data=str(folder / "list.csv"), patch=16)
    (tmp_path / "run").mkdir()
    data = prepare({}, settings, tmp_path / "run")
    assert {one["patient"] for one in data.report["read"]} == {"A", "b"}  # who is "a" in another row, and "B"
    assert data.report["patients"] == {"train": 1, "validation": 1}
    assert "There is no file" in why(data)["scan9.nrrd"]
    assert why(data)["line 7"] == "It names no label map."


@pytest.mark.parametrize("columns", ["id,patient,image", "case,Patient ID,image", "ID,PatientID,image"])
def test_column_called_patient_is_the_one_of_patients(tmp_path, columns):
    (tmp_path / "list.csv").write_text("\n".join([columns, *(f"{n},P{n // 2},v{n}.nrrd" for n in range(4))]))
    assert [row.patient for row in search(str(tmp_path / "list.csv"), {}).rows] == ["P0", "P0", "P1", "P1"]


def test_scene_volumes_are_paired_like_files(tmp_path):
    inputs = {f"images/0{n} Head": a_head(n) for n in range(2)} | {f"labels/0{n} Head": labels_of() for n in range(2)}
    data = prepared(tmp_path / "none", TrainKind.SEGMENT, inputs=inputs)
    assert len(data.report["read"]) == 2
    assert data.report["rejected"] == []


def test_cached_data_is_not_read_again_and_is_the_same(tmp_path, monkeypatch):
    folder = tmp_path / "data"
    folder.mkdir()
    for number in range(2):
        write_volume(a_head(number), folder / f"p{number}.nrrd")
    first = prepared(folder)
    monkeypatch.setattr("medgan.training.data.load", None)  # reading would fail
    again = prepared(folder)
    assert again.fingerprint == first.fingerprint
    one, other = (data.samples.sample(torch.Generator().manual_seed(3)) for data in (first, again))
    assert all(torch.equal(one[name], other[name]) for name in one)
    monkeypatch.undo()
    write_volume(a_head(5), folder / "p1.nrrd")
    changed = prepared(folder)
    assert changed.fingerprint["sha256"] != first.fingerprint["sha256"]
    assert changed.messages == []


def test_data_that_changed_under_a_training_is_told(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    for number in range(2):
        write_volume(a_head(number), folder / f"p{number}.nrrd")
    begun(prepared(folder), tmp_path / "run")
    write_volume(a_head(1), folder / "p1.nrrd")
    assert prepared(folder).messages == [], "the file is new, its voxels are the same"
    write_volume(a_head(5), folder / "p1.nrrd")
    said = "The data changed after this training began; figures from before and after can not be compared."
    assert prepared(folder).messages == [said]


def test_patients_stay_on_their_side_when_the_data_changes(tmp_path):
    folder, run = tmp_path / "data", tmp_path / "run"
    folder.mkdir()

    def uses(*numbers):
        for path in folder.iterdir():
            path.unlink()
        for number in numbers:
            write_volume(a_head(number), folder / f"p{number}.nrrd")
        data = prepared(folder)
        return data, {int(one["patient"][1:]): one["use"] for one in data.report["read"]}

    first, was = uses(0, 1, 2, 3)
    begun(first, run)
    kept = next(number for number, use in was.items() if use == "validation")
    seen = [number for number in was if number != kept]
    record = json.loads((run / "data.json").read_text(encoding="utf-8"))
    with pytest.raises(DataError, match="were trained on when this training began, and none is left for validation"):
        uses(*seen)
    with pytest.raises(DataError, match="There is only one patient"):
        uses(kept)
    again, now = uses(0, 1, 2, 3)
    assert now == was
    assert not again.fingerprint["changed"], "it was never trained on the others"
    held = json.loads((run / "data.json").read_text(encoding="utf-8"))
    assert held == {name: record[name] for name in held}
    changed, now = uses(*seen, 4)
    begun(changed, run)
    assert now == dict.fromkeys(seen, "train") | {4: "validation"}
    assert changed.fingerprint["changed"]
    assert uses(kept, *seen, 4, 5)[1] == was | {4: "validation", 5: "train"}, "who was away is known, too"


@pytest.mark.parametrize("renamed", [False, True])
def test_patients_of_an_older_run_folder_stay_on_their_side(tmp_path, renamed):
    """There only what was read says who was what. ``renamed``: by other names than they have now."""
    folder, run = tmp_path / "data", tmp_path / "run"
    folder.mkdir()
    for number in range(3):
        write_volume(a_head(number), folder / f"p{number}.nrrd")
    begun(prepared(folder), run)
    record = json.loads((run / "data.json").read_text(encoding="utf-8"))
    for row in record["read"]:  # not as it would be drawn
        row["use"] = "validation" if row["patient"] == "p0" else "train"
        row["patient"] = f"old {row['patient']}" if renamed else row["patient"]
    exchange.write_json({"read": record["read"], "sha256": record["sha256"]}, run / "data.json")
    for number in range(3, 7):
        write_volume(a_head(number), folder / f"p{number}.nrrd")
    data = prepared(folder)
    used = {one["patient"]: one["use"] for one in data.report["read"]}
    assert used.items() >= {"p0": "validation", "p1": "train", "p2": "train"}.items()
    assert data.fingerprint["changed"]


def test_a_patient_of_whom_anything_was_trained_on_is_to_train_on(tmp_path):
    folder, run = tmp_path / "data", tmp_path / "run"
    folder.mkdir()
    for number in range(4):
        write_volume(a_head(number), folder / f"p{number}.nrrd")
    first = prepared(folder)
    begun(first, run)
    kept, seen, *others = (row["name"] for row in sorted(first.report["read"], key=lambda row: row["use"] == "train"))
    write_volume(a_head(9), folder / "p9.nrrd")
    patients = {kept: "A", seen: "A", **dict.fromkeys(others, "B"), "p9.nrrd": "C"}
    (folder / "list.csv").write_text("\n".join(["image,patient", *map(",".join, patients.items())]))
    data = prepare({}, TrainSettings(data=str(folder / "list.csv"), patch=16, batch=2), run)
    assert {one["patient"]: one["use"] for one in data.report["read"]} == {
        "A": "train",
        "B": "train",
        "C": "validation",
    }
    assert data.fingerprint["changed"]


def test_data_found_cached_has_its_uses(tmp_path):
    (tmp_path / "data").mkdir()
    for number in range(3):
        write_volume(a_head(number), tmp_path / "data" / f"p{number}.nrrd")
    assert prepared(tmp_path / "data").report == prepared(tmp_path / "data").report


def test_clean_volumes_bring_their_noise_along(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    for number in range(2):
        write_volume(a_head(number, (29, 41, 37)), folder / f"p{number}.nrrd")
    data = prepared(folder)
    sample = data.samples.sample(torch.Generator().manual_seed(0))
    assert float(sample["sigma"]) * data.facts.ranges["target"][1] == pytest.approx(20.0, rel=0.5)
    assert sample["spread"].shape == (64,)


def test_noise_is_that_of_the_grid_to_train_on(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    for number in range(2):
        write_volume(a_head(number, (48, 52, 50), phantoms.geometry((1.0, 1.0, 1.0))), folder / f"p{number}.nrrd")
    sharp, coarse = (prepared(folder, run=f"run {step}", spacing_mm=step) for step in (0.0, 2.0))
    levels = [float(data.samples.sample(torch.Generator().manual_seed(0))["sigma"]) for data in (sharp, coarse)]
    assert levels[1] < 0.7 * levels[0]  # means of eight voxels, each of which was noisy


def test_noise_is_turned_with_its_patch(tmp_path):
    """Both grow along j alone."""
    folder = tmp_path / "data"
    folder.mkdir()
    ramp = np.broadcast_to(np.arange(41.0, dtype=np.float32)[None, :, None], (29, 41, 37))
    for number in range(2):
        write_volume(Volume(ramp + number, np.eye(4)), folder / f"p{number}.nrrd")
    samples = prepared(folder).samples
    spread = np.broadcast_to(np.arange(1.0, 5.0)[None, :, None], (4, 4, 4)).ravel()
    samples.training = [replace(entry, noise=[0.1, *spread.tolist()]) for entry in samples.training]
    turned = set()
    for seed in range(12):
        sample = samples.sample(torch.Generator().manual_seed(seed))
        patch, noise = (
            int(np.argmax([box.diff(dim=axis).abs().mean() for axis in range(3)]))
            for box in (sample["target"][0], sample["spread"].view(4, 4, 4))
        )
        assert noise == patch
        turned.add(noise)
    assert turned == {0, 1, 2}


def test_patches_for_super_resolution_have_a_fine_axis_in_front(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    matrix = phantoms.geometry((1.0, 3.0, 1.0))  # j is coarse
    for number in range(2):
        ramp = np.broadcast_to(np.arange(41.0)[None, :, None] + 10.0 * number, (29, 41, 37))
        write_volume(Volume(ramp.astype(np.float32) + 20, matrix), folder / f"p{number}.nrrd")
    data = prepared(folder, restores=Restores.RESOLUTION)
    coarse = set()
    for seed in range(12):
        box = data.samples.sample(torch.Generator().manual_seed(seed))["target"][0]
        coarse |= {axis for axis in range(3) if float(box.diff(dim=axis).abs().mean()) > 1e-3}
    assert coarse == {1, 2}


def test_left_and_right_are_exchanged_only_where_they_are_known(tmp_path):
    array = np.zeros(SHAPE, np.int16)
    array[4:15, 4:19, 3:10], array[4:15, 4:19, 11:18] = 1, 2  # i runs to the right
    named = {1: Label("left lung"), 2: Label("right lung")}
    unnamed_inputs, inputs = {}, {}
    for number in range(2):
        image = Volume(a_head(number, geometry=np.eye(4)).array, np.eye(4))
        for held, labels in ((inputs, named), (unnamed_inputs, {})):
            held[f"images/{number}"] = image
            held[f"labels/{number}"] = LabelMap(array, np.eye(4), labels)
    for run, held in (("named", inputs), ("unnamed", unnamed_inputs)):
        data = prepared(tmp_path / "none", TrainKind.SEGMENT, run, inputs=held)
        assert data.samples.manner.sides.may_mirror is (run == "named")
        for seed in range(12):  # mirrored or not, 1 stays on the left of 2
            labels = data.samples.sample(torch.Generator().manual_seed(seed))["labels"]
            places = [torch.nonzero(labels == index)[:, 2].float().mean() for index in (1, 2)]
            if (labels == 1).any() and (labels == 2).any():
                assert places[0] < places[1]


def test_it_is_said_why_volumes_are_not_mirrored(tmp_path):
    array = np.zeros(SHAPE, np.int16)
    array[4:15, 4:19, 3:10], array[4:15, 4:19, 11:18] = 1, 2
    said = []
    for run, labels in (("sides", {1: Label("left lung"), 2: Label("heart")}), ("none", {})):
        inputs = {}
        for number in range(2):
            inputs[f"images/{number}"] = Volume(a_head(number, geometry=np.eye(4)).array, np.eye(4))
            inputs[f"labels/{number}"] = LabelMap(array, np.eye(4), labels)
        data = prepared(tmp_path / "none", TrainKind.SEGMENT, run, inputs=inputs)
        said += [message for message in data.messages if message.startswith("Volumes are not mirrored")]
    assert "some labels are of one side" in said[0]
    assert "Name the labels" in said[1]
    assert len(said) == 2


def test_labels_stand_in_the_order_of_the_model_to_go_on_from(tmp_path):
    rows = [{"index": 1, "value": 9, "name": "lesion"}, {"index": 2, "value": 3}, {"index": 3, "value": 2},
            {"index": 4, "value": 1}, {"index": 5, "value": 77}]  # fmt: skip
    bundle = model_folders.write_bundle(tmp_path / "parts", task="segment", labels=rows, activation="log softmax")
    inputs = {}
    for number in range(2):
        image = Volume(phantoms.head(SHAPE) * (1 + 0.1 * number), phantoms.awkward_geometry())
        inputs |= {f"images/{number}": image, f"labels/{number}": labels_of()}
    settings = TrainSettings(kind=TrainKind.SEGMENT, patch=16)
    data = prepare(inputs, settings, tmp_path, start=models.read_card(bundle))
    assert [row["value"] for row in data.facts.labels] == [9, 3, 2, 1, 77]
    assert data.inherited == {"activation": "log softmax"}
    for seed in range(4):
        sample = data.samples.sample(torch.Generator().manual_seed(seed))
        for index, intensity in ((1, 1.0), (2, 0.4), (3, 0.7), (4, 0.3)):
            if (sample["labels"] == index).any():
                assert abs(float(sample["image"][0][sample["labels"] == index].mean()) - intensity) < 0.05
    del rows[1]
    bundle = model_folders.write_bundle(tmp_path / "fewer", task="segment", labels=rows)
    with pytest.raises(DataError, match=r"'fewer' does not know 1 labels of the data \(3\)"):
        prepare(inputs, settings, tmp_path, start=models.read_card(bundle))


def test_label_maps_alone_get_images_of_their_own(tmp_path):
    folder = tmp_path / "maps"
    folder.mkdir()
    for number in range(2):
        array = labels_of().array.copy()
        array[9, 9, 9] = 9 - number
        write_volume(LabelMap(array, np.eye(4)), folder / f"head_{number}.nii.gz")
    data = prepared(folder, TrainKind.SEGMENT)
    assert data.samples.manner.made
    one, other = (data.samples.sample(torch.Generator().manual_seed(seed)) for seed in (1, 2))
    assert one["image"].shape == (1, 16, 16, 16)
    assert not torch.equal(one["image"], other["image"])
    assert 0.0 <= float(one["image"].min()) <= float(one["image"].max()) <= 1.0
    assert int(one["labels"].max()) <= len(data.facts.labels)


def test_whole_bodies_are_brought_to_one_size(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    for number, spacing in enumerate((1.0, 2.0)):
        write_volume(a_head(number, (30, 30, 30), phantoms.geometry((spacing,) * 3)), folder / f"p{number}.nrrd")
    data = prepared(folder, TrainKind.FROM_NOISE)
    assert data.facts.whole
    assert data.facts.working_spacing_mm == pytest.approx((60.0 / 16,) * 3, rel=0.15)
    sizes = []
    for batch in data.samples.validation():
        assert batch["image"].shape[1:] == (1, 16, 16, 16)
    for seed in range(2):
        image = data.samples.sample(torch.Generator().manual_seed(seed))["image"]
        sizes.append(int((image > 0.1).sum()))
    assert min(sizes) > 0
