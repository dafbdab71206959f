"""Files that are read, or that have nothing to do with a run, outlive it whatever its results are called."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

import phantoms
from command_line import one_sentence
from medgan import batch
from medgan.anomaly_files import Item as AnomalyItem
from medgan.anomaly_files import map_file
from medgan.plan import Places, UsageError, plan
from medgan.records import voxel_files
from medgan.segmentation.files import Item as SegmentItem
from medgan.segmentation.files import segment_file
from medgan.settings import AnomalySettings, EnhanceSettings, SegmentSettings, SynthesizeSettings
from medgan.synthesis.sets import Order, make
from medgan.targets import are_apart, files_of
from medgan.volume import LabelMap, Volume, VolumeError, read_volume, write_volume

REFUSED = (VolumeError, batch.FileFailed)
LABELS = np.arange(60, dtype=np.int16).reshape(3, 4, 5) // 20


def nothing(*_: object) -> None:
    """For those who watch."""


RUNS = {
    "enhance": lambda source, target, overwrite: batch.enhance_file(
        batch.Item(source, target), EnhanceSettings(), batch.Manner(overwrite)
    ),
    "segment": lambda source, target, overwrite: segment_file(
        SegmentItem((source,), target), SegmentSettings(), overwrite
    ),
    "anomaly": lambda source, target, overwrite: map_file(
        AnomalyItem((source,), target), AnomalySettings(), overwrite, nothing
    ),
    "synthesize": lambda source, target, overwrite: make(
        Order(SynthesizeSettings("label-to-volume"), target, (source,), one_file=True, overwrite=overwrite)
    ),
}


def a_header(path: Path) -> Path:
    """A label map, whose header was then called "head", so that it names the file of another stem."""
    write_volume(LabelMap(LABELS, phantoms.awkward_geometry()), path)
    return path.rename(path.with_stem("head"))


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.mark.parametrize("name", ["a.mhd", "a.nhdr", "a.seg.nhdr", "A.MHD", "A.Nhdr", "a.nrrd", "a.nii.gz", "a.npz"])
def test_files_that_a_name_becomes_are_those_that_are_written(tmp_path, name):
    write_volume(Volume(LABELS.astype(np.float32), np.eye(4)), tmp_path / name)
    assert sorted(files_of(tmp_path / name)) == sorted(tmp_path.iterdir())


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", ["scan.mhd", "scan.nhdr"])
@pytest.mark.parametrize("run", RUNS)
def test_voxels_of_the_input_are_never_replaced(tmp_path, run, name, overwrite):
    source = a_header(tmp_path / name)
    before = contents(tmp_path)
    why = "is an input itself" if overwrite else "(is an input itself|exists already)"
    with pytest.raises(REFUSED, match=f"holds the voxels of '{name}', {why}"):
        RUNS[run](source, tmp_path / name, overwrite)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("run", RUNS)
def test_unrelated_file_of_the_name_of_the_voxels_stays(tmp_path, run):
    write_volume(LabelMap(LABELS, np.eye(4)), tmp_path / "lab.nrrd")
    (tmp_path / "scan.raw.gz").write_text("precious")
    before = contents(tmp_path)
    with pytest.raises(REFUSED, match=r"which holds the voxels of 'scan.nhdr', exists already; add --overwrite"):
        RUNS[run](tmp_path / "lab.nrrd", tmp_path / "scan.nhdr", False)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("name", ["scan.mhd", "scan.nhdr"])
def test_converted_labels_replace_no_voxels_of_another_header(tmp_path, call, name):
    a_header(tmp_path / name)
    before = contents(tmp_path)
    head = f"head{Path(name).suffix}"
    for more in ([], ["--overwrite"]):
        done = call("labelmap", head, name, "--grid", "2", *more, cwd=tmp_path)
        one_sentence(done, "is an input itself")
    write_volume(LabelMap(LABELS, np.eye(4)), tmp_path / "lab.nrrd")
    one_sentence(call("labelmap", "lab.nrrd", name, cwd=tmp_path), "exists already; add --overwrite")
    assert {file: held for file, held in contents(tmp_path).items() if file != "lab.nrrd"} == before
    assert call("labelmap", "lab.nrrd", name, "--overwrite", cwd=tmp_path).returncode == 0
    assert call("labelmap", "lab.nrrd", name, "--overwrite", cwd=tmp_path).returncode == 0  # it is its own header's


def test_voxels_of_another_row_are_never_written_over(tmp_path):
    a_header(tmp_path / "b.mhd")
    write_volume(LabelMap(LABELS, np.eye(4)), tmp_path / "a.nrrd")
    (tmp_path / "list.csv").write_text("input,output\na.nrrd,b.mhd\nhead.mhd,c.nrrd\n")
    with pytest.raises(UsageError, match=r"b.zraw' is one of the inputs and would be written over"):
        plan([tmp_path / "list.csv"], Places())


@pytest.mark.parametrize("place", ["", "slices/", "absolute"])
def test_slices_of_a_pattern_are_voxels_of_the_header_wherever_they_lie(tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / ("" if place == "absolute" else place)
    folder.mkdir(exist_ok=True)
    for number, slice_ in enumerate(LABELS):
        slice_.tofile(folder / f"a[1]_{number:02d}.raw")
    start = f"{tmp_path}/" if place == "absolute" else place
    lines = ["NDims = 3", "DimSize = 5 4 3", "ElementType = MET_SHORT", f"ElementDataFile = {start}a[1]_%02d.raw 0 2 1"]
    for header in (tmp_path / "head.mhd", Path("head.mhd")):
        header.write_text("\n".join(["ObjectType = Image", *lines]))
        assert np.array_equal(read_volume(header).array, LABELS)
        assert [file.resolve() for file in voxel_files(header)] == [folder / f"a[1]_{n:02d}.raw" for n in range(3)]
        assert len(plan([header], Places(out=tmp_path / "new"))) == 1


def test_spellings_of_one_path_are_one_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    here = Path("out.nii.gz")
    for other in (tmp_path / here, Path("sub/../out.nii.gz")):
        assert not are_apart([here, other])
    assert not are_apart([Path("out.mhd"), Path("out.MHD")])  # their voxels
    assert are_apart([here, Path("sub/out.nii.gz"), Path("out.nhdr"), Path("out.mhd")])


@pytest.mark.skipif(os.name == "nt", reason="links need a right there")
def test_two_outputs_in_a_folder_and_a_link_to_it_are_refused(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").symlink_to(tmp_path / "one")
    write_volume(Volume(LABELS.astype(np.float32), np.eye(4)), tmp_path / "a.nrrd")
    source, one, two = (tmp_path / name for name in ("a.nrrd", "one/r.nrrd", "two/r.nrrd"))
    with pytest.raises(batch.FileFailed, match="would become the same file"):
        batch.enhance_file(batch.Item(source, one, difference=two), EnhanceSettings())
    with pytest.raises(batch.FileFailed, match="would become the same file"):
        segment_file(SegmentItem((source,), one, two), SegmentSettings())
    with pytest.raises(batch.FileFailed, match="would become the same file"):
        map_file(AnomalyItem((source,), one, two), AnomalySettings(), False, nothing)
    assert not list((tmp_path / "one").iterdir())


@pytest.mark.parametrize("length", [250, 300])
@pytest.mark.parametrize("run", RUNS)
def test_name_that_is_too_long_is_refused_before_the_work(tmp_path, run, length):
    write_volume(LabelMap(LABELS, np.eye(4)), tmp_path / "a.nrrd")
    with pytest.raises(REFUSED, match=f"is too long a name; make it {length - 240} bytes shorter"):
        RUNS[run](tmp_path / "a.nrrd", tmp_path / f"{'n' * (length - 5)}.nrrd", False)
