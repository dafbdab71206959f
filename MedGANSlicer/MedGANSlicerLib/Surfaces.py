"""Closed surfaces of segments, made by Slicer's own converter, as files or shown in 3D."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import vtk

from medgan.segments import Segmentation
from medgan.volume import VolumeError
from MedGANSlicerLib.HeadlessScene import HeadlessScene
from MedGANSlicerLib.SegmentationBridge import publishSegmentation
from MedGANSlicerLib.SegmentGrids import BINARY, SURFACE, imageMatrix

_LETTERS = 60  # of a name in the name of a file; a letter takes up to 4 of the 255 bytes


def showSurfaces(segmentationNode) -> None:
    """Give every segment of a node its closed surface, which 3D views then show. Raises ``VolumeError``."""
    if not segmentationNode.CreateClosedSurfaceRepresentation():
        raise VolumeError(f"The segments of '{segmentationNode.GetName()}' could not be turned into surfaces.")
    held = segmentationNode.GetSegmentation()
    for each in held.GetSegmentIDs():
        image, surface = (held.GetSegment(each).GetRepresentation(kind) for kind in (BINARY, SURFACE))
        if image is not None and np.linalg.det(imageMatrix(image)) < 0:  # then Slicer's converter turns it inside out
            outwards = vtk.vtkReverseSense()
            outwards.SetInputData(surface)
            outwards.ReverseNormalsOn()
            outwards.Update()
            surface.DeepCopy(outwards.GetOutput())


def writeSurfaces(segmentation: Segmentation, folder: Path) -> list[Path]:
    """Write ``<name>.stl`` for each segment that has voxels, in millimetres of LPS as 3D Slicer reads them.

    Makes the folder. Returns the files. Raises ``VolumeError`` or ``OSError``.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    files: list[Path] = []
    with HeadlessScene() as headless:
        node = publishSegmentation(headless.scene, segmentation, "Segmentation")
        showSurfaces(node)
        held = node.GetSegmentation()
        for each in held.GetSegmentIDs():
            segment = held.GetSegment(each)
            surface = segment.GetRepresentation(SURFACE)
            if surface is None or surface.GetNumberOfPoints() == 0:
                continue
            name = re.sub(r"[^\w .()-]", "_", segment.GetName())[:_LETTERS].strip(" .") or each
            if name.casefold() in {file.stem.casefold() for file in files}:  # one file where case does not count
                name = f"{name} {each}"
            files.append(folder / f"{name}.stl")
            _write(surface, files[-1])
    return files


def _write(surface, path: Path) -> None:
    flip = vtk.vtkTransform()
    flip.Scale(-1, -1, 1)  # files hold LPS, the scene RAS
    turned = vtk.vtkTransformPolyDataFilter()
    turned.SetInputData(surface)
    turned.SetTransform(flip)
    writer = vtk.vtkSTLWriter()
    writer.SetFileTypeToBinary()
    writer.SetHeader("3D Slicer output. SPACE=LPS")
    writer.SetInputConnection(turned.GetOutputPort())
    writer.SetFileName(str(path))
    if not writer.Write():
        raise OSError(f"'{path}' can not be written.")
