"""Volumes keep their voxels and their place in the patient through every format; bad files get one sentence."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import bad_files
import phantoms
from medgan.volume import (
    Label,
    LabelMap,
    Volume,
    VolumeError,
    file_format,
    read_label_map,
    read_volume,
    stem_of,
    write_volume,
)

IMAGE_FORMATS = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")
ALL_FORMATS = (*IMAGE_FORMATS, ".npz")


def corners_mm(volume: Volume | LabelMap) -> np.ndarray:
    """RAS positions of the eight corner voxels."""
    ends = [(0, side - 1) for side in reversed(volume.shape)]
    ijk = np.array([(i, j, k, 1) for i in ends[0] for j in ends[1] for k in ends[2]], dtype=float)
    return (ijk @ volume.ijk_to_ras.T)[:, :3]


@pytest.mark.parametrize("ending", ALL_FORMATS)
def test_oblique_left_handed_volume_comes_back_with_its_voxels_and_place(tmp_path, an_oblique_volume, ending):
    path = tmp_path / f"volume{ending}"
    write_volume(an_oblique_volume, path)
    back = read_volume(path)
    np.testing.assert_array_equal(back.array, an_oblique_volume.array)
    np.testing.assert_allclose(corners_mm(back), corners_mm(an_oblique_volume), atol=1e-4)
    assert back.voxel_type == "int16"
    assert np.linalg.det(back.ijk_to_ras) < 0
    assert back.shape == (29, 41, 37)
    np.testing.assert_allclose(back.spacing_mm, (0.7, 1.1, 2.3), rtol=1e-5)


@pytest.mark.parametrize(("unit", "mm"), [(1, 1000.0), (2, 1.0), (3, 0.001), (0, 1.0)])
def test_nifti_in_metres_or_micrometres_is_read_in_mm(tmp_path, an_oblique_volume, unit, mm):
    path = tmp_path / "volume.nii"
    write_volume(an_oblique_volume, path)
    content = bytearray(path.read_bytes())
    content[123] = unit
    content[252:256] = (0).to_bytes(2, "little") + (1).to_bytes(2, "little")  # the matrix alone says where it lies
    path.write_bytes(content)
    np.testing.assert_allclose(corners_mm(read_volume(path)), mm * corners_mm(an_oblique_volume), rtol=1e-4)


@pytest.mark.parametrize("ending", ALL_FORMATS)
def test_single_slice_keeps_its_thickness_and_place(tmp_path, a_single_slice, ending):
    path = tmp_path / f"slice{ending}"
    write_volume(a_single_slice, path)
    back = read_volume(path)
    np.testing.assert_array_equal(back.array, a_single_slice.array)
    np.testing.assert_allclose(back.ijk_to_ras, a_single_slice.ijk_to_ras, atol=1e-4)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    spacing=st.tuples(*[st.floats(0.05, 12.0)] * 3),
    degrees=st.tuples(*[st.floats(-180.0, 180.0)] * 3),
    origin=st.tuples(*[st.floats(-500.0, 500.0)] * 3),
    left_handed=st.booleans(),
    shape=st.tuples(*[st.integers(1, 5)] * 3),
    ending=st.sampled_from(ALL_FORMATS),
)
def test_any_geometry_survives_any_format(tmp_path, spacing, degrees, origin, left_handed, shape, ending):
    matrix = phantoms.geometry(spacing, degrees, origin, left_handed)
    volume = Volume(np.arange(np.prod(shape), dtype=np.float32).reshape(shape), matrix)
    path = tmp_path / f"volume{ending}"
    write_volume(volume, path)
    back = read_volume(path)
    np.testing.assert_array_equal(back.array, volume.array)
    np.testing.assert_allclose(corners_mm(back), corners_mm(volume), atol=1e-3 if "nii" in ending else 1e-8)


def test_a_voxel_lies_where_simpleitk_says(tmp_path, an_oblique_volume):
    """SimpleITK answers in LPS: the first two coordinates have the other sign."""
    write_volume(an_oblique_volume, tmp_path / "volume.nrrd")
    image = sitk.ReadImage(str(tmp_path / "volume.nrrd"))
    left, back, up = image.TransformIndexToPhysicalPoint((30, 7, 21))
    np.testing.assert_allclose(an_oblique_volume.ijk_to_ras @ (30, 7, 21, 1), (-left, -back, up, 1), atol=1e-9)
    assert image[30, 7, 21] == an_oblique_volume.array[21, 7, 30]


def test_nifti_means_the_same_to_another_library(tmp_path, an_oblique_volume):
    nibabel = pytest.importorskip("nibabel")
    write_volume(an_oblique_volume, tmp_path / "volume.nii.gz")
    image = nibabel.load(tmp_path / "volume.nii.gz")
    np.testing.assert_allclose(image.affine, an_oblique_volume.ijk_to_ras, atol=1e-4)
    np.testing.assert_array_equal(np.asarray(image.dataobj).transpose(2, 1, 0), an_oblique_volume.array)


def test_sheared_volume_survives_where_the_format_can_hold_it_and_is_refused_where_not(tmp_path):
    matrix = phantoms.geometry((1.0, 2.0, 3.0))
    matrix[:3, 2] += (0.0, 0.8, 0.0)  # a tilted gantry
    volume = Volume(phantoms.head((5, 6, 7)), matrix)
    for ending in (".nrrd", ".mha", ".npz"):
        write_volume(volume, tmp_path / f"tilted{ending}")
        np.testing.assert_allclose(read_volume(tmp_path / f"tilted{ending}").ijk_to_ras, matrix, atol=1e-9)
    with pytest.raises(VolumeError, match="sheared, which NIfTI can not hold"):
        write_volume(volume, tmp_path / "tilted.nii.gz")
    assert not (tmp_path / "tilted.nii.gz").exists()


@pytest.mark.parametrize("name", ["a.mhd", "a.nhdr"])
def test_header_that_can_not_be_placed_leaves_no_file_of_voxels(tmp_path, a_volume, monkeypatch, name):
    place = os.replace

    def refused(part, path):
        if Path(path).name == name:
            assert any(file.is_file() for file in tmp_path.iterdir())  # a header never stands without its voxels
            raise OSError(28, "No space left on device")
        place(part, path)

    monkeypatch.setattr(os, "replace", refused)
    with pytest.raises(VolumeError, match="No space left on device; nothing was changed there"):
        write_volume(a_volume, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha", ".npz"])
@pytest.mark.parametrize(
    "kind", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64"]
)
def test_voxel_type_of_the_source_is_restored(tmp_path, kind, ending):
    array = np.array([[[0, 1, 2], [3, 100, 5]]])
    write_volume(Volume(array, np.eye(4), voxel_type=kind), tmp_path / f"v{ending}")
    back = read_volume(tmp_path / f"v{ending}")
    assert back.voxel_type == kind
    np.testing.assert_array_equal(back.array, array)


@pytest.mark.parametrize("kind", ["uint8", "int8", "int16", "uint16", "int32", "uint32"])
def test_integers_are_rounded_and_clipped_not_wrapped(kind):
    limits = np.iinfo(kind)
    beyond = [limits.min - 0.01 * limits.max, 1.01 * limits.max]
    volume = Volume(np.array([[[0.4, 0.6, 1.5, *beyond]]]), np.eye(4), voxel_type=kind)
    assert volume.stored().dtype == kind
    assert volume.stored().ravel().tolist() == [0, 1, 2, limits.min, limits.max]


@pytest.mark.parametrize("kind", ["int64", "uint64"])
def test_widest_integers_stay_in_their_range(kind):
    limits = np.iinfo(kind)
    ends = np.array([[[limits.min - 1e17, limits.max + 1e17]]])
    low, high = Volume(ends, np.eye(4), voxel_type=kind).stored().ravel()
    assert low == limits.min
    assert limits.max - int(high) < 4096


@pytest.mark.parametrize(
    ("kind", "voxels"),
    [
        ("int16", np.linspace(0.0, 15.0, 8)),  # a count image that was denoised
        ("bool", np.linspace(0.0, 1.0, 8)),
        ("uint8", np.linspace(-400.0, 400.0, 8)),  # far beyond the type
    ],
)
def test_voxels_that_rounding_would_spoil_are_written_as_float32(tmp_path, kind, voxels):
    array = voxels.reshape(2, 2, 2).astype(np.float32)
    write_volume(Volume(array, np.eye(4), voxel_type=kind), tmp_path / "v.nii.gz")
    back = read_volume(tmp_path / "v.nii.gz")
    assert back.voxel_type == "float32"
    np.testing.assert_array_equal(back.array, array)


@pytest.mark.parametrize("kind", ["float16", "complex64", "no such type", "int16"])
def test_voxels_that_the_type_can_not_hold_stay_float32(kind):
    array = np.array([[[0.5, np.nan]]], np.float32)
    volume = Volume(array, np.eye(4), voxel_type=kind)
    assert volume.stored().dtype == np.float32
    np.testing.assert_array_equal(volume.stored(), array)


def test_scaled_nifti_gives_the_real_intensities(tmp_path):
    import struct

    write_volume(Volume(np.arange(8.0).reshape(2, 2, 2), np.eye(4), voxel_type="int16"), tmp_path / "ct.nii")
    content = bytearray((tmp_path / "ct.nii").read_bytes())
    content[112:120] = struct.pack("<2f", 2.5, -1024.0)
    (tmp_path / "ct.nii").write_bytes(content)
    back = read_volume(tmp_path / "ct.nii")
    np.testing.assert_allclose(back.array.ravel(), np.arange(8) * 2.5 - 1024)
    assert back.voxel_type.startswith("float")


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd"])
def test_4d_file_with_one_volume_is_read(tmp_path, ending):
    image = sitk.GetImageFromArray(np.arange(120, dtype=np.int16).reshape(1, 4, 5, 6), isVector=False)
    image.SetSpacing((1, 2, 3, 7))
    sitk.WriteImage(image, str(tmp_path / f"one{ending}"))
    back = read_volume(tmp_path / f"one{ending}")
    np.testing.assert_array_equal(back.array.ravel(), np.arange(120))
    np.testing.assert_allclose(back.spacing_mm, (1, 2, 3))


@pytest.mark.parametrize("kind", ["float32", "float64"])
@pytest.mark.parametrize("ending", ALL_FORMATS)
def test_voxels_that_are_not_finite_are_still_so_after_reading(tmp_path, an_oblique_volume, ending, kind):
    """ITK makes zeros of them in NIfTI files, and nobody would know."""
    places = [(3, 4, 5), (28, 40, 36), (0, 0, 1)]
    for place, value in zip(places, (np.nan, np.inf, -np.inf), strict=True):
        an_oblique_volume.array[place] = value
    an_oblique_volume.voxel_type = kind
    write_volume(an_oblique_volume, tmp_path / f"v{ending}")
    back = read_volume(tmp_path / f"v{ending}").array
    assert sorted(map(tuple, np.argwhere(~np.isfinite(back)).tolist())) == sorted(places)
    np.testing.assert_array_equal(back[np.isfinite(back)], an_oblique_volume.array[np.isfinite(back)])


def test_compressed_nifti_is_read_beside_an_uncompressed_one_of_the_same_name(tmp_path, a_volume):
    """ITK takes the voxels of scan.nii when it is asked for scan.nii.gz."""
    write_volume(a_volume, tmp_path / "scan.nii.gz")
    write_volume(a_volume.like(a_volume.array + 1), tmp_path / "scan.nii")
    np.testing.assert_array_equal(read_volume(tmp_path / "scan.nii.gz").array, a_volume.array)
    np.testing.assert_array_equal(read_volume(tmp_path / "scan.nii").array, a_volume.array + 1)
    assert read_volume(tmp_path / "scan.nii.gz").meta["source"] == "scan.nii.gz"


def test_negative_spacing_of_metaimage_turns_the_axis(tmp_path):
    write_volume(Volume(np.zeros((4, 5, 6)), np.diag([-1.0, -2.0, 3.0, 1.0]), voxel_type="uint8"), tmp_path / "v.mha")
    content = (tmp_path / "v.mha").read_bytes()
    assert b"ElementSpacing = 1 2 3" in content
    (tmp_path / "v.mha").write_bytes(content.replace(b"ElementSpacing = 1 2 3", b"ElementSpacing = -1 2 3"))
    np.testing.assert_allclose(read_volume(tmp_path / "v.mha").ijk_to_ras, np.diag([1.0, -2.0, 3.0, 1.0]))


@pytest.mark.parametrize(
    ("name", "stem"), [("a.nii.gz", "a"), ("A.b.NII", "A.b"), ("x.seg.nrrd", "x.seg"), ("a.txt", "a.txt"), ("a", "a")]
)
def test_stem_is_the_name_without_the_ending_of_its_format(name, stem):
    assert stem_of(Path("folder.nii") / name) == stem


def test_npy_is_read_with_voxels_of_one_mm(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(24, dtype=np.uint8).reshape(2, 3, 4))
    back = read_volume(tmp_path / "a.npy")
    np.testing.assert_array_equal(back.ijk_to_ras, np.eye(4))
    assert (back.voxel_type, back.array[1, 2, 3]) == ("uint8", 23)


def test_paths_with_spaces_and_letters_of_other_languages(tmp_path, a_volume):
    folder = tmp_path / "Übung ñ 日本"
    folder.mkdir()
    for ending in ALL_FORMATS:
        write_volume(a_volume, folder / f"tête à tête{ending}")
        np.testing.assert_array_equal(read_volume(folder / f"tête à tête{ending}").array, a_volume.array)


# Bad files


@pytest.mark.parametrize("kind", bad_files.BAD)
def test_bad_file_is_refused_with_one_sentence(tmp_path, capfd, kind):
    make, phrase = bad_files.BAD[kind]
    path = make(tmp_path)
    with pytest.raises(VolumeError) as refused:
        read_volume(path)
    sentence = str(refused.value)
    assert phrase in sentence
    assert "\n" not in sentence
    assert sentence.endswith(".")
    assert "ITK" not in sentence
    assert capfd.readouterr() == ("", "")  # the libraries below had something to say; it is said once, by us


def test_file_that_may_not_be_opened_is_refused(tmp_path, a_volume):
    if os.name == "nt" or os.geteuid() == 0:
        pytest.skip("the administrator may open everything")
    write_volume(a_volume, tmp_path / "v.nrrd")
    (tmp_path / "v.nrrd").chmod(0)
    with pytest.raises(VolumeError, match="can not be opened"):
        read_volume(tmp_path / "v.nrrd")


@pytest.mark.parametrize(
    ("array", "matrix", "phrase"),
    [
        (np.zeros((3, 4)), np.eye(4), "three axes"),
        (np.zeros((0, 3, 4)), np.eye(4), "at least one voxel"),
        (np.zeros((2, 3, 4), np.complex64), np.eye(4), "real numbers"),
        (np.zeros((2, 3, 4)), np.eye(3), "4 x 4"),
        (np.zeros((2, 3, 4)), np.full((4, 4), np.nan), "last row|NaN"),
        (np.zeros((2, 3, 4)), np.diag([1, 0, 1, 1]), "above zero"),
        (np.zeros((2, 3, 4)), [[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], "one plane"),
    ],
)
def test_volume_of_the_wrong_kind_is_refused(array, matrix, phrase):
    with pytest.raises(VolumeError, match=phrase):
        Volume(array, matrix)


def test_voxels_of_another_shape_do_not_fit_the_grid(a_volume):
    with pytest.raises(VolumeError, match="do not lie on a grid"):
        a_volume.like(np.zeros((2, 3, 4)))


# Writing


@pytest.mark.parametrize("ending", IMAGE_FORMATS)
def test_full_disk_is_one_sentence_and_leaves_the_old_file(tmp_path, capfd, full_disk, ending):
    noise = np.random.default_rng(0).normal(0, 1000, (30, 40, 50))
    path = tmp_path / f"volume{ending}"
    write_volume(Volume(np.ones((2, 2, 2)), np.eye(4)), path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    full_disk(20_000)
    with pytest.raises(VolumeError, match=r"can not be written .* nothing was changed there") as refused:
        write_volume(Volume(noise, np.eye(4)), path)
    assert "\n" not in str(refused.value)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("name", "phrase"),
    [
        ("no folder/volume.nrrd", "There is no folder"),
        ("volume.png", "does not say its format"),
        ("volume", "does not say its format"),
        ("a.nrrd", "is a folder"),
        (".nii.gz", "is only an ending"),
        (".NRRD", "is only an ending"),
    ],
)
def test_impossible_target_is_one_sentence_and_leaves_nothing(tmp_path, a_volume, name, phrase):
    (tmp_path / "a.nrrd").mkdir()
    with pytest.raises(VolumeError, match=phrase):
        write_volume(a_volume, tmp_path / name)
    assert [file.name for file in tmp_path.iterdir()] == ["a.nrrd"]


def test_writing_leaves_only_the_file_and_reading_mhd_finds_its_data(tmp_path, a_volume):
    write_volume(a_volume, tmp_path / "a.nii.gz")
    assert [file.name for file in tmp_path.iterdir()] == ["a.nii.gz"]
    (tmp_path / "a.nii.gz").unlink()
    write_volume(a_volume, tmp_path / "a.mhd")
    assert sorted(file.suffix for file in tmp_path.iterdir()) == [".mhd", ".zraw"]
    (tmp_path / "moved").mkdir()
    for file in list(tmp_path.glob("a.*")):
        file.rename(tmp_path / "moved" / file.name)
    np.testing.assert_array_equal(read_volume(tmp_path / "moved" / "a.mhd").array, a_volume.array)


# Label maps


@pytest.mark.parametrize("ending", ALL_FORMATS)
def test_label_map_keeps_values_type_and_place(tmp_path, a_label_map, ending):
    write_volume(a_label_map, tmp_path / f"labels{ending}")
    back = read_label_map(tmp_path / f"labels{ending}")
    assert back.array.dtype == np.int16
    np.testing.assert_array_equal(back.array, a_label_map.array)
    np.testing.assert_allclose(back.ijk_to_ras, a_label_map.ijk_to_ras, atol=1e-4)
    assert back.labels == (a_label_map.labels if ending == ".npz" else {})


def test_label_values_beyond_float32_stay_exact(tmp_path):
    array = np.array([[[0, 2**24 + 1, 2**31 - 1]]], np.int32)
    write_volume(LabelMap(array, np.eye(4)), tmp_path / "labels.nrrd")
    np.testing.assert_array_equal(read_label_map(tmp_path / "labels.nrrd").array, array)


def test_label_values_that_float32_rounds_over_the_largest_are_refused(tmp_path):
    write_volume(Volume(np.array([[[0.0, 1.0, 2**31 - 1]]], np.float32), np.eye(4)), tmp_path / "labels.nrrd")
    with pytest.raises(VolumeError, match="whole numbers up to 2147483647"):
        read_label_map(tmp_path / "labels.nrrd")


def test_label_map_with_fractions_is_refused(tmp_path):
    write_volume(Volume(np.array([[[0.0, 1.0, 2.5]]]), np.eye(4)), tmp_path / "v.nrrd")
    with pytest.raises(VolumeError, match="not whole numbers"):
        read_label_map(tmp_path / "v.nrrd")
    with pytest.raises(VolumeError, match="holds integers"):
        LabelMap(np.zeros((2, 2, 2)), np.eye(4), {1: Label("one")})


def test_whole_numbers_stored_as_float_are_a_label_map(tmp_path):
    write_volume(Volume(np.array([[[0.0, 1.0, 7.0]]]), np.eye(4)), tmp_path / "v.nii.gz")
    assert read_label_map(tmp_path / "v.nii.gz").array.ravel().tolist() == [0, 1, 7]


def test_endings_are_known_in_any_case():
    assert file_format("Scan.NII.GZ") == ".nii.gz"
    assert file_format(Path("a.b") / "c.nii") == ".nii"
    assert file_format("a.gz") == ""
