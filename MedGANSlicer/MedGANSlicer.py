"""MedGAN: generative enhancement of medical volumes. Module, parameter node, widget, logic and test: wiring only."""

import sys
import unittest
from itertools import pairwise
from typing import Union

import numpy as np
import qt
import slicer
import slicer.util
import vtk
from slicer import (
    vtkMRMLLabelMapVolumeNode,
    vtkMRMLMarkupsROINode,
    vtkMRMLScalarVolumeNode,
    vtkMRMLSegmentationNode,
    vtkMRMLSequenceNode,
)
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.parameterNodeWrapper import parameterNodeWrapper
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

from medgan.job import JobStatus
from medgan.settings import EnhanceSettings, EvaluateSettings, SegmentSettings, SynthesizeSettings, TrainSettings
from medgan.settings.anomaly import AnomalySettings
from medgan.settings.convert import ConvertSettings
from medgan.settings.recognise import RecogniseSettings
from MedGANSlicerLib import Preview, Samples, TaskLogic
from MedGANSlicerLib.Dependencies import Dependencies
from MedGANSlicerLib.Host import Host
from MedGANSlicerLib.Panels import CompareView, CurvesView
from MedGANSlicerLib.Panels.ConvertPanel import ConvertPanel
from MedGANSlicerLib.Panels.EnhancePanel import EnhancePanel
from MedGANSlicerLib.Panels.EvaluatePanel import EvaluatePanel
from MedGANSlicerLib.Panels.RecognisePanel import RecognisePanel
from MedGANSlicerLib.Panels.SegmentPanel import SegmentPanel
from MedGANSlicerLib.Panels.SynthesizePanel import SynthesizePanel
from MedGANSlicerLib.Panels.TaskPanel import TaskPanel
from MedGANSlicerLib.Panels.TrainPanel import TrainPanel
from MedGANSlicerLib.RecogniseQuestion import RecogniseQuestion
from MedGANSlicerLib.SettingsPacks import packOf, wrapped
from MedGANSlicerLib.SynthesizeSource import SynthesizeSource
from MedGANSlicerLib.TrainSource import TrainSource

TASK_PANELS = (
    EnhancePanel,
    SegmentPanel,
    ConvertPanel,
    SynthesizePanel,
    RecognisePanel,
    TrainPanel,
    EvaluatePanel,
)
"""One small class and one .ui file a task; the first is shown at the start."""

EnhancePack = packOf(EnhanceSettings)
SegmentPack = packOf(SegmentSettings)
ConvertPack = packOf(ConvertSettings)
SynthesizePack = packOf(SynthesizeSettings)
RecognisePack = packOf(RecogniseSettings)
AnomalyPack = packOf(AnomalySettings)
TrainPack = packOf(TrainSettings)
EvaluatePack = packOf(EvaluateSettings)


class MedGANSlicer(ScriptedLoadableModule):
    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = _("MedGAN")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Image Synthesis")]
        parent.dependencies = [
            "Volumes",
            "Segmentations",
            "Markups",
            "Sequences",
            "Tables",
            "Plots",
            "SubjectHierarchy",
        ]
        parent.contributors = ["MedGANSlicer developers"]
        parent.helpText = _(
            "Denoises, deblurs and super-resolves MR, CT and PET volumes with generative networks, on this computer "
            "and offline. Choose a volume, press Apply and compare; maps show every change, what the input does not "
            "support, and how sure the model is. Also segments, converts segmentations to label maps and back, makes "
            "synthetic volumes with their labels, says what a volume is and where it looks unusual, trains models of "
            "your own, and evaluates results. "
            "Results are voxels produced by a network: for research only, not for diagnosis."
        )
        parent.acknowledgementText = _(
            "Written by the MedGANSlicer developers with PyTorch, MONAI and SimpleITK. The sample scan is (c) Chris "
            "Rorden, MIT licence; the card of each model names its training data and their licences."
        )
        slicer.app.connect("startupCompleted()", Samples.register)
        slicer.app.connect("startupCompleted()", self._registerLayout)

    def _registerLayout(self):
        """A scene may have been saved while our layouts were shown; without them it opens empty."""
        CompareView.registerLayout(Host())
        CurvesView.registerLayout(Host())


@parameterNodeWrapper
class MedGANSlicerParameterNode:
    task: str = "enhance"
    # Without None in the union Slicer's wrapper could not even write the default. It reads typing's Union.
    inputVolume: Union[vtkMRMLScalarVolumeNode, vtkMRMLSequenceNode, None]  # noqa: UP007
    outputVolume: vtkMRMLScalarVolumeNode
    previewRegion: vtkMRMLMarkupsROINode
    allFrames: bool = True
    preselected: str = "denoise"  # the model that the panel chose itself; another one was chosen by the person
    enhance: EnhancePack
    segmentVolume: vtkMRMLScalarVolumeNode
    segmentVolume2: vtkMRMLScalarVolumeNode
    segmentVolume3: vtkMRMLScalarVolumeNode
    segmentVolume4: vtkMRMLScalarVolumeNode
    segmentOutput: vtkMRMLSegmentationNode
    segment: SegmentPack
    convertSegmentation: vtkMRMLSegmentationNode
    convertGridVolume: vtkMRMLScalarVolumeNode
    convertVolume: Union[vtkMRMLLabelMapVolumeNode, vtkMRMLScalarVolumeNode, None]  # noqa: UP007
    convertVolume2: Union[vtkMRMLLabelMapVolumeNode, vtkMRMLScalarVolumeNode, None]  # noqa: UP007
    convertVolume3: Union[vtkMRMLLabelMapVolumeNode, vtkMRMLScalarVolumeNode, None]  # noqa: UP007
    convertVolume4: Union[vtkMRMLLabelMapVolumeNode, vtkMRMLScalarVolumeNode, None]  # noqa: UP007
    convert: ConvertPack
    synthesizeSource: SynthesizeSource = SynthesizeSource.LABELS
    synthesizeLabels: Union[vtkMRMLSegmentationNode, vtkMRMLLabelMapVolumeNode, None]  # noqa: UP007
    synthesizeReference: vtkMRMLScalarVolumeNode
    synthesizeVolume: vtkMRMLScalarVolumeNode
    synthesize: SynthesizePack
    recogniseVolume: vtkMRMLScalarVolumeNode
    recogniseQuestion: RecogniseQuestion = RecogniseQuestion.WHAT
    recognise: RecognisePack
    anomaly: AnomalyPack
    trainSource: TrainSource = TrainSource.SCENE
    train: TrainPack
    evaluateRegion: Union[vtkMRMLSegmentationNode, vtkMRMLLabelMapVolumeNode, None]  # noqa: UP007
    evaluateSources: bool = True
    evaluateHidden: str = ""  # names of the metrics that the person does not want to see
    evaluate: EvaluatePack


class MedGANSlicerLogic(ScriptedLoadableModuleLogic):
    def getParameterNode(self):
        return wrapped(MedGANSlicerParameterNode, super().getParameterNode())

    def process(self, inputNode, settings, outputNode=None, taskName="enhance"):
        """Run a task and return the nodes of its result; for scripts. Returns when it is done."""
        run = TaskLogic.start(inputNode, settings, taskName, outputNode)
        try:
            state = run.job.wait()
            if state.status is not JobStatus.DONE:
                raise RuntimeError(state.error or _("The run was cancelled."))
            return run.publish()
        finally:
            run.close()


class MedGANSlicerWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.host = Host()
        self.logic = self._parameters = self.taskPanel = self.compare = None
        self._connection = None
        self._panels = {}
        self._preview = []
        self._looking = False

    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        root = self._load("UI/MedGANSlicer.ui")
        self.layout.addWidget(root)
        self.ui = slicer.util.childWidgetVariables(root)
        self.logic = MedGANSlicerLogic()
        below = _tabStops(root, self.ui.taskPlace)
        for panelClass in TASK_PANELS:
            taskRoot = self._load(panelClass.uiFile)
            self.ui.taskPlace.layout().addWidget(taskRoot)
            ui = slicer.util.childWidgetVariables(taskRoot)
            panel = panelClass(ui, self.host, lambda: self._parameters)
            panel.changedModels = self._onModels
            self._panels[panelClass.task] = (taskRoot, panel)
            self.ui.taskSelector.addItem(panelClass.title(), panelClass.task)
        # Qt's order is that of loading, in which the panels come last.
        for stop, following in pairwise([*_tabStops(root, below[-1]), *below]):
            qt.QWidget.setTabOrder(stop, following)
        for row in (self.ui.taskLabel, self.ui.taskSelector):
            row.setVisible(len(TASK_PANELS) > 1)
        dependencies = Dependencies(self.resourcePath("requirements.txt"), self.host)
        self.taskPanel = TaskPanel(self.ui, self.host, dependencies, self._onResult)
        self.compare = CompareView.CompareView(self.ui, self.host)
        self.ui.applyButton.connect("clicked(bool)", self.onApply)
        self.ui.previewButton.connect("clicked(bool)", self.onPreview)
        self.ui.taskSelector.connect("currentIndexChanged(int)", self._onTask)
        self.ui.closeCompareButton.connect("clicked(bool)", self._onCloseCompare)
        self.ui.keepPreviewButton.connect("clicked(bool)", self._onKeepPreview)
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self._onStartClose)
        self.addObserver(scene, scene.EndCloseEvent, self._onSceneChanged)
        self.addObserver(scene, scene.StartImportEvent, self._onStartImport)
        self.addObserver(scene, scene.EndImportEvent, self._onImported)
        self.addObserver(scene, scene.NodeAddedEvent, self._onNodeAdded)
        # Before the node selectors hear of it: see there.
        self.addObserver(scene, scene.NodeAboutToBeRemovedEvent, self._onNodeRemoved, priority=10.0)
        self.host.onQuit(self._onQuit)
        self._tidy()
        self.enter()

    def enter(self):
        self._bind(self.logic.getParameterNode())
        for _root, panel in self._panels.values():
            panel.enter()

    def exit(self):
        self._leave()
        self._bind(None)

    def cleanup(self):
        """The module is unloaded or reloaded, or Slicer quits. May come more than once."""
        if self.taskPanel is not None:
            self.taskPanel.stop()
            self.host.offQuit(self._onQuit)
            self._leave()
            self.taskPanel = None
        for _root, panel in self._panels.values():
            panel.close()
        self._panels = {}
        self._bind(None)
        self.removeObservers()

    def onReload(self):
        """Reload our library and the engine as well, not only this file."""
        self.cleanup()
        for name in [name for name in sys.modules if name.split(".")[0] in ("MedGANSlicerLib", "medgan")]:
            del sys.modules[name]
        ScriptedLoadableModuleWidget.onReload(self)

    def onApply(self, checked=False):
        if self.taskPanel.busy:
            self.taskPanel.cancel()
            return
        self.ui.applyButton.setFocus()  # a number that is being typed counts; on macOS a click alone leaves it open
        panel = self._panel()
        self._removePreview()
        self.taskPanel.begin(panel, lambda: panel.start(self._parameters or self.logic.getParameterNode()))

    def onPreview(self, checked=False):
        self.ui.previewButton.setFocus()
        panel = self._panel()
        self._removePreview()
        start = panel.startPreview
        self.taskPanel.begin(panel, lambda: start(self._parameters or self.logic.getParameterNode()), preview=True)

    def _load(self, name):
        root = slicer.util.loadUI(self.resourcePath(name))
        root.setMRMLScene(slicer.mrmlScene)
        return root

    def _panel(self):
        """The panel of the task that is at work, or else of the one that is chosen."""
        if self.taskPanel.working is not None:
            return self.taskPanel.working
        task = self._parameters.task if self._parameters is not None else ""
        return self._panels.get(task, next(iter(self._panels.values())))[1]

    def _bind(self, parameters):
        """Connect the widgets to the parameter node, or to none."""
        if self._parameters is not None:
            self._disconnect()
        self._parameters = parameters
        if parameters is None:
            return
        if self.taskPanel.working is not None:  # it went on while the scene was closed
            parameters.task = self.taskPanel.working.task
        self._preselect()
        self._connect()
        self._refresh()

    def _connect(self):
        """All panels at once: every call of ``connectGui`` adds an observer that writes to all connected widgets."""
        observers, add = [], self._parameters.AddObserver
        self._parameters.AddObserver = lambda *arguments: observers.append(add(*arguments)) or observers[-1]
        self._connection = self._parameters.connectGui(self.ui.taskPlace), observers
        del self._parameters.AddObserver
        # Of the node: our mixin keeps what it has observed, and an old wrapper would go on reading every setting.
        self.addObserver(self._parameters.parameterNode, vtk.vtkCommand.ModifiedEvent, self._refresh)

    def _disconnect(self):
        tag, observers = self._connection
        self._parameters.disconnectGui(tag)
        for observer in observers:  # which disconnectGui leaves behind up to Slicer 5.10, with the wrapper
            self._parameters.RemoveObserver(observer)
        self.removeObserver(self._parameters.parameterNode, vtk.vtkCommand.ModifiedEvent, self._refresh)

    def _preselect(self):
        """The volume that the person looks at is the input of tasks that have none yet."""
        active = self.host.activeVolume() if self._parameters is not None else None
        if active is not None and active.GetAttribute(TaskLogic.PREVIEW) is None:
            for _root, panel in self._panels.values():
                panel.offer(self._parameters, active)

    def _refresh(self, caller=None, event=None):
        if self._parameters is None or self.taskPanel is None:
            return
        panel = self._panel()
        for name, (root, _panel) in self._panels.items():
            root.setVisible(name == panel.task)
        self.ui.taskSelector.setCurrentIndex(self.ui.taskSelector.findData(panel.task))
        self.taskPanel.present(panel, panel.refresh(self._parameters))

    def _onTask(self, index):
        task = self.ui.taskSelector.itemData(index)
        if self._parameters is not None and task and task != self._parameters.task:
            self._leave()
            self._parameters.task = task

    def _onResult(self, panel, result, report, preview, read):
        self._preview = panel.previewNodes(result) if preview else []
        panel.finish(result, report, preview)
        self._refresh()
        sentence = panel.summary(result, report)
        self.host.status(sentence)
        comparison = panel.comparison(result, report)
        if comparison is None:
            self.taskPanel.conclude(sentence)
            return
        self.ui.keepPreviewButton.setVisible(preview)
        source = comparison.source
        self.compare.show(source, comparison.nodes, comparison.sentences, sentence, read.get(source))
        if self._parameters is None:  # another module is open, where nothing of ours is shown
            self._leave()

    def _onModels(self):
        for _root, panel in self._panels.values():
            panel.reload()
        self._refresh()

    def _onKeepPreview(self, checked=False):
        for node in self._preview:
            Preview.keepPreview(node)
        self._preview = []
        self.ui.keepPreviewButton.setVisible(False)

    def _keepWhatIsChosen(self):
        """A preview that the person has chosen as an input is no preview any more, and is not removed as one."""
        names = [name for _root, panel in self._panels.values() for name in panel.inputs]
        for name in names if self._parameters is not None else ():
            node = getattr(self._parameters, name)
            if node is not None and node.GetAttribute(TaskLogic.PREVIEW) is not None:
                Preview.keepPreview(node)

    def _onCloseCompare(self, checked=False):
        self._leave()

    def _leave(self):
        self._giveViewsBack()
        self._removePreview()

    def _giveViewsBack(self):
        self.compare.leave()
        for _root, panel in self._panels.values():
            panel.leave()

    def _removePreview(self):
        if self._preview:
            self.compare.leave()
        self._keepWhatIsChosen()
        self._preview = []
        if slicer.mrmlScene is not None:
            Preview.removePreviews(slicer.mrmlScene)

    def _onStartClose(self, caller, event):
        self.taskPanel.closeScene(_("The scene was closed, so the run was ended."))
        self._preview = []
        self._giveViewsBack()
        self._bind(None)

    def _onStartImport(self, caller, event):
        """The node's settings are about to be replaced, perhaps by those of another version or of another task."""
        self._giveViewsBack()
        self._bind(None)

    def _onSceneChanged(self, caller, event):
        if self.parent.isEntered:
            self.enter()

    def _onImported(self, caller, event):
        self._tidy()
        self._onSceneChanged(caller, event)

    def _tidy(self):
        """A scene may have been saved with a preview or in a layout of ours, which nothing would end."""
        Preview.keepPreviewsOfFiles(slicer.mrmlScene, self._preview)
        self.compare.tidy()
        for _root, panel in self._panels.values():
            panel.tidy()

    def _onNodeAdded(self, caller, event):
        self._lookLater()

    def _lookLater(self):
        """Once the nodes that are being added or removed are: they come in crowds."""
        if self._parameters is not None and not self._looking:
            self._looking = True
            self.host.later(self._look)

    def _look(self):
        self._looking = False
        self._preselect()
        self._refresh()

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _onNodeRemoved(self, caller, event, node):
        self.compare.forget(node)
        for _root, panel in self._panels.values():  # also while another module is open, or the scene is being closed
            panel.forget(self._parameters, node)
        self._lookLater()

    def _onQuit(self):
        self.cleanup()


def _tabStops(root, after):
    """The widgets in ``root`` that the tab key comes to after one of them."""
    stops = []
    widget = after.nextInFocusChain()
    while root.isAncestorOf(widget):
        if widget.focusPolicy != qt.Qt.NoFocus and widget.focusProxy() is None:
            stops.append(widget)
        widget = widget.nextInFocusChain()
    return stops


class MedGANSlicerTest(ScriptedLoadableModuleTest):
    """Runs in Slicer (Reload and Test, ctest). What needs PyTorch is skipped without it, never installed."""

    def setUp(self):
        slicer.mrmlScene.Clear()

    def runTest(self):
        """As ctest does: Slicer's own calls the methods by itself, where a skipped one counts as failed."""
        result = unittest.TextTestRunner(verbosity=2).run(unittest.defaultTestLoader.loadTestsFromTestCase(type(self)))
        for _case, trace in result.failures + result.errors:
            raise AssertionError(trace)

    def test_sample_volume_lies_where_its_file_says(self):
        node = Samples.load()
        assert node.GetImageData().GetDimensions() == (124, 160, 140)
        assert [round(step, 3) for step in node.GetSpacing()] == [1.0, 1.0, 1.0]

    def test_settings_of_the_panel_are_those_of_the_engine(self):
        parameters = MedGANSlicerLogic().getParameterNode()
        assert parameters.enhance.strength == EnhanceSettings().strength
        with self.assertRaises(ValueError):  # noqa: PT027
            parameters.enhance.strength = 3.0
        parameters.enhance.strength = 0.5
        assert MedGANSlicerLogic().getParameterNode().enhance.strength == 0.5
        assert parameters.parameterNode.GetParameter("enhance.strength") == "0.5"

    def test_result_lies_on_its_input_and_has_less_noise(self):
        if not Host().isInstalled("torch") or not Host().isInstalled("monai"):
            self.skipTest("PyTorch or MONAI is not installed")
        noise = np.random.default_rng(0).normal(0, 40, (24, 28, 32))
        matrix = np.array([[0.0, -1.1, 0.0, 9.0], [0.8, 0.0, 0.0, -7.0], [0.0, 0.0, 2.0, 5.0], [0.0, 0.0, 0.0, 1.0]])
        node = slicer.util.addVolumeFromArray((1000 + noise).astype(np.int16), matrix, "Noisy")
        nodes = MedGANSlicerLogic().process(node, EnhanceSettings(seed=1))
        result, difference = nodes.volume, nodes.difference
        assert slicer.vtkSlicerVolumesLogic().CompareVolumeGeometry(node, result) == ""
        before, after = (slicer.util.arrayFromVolume(each).astype(float) for each in (node, result))
        assert after.std() < 0.6 * before.std()
        assert np.abs(after - before - slicer.util.arrayFromVolume(difference)).max() < 1.0
