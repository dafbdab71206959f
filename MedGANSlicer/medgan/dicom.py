"""The largest image series of a DICOM folder as one volume, when its slices make one."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from medgan import itk_names
from medgan.quiet import quiet
from medgan.reading import check_image, from_image
from medgan.volume import LPS_TO_RAS, VolumeError, check_name, file_format

POSITION, ORIENTATION, THICKNESS = "0020|0032", "0020|0037", "0018|0050"
INTERCEPT, SLOPE = "0028|1052", "0028|1053"
MODALITY, DESCRIPTION = "0008|0060", "0008|103e"


def read_series(folder: Path) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Voxels in their own type, the ijk-to-RAS matrix and what to say, of the series with most files.

    Raises :class:`VolumeError` when the folder has no series, or slices are missing, doubled, turned or not
    equally spaced. A tilted gantry gives a sheared matrix, which is where the anatomy lies.
    """
    check_name(folder)
    with itk_names.readable(folder) as safe:
        return _read_series(folder, safe)


def _read_series(folder: Path, safe: Path) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    series = all_series(safe)
    if not series:
        raise VolumeError(_no_series(folder))
    uid = largest(series)
    files = series[uid]
    _check_none_dropped(safe, uid, {safe / Path(file).name for names in series.values() for file in names})
    try:
        with quiet():
            first = sitk.ImageFileReader()
            first.SetImageIO("GDCMImageIO")
            first.SetFileName(files[0])
            first.ReadImageInformation()
            check_image(Path(files[0]).name, first)
            if first.GetSize()[2] > 1:
                raise VolumeError(f"'{folder.name}' is a multi-frame DICOM file; convert it to NIfTI or NRRD first.")
            reader = sitk.ImageSeriesReader()
            if _slopes_differ(files):  # ITK would cut all slices to the type that the first one needs
                reader.SetOutputPixelType(sitk.sitkFloat64)
            reader.SetImageIO("GDCMImageIO")
            reader.SetFileNames(files)
            reader.MetaDataDictionaryArrayUpdateOn()
            image = reader.Execute()
    except RuntimeError as error:
        raise VolumeError(
            f"The DICOM series in '{folder}' can not be read; a file is damaged, cut off or of another size."
        ) from error
    array, matrix = from_image(image)
    places = [
        (_numbers(reader, index, POSITION, 3), _numbers(reader, index, ORIENTATION, 6)) for index in range(len(files))
    ]
    if len(files) > 1:
        # ITK keeps the slice axis at right angles to the slices and averages the distance; the positions know.
        step = _slice_step(folder, [p for p, _ in places], [o for _, o in places])
        matrix[:3, 2] = LPS_TO_RAS[:3, :3] @ step
    elif thickness := _thickness_mm(first):
        matrix[:3, 2] *= thickness / np.linalg.norm(matrix[:3, 2])
    return array, matrix, {"source": folder.name, "format": "DICOM", "messages": _said(reader, first, series, files)}


def all_series(folder: Path) -> dict[str, tuple[str, ...]]:
    """The image series in a folder: the paths of the files of each in the order of its slices, by its UID.

    ``folder`` is :func:`medgan.itk_names.readable`.
    """
    with quiet():
        return {
            uid: sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), uid)
            for uid in sorted(sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder)))
        }


def largest(series: dict[str, tuple[str, ...]]) -> str:
    """The UID of the series with most files, which is the one that is read; of equal ones the first."""
    return max(series, key=lambda uid: len(series[uid]))


def _slopes_differ(files: tuple[str, ...]) -> bool:
    """Whether the slices turn their stored numbers into intensities each in its own way, as PET does."""
    found = set()
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    for file in files:
        reader.SetFileName(file)
        reader.ReadImageInformation()
        found.add(tuple(reader.GetMetaData(tag).strip() for tag in (INTERCEPT, SLOPE) if reader.HasMetaDataKey(tag)))
    return len(found) > 1


def _no_series(folder: Path) -> str:
    volumes = [file.name for file in sorted(folder.iterdir()) if file.is_file() and file_format(file)]
    if volumes:
        return (
            f"Folder '{folder}' holds no DICOM series but volume files; give one of them, for example '{volumes[0]}'."
        )
    return (
        f"Folder '{folder}' holds no DICOM series and no volume files; give the folder in which these files lie "
        "themselves."
    )


def _check_none_dropped(folder: Path, uid: str, listed: set[Path]) -> None:
    """Raise :class:`VolumeError` for a slice of the series that GDCM left out of its list, because it is damaged."""
    for file in sorted(folder.iterdir()):
        if not file.is_file() or file in listed:
            continue
        with file.open("rb") as opened:
            start = opened.read(1 << 16)
        if start[128:132] == b"DICM" and uid.encode() in start:
            raise VolumeError(
                f"DICOM slice '{file.name}' is damaged or cut off; copy the series again from its source."
            )


def _numbers(reader: sitk.ImageSeriesReader, index: int, tag: str, count: int) -> np.ndarray:
    try:
        numbers = np.array([float(part) for part in reader.GetMetaData(index, tag).split("\\")])
    except (RuntimeError, ValueError):
        numbers = np.empty(0)
    if numbers.shape != (count,) or not np.isfinite(numbers).all():
        raise VolumeError(
            "A DICOM slice does not say where it lies (image position and orientation); give a volume series."
        )
    return numbers


def _thickness_mm(slice_: sitk.ImageFileReader) -> float:
    """Of a single slice; 0 where its header does not say it, or nothing that can be."""
    try:
        thickness = float(slice_.GetMetaData(THICKNESS)) if slice_.HasMetaDataKey(THICKNESS) else 0.0
    except ValueError:
        return 0.0
    return thickness if 0.0 < thickness < math.inf else 0.0


def _slice_step(folder: Path, positions: list[np.ndarray], orientations: list[np.ndarray]) -> np.ndarray:
    """Vector in LPS mm from one slice to the next. Raises :class:`VolumeError` unless all are equal."""
    if np.abs(np.array(orientations) - orientations[0]).max() > 1e-3:
        raise VolumeError(
            f"The slices in '{folder}' do not face the same way (a localiser?); give one stack of slices."
        )
    normal = np.cross(orientations[0][:3], orientations[0][3:])
    heights = np.array(positions) @ normal
    gaps = np.abs(np.diff(heights))
    usual = float(np.median(gaps))
    if gaps.min() < 1e-3 or np.diff(np.sort(heights)).min() < 1e-3:
        raise VolumeError(
            f"The series in '{folder}' has several slices at one position (phases or echoes); keep one volume of it."
        )
    if gaps.max() > 1.5 * usual:
        raise VolumeError(
            f"Slices are missing in '{folder}': one gap is {gaps.max():.4g} mm where slices are {usual:.4g} mm apart; "
            "copy the whole series."
        )
    if gaps.max() - gaps.min() > max(0.02 * usual, 0.02):
        raise VolumeError(
            f"The slices in '{folder}' are not equally spaced ({gaps.min():.4g} to {gaps.max():.4g} mm); resample them "
            "first."
        )
    step = (positions[-1] - positions[0]) / (len(positions) - 1)
    line = positions[0] + np.arange(len(positions))[:, None] * step
    if np.abs(np.array(positions) - line).max() > 0.2 * usual:
        raise VolumeError(f"The slices in '{folder}' do not lie on one straight line; give one stack of slices.")
    return step


def _said(
    reader: sitk.ImageSeriesReader, first: sitk.ImageFileReader, series: dict[str, Any], files: tuple[str, ...]
) -> list[str]:
    if len(series) == 1:
        return []
    said = [first.GetMetaData(tag).strip() for tag in (MODALITY, DESCRIPTION) if first.HasMetaDataKey(tag)]
    name = " ".join(part for part in said if part) or "unnamed"
    return [f"The folder holds {len(series)} series; this is the largest one, '{name}' with {len(files)} slices."]
