"""Volumes with known answers: small heads of ellipsoids, awkward geometries, and files of every bad kind."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy import ndimage

ODD_SHAPE = (29, 41, 37)
"""Slices, rows and columns (k, j, i) of an odd volume: 37 x 41 x 29 voxels."""


def rotation(degrees: tuple[float, float, float]) -> np.ndarray:
    """3x3 rotation about x, then y, then z."""
    x, y, z = np.radians(degrees)
    about_x = np.array([[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]])
    about_y = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    about_z = np.array([[np.cos(z), -np.sin(z), 0], [np.sin(z), np.cos(z), 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


def geometry(
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0),
    degrees: tuple[float, float, float] = (0.0, 0.0, 0.0),
    origin_mm: tuple[float, float, float] = (0.0, 0.0, 0.0),
    left_handed: bool = False,
) -> np.ndarray:
    """4x4 ijk-to-RAS in mm with this spacing along i, j, k, turned, and mirrored along j when left-handed."""
    matrix = np.eye(4)
    matrix[:3, :3] = rotation(degrees) @ np.diag(spacing_mm)
    if left_handed:
        matrix[:3, 1] *= -1
    matrix[:3, 3] = origin_mm
    return matrix


def awkward_geometry() -> np.ndarray:
    """Oblique, left-handed, anisotropic and off the centre."""
    return geometry((0.7, 1.1, 2.3), (20.0, -35.0, 50.0), (12.3, -45.6, 78.9), left_handed=True)


def head(shape: tuple[int, int, int] = (24, 24, 24)) -> np.ndarray:
    """float32 [k, j, i]: air 0, skull 300, brain 700, ventricles 400 and a bright lesion 1000."""
    k, j, i = np.meshgrid(*(np.linspace(-1, 1, side) for side in shape), indexing="ij")
    array = np.zeros(shape, np.float32)
    for value, radius, centre in (
        (300, (0.90, 0.90, 0.80), (0, 0, 0)),
        (700, (0.78, 0.78, 0.68), (0, 0, 0)),
        (400, (0.25, 0.35, 0.15), (0, 0, 0.2)),
        (400, (0.25, 0.35, 0.15), (0, 0, -0.2)),
        (1000, (0.15, 0.15, 0.12), (0.2, -0.45, 0.1)),
    ):
        inside = sum(((axis - c) / r) ** 2 for axis, r, c in zip((k, j, i), radius, centre, strict=True)) <= 1
        array[inside] = value
    return array


def rician(array: np.ndarray, sigma: float, seed: int = 0) -> np.ndarray:
    """A magnitude image with Gaussian noise of ``sigma`` in both channels, float32."""
    rng = np.random.default_rng(seed)
    real = array + rng.normal(0, sigma, array.shape)
    return np.hypot(real, rng.normal(0, sigma, array.shape)).astype(np.float32)


def write_dicom_series(
    folder: Path,
    array: np.ndarray,
    *,
    positions_mm: list[tuple[float, float, float]] | None = None,
    spacing_mm: tuple[float, float, float] = (0.8, 1.2, 2.5),
    orientation: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
    description: str = "T1",
    intercept: float = 0.0,
    slopes: Sequence[float] = (1.0,),
) -> None:
    """Write int16 ``array[k, j, i]`` as one DICOM file a slice; positions in LPS, one spacing apart unless told.

    ``slopes``: what a stored number stands for, of one slice after the other."""
    import pydicom
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

    folder.mkdir(parents=True, exist_ok=True)
    normal = np.cross(orientation[:3], orientation[3:])
    series, study = generate_uid(), generate_uid()
    for index, plane in enumerate(array):
        place = (
            positions_mm[index] if positions_mm else tuple(np.array([5.0, -7.0, 11.0]) + normal * spacing_mm[2] * index)
        )
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = MRImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        image = pydicom.Dataset()
        image.file_meta = meta
        image.SOPClassUID, image.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
        image.StudyInstanceUID, image.SeriesInstanceUID, image.FrameOfReferenceUID = study, series, study
        image.Modality, image.SeriesDescription, image.PatientName, image.PatientID = "MR", description, "A^B", "1"
        image.SeriesNumber, image.InstanceNumber = 1, index + 1
        image.ImagePositionPatient = [f"{value:.6f}" for value in place]
        image.ImageOrientationPatient = [f"{value:.8f}" for value in orientation]
        image.PixelSpacing, image.SliceThickness = [spacing_mm[1], spacing_mm[0]], spacing_mm[2]
        image.Rows, image.Columns = plane.shape
        image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
        image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 16, 15, 1
        image.RescaleIntercept, image.RescaleSlope = intercept, slopes[index % len(slopes)]
        image.PixelData = plane.astype("<i2").tobytes()
        image.save_as(folder / f"{description}{index:03d}.dcm", enforce_file_format=True)


def ct_body(shape: tuple[int, int, int], level: float = 0.0, width: float = 0.0, seed: int = 0) -> np.ndarray:
    """HU of an ellipsoid of soft tissue in air with a rod of bone and one of fat along k, and noise of that standard
    deviation, correlated within the slices by a Gaussian of that width in voxels, as kernels of CT make it."""
    k, j, i = np.meshgrid(*(np.linspace(-1, 1, side) for side in shape), indexing="ij", sparse=True)
    body = np.where((k / 2) ** 2 + (j / 0.8) ** 2 + (i / 0.9) ** 2 < 1, 50.0, -1000.0)
    body[np.broadcast_to(np.hypot(j + 0.3, i) < 0.15, shape)] = 700.0
    body[np.broadcast_to(np.hypot(j - 0.2, i - 0.3) < 0.2, shape)] = -100.0
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(shape), (0, width, width))
    return (ndimage.gaussian_filter(body, 0.5) + level / noise.std() * noise).astype(np.float32)


def padded_ct(padding: float, shape: tuple[int, int, int] = (24, 40, 40), seed: int = 0) -> np.ndarray:
    """HU of :func:`ct_body` with some noise, whole numbers; outside of a circle, in a tenth of it, is padding."""
    _, j, i = np.meshgrid(*(np.linspace(-1, 1, side) for side in shape), indexing="ij", sparse=True)
    seen = np.maximum(np.rint(ct_body(shape, 15.0, 0.7, seed)), -1024.0)
    return np.where(np.hypot(j, i) < 1.08, seen, np.float32(padding))
