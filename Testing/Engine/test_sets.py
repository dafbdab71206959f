"""Sets of made volumes: names, pairs, what stands beside them, going on after an interruption, nnU-Net, once more."""

from __future__ import annotations

import csv
import json
import os
import shlex
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

import kind_tools
import phantoms
from medgan import labelfiles
from medgan.batch import FileFailed
from medgan.job import Job
from medgan.labeltable import read_table
from medgan.networks import NETWORKS
from medgan.segments import Layer, Segment, Segmentation
from medgan.settings import Contrast, SynthesizeSettings, Target, TrainKind, TrainSettings
from medgan.synthesis import sets
from medgan.synthesis.set_again import again
from medgan.synthesis.set_samples import Sample
from medgan.synthesis.set_sidecars import voxels_sha256, write_sample
from medgan.training.data_files import search
from medgan.training.data_labels import described
from medgan.training.data_pairs import find_cases
from medgan.training.kinds.base import Exported, plain_state
from medgan.volume import Label, LabelMap, Volume, VolumeError, read_label_map, read_volume, write_volume
from medgan.writing import marked


@pytest.fixture(scope="session")
def bundles(tmp_path_factory) -> dict[str, str]:
    """Folders of untrained models: "labels" and "noise"."""
    found = {}
    for name, task, network, arguments in (
        ("labels", "label-to-volume", "medgan.LabelNet", {"widths": [4, 8], "told": 4, "style": 4}),
        ("noise", "from-noise", "medgan.NoiseNet", {"latent": 8, "widths": [8, 8, 4]}),
    ):
        torch.manual_seed(2)
        network_of = NETWORKS[network](**arguments)
        folder = tmp_path_factory.mktemp("models") / name
        exported = Exported(task, network, arguments, {"faithful": plain_state(network_of)}, {})
        card = kind_tools.bundle_of(exported, folder)
        found[name] = str(folder)
        found[f"{name} sha"] = card.weights["faithful"].sha256
    return found


@pytest.fixture
def quick(monkeypatch, bundles):
    """Jobs whose child makes volumes at once (see child_of_sets.py)."""
    monkeypatch.setattr(Job, "child_script", Path(__file__).with_name("child_of_sets.py"))
    monkeypatch.setenv("MEDGAN_TEST_WEIGHTS", f"faithful={bundles['labels sha']}")


@pytest.fixture
def maps(tmp_path) -> list[Path]:
    """Two small label maps on an awkward grid, the second with values of its own and names beside it."""
    paths = []
    for name, values in (("head one", (0, 3, 900)), ("head-two", (0, 3, 17))):
        array = np.array(values, np.int16)[np.arange(60).reshape(3, 4, 5) % 3]
        path = tmp_path / f"{name}.nii.gz"
        write_volume(LabelMap(array, phantoms.awkward_geometry()), path)
        paths.append(path)
    (tmp_path / "head-two.labels.csv").write_text("value,name\n3,Cortex\n17,Hippocampus\n", encoding="utf-8")
    return paths


def order(bundles, out, maps=(), **more):
    settings = {name: more.pop(name) for name in list(more) if name in SynthesizeSettings.__dataclass_fields__}
    settings.setdefault("model", bundles["labels"])
    return sets.Order(SynthesizeSettings(**settings), out, tuple(maps), **more)


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "manifest.csv").open(encoding="utf-8", newline="") as held:
        return list(csv.DictReader(held))


def test_a_set_has_pairs_with_all_that_it_takes_to_make_them_again(quick, bundles, maps, tmp_path):
    out = tmp_path / "made ü"
    seen = []
    made = sets.make(order(bundles, out, maps, count=3, seed=5, contrast=Contrast.T1), lambda e: seen.append(e["seed"]))
    assert [entry["status"] for entry in made] == ["done"] * 3
    assert sorted(seen) == [5, 6, 7]
    image = read_volume(out / "sub-0006" / "anat" / "sub-0006_T1w.nii.gz")
    labels = read_label_map(out / "sub-0006" / "anat" / "sub-0006_dseg.nii.gz")
    source = read_label_map(maps[0])  # 6 modulo 2
    assert np.array_equal(labels.array, np.roll(source.array, 6, axis=2))
    assert np.allclose(image.array, labels.array + 0.006 + 0.005, atol=1e-4)
    assert np.allclose(image.ijk_to_ras, source.ijk_to_ras, atol=1e-3)
    beside = json.loads((out / "sub-0006" / "anat" / "sub-0006_T1w.json").read_text(encoding="utf-8"))
    assert beside["synthetic"] is True
    assert beside["settings"]["seed"] == 6
    assert beside["settings"]["count"] == 1
    assert beside["inputs"][0]["name"] == "head one.nii.gz"
    assert (out / "sub-0006" / "anat" / beside["inputs"][0]["path"]).samefile(maps[0])
    assert beside["model_sha256"] == {"faithful": bundles["labels sha"]}
    assert beside["told"] == 6
    rows = rows_of(out)
    assert [row["seed"] for row in rows] == ["5", "6", "7"]
    assert [row["patient"] for row in rows] == ["head_two", "head_one", "head_two"]
    assert json.loads((out / "dataset_description.json").read_text(encoding="utf-8"))["Synthetic"] is True
    assert "Hippocampus" in (out / "labels.csv").read_text(encoding="utf-8")


def test_volumes_are_named_after_the_contrast_that_they_have(quick, bundles, maps, tmp_path):
    """A target is for translation: it says nothing of volumes from label maps or from noise."""
    told = {"target": Target.T2, "contrast": Contrast.FLAIR}
    made = sets.make(order(bundles, tmp_path / "a", maps[:1], **told))
    made += sets.make(order(bundles, tmp_path / "b", maps[:1], **told | {"contrast": Contrast.USUAL}, nnunet=True))
    made += sets.make(order(bundles, tmp_path / "c", **told, model=bundles["noise"]))
    names = ["sub-0000_FLAIR.nii.gz", "0000_0000.nii.gz", "sub-0000_image.nii.gz"]
    assert [Path(entry["output"]).name for entry in made] == names
    assert json.loads((tmp_path / "b" / "dataset.json").read_text())["channel_names"] == {"0": "image"}
    translated = order(bundles, tmp_path, model="translate", **told).layout()
    assert translated.image("head").name == "sub-head_T2w.nii.gz"


def test_options_of_other_models_are_refused(call, maps, bundles, tmp_path):
    start = ("synthesize", maps[0], "--model", bundles["labels"], "--out", tmp_path / "made")
    done = call(*start, "--target", "T2")
    assert done.returncode == 1
    assert "--target is for translation and has no effect on 'labels'; set --contrast." in done.stderr
    assert "--truncation is for models from noise" in call(*start, "--truncation", "0.3").stderr
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("ending", "name"), [("nii.gz", "descrip"), ("nrrd", "MedGAN.Synthetic"), ("mha", "MedGAN.Synthetic"), ("npz", "")]
)
def test_the_header_of_a_made_volume_says_that_it_is_synthetic(quick, bundles, maps, tmp_path, ending, name):
    out = tmp_path / f"made.{ending}"
    sets.make(order(bundles, out, maps[:1], one_file=True, seed=7))
    beside = json.loads((tmp_path / "made.json").read_text(encoding="utf-8"))
    assert voxels_sha256(read_volume(out)) == beside["voxels_sha256"]
    if name:
        header, labels = sitk.ReadImage(out), sitk.ReadImage(tmp_path / f"made_labels.{ending}")
        assert header.GetMetaData(name) == "synthetic, MedGANSlicer, seed 7, model quick"
        assert name not in labels.GetMetaDataKeys() or not labels.GetMetaData(name)


def test_a_long_name_of_a_model_fits_the_header(tmp_path):
    volume = marked(Volume(np.ones((4, 4, 4), np.float32), np.eye(4)), "Köpfe\n" * 30, 2**31 - 1)
    write_volume(volume, tmp_path / "a.nii")
    said = sitk.ReadImage(tmp_path / "a.nii").GetMetaData("descrip")
    assert said.startswith("synthetic, MedGANSlicer, seed 2147483647, model K?pfe K?pfe ")
    assert len(said) == 79


def test_training_takes_both_layouts_and_the_list_with_its_patients(quick, bundles, maps, tmp_path):
    sets.make(order(bundles, tmp_path / "bids", maps, count=3))
    sets.make(order(bundles, tmp_path / "Dataset501_Made", maps, count=3, nnunet=True))
    settings = TrainSettings(kind=TrainKind.SEGMENT)
    for place in (tmp_path / "bids", tmp_path / "Dataset501_Made", tmp_path / "bids" / "manifest.csv"):
        cases = find_cases(search(str(place), {}), settings)
        assert [sorted(case.volumes) for case in cases.cases] == [["image", "labels"]] * 3, (place, cases.rejected)
        for case in cases.cases:
            assert case.volumes["image"][0].name.replace("image", "").strip("_0/")[:8]
            assert case.volumes["labels"][0].path.is_file()
        patients = [case.patient for case in cases.cases]
        assert patients == ["head_one", "head_two", "head_one"]  # never one in both parts of the data
    assert {case.patient for case in find_cases(search(str(tmp_path), {}), settings).cases} == {"head_one", "head_two"}


def test_a_set_goes_on_where_it_was_stopped_and_knows_what_is_not_its_own(quick, bundles, maps, tmp_path, monkeypatch):
    out = tmp_path / "made"
    monkeypatch.setenv("MEDGAN_TEST_FAILS", "2")
    monkeypatch.setattr(sets, "TOGETHER", 2)
    with pytest.raises(FileFailed, match=r"The seed 2 can not be used\. 2 of 4 volumes are there; --resume goes on\."):
        sets.make(order(bundles, out, maps, count=4))
    assert len(rows_of(out)) == 2
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.nii.gz")}
    assert len(before) == 4
    monkeypatch.delenv("MEDGAN_TEST_FAILS")
    with pytest.raises(VolumeError, match="exists already; add --resume to go on"):
        sets.make(order(bundles, out, maps, count=4))
    (out / "sub-0001" / "anat" / "sub-0001_dseg.nii.gz").unlink()  # a pair that is not whole is made anew
    made = sets.make(order(bundles, out, maps, count=4, resume=True))
    assert [entry["status"] for entry in made] == ["done before", "done", "done", "done"]
    kept = out / "sub-0000" / "anat" / "sub-0000_image.nii.gz"
    assert kept.stat().st_mtime_ns == before[kept]
    with pytest.raises(FileFailed, match="other inputs or with other settings"):
        sets.make(order(bundles, out, maps, count=4, resume=True, noise=0.1))
    with pytest.raises(FileFailed, match="other inputs or with other settings"):
        sets.make(order(bundles, out, maps[:1], count=4, resume=True))
    assert len(sets.make(order(bundles, out, maps, count=6, resume=True))) == 6
    assert len(rows_of(out)) == 6


def test_nnunet_gets_values_without_gaps_that_later_volumes_do_not_change(quick, bundles, maps, tmp_path):
    out = tmp_path / "Dataset501_Made"
    assert not sets.notes(order(bundles, out, nnunet=True))
    assert "DatasetNNN_Name" in sets.notes(order(bundles, tmp_path / "made", nnunet=True))[0]
    sets.make(order(bundles, out, maps[:1], count=1, nnunet=True))
    first = read_label_map(out / "labelsTr" / "0000.nii.gz").array
    source = read_label_map(maps[0]).array
    assert np.array_equal(first, np.searchsorted([0, 3, 900], source))
    assert json.loads((out / "dataset.json").read_text(encoding="utf-8"))["labels"] == {
        "background": 0, "label 3": 1, "label 900": 2}  # fmt: skip
    sets.make(order(bundles, out, maps[1:], count=1, seed=1, nnunet=True))
    about = json.loads((out / "dataset.json").read_text(encoding="utf-8"))
    assert about["labels"] == {"background": 0, "label 3": 1, "label 900": 2, "Hippocampus": 3}
    assert about["numTraining"] == 2
    assert about["file_ending"] == ".nii.gz"
    assert set(np.unique(read_label_map(out / "labelsTr" / "0001.nii.gz").array)) == {0, 1, 3}
    assert (out / "imagesTr" / "0001_0000.nii.gz").is_file()
    assert np.array_equal(read_label_map(out / "labelsTr" / "0000.nii.gz").array, first)


def test_volumes_from_noise_bring_their_own_labels(quick, bundles, tmp_path, monkeypatch):
    monkeypatch.setenv("MEDGAN_TEST_WEIGHTS", f"faithful={bundles['noise sha']}")
    out = tmp_path / "Dataset502_Made"
    sets.make(order(bundles, out, model=bundles["noise"], count=2, nnunet=True, jobs=2))
    names = json.loads((out / "dataset.json").read_text(encoding="utf-8"))["labels"]
    assert sorted(names.values()) == [0, 1, 2]
    assert len(names) == 3  # two labels of one name stay two
    assert [row["patient"] for row in rows_of(out)] == ["sub-0000", "sub-0001"]
    way = sets.make(order(bundles, tmp_path / "way", model=bundles["noise"], count=3, seed=4, toward=9))
    assert [entry["settings"]["mix"] for entry in way] == [0.0, 0.5, 1.0]
    assert [entry["settings"]["seed"] for entry in way] == [4, 4, 4]
    assert (tmp_path / "way" / "sub-0004to0009at002" / "anat").is_dir()
    assert {row["patient"] for row in rows_of(tmp_path / "way")} == {"sub-0004to0009"}


def test_one_sample_is_made_again_from_what_stands_beside_it(quick, bundles, maps, tmp_path):
    out = tmp_path / "Dataset501_Made"
    sets.make(order(bundles, out, maps, count=3, nnunet=True))
    beside = out / "imagesTr" / "0001_0000.json"
    said = again(beside)
    assert said["same"] is True
    assert "output" not in said
    target = tmp_path / "once more.nii.gz"
    said = again(beside, target)
    assert np.array_equal(read_volume(target).array, read_volume(out / "imagesTr" / "0001_0000.nii.gz").array)
    labels = read_label_map(tmp_path / "once more_labels.nii.gz").array
    assert np.array_equal(labels, read_label_map(out / "labelsTr" / "0001.nii.gz").array)
    assert again(tmp_path / "once more.json")["same"] is True  # the copy can be made again as well
    command = json.loads((tmp_path / "once more.json").read_text(encoding="utf-8"))["again"]
    assert shlex.split(command)[2:4] == ["--again", "once more.json"]
    moved = tmp_path / "elsewhere.nii.gz"
    os.replace(maps[1], moved)
    with pytest.raises(FileFailed, match=r"'head-two\.nii\.gz'.* is not at .*; give it as IN"):
        again(beside)
    assert again(beside, sources=[moved])["same"] is True
    with pytest.raises(FileFailed, match="does not hold what 'head-two"):
        again(beside, sources=maps[:1])
    held = json.loads(beside.read_text(encoding="utf-8"))
    held["settings"]["mix"] = 0.9  # as if the program had changed
    beside.write_text(json.dumps(held), encoding="utf-8")
    changed = again(beside, sources=[moved])
    assert changed["same"] is False
    assert changed["largest_difference"] == pytest.approx(100 * 0.004 / 17, rel=0.01)
    held["model_sha256"] = {"faithful": "0" * 64}
    beside.write_text(json.dumps(held), encoding="utf-8")
    with pytest.raises(FileFailed, match="with other weights"):
        again(beside, sources=[moved])
    with pytest.raises(VolumeError, match="does not describe a sample"):
        again(out / "dataset.json")
    for broken in ({"image": 5}, {"labels": 5}, {"model_sha256": 5}, {"painted_by": 5}, {"label_values": {"a": 1}}):
        beside.write_text(json.dumps(held | broken), encoding="utf-8")
        with pytest.raises(VolumeError, match="does not describe a sample"):
            again(beside)


def test_disk_that_is_full_leaves_the_pair_that_was_there(quick, bundles, maps, tmp_path, full_disk):
    """The label map fits, of 472 bytes; the image, of 592, does not."""
    out = tmp_path / "made"
    out.mkdir()
    image, labels = out / "a.nii", out / "a_labels.nii"
    sets.make(order(bundles, image, maps[:1], one_file=True))
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    sample = Sample(0, "a", "", SynthesizeSettings(model=bundles["labels"]), ())
    new = Volume(np.ones((3, 4, 5)), np.eye(4)), LabelMap(np.ones((3, 4, 5), np.int16), np.eye(4))
    full_disk(530)
    with pytest.raises(VolumeError, match=r"'a\.nii' can not be written into"):
        write_sample(sample, {}, {"volume": "sample 1"}, (image, new[0]), (labels, new[1]), {}, {})
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_pair_that_was_replaced_in_part_has_no_sidecar(bundles, tmp_path, monkeypatch):
    """It would tell of a label map that is another one."""
    sample = Sample(0, "a", "", SynthesizeSettings(model=bundles["labels"]), ())
    image = tmp_path / "a.nrrd", Volume(np.ones((3, 4, 5)), np.eye(4))
    labels = tmp_path / "a_labels.nrrd", LabelMap(np.ones((3, 4, 5), np.int16), np.eye(4))
    write_sample(sample, {}, {"volume": "sample 1"}, image, labels, {}, {})
    assert (tmp_path / "a.json").exists()
    place = os.replace

    def refused(part, path):
        if Path(path).name == "a.nrrd" and Path(path).parent == tmp_path:
            raise OSError(13, "Permission denied")
        place(part, path)

    monkeypatch.setattr(os, "replace", refused)
    with pytest.raises(VolumeError, match="Permission denied; files that were to be replaced with it are new already"):
        write_sample(sample, {}, {"volume": "sample 1"}, image, labels, {}, {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.nrrd", "a_labels.nrrd"]


def test_lots_hold_what_follows_one_another(quick, bundles, maps):
    from medgan.synthesis.set_samples import planned

    settings = SynthesizeSettings(bundles["labels"], count=20, seed=3)
    samples = planned(settings, maps, {}, "label-to-volume")
    assert [len(lot) for lot in sets.lots_of(samples, 1)] == [4] * 5
    assert [len(lot) for lot in sets.lots_of(samples, 8)] == [3, 3, 3, 3, 3, 3, 2]
    assert [len(lot) for lot in sets.lots_of(samples[:3] + samples[6:9], 1)] == [3, 3]
    inputs = sets.inputs_of(samples[1:4])  # seeds 4, 5, 6 take the first, the second, the first map
    assert list(inputs) == ["labels", "labels 2"]
    assert 900 in inputs["labels"].array
    assert inputs["labels 2"].labels[17] == Label("Hippocampus", inputs["labels 2"].labels[17].color)


def test_segments_of_a_file_keep_their_names_and_overlaps_are_told(quick, bundles, tmp_path):
    organ, tumour = np.zeros((3, 4, 5), np.uint8), np.zeros((3, 4, 5), np.uint8)
    organ[1:, 1:, 1:], tumour[2:, 2:, 2:] = 1, 1
    segments = [Segment(Label("organ"), 0, 1), Segment(Label("tumour"), 1, 1)]
    source = tmp_path / "parts.seg.nrrd"
    labelfiles.write(Segmentation(organ.shape, np.eye(4), [Layer(organ), Layer(tumour)], segments), source)
    (made,) = sets.make(order(bundles, tmp_path / "made", [source]))
    assert any("parts.seg.nrrd: Where segments overlap, the last in the list wins" in m for m in made["messages"])
    labels = read_table(tmp_path / "made" / "labels.csv").labels
    assert {value: label.name for value, label in labels.items()} == {1: "organ", 2: "tumour"}
    again(tmp_path / "made" / "sub-0000" / "anat" / "sub-0000_image.json")


def test_files_of_one_name_are_of_several_patients(quick, bundles, tmp_path):
    array = np.array([0, 3], np.int16)[np.arange(60).reshape(3, 4, 5) % 2]
    paths = [tmp_path / subject / "mri" / "aseg.nii.gz" for subject in ("bert", "s-2", "s_2")]
    for number, path in enumerate(paths):
        path.parent.mkdir(parents=True)
        write_volume(LabelMap(np.roll(array, number, axis=0) * (1 + number), np.eye(4)), path)
    sets.make(order(bundles, tmp_path / "made", paths, count=6))
    patients = [row["patient"] for row in rows_of(tmp_path / "made")]
    assert patients == ["bert", "s-2", "s_2"] * 2


def test_patient_has_one_name_in_all_sets(quick, bundles, tmp_path):
    array = np.array([0, 3], np.int16)[np.arange(60).reshape(3, 4, 5) % 2]
    paths = {name: tmp_path / "maps" / f"{name}.nii.gz" for name in ("a/p1", "b/p2", "c/mri/aseg", "d/mri/aseg")}
    for number, path in enumerate(paths.values()):
        path.parent.mkdir(parents=True)
        write_volume(LabelMap(np.roll(array, number, axis=0) * (1 + number), np.eye(4)), path)
    one, two, bert, ernie = paths.values()
    for name, chosen in (("1", [one, two, bert, ernie]), ("2", [one]), ("3", [bert])):
        sets.make(order(bundles, tmp_path / "sets" / name, chosen, count=len(chosen)))
    assert [row["patient"] for row in rows_of(tmp_path / "sets" / "1")] == ["p1", "p2", "c", "d"]
    assert [row["patient"] for row in rows_of(tmp_path / "sets" / "2")] == ["p1"]
    cases = find_cases(search(str(tmp_path / "sets"), {}), TrainSettings(kind=TrainKind.SEGMENT)).cases
    assert [case.patient for case in cases] == ["p1", "p2", "c", "d", "p1", "c"]


def test_a_set_that_goes_on_calls_its_patients_by_one_name(quick, bundles, maps, tmp_path):
    out = tmp_path / "made"
    sets.make(order(bundles, out, maps, count=2))
    for path in out.rglob("sub-*.json"):  # as an older version called them
        held = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps({**held, "patient": held["patient"].replace("_", "")}), encoding="utf-8")
    made = sets.make(order(bundles, out, maps, count=4, resume=True))
    assert [entry["patient"] for entry in made] == ["head_one", "head_two"] * 2
    assert [row["patient"] for row in rows_of(out)] == ["head_one", "head_two"] * 2


def test_maps_of_one_patient_stay_together(quick, bundles, tmp_path):
    names = ("sub-01_ses-1_dseg", "sub-01_ses-2_dseg", "sub-02_dseg")
    paths = [tmp_path / f"{name}.nii.gz" for name in names]
    for number, path in enumerate(paths):
        array = np.array([0, 3], np.int16)[np.arange(60).reshape(3, 4, 5) % 2] * (1 + number)
        write_volume(LabelMap(array, np.eye(4)), path)
    sets.make(order(bundles, tmp_path / "made", paths, count=3))
    assert [row["patient"] for row in rows_of(tmp_path / "made")] == ["sub-01", "sub-01", "sub-02"]


def test_names_of_labels_outlast_later_samples_and_are_trained_with(quick, bundles, maps, tmp_path):
    out = tmp_path / "made"
    sets.make(order(bundles, out, maps[1:], count=2))
    sets.make(order(bundles, out, maps[:1], count=2, seed=2))
    assert {3: "Cortex", 17: "Hippocampus"}.items() <= {
        value: label.name for value, label in read_table(out / "labels.csv").labels.items()
    }.items()
    for place in (out, out / "manifest.csv"):
        names = {row["value"]: row["name"] for row in described([3, 17, 900], {}, str(place))}
        assert names == {3: "Cortex", 17: "Hippocampus", 900: "label 900"}


@pytest.mark.parametrize("nnunet", [False, True])
def test_a_label_that_is_two_things_in_two_maps_is_refused(quick, bundles, maps, tmp_path, nnunet):
    (tmp_path / "head one.labels.csv").write_text("value,name\n3,Hippocampus\n", encoding="utf-8")
    said = "Label 3 is '(Cortex|Hippocampus)' in this set, and '(Hippocampus|Cortex)' in another label map"
    with pytest.raises(FileFailed, match=said):
        sets.make(order(bundles, tmp_path / "Dataset501_Made", maps, count=2, nnunet=nnunet))
