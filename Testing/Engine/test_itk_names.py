"""Files whose names ITK would not open are read and written all the same, as on Windows."""

from __future__ import annotations

import os

import numpy as np
import pytest
import SimpleITK as sitk

import phantoms
from medgan import dicomseg, itk_names, segnrrd, tilt
from medgan.frames import LIST, Frames, has_frames, read_frames
from medgan.labels import segmentation_of
from medgan.volume import LabelMap, VolumeError, read_label_map, read_volume, write_volume
from medgan.writing import write

ENDINGS = [".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd", ".npz"]


@pytest.fixture
def windows(monkeypatch):
    """ITK as it is on Windows: it takes the UTF-8 of names for letters of code page 1252."""

    def misread(given):
        if isinstance(given, (tuple, list)):
            return [misread(each) for each in given]
        return str(given).encode().decode("cp1252", "replace")

    for kind in (sitk.ImageFileReader, sitk.ImageFileWriter):
        usual = kind.SetFileName
        monkeypatch.setattr(kind, "SetFileName", lambda self, name, usual=usual: usual(self, misread(name)))
    series = sitk.ImageSeriesReader
    names, usual_ids, usual_files = series.SetFileNames, series.GetGDCMSeriesIDs, series.GetGDCMSeriesFileNames
    monkeypatch.setattr(series, "SetFileNames", lambda self, given: names(self, misread(given)))
    monkeypatch.setattr(series, "GetGDCMSeriesIDs", staticmethod(lambda folder: usual_ids(misread(folder))))
    monkeypatch.setattr(
        series, "GetGDCMSeriesFileNames", staticmethod(lambda folder, uid: usual_files(misread(folder), uid))
    )
    monkeypatch.setattr(itk_names, "ASCII_ONLY", True)


@pytest.fixture
def no_links(monkeypatch):
    def refused(*names, **options):
        raise OSError("A required privilege is not held by the client")

    monkeypatch.setattr(os, "symlink", refused)
    monkeypatch.setattr(os, "link", refused)


@pytest.fixture
def a_folder(tmp_path):
    folder = tmp_path / "Müller 日本"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("stem", ["scan", "tête.1 ü"])
def test_volume_comes_back(windows, a_folder, an_oblique_volume, stem, ending):
    write_volume(an_oblique_volume, a_folder / f"{stem}{ending}")
    back = read_volume(a_folder / f"{stem}{ending}")
    np.testing.assert_array_equal(back.array, an_oblique_volume.array)
    np.testing.assert_allclose(back.ijk_to_ras, an_oblique_volume.ijk_to_ras, atol=1e-4)
    assert back.meta["source"] == f"{stem}{ending}"
    assert len(list(a_folder.iterdir())) == 1 + (ending in (".nhdr", ".mhd"))


def test_volume_is_read_where_nothing_can_be_linked(windows, no_links, a_folder, a_volume):
    for value, name in enumerate(("ä.mhd", "ö.mhd", "ü.nii.gz", "ü.nii")):
        write_volume(a_volume.like(a_volume.array + value), a_folder / name)
    for value, name in enumerate(("ä.mhd", "ö.mhd", "ü.nii.gz", "ü.nii")):
        np.testing.assert_array_equal(read_volume(a_folder / name).array, a_volume.array + value)


def test_result_takes_the_place_of_an_earlier_one_and_leaves_no_copies(
    windows, a_folder, a_volume, tmp_path, monkeypatch
):
    (tmp_path / "rooms").mkdir()
    monkeypatch.setattr(itk_names.tempfile, "tempdir", str(tmp_path / "rooms"))
    for value in (1, 2):
        write_volume(a_volume.like(a_volume.array + value), a_folder / "ü.mhd")
    np.testing.assert_array_equal(read_volume(a_folder / "ü.mhd").array, a_volume.array + 2)
    assert len(list(a_folder.iterdir())) == 2
    assert list((tmp_path / "rooms").iterdir()) == []


def test_frames_come_back(windows, a_folder):
    array = np.arange(2 * 3 * 4 * 5, dtype=np.int16).reshape(2, 3, 4, 5)
    for frames, name in ((Frames(array, np.eye(4)), "ü.nii.gz"), (Frames(array, np.eye(4), layout=LIST), "ü.nrrd")):
        write(frames, a_folder / name)
        assert has_frames(a_folder / name)
        np.testing.assert_array_equal(read_frames(a_folder / name).array, array)


def test_segments_come_back(windows, a_folder, a_label_map):
    segnrrd.write(segmentation_of([a_label_map])[0], a_folder / "ü.seg.nrrd")
    assert segnrrd.holds_segments(a_folder / "ü.seg.nrrd")
    known = {segment.label.name for segment in segnrrd.read(a_folder / "ü.seg.nrrd").segments}
    assert known == {label.name for label in a_label_map.labels.values()}
    np.testing.assert_array_equal(read_label_map(a_folder / "ü.seg.nrrd").array, a_label_map.array)


@pytest.mark.parametrize("links", [True, False])
def test_dicom_series_is_read(windows, a_folder, request, links):
    pytest.importorskip("pydicom")
    if not links:
        request.getfixturevalue("no_links")
    array = phantoms.head((5, 9, 11)).astype(np.int16)
    positions = [(0.0, 0.7 * index, 3.0 * index) for index in range(len(array))]
    phantoms.write_dicom_series(a_folder, array, positions_mm=positions, description="schräg")
    volume = read_volume(a_folder)
    np.testing.assert_array_equal(volume.array, array)
    assert volume.meta["source"] == a_folder.name
    assert tilt.is_tilted(a_folder)


def test_damaged_dicom_slice_is_noticed(windows, a_folder):
    pytest.importorskip("pydicom")
    phantoms.write_dicom_series(a_folder, phantoms.head((5, 9, 11)).astype(np.int16))
    cut = a_folder / "T1002.dcm"
    cut.write_bytes(cut.read_bytes()[:-100])
    with pytest.raises(VolumeError, match=r"'T1002\.dcm' is damaged or cut off"):
        read_volume(a_folder)


def test_dicom_segmentation_is_written_for_its_series(windows, a_folder):
    pytest.importorskip("highdicom")
    phantoms.write_dicom_series(a_folder / "ö", phantoms.head((5, 9, 11)).astype(np.int16))
    whole = LabelMap(np.ones((5, 9, 11), np.uint8), read_volume(a_folder / "ö").ijk_to_ras)
    dicomseg.write(segmentation_of([whole])[0], a_folder / "ü.dcm", a_folder / "ö")
    np.testing.assert_array_equal(dicomseg.read(a_folder / "ü.dcm").mask(0), True)


def test_without_a_folder_of_plain_letters_the_name_is_said_to_be_at_fault(windows, a_folder, a_volume, monkeypatch):
    write_volume(a_volume, a_folder / "scan.nrrd")
    monkeypatch.setattr(itk_names.tempfile, "tempdir", str(a_folder))
    for name in ("PROGRAMDATA", "PUBLIC"):
        monkeypatch.delenv(name, raising=False)
    for use in (lambda: read_volume(a_folder / "scan.nrrd"), lambda: write_volume(a_volume, a_folder / "new.nrrd")):
        with pytest.raises(VolumeError, match=r"ITK can not open names with letters such as 'ü'.*move or rename"):
            use()
    assert not has_frames(a_folder / "scan.nrrd")
    assert sorted(file.name for file in a_folder.iterdir()) == ["scan.nrrd"]


def test_header_whose_voxels_lie_under_such_a_name_is_said_to_be_at_fault(windows, tmp_path, a_volume):
    write_volume(a_volume, tmp_path / "a.mhd")
    header = (tmp_path / "a.mhd").read_text()
    (tmp_path / "a.zraw").rename(tmp_path / "ä.zraw")
    (tmp_path / "a.mhd").write_text(header.replace("a.zraw", "ä.zraw"), encoding="utf-8")
    with pytest.raises(VolumeError, match="letters such as 'ä'"):
        read_volume(tmp_path / "a.mhd")
