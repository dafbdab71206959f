"""A real MRML scene with Slicer's own logics and no application, for scripts, the demo and tests.

Needs the ``slicer-core`` wheel. In 3D Slicer itself the application has made all of this.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

VIEWS = {"Red": "Axial", "Yellow": "Sagittal", "Green": "Coronal"}
"""Slicer's three slice views and their orientations."""

_LOGICS = {
    "SubjectHierarchy": "vtkSlicerSubjectHierarchyModuleLogic",
    "Units": "vtkSlicerUnitsLogic",
    "Volumes": "vtkSlicerVolumesLogic",
    "Segmentations": "vtkSlicerSegmentationsModuleLogic",
    "Sequences": "vtkSlicerSequencesLogic",
}
_VIEW_SIZE = 256


class HeadlessScene:
    """``scene``, a ``vtkMRMLScene``, with colours, hierarchy, volumes, segmentations, sequences and slice views.

    Use it as a context manager: leaving it empties the scene.
    """

    def __init__(self) -> None:
        self.scene = slicer.vtkMRMLScene()
        self._application = slicer.vtkSlicerApplicationLogic()
        self._application.SetMRMLScene(self.scene)
        colors = self._application.GetColorLogic()
        colors.SetMRMLScene(self.scene)
        colors.AddDefaultColorNodes()
        self._application.SetModuleLogic("Colors", colors)  # the Volumes logic asks for it by this name
        self._application.SetSliceLogics(vtk.vtkCollection())
        self._application.SetViewLogics(vtk.vtkCollection())
        self._logics = {name: self._logic(name, className) for name, className in _LOGICS.items()}
        slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(self.scene, True)
        self._views = {name: self._view(name, orientation) for name, orientation in VIEWS.items()}

    def __enter__(self) -> HeadlessScene:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Empty the scene, singletons included."""
        self.scene.Clear(True)

    def loadVolume(self, path: Path, name: str = ""):
        """The volume node of an image file, read as Slicer reads it. Raises ``OSError``."""
        path = Path(path)
        if not path.exists():
            raise FileNotFoundError(f"There is no file '{path}'; check the spelling and the folder.")
        node = self._logics["Volumes"].AddArchetypeVolume(str(path), name or path.name.partition(".")[0], 0)
        if node is None:
            raise OSError(f"Slicer can not read '{path}' as a volume.")
        return node

    def saveScene(self, path: Path) -> None:
        """Write everything to a ``.mrb`` file, which 3D Slicer opens. Raises ``OSError``."""
        path = Path(path).resolve()
        for node in self.scene.GetNodes():
            if node.IsA("vtkMRMLVolumeNode") or node.IsA("vtkMRMLSequenceNode"):
                _keepHandedness(node)
        self.scene.SetURL(str(path))
        self.scene.SetRootDirectory(str(path.parent))
        if not self.scene.WriteToMRB(str(path)):
            raise OSError(f"The scene could not be written to '{path}'; is the folder writable?")

    def show(self, background, foreground=None, opacity: float = 1.0) -> None:
        """Show one volume, or a second one over it, in the three slice views; the views are fitted to it."""
        for logic in self._views.values():
            composite = logic.GetSliceCompositeNode()
            composite.SetBackgroundVolumeID(background.GetID())
            composite.SetForegroundVolumeID(foreground.GetID() if foreground is not None else None)
            composite.SetForegroundOpacity(opacity)
            composite.SetLinkedControl(True)
            logic.FitSliceToAll(_VIEW_SIZE, _VIEW_SIZE)
            logic.SnapSliceOffsetToIJK()

    def sliceImage(self, node, orientation: str = "Axial", size: int = _VIEW_SIZE) -> np.ndarray:
        """Colours [row, column, RGB] (uint8) of the middle slice, as the slice view of that orientation shows it.

        ``node`` fills the view of ``size`` x ``size`` pixels; outside the volume it is black. The first row is
        the upper one. Drawn on the CPU, without OpenGL, in a view of its own that is gone afterwards.
        """
        present = {each.GetID() for each in self.scene.GetNodes()}
        logic = self._view("MedGANPicture", orientation, size)
        try:
            logic.GetSliceCompositeNode().SetBackgroundVolumeID(node.GetID())
            logic.FitSliceToAll(size, size)
            logic.SnapSliceOffsetToIJK()
            logic.UpdatePipeline()
            connection = logic.GetImageDataConnection()
            connection.GetProducer().Update()
            image = connection.GetProducer().GetOutputDataObject(connection.GetIndex())
            colors = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(size, size, -1)
            return np.where(colors[..., 3:] > 0, colors[..., :3], 0)[::-1].copy()
        finally:
            self._application.GetSliceLogics().RemoveItem(logic)
            logic.SetMRMLScene(None)
            for each in [each for each in self.scene.GetNodes() if each.GetID() not in present]:
                self.scene.RemoveNode(each)

    def _logic(self, name: str, className: str):
        logic = getattr(slicer, className)()
        logic.SetMRMLApplicationLogic(self._application)
        logic.SetMRMLScene(self.scene)
        self._application.SetModuleLogic(name, logic)
        return logic

    def _view(self, name: str, orientation: str, size: int = _VIEW_SIZE):
        logic = slicer.vtkMRMLSliceLogic()
        logic.SetMRMLApplicationLogic(self._application)
        logic.SetMRMLScene(self.scene)
        node = logic.AddSliceNode(name)
        node.SetDimensions(size, size, 1)
        node.SetOrientation(orientation)
        self._application.GetSliceLogics().AddItem(logic)
        return logic


def _keepHandedness(node) -> None:
    """Have left-handed volumes read back as they are; Slicer 5.13 would turn their slices around on reading."""
    if node.GetStorageNode() is None:
        node.AddDefaultStorageNode()
    storage = node.GetStorageNode()
    if hasattr(storage, "SetForceRightHandedIJKCoordinateSystem"):
        storage.SetForceRightHandedIJKCoordinateSystem(False)
