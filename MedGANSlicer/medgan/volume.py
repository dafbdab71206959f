"""A volume or a label map with its place in the patient, and the way to and from files.

Axes are ``array[k, j, i]``: slices, rows, columns. ``ijk_to_ras`` maps the centre of voxel
``(i, j, k, 1)`` to millimetres in RAS (right, anterior, superior), the frame of 3D Slicer and NIfTI.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from medgan.voxel_types import stored_as

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""ITK, DICOM and NRRD files count millimetres to the left and the back; its own inverse."""

FORMATS = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd", ".npz", ".npy")
"""Endings of the files that are read and written; a DICOM series is read from its folder."""


class VolumeError(ValueError):
    """A volume or a file that can not be used; the text is one sentence for a person."""


def check_name(path: Path) -> None:
    """Raise :class:`VolumeError` for a name that the libraries behind can not open."""
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        shown = str(path).encode("utf-8", "replace").decode()
        raise VolumeError(f"'{shown}' has letters in its name that are not UTF-8; rename it.") from None


def file_format(path: str | Path) -> str:
    """The ending in ``FORMATS`` that a path has, or '' for any other."""
    name = Path(path).name.lower()
    return max((ending for ending in FORMATS if name.endswith(ending)), key=len, default="")


def stem_of(path: str | Path) -> str:
    """The name of a file without the ending in ``FORMATS`` that it has."""
    name = Path(path).name
    return name[: len(name) - len(file_format(name))]


@dataclass(eq=False)
class Volume:
    """One scalar volume: float32 ``array[k, j, i]`` and a 4x4 ``ijk_to_ras`` in mm.

    ``voxel_type`` is the numpy name of the type the voxels had in their source ("int16"), which :meth:`stored`
    restores. ``meta`` holds what is said about the source: "format", "source" (a name) and "messages" (sentences for
    the person), and "synthetic" what the header of the file of a made volume is to say. ``exact``, where it is given,
    holds the voxels of the source in a type wider than float32; what was not changed is stored with these very values.
    Raises :class:`VolumeError` for arrays or matrices of the wrong kind. Any invertible matrix is accepted: oblique,
    left-handed, anisotropic, sheared.
    """

    array: np.ndarray
    ijk_to_ras: np.ndarray
    meta: dict[str, Any] = field(default_factory=dict)
    voxel_type: str = "float32"
    exact: np.ndarray | None = None

    def __post_init__(self) -> None:
        array = np.asarray(self.array)
        if array.dtype.kind not in "iufb":
            raise VolumeError(f"A volume holds integers or real numbers, this array holds {array.dtype}.")
        self.array = _three_axes(np.ascontiguousarray(array, dtype=np.float32))
        self.ijk_to_ras = checked_matrix(self.ijk_to_ras)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of slices, rows and columns (k, j, i)."""
        return self.array.shape  # type: ignore[return-value]

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance of neighbouring voxels along i, j and k in mm."""
        return spacing_of(self.ijk_to_ras)

    def like(self, array: np.ndarray, voxel_type: str | None = None) -> Volume:
        """Other voxels on the same grid; ``voxel_type`` is this volume's unless told."""
        if np.shape(array) != self.shape:
            raise VolumeError(f"Voxels of shape {np.shape(array)} do not lie on a grid of shape {self.shape}.")
        return Volume(array, self.ijk_to_ras.copy(), dict(self.meta), voxel_type or self.voxel_type)

    def stored(self) -> np.ndarray:
        """The voxels in ``voxel_type``: integers rounded and clipped to their range.

        Stays float32 where that would lose much: NaN or infinity in an integer type, a range of fewer than 32 whole
        steps unless all voxels are whole, values far beyond the type, or a type that is not a plain number.
        """
        return stored_as(self.array, self.voxel_type, self.exact)


@dataclass(frozen=True)
class Label:
    """Name, colour (red, green, blue, each 0..1) and terminology entry of one label value.

    ``terminology`` is the line that a segment of 3D Slicer holds (see :mod:`medgan.terminology`), or ''.
    """

    name: str
    color: tuple[float, float, float] = (0.5, 0.5, 0.5)
    terminology: str = ""


@dataclass(eq=False)
class LabelMap:
    """Integer ``array[k, j, i]`` whose values are named by ``labels``; 0 is background.

    Keeps the integer type it is given, because label values are exact. Raises :class:`VolumeError`.
    """

    array: np.ndarray
    ijk_to_ras: np.ndarray
    labels: dict[int, Label] = field(default_factory=dict)

    def __post_init__(self) -> None:
        array = np.asarray(self.array)
        array = array.astype(np.uint8) if array.dtype == np.bool_ else array
        if array.dtype.kind not in "iu":
            raise VolumeError(f"A label map holds integers, this array holds {array.dtype}; round it first.")
        self.array = _three_axes(np.ascontiguousarray(array))
        self.ijk_to_ras = checked_matrix(self.ijk_to_ras)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of slices, rows and columns (k, j, i)."""
        return self.array.shape  # type: ignore[return-value]

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance of neighbouring voxels along i, j and k in mm."""
        return spacing_of(self.ijk_to_ras)

    @property
    def voxel_type(self) -> str:
        return self.array.dtype.name

    def stored(self) -> np.ndarray:
        """The label values as they are."""
        return self.array


def read_volume(path: str | Path) -> Volume:
    """The volume in a NIfTI, NRRD, MetaImage or NumPy file, or the largest series of a DICOM folder.

    Raises :class:`VolumeError` with one sentence that names what is wrong with the file.
    """
    from medgan.reading import read  # on use: it imports SimpleITK

    return read(Path(path))


def read_label_map(path: str | Path) -> LabelMap:
    """The label map in a file; only ``.npz`` holds names and colours. Raises :class:`VolumeError`."""
    from medgan.reading import read_labels

    return read_labels(Path(path))


def write_volume(volume: Volume | LabelMap, path: str | Path) -> None:
    """Write a file in the format that its ending names, with the voxel type of the source where that fits.

    The type becomes float32 where rounding would lose much of the voxels, see :meth:`Volume.stored`.
    The file appears complete under its name or not at all. Raises :class:`VolumeError`.
    """
    from medgan.writing import write

    write(volume, Path(path))


def spacing_of(ijk_to_ras: np.ndarray) -> tuple[float, float, float]:
    """Length in mm of one step along i, j and k."""
    i, j, k = np.linalg.norm(ijk_to_ras[:3, :3], axis=0)
    return float(i), float(j), float(k)


def checked_matrix(matrix: Any) -> np.ndarray:
    """A copy as 4x4 float64. Raises :class:`VolumeError` when it can not place a volume in space."""
    matrix = np.array(matrix, dtype=np.float64)
    if matrix.shape != (4, 4) or not np.allclose(matrix[3], (0, 0, 0, 1)):
        raise VolumeError("The geometry must be a 4 x 4 matrix with the last row 0 0 0 1.")
    if not np.isfinite(matrix).all():
        raise VolumeError("The geometry holds NaN or infinity; spacing, origin and directions must be numbers.")
    spacing = spacing_of(matrix)
    if min(spacing) <= 0:
        shown = " x ".join(f"{step:g}" for step in spacing)
        raise VolumeError(f"The voxel spacing is {shown} mm; every spacing must be above zero.")
    if abs(np.linalg.det(matrix[:3, :3] / spacing)) < 1e-4:
        raise VolumeError("The directions of the axes lie in one plane; they must span all three dimensions.")
    return matrix


def _three_axes(array: np.ndarray) -> np.ndarray:
    if array.ndim != 3 or array.size == 0:
        raise VolumeError(f"A volume has three axes with at least one voxel each, this array has shape {array.shape}.")
    return array
