"""A small picture of a volume, for a list of volumes."""

from __future__ import annotations

import numpy as np
import vtk
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

from medgan.volume import Volume

SIDE = 72
"""Pixels of a picture along its longer side."""


def thumbnail(volume: Volume, side: int = SIDE) -> bytes:
    """The middle slice across the head-foot axis as a grey PNG, right of the patient on the left, front above."""
    axes, flips = _alongRas(volume.ijk_to_ras)
    array = np.transpose(volume.array, [2 - axes[2], 2 - axes[1], 2 - axes[0]])  # now [S, A, R]
    plane = array[array.shape[0] // 2]
    spacing = [volume.spacing_mm[axes[1]], volume.spacing_mm[axes[0]]]
    if not flips[1]:
        plane = plane[::-1]
    if not flips[0]:
        plane = plane[:, ::-1]
    lengths = [count * step for count, step in zip(plane.shape, spacing, strict=True)]
    sizes = [max(1, round(side * length / max(lengths))) for length in lengths]
    rows, columns = (
        np.minimum((np.arange(size) + 0.5) * count / size, count - 1).astype(int)
        for size, count in zip(sizes, plane.shape, strict=True)
    )
    return _png(_grey(plane[np.ix_(rows, columns)]))


def _alongRas(matrix: np.ndarray) -> tuple[list[int], list[bool]]:
    """The axes (0 is i) nearest to R, A and S, and whether each runs the other way."""
    directions = matrix[:3, :3] / np.linalg.norm(matrix[:3, :3], axis=0)
    left, axes, flips = [0, 1, 2], {}, {}
    for world in (2, 1, 0):
        axis = max(left, key=lambda each: abs(directions[world, each]))
        left.remove(axis)
        axes[world], flips[world] = axis, bool(directions[world, axis] < 0)
    return [axes[n] for n in range(3)], [flips[n] for n in range(3)]


def _grey(plane: np.ndarray) -> np.ndarray:
    finite = plane[np.isfinite(plane)]
    low, high = np.percentile(finite, [0.5, 99.5]) if finite.size else (0.0, 1.0)
    share = np.nan_to_num((plane - low) / (high - low if high > low else 1.0))
    return (255 * np.clip(share, 0, 1)).astype(np.uint8)


def _png(picture: np.ndarray) -> bytes:
    image = vtk.vtkImageData()
    image.SetDimensions(picture.shape[1], picture.shape[0], 1)
    pixels = np.ascontiguousarray(picture[::-1])  # the first row of an image of VTK is the lowest
    image.GetPointData().SetScalars(numpy_to_vtk(pixels.ravel(), deep=True))
    writer = vtk.vtkPNGWriter()
    writer.SetInputData(image)
    writer.WriteToMemoryOn()
    writer.Write()
    return vtk_to_numpy(writer.GetResult()).tobytes()
