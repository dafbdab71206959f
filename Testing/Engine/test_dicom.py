"""A DICOM folder is one volume where its slices make one, and one sentence where they do not."""

from __future__ import annotations

import numpy as np
import pytest

import phantoms
from medgan.volume import VolumeError, read_volume

pydicom = pytest.importorskip("pydicom")

OBLIQUE = tuple(np.round(phantoms.rotation((15.0, -25.0, 35.0))[:, :2].T.ravel(), 8))


@pytest.fixture
def slices() -> np.ndarray:
    return phantoms.head((7, 9, 11)).astype(np.int16)


def test_oblique_series_lies_where_its_positions_say(tmp_path, slices):
    phantoms.write_dicom_series(tmp_path, slices, orientation=OBLIQUE, intercept=-100.0)
    volume = read_volume(tmp_path)
    row, column = np.array(OBLIQUE[:3]), np.array(OBLIQUE[3:])
    to_ras = np.array([-1, -1, 1])
    expected = np.eye(4)
    expected[:3, 0] = row * 0.8 * to_ras
    expected[:3, 1] = column * 1.2 * to_ras
    expected[:3, 2] = np.cross(row, column) * 2.5 * to_ras
    expected[:3, 3] = np.array([5.0, -7.0, 11.0]) * to_ras
    np.testing.assert_allclose(volume.ijk_to_ras, expected, atol=1e-5)
    np.testing.assert_array_equal(volume.array, slices - 100)
    assert volume.voxel_type == "int32"  # what 16 bits minus 100 need
    assert volume.meta["messages"] == []


@pytest.mark.parametrize("slopes", [(1.0, 0.52, 1.7), (1.0, 1.0, 1.0, 100.0), (0.3, 2.0)])
def test_slices_with_slopes_of_their_own_keep_their_values(tmp_path, slices, slopes):
    """As PET stores them; the first slice may not decide on the type of all."""
    phantoms.write_dicom_series(tmp_path, slices, slopes=slopes)
    expected = slices * np.resize(slopes, len(slices))[:, None, None]
    np.testing.assert_allclose(read_volume(tmp_path).array, expected, rtol=1e-6)


def test_repetitions_one_after_the_other_are_named(tmp_path, slices):
    """Not as slices that are missing, which they look like."""
    phantoms.write_dicom_series(tmp_path, slices[:6], positions_mm=heights(0, 2, 4, 0, 2, 4))
    with pytest.raises(VolumeError, match="several slices at one position"):
        read_volume(tmp_path)


def test_tilted_gantry_keeps_the_slices_where_they_were_taken(tmp_path, slices):
    positions = [(0.0, 0.7 * index, 3.0 * index) for index in range(len(slices))]
    phantoms.write_dicom_series(tmp_path, slices, positions_mm=positions)
    volume = read_volume(tmp_path)
    np.testing.assert_allclose(volume.ijk_to_ras @ (0, 0, 6, 1), (0.0, -4.2, 18.0, 1.0), atol=1e-6)
    np.testing.assert_array_equal(volume.array, slices)


def test_largest_of_several_series_is_taken_and_said(tmp_path, slices):
    phantoms.write_dicom_series(tmp_path, slices[:3], description="Localiser")
    phantoms.write_dicom_series(tmp_path, slices, description="T2 ax")
    volume = read_volume(tmp_path)
    assert volume.shape == slices.shape
    assert volume.meta["messages"] == ["The folder holds 2 series; this is the largest one, 'MR T2 ax' with 7 slices."]


def test_nothing_of_the_patient_comes_along(tmp_path, slices):
    phantoms.write_dicom_series(tmp_path, slices)
    assert "A^B" not in str(read_volume(tmp_path).meta)


def test_one_slice_is_a_volume(tmp_path, slices):
    phantoms.write_dicom_series(tmp_path, slices[:1])
    volume = read_volume(tmp_path)
    assert volume.shape == (1, 9, 11)
    np.testing.assert_allclose(volume.spacing_mm, (0.8, 1.2, 2.5), atol=1e-6)


@pytest.mark.parametrize("thickness", ["x", "0", "-2", ""])
def test_thickness_that_can_not_be_is_none(tmp_path, slices, thickness):
    phantoms.write_dicom_series(tmp_path, slices[:1])
    file = next(tmp_path.iterdir())
    image = pydicom.dcmread(file)
    with pydicom.config.disable_value_validation():
        image.add_new(pydicom.tag.Tag(0x0018, 0x0050), "LO", thickness)
        image.save_as(file)
    np.testing.assert_allclose(read_volume(tmp_path).spacing_mm, (0.8, 1.2, 1.0), atol=1e-6)


def heights(*values: float) -> list[tuple[float, float, float]]:
    return [(0.0, 0.0, value) for value in values]


@pytest.mark.parametrize(
    ("positions", "phrase"),
    [
        (heights(0, 2, 4, 6, 10, 12, 14), "one gap is 4 mm where slices are 2 mm apart"),
        (heights(0, 2, 4, 6.3, 8, 10, 12), "are not equally spaced"),
        (heights(0, 2, 4, 4, 6, 8, 10), "several slices at one position"),
        ([(0.0, 3.0 * (n == 3), 2.0 * n) for n in range(7)], "one straight line"),
    ],
)
def test_slices_that_make_no_volume_are_refused_with_one_sentence(tmp_path, slices, positions, phrase):
    phantoms.write_dicom_series(tmp_path, slices, positions_mm=positions)
    with pytest.raises(VolumeError, match=phrase) as refused:
        read_volume(tmp_path)
    assert "\n" not in str(refused.value)


def rewrite(file, **entries) -> None:
    import pydicom

    image = pydicom.dcmread(file)
    for name, entry in entries.items():
        setattr(image, name, entry)
    image.save_as(file)


def test_slice_that_faces_another_way_is_refused(tmp_path, slices):
    """Its place is where it would be if it did not."""
    phantoms.write_dicom_series(tmp_path, slices)
    rewrite(tmp_path / "T1003.dcm", ImageOrientationPatient=[0.0, 1.0, 0.0, -1.0, 0.0, 0.0])
    with pytest.raises(VolumeError, match="do not face the same way"):
        read_volume(tmp_path)


@pytest.mark.parametrize("position", ["nan\\0\\3", "inf\\0\\3"])
def test_slice_at_no_place_is_refused(tmp_path, slices, position):
    phantoms.write_dicom_series(tmp_path, slices, positions_mm=[(1.234567, 0.0, 2.0 * n) for n in range(7)])
    for file in tmp_path.iterdir():
        content = file.read_bytes()
        start = content.index(b"1.234567\\")
        length = int.from_bytes(content[start - 2 : start], "little")
        file.write_bytes(content[:start] + position.encode().ljust(length) + content[start + length :])
    with pytest.raises(VolumeError, match="does not say where it lies"):
        read_volume(tmp_path)


@pytest.mark.parametrize("kept", [-60, -300])
@pytest.mark.parametrize("which", [0, 3, -1])
def test_cut_off_slice_is_refused_and_not_left_out(tmp_path, capfd, slices, which, kept):
    phantoms.write_dicom_series(tmp_path, slices)
    damaged = sorted(tmp_path.iterdir())[which]
    damaged.write_bytes(damaged.read_bytes()[:kept])
    with pytest.raises(VolumeError, match=f"'{damaged.name}' is damaged or cut off"):
        read_volume(tmp_path)
    assert capfd.readouterr() == ("", "")


def test_single_dicom_file_asks_for_its_folder(tmp_path, slices):
    phantoms.write_dicom_series(tmp_path, slices)
    with pytest.raises(VolumeError, match="give the folder"):
        read_volume(tmp_path / "T1000.dcm")
