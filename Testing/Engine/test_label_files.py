"""Segmentations and label maps in files, as ``medgan labelmap`` reads and writes them."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk
from typer.testing import CliRunner

import phantoms
from command_line import one_sentence
from medgan import cli, freesurfer, labelfiles, labelmap_command, records, segments, segnrrd
from medgan.labels import Overlap, merged, segmentation_of
from medgan.labeltable import LabelTable, read_table, unnamed, write_table
from medgan.resampling import beyond, onto
from medgan.segments import Layer, Segment, Segmentation
from medgan.volume import Label, LabelMap, Volume, VolumeError, read_label_map, write_volume

MATRIX = phantoms.awkward_geometry()
FREESURFER = freesurfer.table().labels
ODD_NAME = Label('Ümläut, "x" | y', (0.2, 0.4, 0.6))


def run_here(*arguments: object) -> SimpleNamespace:
    """The command within this process; no child is involved."""
    done = CliRunner(env={"NO_COLOR": "1"}).invoke(cli.app, [str(each) for each in arguments])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return SimpleNamespace(returncode=done.exit_code, stdout=done.stdout, stderr=done.stderr)


def two_layers(matrix=MATRIX) -> Segmentation:
    """Structures of a brain, one of them without a voxel, and one with a large value that overlaps them."""
    draw = np.random.default_rng(0)
    brain = draw.choice([0, 2, 41, 530], (7, 9, 11)).astype(np.int16)
    lesion = draw.choice([0, 0, 0, 40000], (7, 9, 11)).astype(np.int32)
    labels = {value: FREESURFER[value] for value in (2, 17, 41, 530)}
    maps = [LabelMap(brain, matrix, labels), LabelMap(lesion, matrix, {40000: ODD_NAME})]
    return segmentation_of(maps, keep_empty=True)[0]


def assert_same(one: Segmentation, other: Segmentation) -> None:
    assert [segment.known_value for segment in one.segments] == [segment.known_value for segment in other.segments]
    assert [segment.label for segment in one.segments] == [segment.label for segment in other.segments]
    assert one.shape == other.shape
    np.testing.assert_allclose(one.ijk_to_ras, other.ijk_to_ras, atol=1e-9)
    for number in range(len(one.segments)):
        np.testing.assert_array_equal(one.mask(number), other.mask(number))


def test_segmentation_file_keeps_everything(tmp_path):
    segmentation = two_layers()
    assert labelfiles.write(segmentation, tmp_path / "brain.seg.nrrd")[0] == [tmp_path / "brain.seg.nrrd"]
    assert_same(labelfiles.read(tmp_path / "brain.seg.nrrd")[0], segmentation)


@pytest.mark.parametrize("name", ["brain.seg.nrrd", "brain.nii.gz"])
def test_what_replaces_the_result_of_a_model_has_no_record_of_it(tmp_path, name):
    segnrrd.write(two_layers(), tmp_path / "drawn.seg.nrrd")
    write_volume(LabelMap(np.ones((3, 4, 5), np.uint8), MATRIX), tmp_path / name)
    records.note([tmp_path / name], {"model": "zoo"})
    done = run_here("labelmap", tmp_path / "drawn.seg.nrrd", tmp_path / name, "--overwrite")
    assert done.returncode == 0, done.stderr
    assert not records.is_result(tmp_path / name)


def test_plain_volume_files_hold_no_segments(tmp_path):
    write_volume(LabelMap(np.ones((3, 4, 5), np.int16), MATRIX), tmp_path / "plain.nrrd")
    assert not segnrrd.holds_segments(tmp_path / "plain.nrrd")
    assert not segnrrd.holds_segments(tmp_path / "missing.nrrd")


@pytest.mark.parametrize("name", ["brain.nii.gz", "brain.nrrd", "brain.mha", "brain.npz"])
def test_label_map_file_and_its_table_give_the_segments_back(tmp_path, name):
    part = two_layers()
    part.segments, part.layers = part.segments[:4], part.layers[:1]
    files, _, _ = labelfiles.write(part, tmp_path / name)
    assert [file.name for file in files] == [name, *([] if name.endswith("npz") else ["brain.labels.csv"])]
    again = labelfiles.read(tmp_path / name)[0]
    again.ijk_to_ras = np.round(again.ijk_to_ras, 4)
    part.ijk_to_ras = np.round(part.ijk_to_ras, 4)
    assert_same(again, part)


def test_segment_without_a_voxel_and_without_a_name_comes_back(tmp_path):
    part = segmentation_of(
        [LabelMap(np.ones((3, 4, 5), np.int16), MATRIX, {1: unnamed(1), 7: unnamed(7)})], None, True
    )[0]
    assert len(labelfiles.write(part, tmp_path / "some.mha")[0]) == 2
    assert [segment.known_value for segment in labelfiles.read(tmp_path / "some.mha")[0].segments] == [1, 7]
    part.segments = part.segments[:1]
    assert labelfiles.write(part, tmp_path / "one.mha")[0] == [tmp_path / "one.mha"]


def test_one_file_a_layer_loses_nothing(tmp_path):
    segmentation = two_layers()
    files, _, said = labelfiles.write(segmentation, tmp_path / "brain.mha", overlap=Overlap.LAYERS)
    names = ["brain_1.mha", "brain_2.mha", "brain_1.labels.csv", "brain_2.labels.csv"]
    assert [file.name for file in files] == names
    assert said[1] == "Segments overlap, so there are 2 label maps."
    maps = [labelfiles.read(tmp_path / name)[0] for name in names[:2]]
    assert [segment.known_value for part in maps for segment in part.segments] == [2, 17, 41, 530, 40000]
    np.testing.assert_array_equal(maps[1].mask(0), segmentation.mask(4))


@pytest.fixture
def a_series(tmp_path):
    pytest.importorskip("highdicom")
    folder = tmp_path / "series"
    folder.mkdir()
    turned = tuple(np.round(phantoms.rotation((15.0, -25.0, 35.0))[:, :2].T.ravel(), 8))
    phantoms.write_dicom_series(folder, phantoms.head((7, 9, 11)).astype(np.int16), orientation=turned)
    return folder


def test_dicom_segmentation_keeps_values_names_codes_and_overlaps(tmp_path, a_series):
    from medgan.volume import read_volume

    segmentation = two_layers(read_volume(a_series).ijk_to_ras)
    _, _, said = labelfiles.write(segmentation, tmp_path / "brain.dcm", reference=a_series)
    assert [sentence[:40] for sentence in said] == ["What drew the segments is not known of a"]
    again = labelfiles.read(tmp_path / "brain.dcm")[0]
    for one, other in zip(again.segments, segmentation.segments, strict=True):
        assert one.known_value == other.known_value
        assert one.label.name == other.label.name
        assert one.label.terminology == other.label.terminology
        np.testing.assert_allclose(one.label.color, other.label.color, atol=2 / 255)
    back = onto(again, segmentation.shape, segmentation.ijk_to_ras)
    for number in range(len(segmentation.segments)):
        np.testing.assert_array_equal(back.mask(number), segmentation.mask(number))


def test_dicom_segmentation_of_one_layer_comes_onto_the_grid_of_its_series(tmp_path, a_series):
    from medgan.volume import read_volume

    scan = read_volume(a_series)
    part = two_layers(scan.ijk_to_ras)
    part.segments, part.layers = part.segments[:4], part.layers[:1]
    for segment in part.segments:
        segment.algorithm = "a program"
    larger = onto(part, (9, 12, 14), scan.ijk_to_ras)
    _, _, said = labelfiles.write(larger, tmp_path / "brain.dcm", reference=a_series)
    assert said == ["The segments were brought onto the grid of the reference series, nearest neighbour."]
    back = onto(labelfiles.read(tmp_path / "brain.dcm")[0], part.shape, part.ijk_to_ras)
    for number in range(4):
        np.testing.assert_array_equal(back.mask(number), part.mask(number))


def test_dicom_segmentation_tells_what_lies_beyond_its_series(tmp_path, a_series):
    from medgan.volume import read_volume

    scan = read_volume(a_series)
    moved = scan.ijk_to_ras.copy()
    moved[:3, 3] = (moved @ (0, 0, 3, 1))[:3]
    said = labelfiles.write(one_part(moved, "liver", "spleen"), tmp_path / "o.dcm", reference=a_series)[2]
    assert "Beyond the grid: 'liver' 33 of 77 voxels, 'spleen' 33 of 77 voxels." in said


def test_dicom_segmentation_of_layers_that_do_not_overlap_keeps_them(tmp_path, a_series):
    from medgan.volume import read_volume

    scan = read_volume(a_series)
    liver, spleen = np.zeros((2, *scan.shape), np.uint8)
    liver[1:4, 2:6, 3:9], spleen[4:6, 1:5, 2:7] = 1, 2
    for array, name in ((liver, "a.nii.gz"), (spleen, "b.nii.gz")):
        write_volume(LabelMap(array, scan.ijk_to_ras), tmp_path / name)
    done = run_here(
        "labelmap", tmp_path / "a.nii.gz", tmp_path / "b.nii.gz", tmp_path / "o.dcm", "--reference", a_series
    )
    assert done.returncode == 0, done.stderr
    back = onto(labelfiles.read(tmp_path / "o.dcm")[0], scan.shape, scan.ijk_to_ras)
    assert [segment.known_value for segment in back.segments] == [1, 2]
    np.testing.assert_array_equal(back.mask(0), liver == 1)
    np.testing.assert_array_equal(back.mask(1), spleen == 2)


def test_dicom_segmentation_tells_what_drew_its_segments(tmp_path, a_series):
    """Of three segments of a model one is edited, and one is a person's."""
    import pydicom

    from medgan.segmentation.files import write_output
    from medgan.volume import read_volume

    part = one_part(read_volume(a_series).ijk_to_ras, "liver", "spleen", "kidney")
    drawn = LabelMap(part.layers[0].array, part.ijk_to_ras, {s.value: s.label for s in part.segments})
    write_output(drawn, tmp_path / "parts.seg.nrrd", "MedGANSlicer organs 1.0")
    held = labelfiles.read(tmp_path / "parts.seg.nrrd")[0]
    held.layers[0].array[3, 1, 5] = 0
    held.segments[2].algorithm = ""
    image = sitk.ReadImage(str(tmp_path / "parts.seg.nrrd"))  # as Slicer saves an edited one: the tags stay
    edited = sitk.GetImageFromArray(held.layers[0].array)
    edited.CopyInformation(image)
    for key in image.GetMetaDataKeys():
        edited.SetMetaData(key, image.GetMetaData(key))
    edited.SetMetaData("Segment2_Tags", "|")
    sitk.WriteImage(edited, str(tmp_path / "edited.seg.nrrd"))

    def said_of(file: Path) -> list[tuple[str, str | None]]:
        segments = pydicom.dcmread(file).SegmentSequence
        return [(each.SegmentAlgorithmType, each.get("SegmentAlgorithmName")) for each in segments]

    to_dicom = ("--reference", a_series, "--overwrite")
    done = run_here("labelmap", tmp_path / "edited.seg.nrrd", tmp_path / "a.dcm", *to_dicom)
    model = "MedGANSlicer organs 1.0"
    assert said_of(tmp_path / "a.dcm") == [("AUTOMATIC", model), ("SEMIAUTOMATIC", model), ("MANUAL", None)]
    assert "if it was a program, name it with --algorithm" in " ".join(done.stderr.split())
    run_here("labelmap", tmp_path / "a.dcm", tmp_path / "back.seg.nrrd")
    run_here("labelmap", tmp_path / "back.seg.nrrd", tmp_path / "b.dcm", *to_dicom)
    assert said_of(tmp_path / "b.dcm") == said_of(tmp_path / "a.dcm")
    done = run_here("labelmap", tmp_path / "back.seg.nrrd", tmp_path / "c.dcm", *to_dicom, "--algorithm", "a\\b")
    assert said_of(tmp_path / "c.dcm") == [("AUTOMATIC", "a/b")] * 3
    assert "--algorithm" not in done.stderr


def one_part(matrix: np.ndarray, *names: str) -> Segmentation:
    """A segment in each row of the grid of ``a_series``."""
    array = np.zeros((7, 9, 11), np.uint8)
    for row in range(len(names)):
        array[:, row] = row + 1
    return segmentation_of([LabelMap(array, matrix, {n: Label(name) for n, name in enumerate(names, start=1)})])[0]


def rewrite_headers(folder: Path, **entries: object) -> None:
    import pydicom

    for file in sorted(folder.iterdir()):
        image = pydicom.dcmread(file)
        for name, entry in entries.items():
            setattr(image, name, entry)
        image.save_as(file)


def test_dicom_segmentation_belongs_to_the_series_whose_grid_it_has(tmp_path, a_series):
    """Of two equally long ones, and beside reports that have no place."""
    import pydicom

    from medgan.volume import read_volume

    phantoms.write_dicom_series(a_series, phantoms.head((7, 9, 11)).astype(np.int16), description="T2")
    for number in range(9):
        report = pydicom.dcmread(a_series / "T1000.dcm")
        report.SOPClassUID = report.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.88.11"
        report.SeriesInstanceUID = "1.2.3"
        del report.ImagePositionPatient, report.PixelData
        report.save_as(a_series / f"report{number}.dcm")
    scan = read_volume(a_series)
    said = labelfiles.write(one_part(scan.ijk_to_ras, "liver"), tmp_path / "o.dcm", reference=a_series)[2]
    assert said[:-1] == scan.meta["messages"]
    assert "2 series" in said[0]
    series = pydicom.dcmread(tmp_path / "o.dcm").ReferencedSeriesSequence[0].SeriesInstanceUID
    (name,) = (each for each in ("T1", "T2") if f"MR {each}" in said[0])
    assert series == pydicom.dcmread(a_series / f"{name}000.dcm").SeriesInstanceUID


@pytest.mark.parametrize("charset", [None, "ISO_IR 100", ["", "ISO 2022 IR 87"]])
def test_dicom_segmentation_keeps_names_of_any_script(tmp_path, a_series, charset):
    import pydicom

    from medgan.volume import read_volume

    patient = "Yamada^Tarou=山田^太郎" if isinstance(charset, list) else "A^B"
    rewrite_headers(a_series, SpecificCharacterSet=charset, PatientName=patient)
    names = ["肝臓", "ventrículo", "печень", "liver\\left", "n" * 65]
    part = one_part(read_volume(a_series).ijk_to_ras, *names)
    part.segments[0].label = Label(names[0], (1.2, -0.1, 0.3), f"~SCT^1^{'m' * 65}~SCT^2^Liver~~~~")
    said = labelfiles.write(part, tmp_path / "o.dcm", reference=a_series)[2]
    again = [segment.label.name for segment in labelfiles.read(tmp_path / "o.dcm")[0].segments]
    assert again == [*names[:3], "liver/left", "n" * 64]
    assert len(said) == 2
    assert "'liver\\left' as 'liver/left'" in said[0]
    assert f"as '{'m' * 64}'" in said[0]
    assert pydicom.dcmread(tmp_path / "o.dcm").PatientName == patient


@pytest.mark.parametrize("told", [True, False])
def test_dicom_segmentation_of_one_slice_is_as_thick_as_it(tmp_path, a_series, told):
    import pydicom

    from medgan.volume import read_volume

    for file in sorted(a_series.iterdir())[1:]:
        file.unlink()
    scan = read_volume(a_series)
    labelfiles.write(
        onto(one_part(scan.ijk_to_ras, "liver"), scan.shape, scan.ijk_to_ras), tmp_path / "o.dcm", reference=a_series
    )
    if not told:  # as other programs write it, with a code that is long
        held = pydicom.dcmread(tmp_path / "o.dcm")
        del held.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices
        code = held.SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0]
        code.LongCodeValue = "12345678901234567"
        del code.CodeValue
        held.save_as(tmp_path / "o.dcm")
    again = labelfiles.read(tmp_path / "o.dcm")[0]
    np.testing.assert_allclose(np.linalg.norm(again.ijk_to_ras[:3, :3], axis=0), (0.8, 1.2, 2.5), atol=1e-6)
    assert ("12345678901234567" in again.segments[0].label.terminology) is not told


@pytest.mark.parametrize(
    ("slices", "depth_mm"), [((1, 5), 12.5), ((0, 2, 5), 15.0), ((1, 3, 5), 15.0), ((0, 1, 4), 12.5), ((2, 3), 5.0)]
)
def test_dicom_segmentation_without_its_empty_slices_and_their_distance_is_as_deep_as_drawn(
    tmp_path, a_series, slices, depth_mm
):
    """Slices of 2.5 mm; of three at one distance none is taken to be missing."""
    import pydicom

    from medgan.volume import read_volume

    part = one_part(read_volume(a_series).ijk_to_ras, "liver", "spleen")
    part.layers[0].array[[k for k in range(7) if k not in slices]] = 0
    labelfiles.write(part, tmp_path / "o.dcm", reference=a_series)
    held = pydicom.dcmread(tmp_path / "o.dcm")
    del held.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices
    held.save_as(tmp_path / "o.dcm")
    again = labelfiles.read(tmp_path / "o.dcm")[0]
    assert again.shape[0] * np.linalg.norm(again.ijk_to_ras[:3, 2]) == pytest.approx(depth_mm, abs=1e-4)
    assert again.mask(0).any(axis=(1, 2)).sum() == len(slices)


@pytest.mark.parametrize("slices", [(2, 3), (2, 4), (1, 2, 4), (1, 6), (0, 3, 5)])
@pytest.mark.parametrize("spacing_mm", [2.98, 2.99, 3.02])
def test_dicom_segmentation_with_a_rounded_thickness_is_as_deep_as_drawn(tmp_path, slices, spacing_mm):
    import pydicom

    from medgan.volume import read_volume

    (tmp_path / "s").mkdir()
    scan = phantoms.head((7, 9, 11)).astype(np.int16)
    phantoms.write_dicom_series(tmp_path / "s", scan, positions_mm=[(0.0, 0.0, spacing_mm * k) for k in range(7)])
    part = one_part(read_volume(tmp_path / "s").ijk_to_ras, "liver")
    part.layers[0].array[[k for k in range(7) if k not in slices]] = 0
    labelfiles.write(part, tmp_path / "o.dcm", reference=tmp_path / "s")
    held = pydicom.dcmread(tmp_path / "o.dcm")
    (measures,) = held.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence
    del measures.SpacingBetweenSlices
    measures.SliceThickness = "3"
    held.save_as(tmp_path / "o.dcm")
    again = labelfiles.read(tmp_path / "o.dcm")[0]
    assert np.linalg.norm(again.ijk_to_ras[:3, 2]) == pytest.approx(spacing_mm, abs=1e-4)
    np.testing.assert_array_equal(onto(again, part.shape, part.ijk_to_ras).mask(0), part.mask(0))


def test_dicom_segments_that_overlap_are_in_as_few_layers_as_it_takes(tmp_path, a_series):
    from medgan.volume import read_volume

    part = one_part(read_volume(a_series).ijk_to_ras, *(f"part {n}" for n in range(6)))
    part = merged([part, one_part(part.ijk_to_ras, "over the first")])
    labelfiles.write(part, tmp_path / "o.dcm", reference=a_series)
    again = labelfiles.read(tmp_path / "o.dcm")[0]
    assert [segment.layer for segment in again.segments] == [0, 0, 0, 0, 0, 0, 1]
    back = onto(again, part.shape, part.ijk_to_ras)
    for number in range(len(part.segments)):
        np.testing.assert_array_equal(back.mask(number), part.mask(number))


def test_dicom_segmentation_of_probabilities_is_refused_in_one_sentence(tmp_path, a_series):
    import pydicom

    from medgan.volume import read_volume

    labelfiles.write(one_part(read_volume(a_series).ijk_to_ras, "liver"), tmp_path / "o.dcm", reference=a_series)
    held = pydicom.dcmread(tmp_path / "o.dcm")
    mask = held.pixel_array
    held.SegmentationType, held.SegmentationFractionalType, held.MaximumFractionalValue = (
        "FRACTIONAL",
        "PROBABILITY",
        255,
    )
    held.BitsAllocated = held.BitsStored = 8
    held.HighBit = 7
    for share in (1.0, 0.6):
        held.PixelData = (mask * round(255 * share)).astype(np.uint8).tobytes() + b"\0" * (mask.size % 2)
        held.save_as(tmp_path / f"{share}.dcm")
    assert labelfiles.read(tmp_path / "1.0.dcm")[0].mask(0).sum() == mask.sum()
    done = run_here("labelmap", tmp_path / "0.6.dcm", tmp_path / "o.seg.nrrd")
    one_sentence(done, "(FRACTIONAL)")


def test_segments_without_a_colour_get_ones_that_differ(tmp_path, a_series):
    import pydicom

    from medgan.volume import read_volume

    part = one_part(read_volume(a_series).ijk_to_ras, "liver", "spleen")
    labelfiles.write(part, tmp_path / "o.dcm", reference=a_series)
    held = pydicom.dcmread(tmp_path / "o.dcm")
    for segment in held.SegmentSequence:
        del segment.RecommendedDisplayCIELabValue
    held.save_as(tmp_path / "o.dcm")
    labelfiles.write(part, tmp_path / "o.seg.nrrd")
    image = sitk.ReadImage(str(tmp_path / "o.seg.nrrd"))
    for number in range(2):
        image.EraseMetaData(f"Segment{number}_Color")
    sitk.WriteImage(image, str(tmp_path / "o.seg.nrrd"))
    for name in ("o.dcm", "o.seg.nrrd"):
        colors = [segment.label.color for segment in labelfiles.read(tmp_path / name)[0].segments]
        assert colors == [unnamed(1).color, unnamed(2).color]


def test_dicom_segmentation_of_a_tilted_gantry_is_refused(tmp_path):
    pytest.importorskip("highdicom")
    positions = [(0.0, 0.4 * n, 2.0 * n) for n in range(7)]
    phantoms.write_dicom_series(tmp_path / "s", phantoms.head((7, 9, 11)).astype(np.int16), positions_mm=positions)
    with pytest.raises(VolumeError, match="tilted gantry"):
        labelfiles.write(one_part(MATRIX, "liver"), tmp_path / "o.dcm", reference=tmp_path / "s")
    assert not (tmp_path / "o.dcm").exists()


def test_dicom_segmentation_of_another_place_is_refused(tmp_path, a_series):
    from medgan.volume import read_volume

    away = read_volume(a_series).ijk_to_ras
    away[:3, 3] += 500.0
    with pytest.raises(VolumeError, match="No segment lies within the series"):
        labelfiles.write(one_part(away, "liver"), tmp_path / "o.dcm", reference=a_series)
    assert not (tmp_path / "o.dcm").exists()


@pytest.mark.parametrize("outside", [(0, 0, 7), (0, 0, 7.3)])
def test_dicom_segmentation_beside_its_series_is_refused(tmp_path, a_series, outside):
    """By whole voxels, too, where nothing is resampled."""
    from medgan.volume import read_volume

    beside = read_volume(a_series).ijk_to_ras
    beside[:3, 3] = (beside @ (*outside, 1))[:3]
    segnrrd.write(one_part(beside, "liver"), tmp_path / "beside.seg.nrrd")
    done = run_here("labelmap", tmp_path / "beside.seg.nrrd", tmp_path / "o.dcm", "--reference", a_series)
    assert done.returncode == 1
    assert "No segment lies within the series" in " ".join(done.stderr.split())
    assert not (tmp_path / "o.dcm").exists()


def test_dicom_segmentation_tells_the_voxels_that_lie_within_its_series(tmp_path, a_series):
    from medgan.volume import read_volume

    matrix = read_volume(a_series).ijk_to_ras
    for shift, name in ((0, "liver"), (3, "spleen")):
        moved = matrix.copy()
        moved[:3, 3] = (matrix @ (0, 0, shift, 1))[:3]
        segnrrd.write(one_part(moved, name), tmp_path / f"{name}.seg.nrrd")
        write_volume(Volume(np.zeros((3, 9, 11)), moved), tmp_path / f"{name}.nrrd")
    inputs = [tmp_path / f"{name}.seg.nrrd" for name in ("liver", "spleen")]
    to_dicom = (tmp_path / "o.dcm", "--reference", a_series, "--overwrite", "--json")
    for grid, expected in ([], [77, 44]), (["--grid", tmp_path / "spleen.nrrd"], [33, 33]):
        done = run_here("labelmap", *inputs, *to_dicom, *grid)
        assert done.returncode == 0, done.stderr
        said = json.loads(done.stdout)
        assert [row["voxels"] for row in said["segments"]] == expected
        assert labelfiles.read(tmp_path / "o.dcm")[0].voxels() == expected
        (cut,) = (sentence for sentence in said["messages"] if "Beyond" in sentence)
        assert "'spleen'" in cut
        assert not any("extended" in sentence for sentence in said["messages"])


def test_dicom_without_its_package_is_one_sentence(tmp_path, a_series, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(VolumeError, match=r"need the Python package 'highdicom'.*medganslicer\[dicom\]"):
        labelfiles.write(two_layers(), tmp_path / "brain.dcm", reference=a_series)
    assert not (tmp_path / "brain.dcm").exists()


def test_segments_of_several_files_keep_ids_of_their_own(tmp_path):
    """3D Slicer drops a segment whose ID another one has."""
    part = two_layers()
    for segment, own in zip(part.segments, ("", "Segment_1", "Segment_1", "", "x"), strict=True):
        segment.id = own
    segnrrd.write(part, tmp_path / "a.seg.nrrd")
    ids = [segment.id for segment in segnrrd.read(tmp_path / "a.seg.nrrd").segments]
    assert len(set(ids)) == 5
    assert [ids[1], ids[4]] == ["Segment_1", "x"]


# The command


@pytest.fixture
def a_label_map(tmp_path):
    array = np.random.default_rng(1).choice([0, 2, 41, 999], (6, 7, 8)).astype(np.int16)
    write_volume(LabelMap(array, MATRIX), tmp_path / "seg one.nii.gz")
    return tmp_path / "seg one.nii.gz"


def test_command_names_the_values_and_tells_what_it_does_not_know(tmp_path, a_label_map):
    write_table({2: FREESURFER[2], 41: FREESURFER[41], 60: FREESURFER[60]}, tmp_path / "own.csv")
    result = tmp_path / "named.seg.nrrd"
    done = run_here("labelmap", a_label_map, result, "--table", tmp_path / "own.csv", "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["unknown"] == [999]
    assert said["holes"] == [60]
    assert said["files"] == [str(result)]
    array = read_label_map(a_label_map).array
    assert {row["value"]: row["voxels"] for row in said["segments"]} == {
        v: int((array == v).sum()) for v in (2, 41, 999)
    }
    again = segnrrd.read(result)
    assert [segment.label.name for segment in again.segments] == [FREESURFER[2].name, FREESURFER[41].name, "label 999"]


def test_command_there_and_back_is_the_same_label_map(tmp_path, a_label_map):
    assert run_here("labelmap", a_label_map, tmp_path / "a.seg.nrrd", "--table", "freesurfer").returncode == 0
    done = run_here("labelmap", tmp_path / "a.seg.nrrd", tmp_path / "back.nii.gz")
    assert done.returncode == 0, done.stderr
    assert "a.seg.nrrd -> " in done.stdout
    np.testing.assert_array_equal(read_label_map(tmp_path / "back.nii.gz").array, read_label_map(a_label_map).array)
    assert read_table(tmp_path / "back.labels.csv").labels[41] == FREESURFER[41]


def test_command_never_replaces_a_table_that_lies_there_unasked(tmp_path, a_label_map):
    (tmp_path / "new.labels.csv").write_text("mine")
    one_sentence(run_here("labelmap", a_label_map, tmp_path / "new.nrrd", "--table", "freesurfer"), "--overwrite")
    assert (tmp_path / "new.labels.csv").read_text() == "mine"
    assert not (tmp_path / "new.nrrd").exists()
    done = run_here("labelmap", a_label_map, tmp_path / "new.nrrd", "--table", "freesurfer", "--overwrite")
    assert done.returncode == 0, done.stderr
    again = run_here(
        "labelmap", tmp_path / "new.nrrd", tmp_path / "named.seg.nrrd", "--save-table", tmp_path / "t.json"
    )
    assert "'new.labels.csv', which lies beside it" in again.stderr
    assert read_table(tmp_path / "t.json").labels[41] == FREESURFER[41]


def test_table_of_the_file_that_was_there_does_not_name_the_new_one(tmp_path, a_label_map):
    """Neither when the new one has no names, nor when its table is written elsewhere."""
    out, beside = tmp_path / "parts.nrrd", tmp_path / "parts.labels.csv"
    other = ("--save-table", tmp_path / "other.csv")
    for more in ((), other, (*other, "--table", "freesurfer")):
        write_table({2: Label("liver"), 999: Label("spleen")}, beside)
        one_sentence(run_here("labelmap", a_label_map, out, *more), f"'{beside}' exists already; add --overwrite")
        assert not out.exists()
        assert run_here("labelmap", a_label_map, out, *more, "--overwrite").returncode == 0
        names = [segment.label.name for segment in labelfiles.read(out)[0].segments]
        known = [FREESURFER[value].name for value in (2, 41)] if "--table" in more else ["label 2", "label 41"]
        assert names == [*known, "label 999"]
        out.unlink()
        (tmp_path / "other.csv").unlink(missing_ok=True)


def test_files_that_are_read_are_never_replaced(tmp_path, a_label_map):
    """Be it the table beside an input, the given table, the grid, or an input with the name of a layer."""
    own = a_label_map.with_name("seg one.labels.csv")
    write_table({2: Label("liver"), 41: Label("spleen"), 7: Label("nothing")}, own)
    (tmp_path / "x.labels.csv").write_text("LabelValue,Name,Note\n2,liver,mine\n")
    for name in ("layer_1.nrrd", "layer_2.nrrd"):
        write_volume(LabelMap(np.ones((6, 7, 8), np.int16), MATRIX), tmp_path / name)
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    layers = (tmp_path / "layer_1.nrrd", tmp_path / "layer_2.nrrd")
    for arguments in (
        (a_label_map, tmp_path / "seg one.nrrd", "--values", "consecutive"),
        (a_label_map, tmp_path / "a.nrrd", "--save-table", own),
        (a_label_map, own),
        (a_label_map, tmp_path / "x.nrrd", "--table", tmp_path / "x.labels.csv"),
        (a_label_map, layers[0], "--grid", layers[0]),
        (*layers, tmp_path / "layer.nrrd", "--overlap", "layers"),
    ):
        one_sentence(
            run_here("labelmap", *arguments, "--overwrite"), "is an input itself; give the result another name"
        )
        assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_dicom_folders_that_are_read_lose_no_file(tmp_path, a_series):
    """Neither an image of the reference series nor the segmentation in an input; an earlier result beside the images
    is none of them, nor is a table."""
    from medgan.volume import read_volume

    part = tmp_path / "part.seg.nrrd"
    segnrrd.write(one_part(read_volume(a_series).ijk_to_ras, "liver"), part)
    more = ("--reference", a_series, "--save-table", a_series / "table.csv", "--overwrite")
    for _ in range(2):
        done = run_here("labelmap", part, a_series / "seg.dcm", *more)
        assert done.returncode == 0, done.stderr
    before = {file: file.read_bytes() for file in a_series.iterdir()}
    for source, out in ((part, "T1000.dcm"), (a_series, "seg.dcm")):
        one_sentence(run_here("labelmap", source, a_series / out, *more), "is an input itself; give the result another")
        assert {file: file.read_bytes() for file in a_series.iterdir()} == before


def test_table_of_several_files_has_all_their_segments(tmp_path, a_label_map):
    write_volume(LabelMap(np.full((6, 7, 8), 2, np.int16), MATRIX), tmp_path / "other.nrrd")
    own = LabelTable({2: Label("liver"), 41: Label("spleen"), 5: Label("none")})
    write_table(own, tmp_path / "t.csv")
    done = run_here(
        *(
            "labelmap",
            tmp_path / "other.nrrd",
            a_label_map,
            tmp_path / "two.csv",
            "--table",
            tmp_path / "t.csv",
            "--json",
        )
    )
    said = json.loads(done.stdout)
    assert {row["value"] for row in said["segments"]} == set(read_table(tmp_path / "two.csv").labels)
    assert len(said["segments"]) == 4
    assert said["holes"] == [5]  # 41 is in one of them
    assert said["unknown"] == [999]
    assert "a new one was given to 'liver'" in said["messages"][-1]


def test_command_gives_the_values_of_a_table_by_name(tmp_path, a_label_map):
    run_here("labelmap", a_label_map, tmp_path / "a.seg.nrrd", "--table", "freesurfer")
    write_table({7: Label("left cerebral white matter"), 8: Label("other")}, tmp_path / "t.json")
    done = run_here(
        "labelmap", tmp_path / "a.seg.nrrd", tmp_path / "b.mha", "--values", "table", "--table", tmp_path / "t.json"
    )
    assert done.returncode == 0, done.stderr
    before, after = read_label_map(a_label_map).array, read_label_map(tmp_path / "b.mha").array
    np.testing.assert_array_equal(after == 7, before == 2)
    assert set(np.unique(after)) == {0, 7, 9, 10}
    assert "Not in the table" in done.stderr


def test_command_merges_files_and_resolves_their_overlaps(tmp_path, a_label_map):
    other = np.zeros((6, 7, 8), np.int16)
    other[2:4] = 5
    write_volume(LabelMap(other, MATRIX), tmp_path / "other.nrrd")
    done = run_here("labelmap", a_label_map, tmp_path / "other.nrrd", tmp_path / "both.nrrd", "--overlap", "first")
    assert done.returncode == 0, done.stderr
    first = read_label_map(a_label_map).array
    np.testing.assert_array_equal(read_label_map(tmp_path / "both.nrrd").array, np.where(first == 0, other, first))
    assert "the first in the list wins" in done.stderr


def test_command_takes_another_grid_or_spacing(tmp_path, a_label_map):
    coarse = MATRIX @ np.diag([2.0, 2.0, 2.0, 1.0])
    write_volume(Volume(np.zeros((3, 4, 4)), coarse), tmp_path / "grid.nrrd")
    assert run_here("labelmap", a_label_map, tmp_path / "a.nrrd", "--grid", tmp_path / "grid.nrrd").returncode == 0
    np.testing.assert_array_equal(
        read_label_map(tmp_path / "a.nrrd").array, read_label_map(a_label_map).array[::2, ::2, ::2]
    )
    assert run_here("labelmap", a_label_map, tmp_path / "b.nrrd", "--grid", "1x1x0.5").returncode == 0
    np.testing.assert_allclose(read_label_map(tmp_path / "b.nrrd").spacing_mm, (1, 1, 0.5))


@pytest.mark.parametrize("rule", ["table", "terminology"])
@pytest.mark.parametrize("name", ["parts.seg.nrrd", "parts.nii.gz"])
def test_segment_is_looked_up_by_its_own_name_and_not_by_the_number_it_has(tmp_path, name, rule):
    """The numbers 1 and 2 mean something else in the table."""
    array = np.zeros((4, 5, 6), np.uint8)
    array[1], array[2], array[3] = 1, 2, 3
    hippocampus, amygdala = FREESURFER[17], FREESURFER[54]
    labels = {1: Label("left hippocampus", terminology=hippocampus.terminology), 2: amygdala, 3: Label("lesion")}
    labelfiles.write(segmentation_of([LabelMap(array, MATRIX, labels)])[0], tmp_path / name)
    for out in ("named.nii.gz", "named.seg.nrrd"):
        done = run_here(
            "labelmap", tmp_path / name, tmp_path / out, "--table", "freesurfer", "--values", rule, "--json"
        )
        assert done.returncode == 0, done.stderr
        said = json.loads(done.stdout)
        assert [row["value"] for row in said["segments"]][:2] == [17, 54]
        assert said["unknown"] == [said["segments"][2]["value"]]
        assert sum("'lesion'" in sentence for sentence in said["messages"]) == 1
        again = labelfiles.read(tmp_path / out)[0]
        assert [segment.label.name for segment in again.segments] == [hippocampus.name, amygdala.name, "lesion"]
        np.testing.assert_array_equal(again.mask(1), array == 2)


def test_values_without_a_name_are_those_of_the_table_by_whatever_rule(tmp_path, a_label_map):
    table = ("--table", "freesurfer", "--values", "table")
    done = run_here("labelmap", a_label_map, tmp_path / "a.seg.nrrd", *table)
    assert done.returncode == 0, done.stderr
    names = {
        segment.known_value: segment.label.name for segment in labelfiles.read(tmp_path / "a.seg.nrrd")[0].segments
    }
    assert [names[value] for value in (2, 41)] == [FREESURFER[2].name, FREESURFER[41].name]


@pytest.mark.parametrize("rule", ["table", "terminology"])
def test_values_without_a_name_of_their_own_are_those_of_the_table(tmp_path, a_label_map, rule):
    """The table beside the file names one of them, and one that no voxel has."""
    write_table({2: Label("spleen"), 50: Label("none")}, a_label_map.with_name("seg one.labels.csv"))
    write_table({2: Label("liver"), 3: Label("spleen"), 41: Label("kidney"), 60: Label("gut")}, tmp_path / "t.csv")
    done = run_here(
        *("labelmap", a_label_map, tmp_path / "a.seg.nrrd", "--table", tmp_path / "t.csv", "--values", rule, "--json")
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    names = {row["value"]: row["name"] for row in said["segments"]}
    assert names == {3: "spleen", 61: "none", 41: "kidney", 62: "label 999"}
    assert said["messages"] == [
        "Names are those of 'seg one.labels.csv', which lies beside it, else those of the table.",
        "Not in the table; a free label value was given to 'none' (61), 'label 999' (62).",
        "In 't.csv' but without a voxel: 2, 60.",
    ]


def test_scan_is_told_by_its_name_whatever_table_is_given(tmp_path, a_label_map):
    scan = np.random.default_rng(0).integers(1, 900, (6, 40, 40)).astype(np.int16)
    write_volume(LabelMap(scan, MATRIX), tmp_path / "scan.nii.gz")
    inputs = (a_label_map, tmp_path / "scan.nii.gz")
    for more in ((), ("--table", "freesurfer"), ("--table", "freesurfer", "--values", "table")):
        done = run_here("labelmap", *inputs, tmp_path / "o.nrrd", "--overwrite", "--json", *more)
        told = [sentence for sentence in json.loads(done.stdout)["messages"] if "looks like a scan" in sentence]
        assert len(told) == 1
        assert told[0].startswith("scan.nii.gz: This looks like a scan and no label map")


def a_cube_at(place: int, name: str, path: Path, spacing: float = 1.0) -> None:
    """27 voxels of a segment in the middle of 9, whose first voxel lies at ``place`` on the grid of ``MATRIX``."""
    array = np.zeros((9, 9, 9), np.uint8)
    array[3:6, 3:6, 3:6] = 1
    moved = MATRIX @ np.diag([spacing, spacing, spacing, 1.0])
    moved[:3, 3] = (MATRIX @ [place, place, place, 1.0])[:3]
    segnrrd.write(segmentation_of([LabelMap(array, moved, {1: Label(name)})])[0], path)


def test_grid_of_the_first_file_grows_until_no_segment_of_the_others_is_cut_off(tmp_path):
    a_cube_at(0, "liver", tmp_path / "a.seg.nrrd")
    for place, name in ((-8, "spleen"), (10, "kidney"), (2, "inside")):
        a_cube_at(place, name, tmp_path / f"{name}.seg.nrrd")
    many = [tmp_path / f"{name}.seg.nrrd" for name in ("a", "spleen", "kidney")]
    done = run_here("labelmap", *many, tmp_path / "all.seg.nrrd", "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (
        "The grid of 'a.seg.nrrd' was extended to 21 x 21 x 21 voxels, so that no segment is cut off."
        in said["messages"]
    )
    whole = labelfiles.read(tmp_path / "all.seg.nrrd")[0]
    assert whole.voxels() == [27, 27, 27]
    for number, middle in enumerate((4, -4, 14)):
        k, j, i = (each.mean() for each in np.nonzero(whole.mask(number)))
        np.testing.assert_allclose(whole.ijk_to_ras @ (i, j, k, 1), MATRIX @ (middle, middle, middle, 1), atol=1e-3)
    a_cube_at(12, "fine", tmp_path / "fine.seg.nrrd", 0.5)
    done = run_here("labelmap", *many, tmp_path / "fine.seg.nrrd", tmp_path / "cubes.nrrd", "--grid", "0.25", "--json")
    assert done.returncode == 0, done.stderr
    assert min(row["voxels"] for row in json.loads(done.stdout)["segments"]) > 0
    inside = [tmp_path / f"{name}.seg.nrrd" for name in ("a", "inside")]
    assert run_here("labelmap", *inside, tmp_path / "same.seg.nrrd").returncode == 0
    assert labelfiles.read(tmp_path / "same.seg.nrrd")[0].shape == (9, 9, 9)


def test_segments_far_apart_fit_onto_the_coarser_grid_that_is_asked_for(tmp_path):
    for place, name in ((0, "liver"), (100_000, "far")):
        a_cube_at(place, name, tmp_path / f"{name}.seg.nrrd")
    arguments = ("labelmap", tmp_path / "liver.seg.nrrd", tmp_path / "far.seg.nrrd", tmp_path / "o.seg.nrrd")
    done = run_here(*arguments)
    assert done.returncode == 1
    assert "take a coarser grid" in " ".join(done.stderr.split())
    done = run_here(*arguments, "--grid", "2000")
    assert done.returncode == 0, done.stderr
    assert max(labelfiles.read(tmp_path / "o.seg.nrrd")[0].shape) > 20


def test_segmentation_file_that_does_not_fit_into_memory_is_refused_before_it_is_made(tmp_path, monkeypatch):
    monkeypatch.setattr(segments, "free_memory_bytes", lambda: 110_000_000)
    layers = [Layer(np.ones((2, 2, 2), np.uint8), (at, at, at)) for at in (0, 298)]
    far = [Segment(Label(f"part {n}"), n, 1, n + 1) for n in range(2)]
    with pytest.raises(VolumeError, match="300 x 300 x 300 voxels does not fit into memory"):
        segnrrd.write(Segmentation((300, 300, 300), MATRIX, layers, far), tmp_path / "far.seg.nrrd")
    assert not list(tmp_path.iterdir())
    segnrrd.write(Segmentation((20, 20, 20), MATRIX, layers[:1], far[:1]), tmp_path / "near.seg.nrrd")


@pytest.mark.parametrize(("known", "kind"), [(2, np.uint8), (300, np.int16), (40_000, np.int32)])
def test_segmentation_file_is_no_larger_than_its_values_need(tmp_path, known, kind):
    held = Segmentation((2, 2, 2), MATRIX, [Layer(np.ones((2, 2, 2), np.uint8))], [Segment(Label("a"), 0, 1, known)])
    segnrrd.write(held, tmp_path / "a.seg.nrrd")
    array = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "a.seg.nrrd")))
    assert array.dtype == kind
    assert (array == known).all()


@pytest.mark.parametrize("spacing", [1.0, 0.9])
@pytest.mark.parametrize("out", ["cut.seg.nrrd", "cut.nii.gz"])
def test_segments_that_a_chosen_grid_cuts_are_told(tmp_path, out, spacing):
    for place, name in ((0, "liver"), (5, "spleen"), (50, "far"), (2, "inside")):
        a_cube_at(place, name, tmp_path / f"{name}.seg.nrrd", spacing if name == "liver" else 1.0)
    write_volume(Volume(np.zeros((9, 9, 9)), MATRIX), tmp_path / "scan.nrrd")
    inputs = [tmp_path / f"{name}.seg.nrrd" for name in ("liver", "spleen", "far", "inside")]
    done = run_here("labelmap", *inputs, tmp_path / out, "--grid", tmp_path / "scan.nrrd", "--json")
    assert done.returncode == 0, done.stderr
    cut = [sentence for sentence in json.loads(done.stdout)["messages"] if "Beyond" in sentence]
    assert cut == ["Beyond the grid: 'spleen' 26 of 27 voxels, 'far' 27 of 27 voxels."]


def test_voxels_beyond_a_turned_grid_are_counted_by_their_centres(tmp_path):
    array = np.random.default_rng(0).choice([0, 5, 900], (6, 7, 8)).astype(np.int16)
    held = segmentation_of([LabelMap(array, MATRIX, {5: Label("a"), 900: Label("b")})])[0]
    turned, shape = np.eye(4), (7, 5, 9)
    turned[:3, :3] = phantoms.rotation((30.0, 20.0, -10.0))
    turned[:3, 3] = (MATRIX @ (1, 2, 0, 1))[:3]
    expected = {5: 0, 900: 0}
    for k, j, i in np.argwhere(array):
        place = np.linalg.inv(turned) @ MATRIX @ (i, j, k, 1)
        if not all(-0.5 <= at < n - 0.5 for at, n in zip(place, shape[::-1], strict=False)):
            expected[int(array[k, j, i])] += 1
    assert 0 < expected[5] < (array == 5).sum()
    whole = [int((array == value).sum()) for value in (5, 900)]
    assert beyond(held, shape, turned) == [("a", expected[5], whole[0]), ("b", expected[900], whole[1])]


def test_voxels_of_no_segment_are_told(tmp_path):
    array = np.random.default_rng(0).choice([0, 1, 5, 9], (4, 5, 6)).astype(np.uint8)
    held = segmentation_of([LabelMap(array, MATRIX)])[0]
    held.segments = held.segments[:1]
    segnrrd.write(held, tmp_path / "some.seg.nrrd")
    for out in ("out.nrrd", "out.seg.nrrd"):
        done = run_here("labelmap", tmp_path / "some.seg.nrrd", tmp_path / out, "--json")
        assert json.loads(done.stdout)["messages"] == ["Of no segment, so left out: voxels of 5, 9."]
        voxels = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / out)))
        np.testing.assert_array_equal(voxels, np.where(array == 1, 1, 0))


def test_voxels_of_no_segment_make_no_grid_grow(tmp_path):
    a_cube_at(0, "liver", tmp_path / "a.seg.nrrd")
    array = np.zeros((9, 9, 30), np.uint8)
    array[3:6, 3:6, 3:6], array[5, 7, 29] = 1, 9
    held = segmentation_of([LabelMap(array, MATRIX)])[0]
    held.segments = held.segments[:1]
    segnrrd.write(held, tmp_path / "b.seg.nrrd")
    assert run_here("labelmap", *sorted(tmp_path.iterdir()), tmp_path / "o.seg.nrrd").returncode == 0
    assert labelfiles.read(tmp_path / "o.seg.nrrd")[0].shape == (9, 9, 9)


def test_command_turns_probability_maps_into_labels(tmp_path):
    liver = np.zeros((3, 4, 5), np.float32)
    liver[1], spleen = 0.6, np.zeros((3, 4, 5), np.float32)
    spleen[2] = 0.9
    write_volume(Volume(liver, MATRIX), tmp_path / "liver.nii.gz")
    write_volume(Volume(spleen, MATRIX), tmp_path / "spleen.nii.gz")
    done = run_here(
        "labelmap", tmp_path / "liver.nii.gz", tmp_path / "spleen.nii.gz", tmp_path / "o.nrrd", "--probabilities"
    )
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(read_label_map(tmp_path / "o.nrrd").array[:, 0, 0], [0, 1, 2])
    assert read_table(tmp_path / "o.labels.csv").labels[2].name == "spleen"
    write_table({7: Label("spleen"), 9: Label("gut")}, tmp_path / "t.csv")
    done = run_here(
        *("labelmap", tmp_path / "liver.nii.gz", tmp_path / "spleen.nii.gz", tmp_path / "o.nrrd", "--probabilities"),
        *("--table", tmp_path / "t.csv", "--values", "table", "--overwrite", "--json"),
    )
    np.testing.assert_array_equal(read_label_map(tmp_path / "o.nrrd").array[:, 0, 0], [0, 10, 7])
    assert json.loads(done.stdout)["messages"] == [
        "Not in the table; a free label value was given to 'liver' (10).",
        "In 't.csv' but without a voxel: 9.",
    ]


def test_command_converts_tables(tmp_path):
    write_table({2: FREESURFER[2]}, tmp_path / "a.json")
    done = run_here("labelmap", tmp_path / "a.json", tmp_path / "b.label")
    assert done.returncode == 0, done.stderr
    assert read_table(tmp_path / "b.label").labels == {2: Label(FREESURFER[2].name, FREESURFER[2].color)}
    assert "holds no terminology" in done.stderr


def test_command_writes_surfaces_through_what_it_is_given(tmp_path, a_label_map, monkeypatch):
    seen = []

    def writer(segmentation, folder):
        seen.append((len(segmentation.segments), folder))
        return [folder / "label 2.stl"]

    monkeypatch.setattr(labelmap_command, "surfaces_writer", writer)
    done = run_here("labelmap", a_label_map, tmp_path / "a.seg.nrrd", "--surfaces", tmp_path / "surfaces", "--json")
    assert seen == [(3, tmp_path / "surfaces")]
    assert json.loads(done.stdout)["files"][-1] == str(tmp_path / "surfaces" / "label 2.stl")


@pytest.mark.parametrize(
    ("arguments", "said", "code"),
    [
        (["IN"], "Give what to convert and the name of the result", 2),
        (["IN", "out.doc"], "does not say its format", 2),
        (["IN", "out.dcm"], "give its folder with --reference", 2),
        (["IN", "out.nrrd", "--values", "terminology"], "give one with --table", 2),
        (["IN", "nowhere/out.nrrd"], "There is no folder", 2),
        (["IN", "out.csv", "--surfaces", "s"], "A table has no surfaces", 2),
        (["IN", "IN"], "is an input itself", 1),
        (["IN", "IN", "--overwrite"], "is an input itself", 1),
        (["IN", "half.nrrd"], "exists already; add --overwrite", 1),
        (["IN", "out.nrrd", "--save-table", "out.xyz"], "is not a label table by its ending", 2),
        (["IN", "out.nrrd", "--save-table", "nowhere/t.csv"], "There is no folder 'nowhere'", 2),
        (["IN", "out.csv", "--save-table", "t.csv"], "The result is a table itself; leave out --save-table", 2),
        (["IN", "out.nrrd", "--surfaces", "half.nrrd"], "'half.nrrd' is a file; --surfaces takes a folder", 2),
        (["IN", "out.nrrd", "--surfaces", "stl"], "Folder 'stl' holds surfaces already", 1),
        (["IN", "out.nrrd", "--grid", "1.2.3"], "There is no file '1.2.3'", 1),
        (["IN", "out.nrrd", "--grid", "0.00001"], "does not fit into memory", 1),
        (["IN", "o" * 300 + ".nrrd"], "is too long a name; make it 65 bytes shorter", 1),
        (["large.nrrd", "out.nrrd"], "'large.nrrd' has voxels up to 3e+09", 1),
        (["missing.nii.gz", "out.nrrd"], "There is no file 'missing.nii.gz'", 1),
        (["IN", "out.nrrd", "--table", "missing.csv"], "There is no file 'missing.csv'", 1),
        (["IN", "out.nrrd", "--grid", "0"], "every spacing must be above zero", 1),
        (["IN", "out.nrrd", "--grid", "missing.nrrd"], "There is no file 'missing.nrrd'", 1),
        (["half.nrrd", "out.nrrd"], "voxels that are not whole numbers", 1),
        (["empty.nrrd", "out.nrrd"], "every voxel is 0", 1),
    ],
)
def test_wrong_use_is_one_sentence_and_writes_nothing(tmp_path, a_label_map, monkeypatch, arguments, said, code):
    monkeypatch.chdir(tmp_path)
    write_volume(Volume(np.full((2, 2, 2), 0.5), MATRIX), tmp_path / "half.nrrd")
    write_volume(LabelMap(np.zeros((2, 2, 2), np.int16), MATRIX), tmp_path / "empty.nrrd")
    write_volume(Volume(np.full((2, 2, 2), 3e9), MATRIX), tmp_path / "large.nrrd")
    (tmp_path / "stl").mkdir()
    (tmp_path / "stl" / "liver.stl").write_text("mine")
    before = sorted(tmp_path.iterdir())
    one_sentence(run_here("labelmap", *[a_label_map if each == "IN" else each for each in arguments]), said, code)
    assert sorted(tmp_path.iterdir()) == before


def test_interruption_is_one_sentence_with_its_own_exit_code(tmp_path, a_label_map, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(labelmap_command, "_read", interrupted)
    one_sentence(run_here("labelmap", a_label_map, tmp_path / "out.nrrd"), "Interrupted; nothing was written", 130)
