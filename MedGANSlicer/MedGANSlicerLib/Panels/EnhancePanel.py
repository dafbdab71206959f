"""Enhance: the widgets of this task and what they start."""

from __future__ import annotations

from slicer.i18n import tr as _

from medgan.settings import EnhanceSettings
from MedGANSlicerLib import Devices, Estimates, Preview, TaskLogic
from MedGANSlicerLib.Panels.ModelMenu import ModelMenu
from MedGANSlicerLib.Recommend import Advice, Seen, advise, lookAt
from MedGANSlicerLib.SceneBridge import arrayOf
from MedGANSlicerLib.Sequences import SequenceRun, sequenceOf, shownFrame
from MedGANSlicerLib.SettingsPacks import snapshot

GPU_POLL_MS = 200


class EnhancePanel:
    """``ui``: the widgets of Enhance.ui. ``parameters`` are given anew with every call: scenes come and go."""

    task = "enhance"
    uiFile = "UI/Enhance.ui"

    def __init__(self, ui, host, getParameters) -> None:
        self.ui, self._host, self._getParameters = ui, host, getParameters
        self._models = ModelMenu(ui, self.task, self._chooseModel)
        self._seen: tuple = (None, None)
        self._question = Devices.GpuQuestion()
        self._timer = host.timer(GPU_POLL_MS, self._showDevices)
        self._timer.start()
        ui.modelCardButton.connect("toggled(bool)", ui.modelCard.setVisible)
        ui.modelCard.setVisible(False)

    @staticmethod
    def title() -> str:
        return _("Enhance")

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
        self.ui.seenLabel.setText(seenText(seen, advice))
        self.ui.seenLabel.setVisible(seen is not None)
        self._models.show(parameters.enhance.model, self._estimate(parameters, node, frames))
        if parameters.inputVolume is None:
            return _("Choose an input volume.")
        if parameters.outputVolume is not None and parameters.outputVolume is parameters.inputVolume:
            return _("The result would replace its input; choose another output.")
        if node is None:
            if parameters.inputVolume.GetNumberOfDataNodes() > 0 and shownFrame(parameters.inputVolume) is None:
                return _("No browser shows the sequence; choose it in the Sequences module first.")
            return _("The sequence holds no volume; choose another input.")
        return ""

    def start(self, parameters):
        """A run on the whole input."""
        settings = snapshot(parameters.enhance, EnhanceSettings)
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
            region = Preview.regionAroundSlice(node, Preview.middleOf(node) if sliceToRas is None else sliceToRas)
        settings = snapshot(parameters.enhance, EnhanceSettings)
        return TaskLogic.Run(node, settings, self.task, region=region, python=self._host.python())

    def learn(self, parameters, report, nodes) -> None:
        """Remember how fast this machine was, for the next estimate."""
        node = volumeOf(nodes[0])
        array = arrayOf(node) if node is not None else None
        if array is not None and report.get("seconds", 0) > 0:
            settings = parameters.enhance
            key = Estimates.settingsKey(settings.model, settings.device.value)
            self._host.setSetting(key, array.size / report["seconds"])

    def summary(self, report) -> str:
        """One sentence about a result."""
        return _("noise {before:.3g} → {after:.3g}, mean change {change:.3g}; {device}.").format(
            before=report["sigma_before"],
            after=report["sigma_after"],
            change=report["mean_absolute_change"],
            device=report["device"],
        )

    def _chooseModel(self, name: str) -> None:
        self._getParameters().enhance.model = name

    def _look(self, node) -> Seen | None:
        """Measured once for each content of a volume."""
        if node is None or node.GetImageData() is None:
            return None
        key = (node.GetID(), node.GetImageData().GetMTime(), node.GetSpacing())
        if self._seen[0] != key:
            self._seen = (key, lookAt(node))
        return self._seen[1]

    def _estimate(self, parameters, node, frames) -> str:
        array = arrayOf(node) if node is not None else None
        if array is None:
            return ""
        settings = parameters.enhance
        measured = self._host.setting(Estimates.settingsKey(settings.model, settings.device.value), 0.0)
        count = frames.GetNumberOfDataNodes() if frames is not None else 1
        time = Estimates.timeText(count * Estimates.seconds(array.size, measured or Estimates.guessedSpeed()))
        return _("about {time}").format(time=time) if measured else _("roughly {time}").format(time=time)

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


def sequence(parameters):
    """The sequence that a run works on, or None for a single volume."""
    node = parameters.inputVolume
    if node is None:
        return None
    if node.IsA("vtkMRMLSequenceNode"):
        return node
    return sequenceOf(node) if parameters.allFrames else None


def seenText(seen: Seen | None, advice: Advice | None) -> str:
    """What the panel says about the chosen volume."""
    if seen is None or advice is None:
        return ""
    parts = [seen.kind or _("Unknown modality")]
    if seen.sigma is not None:
        parts.append(_("noise {sigma:.3g} ({share:.1%} of the range)").format(sigma=seen.sigma, share=seen.share))
    if seen.thickness >= 1.5:
        parts.append(_("slices {ratio:.1f}× thicker than wide").format(ratio=seen.thickness))
    first = ", ".join(parts) + ". "
    if not advice.task:
        return first + _("No task fits: {reason}.").format(reason=advice.reason)
    reason = f" ({advice.reason})" if advice.reason else ""
    return first + _("Fits: Enhance{reason}.").format(reason=reason)
