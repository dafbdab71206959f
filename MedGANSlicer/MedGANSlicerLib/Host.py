"""The only user of slicer.app, dialogs, timers, settings and the layout: the widget's hands in the application.

A panel gets it as an argument, so that a test can pass a double.
"""

from __future__ import annotations

import importlib.util
import sys

import numpy as np
import qt
import slicer
import slicer.util
from slicer.i18n import tr as _

from MedGANSlicerLib.SegmentGrids import toArray


class Host:
    """The running Slicer."""

    title = "MedGAN"

    def timer(self, interval_ms: int, callback):
        """A repeating timer, not started; keep it."""
        timer = qt.QTimer()
        timer.setInterval(interval_ms)
        timer.connect("timeout()", callback)
        return timer

    def later(self, callback) -> None:
        """Call it once the events that are under way are done."""
        qt.QTimer.singleShot(0, callback)

    def onQuit(self, callback) -> None:
        slicer.app.connect("aboutToQuit()", callback)

    def offQuit(self, callback) -> None:
        slicer.app.disconnect("aboutToQuit()", callback)

    def isTesting(self) -> bool:
        """Whether boxes answer themselves, as in Slicer's own tests: then nothing may be installed."""
        return bool(slicer.app.testingEnabled())

    def python(self) -> str:
        """The interpreter for child processes (in Slicer: PythonSlicer)."""
        return sys.executable

    # What the person sees and says

    def confirm(self, text: str) -> bool:
        return bool(slicer.util.confirmOkCancelDisplay(text, self.title))

    def status(self, text: str) -> None:
        slicer.util.showStatusMessage(text, 5000)

    def copyText(self, text: str) -> None:
        slicer.app.clipboard().setText(text)

    def warningPicture(self):
        """The warning sign of the application's style, 22 pixels high."""
        return slicer.app.style().standardIcon(qt.QStyle.SP_MessageBoxWarning).pixmap(22, 22)

    def chooseFolder(self, title: str, start: str = "") -> str:
        """A folder that exists, or ""."""
        return str(qt.QFileDialog.getExistingDirectory(slicer.util.mainWindow(), title, start) or "")

    def chooseFile(self, title: str, start: str = "", filters: str = "") -> str:
        """A file that exists, or ""."""
        return str(qt.QFileDialog.getOpenFileName(slicer.util.mainWindow(), title, start, filters) or "")

    def chooseNewFile(self, title: str, start: str = "", filters: str = "") -> str:
        """Where to write a file, or ""; the person was asked if it exists."""
        return str(qt.QFileDialog.getSaveFileName(slicer.util.mainWindow(), title, start, filters) or "")

    def openFile(self, path) -> None:
        """Open a file or folder with the program that the system has for it."""
        qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(path)))

    # Settings of the application

    def setting(self, key: str, default: float) -> float:
        try:
            return float(slicer.app.settings().value(key, default))
        except (TypeError, ValueError):
            return default

    def setSetting(self, key: str, value: float) -> None:
        slicer.app.settings().setValue(key, str(float(value)))

    # Python packages

    def packaging(self):
        """``slicer.packaging`` (Slicer 5.12 and newer) or None."""
        try:
            import slicer.packaging as packaging
        except ImportError:
            return None
        return packaging

    def pytorch(self):
        """The logic of the PyTorch extension, or None if it is not installed."""
        try:
            import PyTorchUtils
        except ImportError:
            return None
        return PyTorchUtils.PyTorchUtilsLogic()

    def isInstalled(self, module: str) -> bool:
        """Whether a module can be found; it is not imported."""
        try:
            return importlib.util.find_spec(module) is not None
        except (ImportError, ValueError):
            return False

    # Views

    def activeVolume(self):
        """The volume that the slice views show as their background, or None."""
        selection = slicer.app.applicationLogic().GetSelectionNode()
        node = slicer.mrmlScene.GetNodeByID(selection.GetActiveVolumeID() or "") if selection is not None else None
        for composite in self.compositeNodes().values():
            node = node or slicer.mrmlScene.GetNodeByID(composite.GetBackgroundVolumeID() or "")
        return node if node is not None and node.GetClassName() == "vtkMRMLScalarVolumeNode" else None

    def sliceToRas(self) -> np.ndarray | None:
        """4 x 4 of the first slice view that is shown, Red before others: centre in the last column, normal in the
        third. None where none is."""
        layout = slicer.app.layoutManager()
        for name in ("Red", *(layout.sliceViewNames() if layout is not None else ())):
            widget = layout.sliceWidget(name) if layout is not None else None
            if widget is not None and widget.mrmlSliceNode().IsMappedInLayout():
                return toArray(widget.mrmlSliceNode().GetSliceToRAS())
        return None

    def compositeNodes(self) -> dict:
        """The slice composite nodes by the name of their view."""
        nodes = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
        return {node.GetLayoutName(): node for node in nodes}

    def plotViews(self) -> dict:
        """The plot view nodes by the name of their view."""
        return {node.GetLayoutName(): node for node in slicer.util.getNodesByClass("vtkMRMLPlotViewNode")}

    def layout(self) -> int | None:
        """The number of the layout that is shown; None without a main window."""
        manager = slicer.app.layoutManager()
        return None if manager is None else int(manager.layout)

    def setLayout(self, number: int) -> None:
        manager = slicer.app.layoutManager()
        if manager is not None:
            manager.setLayout(number)

    def addLayout(self, number: int, description: str) -> None:
        """Make a layout known to the scene; does nothing if it is."""
        manager = slicer.app.layoutManager()
        node = manager.layoutLogic().GetLayoutNode() if manager is not None else None
        if node is not None and not node.IsLayoutDescription(number):
            node.AddLayoutDescription(number, description)

    def showData(self, table=None, chart=None) -> None:
        """Show a table node, a chart node or both in a layout that has a view for them."""
        layout, logic = self.layout(), slicer.app.applicationLogic()
        if layout is None:
            return
        if chart is not None:
            layout = slicer.vtkSlicerPlotsLogic.GetLayoutWithPlot(layout)
        if table is not None:
            layout = slicer.vtkSlicerTablesLogic.GetLayoutWithTable(layout)  # last: the other would take a table away
        self.setLayout(layout)
        if table is not None:
            logic.GetSelectionNode().SetActiveTableID(table.GetID())
            logic.PropagateTableSelection()
        if chart is not None:
            logic.GetSelectionNode().SetActivePlotChartID(chart.GetID())
            logic.PropagatePlotChartSelection()

    def fitSlices(self, *names: str) -> None:
        """Fit these slice views to what they show; the person's own keep their place and zoom."""
        manager = slicer.app.layoutManager()
        for widget in (manager.sliceWidget(name) for name in names if manager is not None):
            if widget is not None:
                widget.fitSliceToBackground()

    def centreSlices(self, place_ras: tuple[float, float, float]) -> None:
        """Move all slice views so that a place, in RAS mm of the world, is in their middle."""
        mode = slicer.vtkMRMLSliceNode.CenteredJumpSlice
        slicer.vtkMRMLSliceNode.JumpAllSlices(slicer.mrmlScene, *place_ras, mode)

    def openSegmentEditor(self, segmentationNode, volumeNode=None) -> None:
        """Go to the Segment Editor with a segmentation and, where there is one, the volume it was made from."""
        slicer.util.selectModule("SegmentEditor")
        editor = slicer.modules.segmenteditor.widgetRepresentation().self().editor
        editor.setSegmentationNode(segmentationNode)
        if volumeNode is not None:
            editor.setSourceVolumeNode(volumeNode)

    def describeInstall(self) -> str:
        return _("Slicer {version}").format(version=slicer.app.applicationVersion)
