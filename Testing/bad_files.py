"""Files that are no usable volume, each with a phrase that its refusal must contain."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import SimpleITK as sitk


def _image(array: np.ndarray | None = None, **options: bool) -> sitk.Image:
    array = np.arange(6 * 7 * 8, dtype=np.int16).reshape(6, 7, 8) if array is None else array
    image = sitk.GetImageFromArray(array, **options)
    if image.GetDimension() == 3:
        image.SetSpacing((1.0, 2.0, 3.0))
    return image


def _written(folder: Path, name: str, image: sitk.Image) -> Path:
    sitk.WriteImage(image, str(folder / name))
    return folder / name


def _cut(folder: Path, name: str, share: float = 0.6) -> Path:
    # Noise, so that a compressed file can not end before the cut.
    noise = np.random.default_rng(0).integers(-3000, 3000, (20, 21, 22)).astype(np.int16)
    path = _written(folder, name, _image(noise))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


def _nifti_2(folder: Path) -> Path:
    (folder / "two.nii").write_bytes(struct.pack("<i8s", 540, b"n+2\0\r\n\032\n") + bytes(528 + 60))
    return folder / "two.nii"


def _text(folder: Path, name: str) -> Path:
    (folder / name).write_text("Dear colleague, please find the scan attached.\n" * 30)
    return folder / name


def _empty(folder: Path, name: str) -> Path:
    (folder / name).touch()
    return folder / name


def _patched(folder: Path, name: str, old: bytes, new: bytes) -> Path:
    path = _written(folder, name, _image())
    content = path.read_bytes()
    assert content.count(old) == 1, (name, old)
    path.write_bytes(content.replace(old, new))
    return path


def _nifti(folder: Path, name: str, *fields: tuple[int, str, tuple[float, ...]]) -> Path:
    """A NIfTI-1 file with header fields replaced, each given as offset, struct format and values."""
    path = _written(folder, name, _image())
    content = bytearray(path.read_bytes())
    for offset, kind, values in fields:
        content[offset : offset + struct.calcsize(kind)] = struct.pack(kind, *values)
    path.write_bytes(content)
    return path


MATRIX_ONLY = (252, "<hh", (0, 1))
"""qform_code and sform_code of a NIfTI whose geometry stands in its matrix alone."""


def _npz(folder: Path, name: str, **arrays: np.ndarray) -> Path:
    np.savez(folder / name, **arrays)
    return folder / name


def _npy(folder: Path, name: str, array: np.ndarray) -> Path:
    np.save(folder / name, array, allow_pickle=True)
    return folder / name


def _mhd_alone(folder: Path) -> Path:
    path = _written(folder, "alone.mhd", _image())
    (folder / "alone.raw").unlink()
    return path


BAD: dict[str, tuple[Callable[[Path], Path], str]] = {
    "missing": (lambda f: f / "missing.nii.gz", "There is no file"),
    "empty nii": (lambda f: _empty(f, "empty.nii"), "is empty"),
    "empty nii.gz": (lambda f: _empty(f, "empty.nii.gz"), "is empty"),
    "empty nrrd": (lambda f: _empty(f, "empty.nrrd"), "is empty"),
    "empty npz": (lambda f: _empty(f, "empty.npz"), "is empty"),
    "cut nii": (lambda f: _cut(f, "cut.nii"), "is cut off"),
    "cut nii within the header": (lambda f: _cut(f, "cut.nii", 0.005), "is cut off within its header"),
    "nii of version 2": (_nifti_2, "is in NIfTI-2 format"),
    "cut nii.gz": (lambda f: _cut(f, "cut.nii.gz"), "cut off"),
    "nii.gz without its last byte": (lambda f: _cut(f, "cut.nii.gz", 0.9999), "cut off"),
    "cut nrrd": (lambda f: _cut(f, "cut.nrrd"), "cut off"),
    "cut mha": (lambda f: _cut(f, "cut.mha"), "cut off"),
    "mhd without its data": (_mhd_alone, "data file it names is missing"),
    "text as nii": (lambda f: _text(f, "letter.nii"), "is not in NIfTI format"),
    "text as nii.gz": (lambda f: _text(f, "letter.nii.gz"), "is not in NIfTI format"),
    "text as nrrd": (lambda f: _text(f, "letter.nrrd"), "is not in NRRD format"),
    "text as mha": (lambda f: _text(f, "letter.mha"), "is not in MetaImage format"),
    "text as npz": (lambda f: _text(f, "letter.npz"), "is not a readable NumPy file"),
    "text as text": (lambda f: _text(f, "letter.txt"), "is not a volume file by its ending"),
    "rgb nii": (
        lambda f: _written(f, "rgb.nii", _image(np.zeros((4, 5, 6, 3), np.uint8), isVector=True)),
        "has 3 values",
    ),
    "rgb nrrd": (
        lambda f: _written(f, "rgb.nrrd", _image(np.zeros((4, 5, 6, 3), np.uint8), isVector=True)),
        "has 3 values",
    ),
    "4d nii.gz": (
        lambda f: _written(f, "4d.nii.gz", _image(np.zeros((3, 4, 5, 6), np.int16), isVector=False)),
        "is 4D",
    ),
    "4d nrrd": (lambda f: _written(f, "4d.nrrd", _image(np.zeros((3, 4, 5, 6), np.int16), isVector=False)), "is 4D"),
    "2d": (lambda f: _written(f, "2d.nii.gz", _image(np.zeros((5, 6), np.int16))), "is a 2D image"),
    "complex": (lambda f: _written(f, "complex.nii.gz", _image(np.zeros((4, 5, 6), np.complex64))), "complex voxels"),
    "all NaN": (lambda f: _written(f, "nan.nii.gz", _image(np.full((4, 5, 6), np.nan, np.float32))), "is NaN"),
    "all NaN npz": (
        lambda f: _npz(f, "nan.npz", array=np.full((4, 5, 6), np.nan), ijk_to_ras=np.eye(4)),
        "is NaN",
    ),
    "beyond float32": (lambda f: _written(f, "huge.nrrd", _image(np.full((4, 5, 6), 1e300))), "is NaN or infinity"),
    "partly beyond float32": (
        lambda f: _npz(f, "huge.npz", array=np.linspace(0, 1e300, 60).reshape(3, 4, 5), ijk_to_ras=np.eye(4)),
        "beyond 3.4e38",
    ),
    "far offset nii": (lambda f: _nifti(f, "far.nii", (108, "<f", (1e30,))), "has a damaged NIfTI header"),
    "zero spacing nii": (lambda f: _nifti(f, "zero.nii", (84, "<f", (0.0,))), "spacing of 0 mm along axis j"),
    "zero spacing mha": (
        lambda f: _patched(f, "zero.mha", b"ElementSpacing = 1 2 3", b"ElementSpacing = 1 0 3"),
        "spacing of 1 x 0 x 3 mm",
    ),
    "zero spacing nrrd": (lambda f: _patched(f, "zero.nrrd", b"(0,2,0)", b"(0,0,0)"), "spacing of 1 x 0 x 3 mm"),
    "singular mha": (
        lambda f: _patched(f, "flat.mha", b"Matrix = 1 0 0 0 1 0 0 0 1", b"Matrix = 1 0 0 1 0 0 0 0 1"),
        "lie in one plane",
    ),
    "singular nrrd": (lambda f: _patched(f, "flat.nrrd", b"(0,2,0)", b"(2,0,0)"), "lie in one plane"),
    "singular nii": (
        lambda f: _nifti(f, "flat.nii", MATRIX_ONLY, (280, "<12f", (1, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0))),
        "lie in one plane",
    ),
    "sheared nii": (
        lambda f: _nifti(f, "sheared.nii", MATRIX_ONLY, (280, "<12f", (1, 0.5, 0, 0, 0, 2, 0, 0, 0, 0, 3, 0))),
        "are sheared",
    ),
    "nii with two spacings": (
        lambda f: _nifti(f, "two.nii", MATRIX_ONLY, (280, "<12f", (2, 0, 0, 0, 0, 2, 0, 0, 0, 0, 3, 0))),
        "contradicts itself",
    ),
    "npz without geometry": (lambda f: _npz(f, "bare.npz", array=np.zeros((4, 5, 6))), "holds no 'ijk_to_ras'"),
    "npz with a flat geometry": (
        lambda f: _npz(f, "flat.npz", array=np.zeros((4, 5, 6)), ijk_to_ras=np.diag([1.0, 1.0, 0.0, 1.0])),
        "spacing is 1 x 1 x 0 mm",
    ),
    "npy with two axes": (lambda f: _npy(f, "2d.npy", np.zeros((4, 5))), "three axes"),
    "npy with objects": (lambda f: _npy(f, "objects.npy", np.array([[["a", None]]], dtype=object)), "pickled"),
    "folder without images": (lambda f: f, "holds no DICOM series and no volume files"),
}
"""For each kind of bad input: a function that makes it in a folder, and a phrase of the one sentence it gets."""
