"""Enhance: the widgets of this task and what they start."""

from __future__ import annotations

import math
from pathlib import Path

import slicer.util
from slicer.i18n import tr as _

from medgan.gridplan import GridPlan
from medgan.settings import EnhanceSettings
from MedGANSlicerLib import Devices, Estimates, Places, Preview, TaskLogic
from MedGANSlicerLib.Panels.EnhanceOptions import FITTED, EnhanceOptions, settingsOf
from MedGANSlicerLib.Panels.ModelMenu import ModelMenu, missing
from MedGANSlicerLib.Panels.Panel import Comparison, Panel
from MedGANSlicerLib.Panels.ResultText import seenText, summary
from MedGANSlicerLib.Recommend import KIND, Seen, advise, lookAt
from MedGANSlicerLib.SceneBridge import SOURCE_ROLE, voxelCount
from MedGANSlicerLib.Sequences import SequenceRun, sequenceOf, shownFrame

GPU_POLL_MS = 200


class EnhancePanel(Panel):
    """``ui``: the widgets of Enhance.ui. ``parameters`` are given anew with every call: scenes come and go."""

    task = "enhance"
    uiFile = "UI/Enhance.ui"
    inputs = ("inputVolume", "outputVolume", "previewRegion")
    hasPreview = True

    def __init__(self, ui, host, getParameters) -> None:
        super().__init__(ui, host, getParameters)
        self._models = ModelMenu(ui, self.task, self._chooseModel)
        self._options = EnhanceOptions(ui)
        self._plan: GridPlan | None = None
        self._seen: tuple = (None, None)
        self._question = Devices.GpuQuestion()
        self._timer = host.timer(GPU_POLL_MS, self._showDevices)
        ui.modelCardButton.connect("toggled(bool)", ui.modelCard.setVisible)
        ui.modelCard.setVisible(False)

    @staticmethod
    def title() -> str:
        return _("Enhance")

    def enter(self) -> None:
        self._askDevices()

    def ended(self) -> None:
        self._askDevices()

    def close(self) -> None:
        self._timer.stop()
        self._question.close()

    def refresh(self, parameters) -> str:
        """Show what belongs to the parameters. Returns one sentence that keeps the task from running, or ""."""
        node = volumeOf(parameters.inputVolume)
        frames = sequence(parameters)
        shown = sequenceOf(node) if node is not None else None
        isSequence = parameters.inputVolume is not None and parameters.inputVolume.IsA("vtkMRMLSequenceNode")
        self.ui.allFrames.setVisible(shown is not None and not isSequence)
        self.ui.outputVolume.setEnabled(frames is None)
        seen = self._look(node)
        advice = advise(seen, self._models.cards()) if seen is not None else None
        if advice is not None:
            self._preselect(parameters, advice.model)
        self.ui.seenLabel.setText(seenText(seen, advice, self._models.titleOf(advice.model) if advice else ""))
        self.ui.seenLabel.setVisible(seen is not None)
        cards = self._models.cardsOf(parameters.enhance.model)
        self._plan, obstacle = self._options.show(parameters, node, cards)
        self._models.show(parameters.enhance.model, self._estimate(settingsOf(parameters, cards), node, frames, cards))
        if parameters.inputVolume is None:
            return _("Choose an input volume.")
        if parameters.outputVolume is not None and parameters.outputVolume is parameters.inputVolume:
            return _("The result would replace its input; choose another output.")
        if node is None:
            if parameters.inputVolume.GetNumberOfDataNodes() > 0 and shownFrame(parameters.inputVolume) is None:
                return _("No browser shows the sequence; choose it in the Sequences module first.")
            return _("The sequence holds no volume; choose another input.")
        if not cards and not Path(parameters.enhance.model).is_dir():  # a script may name the folder of a model
            return missing(parameters.enhance.model)
        return obstacle

    def start(self, parameters):
        """A run on the whole input."""
        settings = settingsOf(parameters, self._models.cardsOf(parameters.enhance.model))
        python = self._host.python()
        frames = sequence(parameters)
        if frames is not None:
            return SequenceRun(frames, settings, self.task, python=python)
        return TaskLogic.Run(parameters.inputVolume, settings, self.task, parameters.outputVolume, python=python)

    def startPreview(self, parameters):
        """A run on the region of interest, or on the slab around the slice that is looked at."""
        node = volumeOf(parameters.inputVolume)
        Preview.removePreviews(node.GetScene())
        if parameters.previewRegion is not None:
            region = Preview.regionOfRoi(node, parameters.previewRegion)
        else:
            sliceToRas = self._host.sliceToRas()
            view = Preview.middleOf(node) if sliceToRas is None else sliceToRas
            region = Preview.regionAroundSlice(node, view, int(Preview.MOST_VOXELS / self._growth(node)))
        settings = settingsOf(parameters, self._models.cardsOf(parameters.enhance.model), preview=True)
        return TaskLogic.Run(node, settings, self.task, region=region, python=self._host.python())

    def offer(self, parameters, volume) -> None:
        if parameters.inputVolume is None:
            parameters.inputVolume = volume

    def reload(self) -> None:
        self._models.reload()

    def finish(self, result, report, preview: bool) -> None:
        """Remember how fast this machine was, for the next estimate."""
        if self._getParameters() is None:
            return
        node = shownNode(result.volume)
        settings = EnhanceSettings.from_dict(report["settings"])
        fits = sum("fit" in step for step in report.get("steps") or ())
        frames = len(report["frames"]) if "frames" in report else 1
        seconds = report.get("seconds", 0) / frames - 60 * settings.fit_minutes * fits
        self.rememberSpeed(report["settings"], voxelCount(node), seconds)

    def summary(self, result, report) -> str:
        return summary(report)

    def comparison(self, result, report) -> Comparison | None:
        shown = result.each(shownNode)
        source = shown.volume.GetNodeReference(SOURCE_ROLE)
        if source is None:
            return None
        return Comparison(source, shown, Places.worldSentences(report.get("suspicions") or (), source))

    def previewNodes(self, result) -> list:
        return result.present()

    def _chooseModel(self, name: str) -> None:
        parameters = self._getParameters()
        with slicer.util.NodeModify(parameters):
            parameters.preselected = ""
            parameters.enhance.model = name

    def _preselect(self, parameters, model: str) -> None:
        """Choose what is recommended for the input, as long as the person has chosen nothing."""
        chosen = parameters.enhance.model
        if model and model != chosen and chosen == parameters.preselected:
            with slicer.util.NodeModify(parameters):
                parameters.preselected = model
                parameters.enhance.model = model

    def _look(self, node) -> Seen | None:
        """Measured once for each content of a volume."""
        if node is None or node.GetImageData() is None:
            return None
        key = (node.GetID(), node.GetImageData().GetMTime(), node.GetSpacing(), node.GetAttribute(KIND))
        if self._seen[0] != key:
            self._seen = (key, lookAt(node))
        return self._seen[1]

    def _estimate(self, settings: EnhanceSettings, node, frames, cards) -> str:
        voxels = voxelCount(node)
        if not voxels or not cards:
            return ""
        measured = self.measuredSpeed(settings)
        fitted = [card for card in cards if card.restores in FITTED and settings.fit_minutes]
        varied = any("natural" in card.weights for card in cards if card not in fitted)
        speed = measured or Estimates.guessedSpeed(len(cards) * Estimates.passes(settings, varied))
        seconds = Estimates.seconds(int(voxels * self._growth(node)), speed)
        seconds += 60 * settings.fit_minutes * len(fitted)
        time = Estimates.timeText((frames.GetNumberOfDataNodes() if frames is not None else 1) * seconds)
        return _("about {time}").format(time=time) if measured else _("roughly {time}").format(time=time)

    def _growth(self, node) -> float:
        """Voxels of the result for each one of the input."""
        return math.prod(self._plan.size) / voxelCount(node) if self._plan is not None else 1.0

    def _askDevices(self) -> None:
        """What is free may have changed."""
        self._question.close()
        self._question = Devices.GpuQuestion()
        self._timer.start()

    def _showDevices(self) -> None:
        gpus = self._question.poll()
        if gpus is not None:
            self._timer.stop()
            self.ui.freeLabel.setText(_("Free: {devices}").format(devices="; ".join(Devices.freeText(gpus))))


def volumeOf(node):
    """A volume node itself; of a sequence the volume that shows its current frame, or None."""
    if node is None or not node.IsA("vtkMRMLSequenceNode"):
        return node
    shown = shownFrame(node)
    return shown if shown is not None and shown.IsA("vtkMRMLScalarVolumeNode") else None


def shownNode(node):
    """A node itself; of a sequence the node that shows its current frame."""
    return shownFrame(node) if node.IsA("vtkMRMLSequenceNode") else node


def sequence(parameters):
    """The sequence that a run works on, or None for a single volume."""
    node = parameters.inputVolume
    if node is None:
        return None
    if node.IsA("vtkMRMLSequenceNode"):
        return node
    return sequenceOf(node) if parameters.allFrames else None
