"""A conversion as the panel's timer drives it: a little at a time, so that Slicer can be used meanwhile."""

from __future__ import annotations

import time
from typing import Any

from medgan.job import JobState, JobStatus
from medgan.labeltable import read_table
from medgan.labelvalues import BY_TABLE
from medgan.settings.convert import ConvertSettings, Direction, GridChoice
from medgan.steps import Steps
from medgan.volume import VolumeError
from MedGANSlicerLib.Conversion import (
    ConversionResult,
    mostProbableInSteps,
    toLabelMapsInSteps,
    toSegmentationInSteps,
)
from MedGANSlicerLib.SceneBridge import matrixOf
from MedGANSlicerLib.SegmentationBridge import ownGridOf
from MedGANSlicerLib.SegmentGrids import Grid, layersOf, volumeGrid

BUDGET_S = 0.06
"""How long one call of the timer may work."""


def conversion(settings: ConvertSettings, segmentationNode=None, volumeNodes=(), gridNode=None) -> ConvertRun:
    """A run that makes what the settings say. Raises ``ValueError`` with one sentence."""
    settings.check()
    table = read_table(settings.table) if settings.table else None
    if settings.direction is Direction.TO_LABEL_MAP:
        if segmentationNode is None:
            raise VolumeError("Nothing was chosen to convert; choose a segmentation.")
        if settings.values in BY_TABLE and table is None:
            raise VolumeError("These label values come from a table; choose one, or take the segments' own values.")
        grid = _grid(settings, segmentationNode, gridNode)
        steps = toLabelMapsInSteps(segmentationNode, grid, settings.values, table, settings.overlap)
        return ConvertRun(steps, [segmentationNode, *([gridNode] if settings.grid is GridChoice.VOLUME else [])])
    nodes = [node for node in volumeNodes if node is not None]
    if settings.probabilities:
        steps = mostProbableInSteps(nodes, table)
    else:
        steps = toSegmentationInSteps(nodes, table, settings.keep_empty or None)
    return ConvertRun(steps, nodes)


class ConvertRun:
    """``steps`` converts and writes the scene in its last step; ``sources`` are the nodes that it reads.

    ``dropped`` is a sentence once a source has left the scene or was changed: nothing is made then.
    """

    def __init__(self, steps: Steps[ConversionResult], sources) -> None:
        self.dropped = ""
        self.report: dict[str, Any] = {}
        self._steps, self._sources = steps, list(sources)
        self._scene = self._sources[0].GetScene() if self._sources else None
        self._stamps = [_stamp(node) for node in self._sources]
        self._total = max(1, 3 * sum(_voxels(node) for node in self._sources))
        self._done = 0
        self._cancelled = False
        self._result: ConversionResult | None = None

    def poll(self) -> JobState:
        """Work for a moment; how far it is."""
        if self._result is not None:
            return JobState(JobStatus.DONE, 1.0)
        self.dropped = self.dropped or self._whyUnwanted()
        if self.dropped or self._cancelled:
            self.close()
            return JobState(JobStatus.CANCELLED, 0.0, self.dropped)
        until = time.monotonic() + BUDGET_S
        while time.monotonic() < until:
            try:
                self._done += next(self._steps)
            except StopIteration as end:
                self._result = end.value
                self.report = {"messages": self._result.messages}
                return JobState(JobStatus.DONE, 1.0)
        return JobState(JobStatus.RUNNING, min(0.99, self._done / self._total), "Converting")

    def publish(self) -> ConversionResult | None:
        return self._result

    def cancel(self) -> None:
        self._cancelled = True

    def close(self) -> None:
        self._steps.close()
        self._sources = []

    def _whyUnwanted(self) -> str:
        for node, stamp in zip(self._sources, self._stamps, strict=False):
            if not self._scene.IsNodePresent(node):
                return f"'{node.GetName()}' has left the scene, so nothing was converted."
            if _stamp(node) != stamp:
                return f"'{node.GetName()}' was changed meanwhile, so nothing was converted; start again."
        return ""


def _grid(settings: ConvertSettings, segmentationNode, gridNode) -> Grid | None:
    if settings.grid is GridChoice.VOLUME:
        if gridNode is None:
            raise VolumeError("No volume was chosen for the grid; choose one, or take the grid of the segmentation.")
        return volumeGrid(gridNode)
    if settings.grid is GridChoice.SPACING:
        return ownGridOf(segmentationNode).withSpacing((settings.spacing_mm,) * 3)
    return None


def _images(node) -> list:
    if node.IsA("vtkMRMLSegmentationNode"):
        return layersOf(node.GetSegmentation())
    return [node.GetImageData()] if node.GetImageData() is not None else []


def _stamp(node) -> list:
    """Changes whenever voxels or their place do."""
    stamp = [image.GetMTime() for image in _images(node)]
    transform = node.GetParentTransformNode()
    stamp += [node.GetTransformNodeID(), transform.GetTransformToWorldMTime() if transform is not None else 0]
    return [*stamp, matrixOf(node).tolist()] if node.IsA("vtkMRMLVolumeNode") else stamp


def _voxels(node) -> int:
    return sum(image.GetNumberOfPoints() for image in _images(node))
