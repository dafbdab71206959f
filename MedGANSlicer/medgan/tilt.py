"""Whether the slices of a DICOM folder were taken with a tilted gantry, from the headers of two of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from medgan import itk_names
from medgan.dicom import ORIENTATION, POSITION, all_series, largest
from medgan.quiet import quiet
from medgan.writing import at_right_angles


def is_tilted(folder: Path) -> bool:
    """Whether the axes of the largest series in ``folder`` are sheared; no for whatever can not be read as one."""
    if not folder.is_dir():
        return False
    try:
        with itk_names.readable(folder) as safe:
            series = all_series(safe)
            files = series[largest(series)] if series else ()
            if len(files) < 2:
                return False
            with quiet():
                row, column = _numbers(files[0], ORIENTATION).reshape(2, 3)
                step = _numbers(files[-1], POSITION) - _numbers(files[0], POSITION)
    except (OSError, RuntimeError, ValueError):
        return False
    matrix = np.eye(4)
    matrix[:3, :3] = np.stack([row, column, step], axis=1)
    return bool(np.linalg.norm(matrix[:3, :3], axis=0).all()) and not at_right_angles(matrix)


def _numbers(file: str, tag: str) -> np.ndarray:
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(file)
    reader.ReadImageInformation()
    return np.array([float(part) for part in reader.GetMetaData(tag).split("\\")])
