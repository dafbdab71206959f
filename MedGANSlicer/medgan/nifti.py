"""Whether a NIfTI file is what it says: complete, with a spacing, and with one geometry.

SimpleITK reads the voxels. It does so without an error from a file that was cut off (the rest is noise),
from one whose spacing is zero (it takes 1 mm), from one whose matrix disagrees with its spacing, and from one
with NaN or infinity (it takes 0). So the file is looked through once beside it.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from medgan.volume import VolumeError


@dataclass(frozen=True)
class Header:
    """The fields of a NIfTI-1 header that are checked."""

    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    voxel_bits: int
    data_offset: int
    floating: np.dtype | None
    qform_code: int
    sform: np.ndarray | None

    @property
    def file_bytes(self) -> int:
        """Length of the whole file, decompressed."""
        return self.data_offset + math.prod(self.shape) * self.voxel_bits // 8


_MM = {1: 1000.0, 3: 0.001}
"""Millimetres in the units of length that a header may name beside them: metres and micrometres."""


def check(path: Path) -> np.ndarray:
    """Flat places of the voxels that are NaN or infinite, first axis fastest, in a file that is whole.

    Raises :class:`VolumeError` when the file is not NIfTI, is not complete or has no spacing.
    """
    try:
        with _open(path) as file:
            header = read_header(path, file.read(348))
            for axis, (length, spacing) in enumerate(zip(header.shape[:3], header.spacing, strict=False)):
                if not np.isfinite(spacing) or spacing == 0:
                    raise VolumeError(
                        f"'{path.name}' has a voxel spacing of {spacing:g} mm along axis {'ijk'[axis]} "
                        f"({length} voxels); every spacing must be above zero."
                    )
            _check_directions(path, header)
            actual, not_finite = _look_through(file, header)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise VolumeError(f"'{path.name}' is damaged or cut off; copy it again from its source.") from error
    except OSError as error:
        raise VolumeError(f"'{path.name}' can not be read: {error.strerror or error}.") from error
    if actual < header.file_bytes:
        raise VolumeError(
            f"'{path.name}' is cut off: it has {actual} of {header.file_bytes} bytes; copy it again from its source."
        )
    return not_finite


def check_geometry(path: Path, ijk_to_ras: np.ndarray) -> None:
    """Raise :class:`VolumeError` when the file's own matrix is not the one that was read.

    ITK goes by the spacing and the quaternion when the matrix disagrees with them. Without a quaternion it
    takes no orientation at all, and the volume would lie elsewhere without a word.
    """
    with _open(path) as file:
        header = read_header(path, file.read(348))
    if header.sform is None or header.qform_code > 0:
        return
    corner = np.array([*(length - 1 for length in header.shape[:3]), 1.0])
    step = max(np.abs(header.spacing[:3]))
    if np.abs((header.sform - ijk_to_ras)[:3] @ corner).max() > 0.1 * step or not np.allclose(
        header.sform[:3, :3], ijk_to_ras[:3, :3], atol=0.01 * step
    ):
        matrix_steps = np.linalg.norm(header.sform[:3, :3], axis=0)
        raise VolumeError(
            f"'{path.name}' contradicts itself: its matrix has voxels of {_sizes(matrix_steps)} mm, its spacing says "
            f"{_sizes(header.spacing[:3])} mm; correct the header."
        )


def read_header(path: Path, start: bytes) -> Header:
    """The header in the first 348 bytes. Raises :class:`VolumeError` when it is none."""
    for order in "<>":
        if start[:4] == struct.pack(order + "i", 540):
            raise VolumeError(f"'{path.name}' is in NIfTI-2 format, which can not be read; save it as NIfTI-1 or NRRD.")
        if start[:4] == struct.pack(order + "i", 348) and len(start) < 348:
            raise VolumeError(f"'{path.name}' is cut off within its header; copy it again from its source.")
        if start[:4] == struct.pack(order + "i", 348) and start[344:347] == b"n+1":
            dim = struct.unpack(order + "8h", start[40:56])
            spacing = struct.unpack(order + "8f", start[76:108])
            (kind, bits), (offset,) = (
                struct.unpack(order + "hh", start[70:74]),
                struct.unpack(order + "f", start[108:112]),
            )
            qform_code, sform_code = struct.unpack(order + "hh", start[252:256])
            rows, units = struct.unpack(order + "12f", start[280:328]), start[123]
            break
    else:
        raise VolumeError(f"'{path.name}' is not in NIfTI format, whatever its ending says; give a volume file.")
    if not 1 <= dim[0] <= 7 or min(dim[1 : dim[0] + 1]) < 1 or bits < 1 or not 0 <= offset < 2**62:
        raise VolumeError(f"'{path.name}' has a damaged NIfTI header; copy it again from its source.")
    mm = _MM.get(units & 7, 1.0)
    spacing = (spacing[0], *(step * mm for step in spacing[1:4]), *spacing[4:])
    sform = np.vstack([mm * np.reshape(rows, (3, 4)), (0, 0, 0, 1)]) if sform_code > 0 else None
    floating = {16: np.dtype(order + "f4"), 64: np.dtype(order + "f8")}.get(kind)
    return Header(dim[1 : dim[0] + 1], spacing[1 : dim[0] + 1], bits, int(offset), floating, qform_code, sform)


def _check_directions(path: Path, header: Header) -> None:
    if header.sform is None or header.qform_code > 0:
        return  # with a quaternion ITK has a sound choice
    columns = header.sform[:3, :3]
    lengths = np.linalg.norm(columns, axis=0)
    # Axes, not the origin, decide: a far-off origin next to short steps is no fault.
    flat = not np.isfinite(header.sform).all() or lengths.min() == 0 or abs(np.linalg.det(columns / lengths)) < 1e-6
    if flat:
        raise VolumeError(
            f"The axis directions of '{path.name}' lie in one plane; they must span all three dimensions."
        )


def _open(path: Path) -> BinaryIO:
    with path.open("rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if compressed else path.open("rb")  # type: ignore[return-value]


def _look_through(file: BinaryIO, header: Header) -> tuple[int, np.ndarray]:
    """Decompressed length of the file, and the places of voxels that are not finite.

    Reading a gzip to its end also checks its checksum.
    """
    if not isinstance(file, gzip.GzipFile):
        length = file.seek(0, 2)
        if header.floating is None or length < header.file_bytes:
            return length, np.empty(0, np.int64)
    file.seek(header.data_offset)
    found, place = [np.empty(0, np.int64)], 0
    while chunk := file.read(1 << 20):
        if header.floating is not None:
            whole = len(chunk) // header.floating.itemsize * header.floating.itemsize
            values = np.frombuffer(chunk[:whole], header.floating)
            found.append(place + np.flatnonzero(~np.isfinite(values)))
            place += len(values)
    places = np.concatenate(found)
    return file.tell(), places[places < math.prod(header.shape)]


def _sizes(steps: object) -> str:
    return " x ".join(f"{step:.4g}" for step in np.abs(np.asarray(steps, dtype=float)))
