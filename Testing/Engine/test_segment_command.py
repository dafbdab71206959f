"""``medgan segment`` as a person types it: real files, real child processes, a small untrained network."""

from __future__ import annotations

import csv
import json
import re

import numpy as np
import pytest
import SimpleITK as sitk

import phantoms
from command_line import one_sentence, run
from medgan import records
from medgan.labeltable import read_table
from medgan.segmentation.files import Item, segment_file
from medgan.settings import Device, SegmentSettings
from medgan.volume import Volume, VolumeError, read_label_map, read_volume, write_volume
from segment_models import zoo_bundle


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return zoo_bundle(tmp_path_factory.mktemp("models") / "zoo")


@pytest.fixture
def scan(tmp_path):
    array = np.random.default_rng(2).uniform(-100, 300, (11, 20, 24)).astype(np.float32)
    path = tmp_path / "scan ä.nrrd"
    write_volume(Volume(array, phantoms.awkward_geometry()), path)
    return path


def test_one_scan_becomes_segments_a_table_and_uncertainty(model, scan, tmp_path):
    out, table, unsure = tmp_path / "out.seg.nrrd", tmp_path / "t.csv", tmp_path / "u.nii.gz"
    names = tmp_path / "names.csv"
    options = ["--model", model, "--table", table, "--uncertainty", unsure, "--labels", names, "--device", "cpu"]
    ended = run("segment", scan, out, *options)
    assert ended.returncode == 0, ended.stderr
    assert "out.seg.nrrd" in ended.stdout
    image = sitk.ReadImage(str(out))
    assert {image.GetMetaData("Segment0_Name"), image.GetMetaData("Segment1_Name")} == {"liver", "tumour"}
    assert re.search(r"MedGAN\.Algorithm:\d+ MedGANSlicer zoo [\d.]+\|", image.GetMetaData("Segment0_Tags"))
    labels, volume = read_label_map(out), read_volume(scan)
    assert labels.shape == volume.shape
    assert labels.ijk_to_ras == pytest.approx(volume.ijk_to_ras)
    rows = {row["name"]: row for row in csv.DictReader(table.open(encoding="utf-8"))}
    for name, value in (("liver", 1), ("tumour", 2)):
        mask = labels.array == value
        assert int(rows[name]["voxels"]) == mask.sum()
        assert float(rows[name]["mean"]) == pytest.approx(volume.array[mask].mean(), rel=1e-4)
        assert rows[name]["file"] == str(scan)
    assert 0 < read_volume(unsure).array.max() <= 1
    assert read_table(names).labels[2].name == "tumour"
    for result in (out, unsure):
        record = json.loads((tmp_path / ".medgan" / f"{result.name}.json").read_text(encoding="utf-8"))
        report = record["report"]
        assert (report["model"], report["settings"]["uncertainty"]) == ("zoo", True)
        assert {"model_version", "model_sha256", "package_version", "seed"} <= set(report)


def test_table_of_the_file_that_was_there_does_not_name_the_new_one(model, scan, tmp_path):
    (tmp_path / "out.labels.csv").write_text("LabelValue,Name\n1,something old\n")
    refused = run("segment", scan, tmp_path / "out.nii.gz", "--model", model, "--device", "cpu")
    one_sentence(refused, "out.labels.csv' exists already; add --overwrite")
    done = run("segment", scan, tmp_path / "out.nii.gz", "--model", model, "--device", "cpu", "--overwrite")
    assert done.returncode == 0, done.stderr
    assert read_table(tmp_path / "out.labels.csv").labels[1].name == "liver"


def test_disk_that_is_full_leaves_what_was_to_be_replaced(model, scan, tmp_path, full_disk):
    """The labels fit, the uncertainty, of 21,472 bytes, does not."""
    item = Item((scan,), tmp_path / "out.nii.gz", tmp_path / "u.nii")
    before = {item.labels: b"labels", tmp_path / "out.labels.csv": b"names"}
    for path, held in before.items():
        path.write_bytes(held)
    settings = SegmentSettings(str(model), uncertainty=True, device=Device.CPU)
    with pytest.raises(VolumeError, match=r"'u\.nii' can not be written into"):
        segment_file(item, settings, overwrite=True, watch=lambda state: full_disk(15_000))
    assert {path: path.read_bytes() for path in tmp_path.iterdir() if path != scan} == before


def test_folder_of_enhanced_volumes_is_segmented(model, scan, tmp_path):
    folder = tmp_path / "enhanced"
    folder.mkdir()
    scan.rename(folder / "a.nrrd")
    records.note([folder / "a.nrrd"], {"task": "enhance"})
    ended = run("segment", folder, "--out", tmp_path / "out", "--model", model, "--device", "cpu")
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "out" / "a_labels.nrrd").is_file()


def test_several_files_one_of_them_broken(model, scan, tmp_path):
    folder, out = tmp_path / "in", tmp_path / "made" / "here"
    folder.mkdir()
    (folder / "a.nrrd").write_bytes(scan.read_bytes())
    (folder / "b.nrrd").write_bytes(b"no volume")
    ended = run("segment", folder, "--out", out, "--ending", ".nii.gz", "--model", model, "--flips", "--json")
    assert ended.returncode == 1
    said = json.loads(ended.stdout)
    assert [entry["status"] for entry in said["files"]] == ["done", "failed"]
    assert said["files"][0]["report"]["segments"][0]["name"] == "liver"
    assert sorted(path.name for path in out.iterdir()) == [".medgan", "a_labels.nii.gz"]
    assert [path.name for path in (out / ".medgan").iterdir()] == ["a_labels.nii.gz.json"]
    assert "1 of 2 files failed" in ended.stderr
    again = run("segment", folder / "a.nrrd", out / "a_labels.nii.gz", "--model", model)
    assert again.returncode == 1
    assert "exists already; add --overwrite" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["scan"], 2, "Say where to write"),
        (["scan", "out.txt"], 2, "is not the name of a volume file"),
        (["scan", "out.nii.gz", "--table", "t.txt"], 2, "end it with .csv"),
        (["scan", "out.nii.gz", "--labels", "t.doc"], 2, "'t.doc' is not the name of a label table"),
        (["scan", "out.nii.gz", "--model", "tissue-ct", "--table", "mine.csv"], 1, "'mine.csv' exists already"),
        (["scan", "out.nii.gz", "--model", "tissue-ct", "--labels", "mine.csv"], 1, "'mine.csv' exists already"),
        (["scan", "out.nii.gz", "--model", "tissue-ct", "--table", "t.csv", "--labels", "t.csv"], 1, "name of another"),
        (["scan", "out.nii.gz", "--model", "nowhere"], 1, "There is no model 'nowhere'"),
        (["scan", "out.nii.gz", "--model", "denoise"], 1, "made for the task 'enhance'"),
        (["scan", "out.nii.gz", "--spacing", "-1"], 2, "--spacing must lie between 0 and 20"),
        (["scan", "--out", "out.nii.gz"], 2, "'out.nii.gz' is the name of a volume file"),
        (["scan", "--out", "o", "--channel", "x.nii"], 2, "--channel goes with one scan"),
        (["scan", "--out", "o", "--uncertainty", "u.nii"], 2, "--uncertainty takes a folder"),
    ],
)
def test_wrong_use_is_one_sentence(arguments, code, sentence, scan, call, tmp_path):
    (tmp_path / "mine.csv").write_text("mine", encoding="utf-8")
    done = call("segment", *[str(scan) if part == "scan" else part for part in arguments], cwd=tmp_path)
    one_sentence(done, sentence, code)
    assert (tmp_path / "mine.csv").read_text(encoding="utf-8") == "mine"
    assert not (tmp_path / "out.nii.gz").exists()
