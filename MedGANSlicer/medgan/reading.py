"""What a file or folder holds, as a Volume or a LabelMap, or one sentence on why it can not be read."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from medgan import itk_names, nifti
from medgan.labeltable import whole_numbers
from medgan.quiet import quiet
from medgan.volume import (
    FORMATS,
    LPS_TO_RAS,
    Label,
    LabelMap,
    Volume,
    VolumeError,
    check_name,
    checked_matrix,
    file_format,
)

# ITK tells of repaired headers on the console; what matters of it is checked here and said once.
sitk.ProcessObject.SetGlobalWarningDisplay(False)

READERS = {
    ".nii": ("NIfTI", "NiftiImageIO"),
    ".nii.gz": ("NIfTI", "NiftiImageIO"),
    ".nrrd": ("NRRD", "NrrdImageIO"),
    ".nhdr": ("NRRD", "NrrdImageIO"),
    ".mha": ("MetaImage", "MetaImageIO"),
    ".mhd": ("MetaImage", "MetaImageIO"),
}
"""What a file with this ending is called, and SimpleITK's reader for it."""


def read(path: Path) -> Volume:
    """The scalar volume at ``path``. Raises :class:`VolumeError`."""
    return as_volume(*read_any(path), f"'{path.name}'")


def as_volume(array: np.ndarray, matrix: np.ndarray, meta: dict[str, Any], called: str) -> Volume:
    """The volume with these voxels, in the type of their source. Raises :class:`VolumeError`, calling it ``called``."""
    voxel_type = array.dtype.name
    with np.errstate(over="ignore"):
        voxels = array.astype(np.float32)
    finite = np.isfinite(voxels)
    if not finite.any():
        what = "NaN" if np.isnan(voxels).all() else "NaN or infinity"
        raise VolumeError(f"Every voxel of {called} is {what}; a volume needs numbers.")
    if array.dtype.itemsize > 4 and not np.array_equal(finite, np.isfinite(array)):
        raise VolumeError(f"{called} has values beyond 3.4e38, which 32-bit voxels can not hold; scale it first.")
    return Volume(voxels, matrix, meta, voxel_type)


def read_labels(path: Path) -> LabelMap:
    """The label map at ``path``. Raises :class:`VolumeError` for values that are not whole numbers."""
    array, matrix, meta = read_any(path)
    return LabelMap(whole_numbers(array, f"'{path.name}'"), matrix, meta.get("labels", {}))


def read_any(path: Path) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Voxels in their own type, geometry, and what there is to say about the source."""
    if _check_present(path):
        from medgan import dicom

        return dicom.read_series(path)
    ending = file_format(path)
    if ending in (".npy", ".npz"):
        array, matrix, meta = _read_numpy(path, ending)
    elif ending:
        array, matrix, meta = _read_image(path, ending)
    else:
        raise VolumeError(_what_else(path))
    return array, matrix, {"source": path.name, **meta}


def _check_present(path: Path) -> bool:
    """Whether it is a folder. Raises :class:`VolumeError` for what is not there or can not be opened."""
    check_name(path)
    try:
        if path.is_dir():
            os.listdir(path)
            return True
        if not path.exists():
            raise VolumeError(f"There is no file '{path}'; check the spelling and the folder.")
        with path.open("rb") as file:
            empty = not file.read(1)
    except OSError as error:
        raise VolumeError(f"'{path}' can not be opened: {error.strerror or error}.") from error
    if empty:
        raise VolumeError(f"'{path.name}' is empty (0 bytes); copy it again from its source.")
    return False


def _what_else(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(132)
    if start[128:] == b"DICM":
        return f"'{path.name}' is one DICOM file; give the folder that holds its series."
    return f"'{path.name}' is not a volume file by its ending; readable are {', '.join(FORMATS)} and DICOM folders."


def _read_image(path: Path, ending: str) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    image, not_finite = load_image(path, check_image)
    while image.GetDimension() == 4:
        image = image[:, :, :, 0]
    array, matrix = from_image(image)
    if READERS[ending][0] == "NIfTI":
        nifti.check_geometry(path, matrix)
    if not_finite.size:
        array.reshape(-1)[not_finite] = np.nan  # infinity too: after ITK only its place is left
    return array, matrix, {"format": READERS[ending][0]}


def load_image(path: Path, check: Callable[[str, sitk.ImageFileReader], None]) -> tuple[sitk.Image, np.ndarray]:
    """A NIfTI, NRRD or MetaImage file as it is, and the flat places of what was NaN or infinite in a NIfTI.

    ``check`` gets the file's name and a reader that knows the header; what it raises goes through. Raises
    :class:`VolumeError` for a file that can not be read.
    """
    _check_present(path)
    name, reader_name = READERS[file_format(path)]
    not_finite = nifti.check(path) if name == "NIfTI" else np.empty(0, np.int64)
    reader = sitk.ImageFileReader()
    reader.SetImageIO(reader_name)
    try:
        with itk_names.readable(path) as safe, quiet():
            reader.SetFileName(str(safe))
            reader.ReadImageInformation()
            check(path.name, reader)
            return reader.Execute(), not_finite
    except RuntimeError as error:
        raise VolumeError(_why_not(path, name, str(error))) from error


def check_image(name: str, reader: sitk.ImageFileReader) -> None:
    """Raise :class:`VolumeError` unless the header of ``reader`` describes one scalar volume."""
    if reader.GetDimension() < 3:
        raise VolumeError(f"'{name}' is a 2D image; a volume has three axes (one slice is enough).")
    count = int(np.prod(reader.GetSize()[3:]))
    if count > 1 or is_list(reader):
        count *= reader.GetNumberOfComponents()
        raise VolumeError(f"'{name}' is 4D with {count} volumes; give one 3D volume, for example one time point of it.")
    check_grid(name, reader)
    if reader.GetNumberOfComponents() != 1:
        raise VolumeError(
            f"'{name}' has {reader.GetNumberOfComponents()} values a voxel (colour or vectors); give a volume with one."
        )


def is_list(reader: sitk.ImageFileReader) -> bool:
    """Whether the values at a voxel are those of several volumes, as in the sequence files of 3D Slicer."""
    kind = "NRRD_kinds[pixel]"
    return reader.HasMetaDataKey(kind) and reader.GetMetaData(kind) == "list" and reader.GetNumberOfComponents() > 1


def check_grid(name: str, reader: sitk.ImageFileReader) -> None:
    """Raise :class:`VolumeError` unless the voxels are real numbers that lie somewhere in space."""
    size, spacing = reader.GetSize(), reader.GetSpacing()
    if "complex" in sitk.GetPixelIDValueAsString(reader.GetPixelID()):
        raise VolumeError(f"'{name}' has complex voxels; give the magnitude image.")
    if not all(np.isfinite(spacing[:3])) or 0 in spacing[:3]:
        shown = " x ".join(f"{step:g}" for step in spacing[:3])
        raise VolumeError(f"'{name}' has a voxel spacing of {shown} mm; every spacing must be above zero.")
    direction = np.array(reader.GetDirection()).reshape(len(size), -1)[:3, :3]
    if not np.isfinite(direction).all() or abs(np.linalg.det(direction)) < 1e-4:
        raise VolumeError(f"The axis directions of '{name}' lie in one plane; they must span all three dimensions.")


def from_image(image: sitk.Image) -> tuple[np.ndarray, np.ndarray]:
    """Voxels ``[k, j, i]`` and the ijk-to-RAS matrix of a 3D SimpleITK image."""
    matrix = np.eye(4)
    matrix[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    matrix[:3, 3] = image.GetOrigin()
    return sitk.GetArrayFromImage(image), checked_matrix(LPS_TO_RAS @ matrix)


def _why_not(path: Path, name: str, error: str) -> str:
    if "orthonormal" in error:
        return f"The axes of '{path.name}' are sheared, which NIfTI readers refuse; resample it to a straight grid."
    if "number of domain axes" in error:
        return (
            f"'{path.name}' has an axis beside the three of space that its NRRD header calls 'time' or 'domain'; write "
            "'list' for it in the line 'kinds', as 3D Slicer does."
        )
    with path.open("rb") as file:
        header = file.read(64)
    known = {"NRRD": header.startswith(b"NRRD"), "MetaImage": b"ObjectType" in header or b"NDims" in header}
    if not known.get(name, True):
        return f"'{path.name}' is not in {name} format, whatever its ending says; give a volume file."
    if path.suffix in (".mhd", ".nhdr"):
        return f"'{path.name}' is damaged, or the data file it names is missing or cut off; keep both side by side."
    return f"'{path.name}' is damaged or cut off; copy it again from its source."


def _read_numpy(path: Path, ending: str) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    try:
        if ending == ".npy":
            array, matrix, labels = np.load(path, allow_pickle=False), np.eye(4), {}
        else:
            with np.load(path, allow_pickle=False) as held:
                missing = sorted({"array", "ijk_to_ras"} - set(held.files))
                if missing:
                    raise VolumeError(
                        f"'{path.name}' holds no '{missing[0]}'; an .npz volume holds 'array' and 'ijk_to_ras'."
                    )
                array, matrix, labels = held["array"], held["ijk_to_ras"], _labels(held)
    except VolumeError:
        raise
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise VolumeError(f"'{path.name}' is not a readable NumPy file; it is damaged, cut off or pickled.") from error
    if array.ndim != 3 or array.size == 0:
        raise VolumeError(f"'{path.name}' has shape {array.shape}; a volume has three axes: slices, rows, columns.")
    if array.dtype.kind not in "iufb":
        raise VolumeError(f"'{path.name}' holds {array.dtype} values; a volume holds integers or real numbers.")
    try:
        matrix = checked_matrix(matrix)
    except (VolumeError, TypeError, ValueError) as error:
        said = str(error) if isinstance(error, VolumeError) else "The geometry must be a 4 x 4 matrix of numbers."
        raise VolumeError(f"'{path.name}': {said}") from error
    return array, matrix, {"format": "NumPy", "labels": labels} if labels else {"format": "NumPy"}


def _labels(held: Any) -> dict[int, Label]:
    if "label_values" not in held.files:
        return {}
    count = len(held["label_values"])
    terms = held["label_terminologies"] if "label_terminologies" in held.files else [""] * count
    rows = zip(held["label_values"], held["label_names"], held["label_colors"], terms, strict=True)
    return {
        int(value): Label(str(name), (float(r), float(g), float(b)), str(term)) for value, name, (r, g, b), term in rows
    }
