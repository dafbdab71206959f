"""A small scripted module that uses Slicer the way its module template does; the stand-in must run it."""

import os
from typing import Annotated

import slicer
import vtk
from slicer import vtkMRMLScalarVolumeNode
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper
from slicer.ScriptedLoadableModule import *  # noqa: F403
from slicer.util import VTKObservationMixin


class SampleModule(ScriptedLoadableModule):  # noqa: F405
    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)  # noqa: F405
        self.parent.title = _("Sample")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Examples")]
        self.parent.dependencies = []
        self.parent.contributors = ["MedGANSlicer developers"]
        self.parent.helpText = _("It scales a volume.")
        self.parent.acknowledgementText = _("Nobody paid for it.")
        slicer.app.connect("startupCompleted()", registerSampleData)


def registerSampleData():
    import SampleData

    logic = SampleData.SampleDataLogic
    if hasattr(logic, "registerCustomSampleDataCategory"):
        logic.registerCustomSampleDataCategory("Sample", title=_("Sample"))
    logic.registerCustomSampleDataSource(
        category="Sample",
        sampleName="SampleVolume",
        uris="file://" + os.path.join(os.path.dirname(__file__), "Resources", "SampleVolume.nrrd"),
        fileNames="SampleVolume.nrrd",
        nodeNames="SampleVolume",
    )


@parameterNodeWrapper
class SampleModuleParameterNode:
    inputVolume: vtkMRMLScalarVolumeNode
    factor: Annotated[float, WithinRange(-100, 500)] = 100
    invert: bool = False
    outputVolume: vtkMRMLScalarVolumeNode


class SampleModuleWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):  # noqa: F405
    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)  # noqa: F405
        VTKObservationMixin.__init__(self)
        self.logic = None
        self._parameterNode = None
        self._parameterNodeGuiTag = None

    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)  # noqa: F405
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/SampleModule.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = SampleModuleLogic()
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose)
        self.ui.applyButton.connect("clicked(bool)", self.onApplyButton)
        self.initializeParameterNode()

    def cleanup(self):
        self.removeObservers()

    def enter(self):
        self.initializeParameterNode()

    def exit(self):
        if self._parameterNode:
            self._parameterNode.disconnectGui(self._parameterNodeGuiTag)
            self._parameterNodeGuiTag = None
            self.removeObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self._checkCanApply)
            self._parameterNode = None

    def onSceneStartClose(self, caller, event):
        self.setParameterNode(None)

    def onSceneEndClose(self, caller, event):
        if self.parent.isEntered:
            self.initializeParameterNode()

    def initializeParameterNode(self):
        self.setParameterNode(self.logic.getParameterNode())
        if not self._parameterNode.inputVolume:
            firstVolumeNode = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLScalarVolumeNode")
            if firstVolumeNode:
                self._parameterNode.inputVolume = firstVolumeNode

    def setParameterNode(self, inputParameterNode):
        if self._parameterNode:
            self._parameterNode.disconnectGui(self._parameterNodeGuiTag)
            self.removeObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self._checkCanApply)
        self._parameterNode = inputParameterNode
        if self._parameterNode:
            self._parameterNodeGuiTag = self._parameterNode.connectGui(self.ui)
            self.addObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self._checkCanApply)
            self._checkCanApply()

    def _checkCanApply(self, caller=None, event=None):
        ready = self._parameterNode and self._parameterNode.inputVolume and self._parameterNode.outputVolume
        self.ui.applyButton.toolTip = _("Compute output volume") if ready else _("Select input and output volumes")
        self.ui.applyButton.enabled = bool(ready)

    def onApplyButton(self):
        with slicer.util.tryWithErrorDisplay(_("Failed to compute results."), waitCursor=True):
            factor = -self.ui.factorSlider.value if self.ui.invertCheckBox.checked else self.ui.factorSlider.value
            self.logic.process(self.ui.inputSelector.currentNode(), self.ui.outputSelector.currentNode(), factor)


class SampleModuleLogic(ScriptedLoadableModuleLogic):  # noqa: F405
    def __init__(self):
        ScriptedLoadableModuleLogic.__init__(self)  # noqa: F405

    def getParameterNode(self):
        return SampleModuleParameterNode(super().getParameterNode())

    def process(self, inputVolume, outputVolume, factor):
        if factor == 0:
            raise ValueError("A factor of 0 leaves nothing.")
        matrix = vtk.vtkMatrix4x4()
        inputVolume.GetIJKToRASMatrix(matrix)
        slicer.util.updateVolumeFromArray(outputVolume, slicer.util.arrayFromVolume(inputVolume) * factor)
        outputVolume.SetIJKToRASMatrix(matrix)
        slicer.util.setSliceViewerLayers(background=outputVolume)


class SampleModuleTest(ScriptedLoadableModuleTest):  # noqa: F405
    def setUp(self):
        slicer.mrmlScene.Clear()

    def runTest(self):
        self.setUp()
        self.test_process()

    def test_process(self):
        import numpy as np

        self.delayDisplay("Starting the test")
        volume = slicer.util.addVolumeFromArray(np.arange(24, dtype=np.float32).reshape(2, 3, 4))
        output = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
        SampleModuleLogic().process(volume, output, 2.0)
        assert slicer.util.arrayFromVolume(output)[1, 2, 3] == 46.0
