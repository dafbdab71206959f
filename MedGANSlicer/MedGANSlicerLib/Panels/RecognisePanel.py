"""Recognise: what a volume is, how good it is, what looks unusual in it, and why."""

from __future__ import annotations

import dataclasses

import slicer.util
from slicer.i18n import tr as _

from medgan.settings.anomaly import AnomalySettings
from medgan.settings.recognise import RecogniseSettings
from MedGANSlicerLib.JobRun import JobRun
from MedGANSlicerLib.Panels.FoundView import FoundView
from MedGANSlicerLib.Panels.HeatLayer import HeatLayer
from MedGANSlicerLib.Panels.ModelMenu import ModelMenu
from MedGANSlicerLib.Panels.Panel import Panel, RunTexts
from MedGANSlicerLib.Panels.RegionsView import RegionsView, said
from MedGANSlicerLib.RecogniseNodes import Anomaly, Recognised, publishAnomaly, publishRecognised
from MedGANSlicerLib.RecogniseQuestion import RecogniseQuestion
from MedGANSlicerLib.SceneBridge import matrixOf, volumeFromNode, voxelCount
from MedGANSlicerLib.SettingsPacks import snapshot
from MedGANSlicerLib.SynthesizeSource import SynthesizeSource

VOLUME_OF = {"enhance": "inputVolume", "segment": "segmentVolume"}
"""Where the panels of other tasks have their input, in the parameter node."""


class RecognisePanel(Panel):
    """``ui``: the widgets of Recognise.ui. One question at a time, each with its own models."""

    task = "recognise"
    uiFile = "UI/Recognise.ui"
    inputs = ("recogniseVolume",)

    def __init__(self, ui, host, getParameters) -> None:
        super().__init__(ui, host, getParameters)
        self._models = ModelMenu(ui, RecogniseQuestion.WHAT.tasks, self._chooseModel)
        self._found = FoundView(ui, host, self._use)
        self._regions = RegionsView(ui, host)
        self._layer = HeatLayer(ui, host)
        self._maps: dict = {}  # for each question the volume, its heat map and what that means
        self._question = RecogniseQuestion.WHAT
        ui.modelCardButton.connect("toggled(bool)", ui.modelCard.setVisible)
        ui.modelCard.setVisible(False)
        ui.researchLabel.setText(_("For research only; nothing that is said here is a diagnosis."))

    @staticmethod
    def title() -> str:
        return _("Recognise")

    @property
    def topic(self) -> str:
        return self._question.value

    def texts(self) -> RunTexts:
        if self._question is RecogniseQuestion.UNUSUAL:
            return dataclasses.replace(
                super().texts(), apply=_("Find"), applyToolTip=_("Make a heat map of what looks unusual.")
            )
        return dataclasses.replace(
            super().texts(), apply=_("Recognise"), applyToolTip=_("Say what the volume is, and how good.")
        )

    def refresh(self, parameters) -> str:
        """Show what belongs to the question. Returns one sentence that keeps the task from running, or ""."""
        ui, before, self._question = self.ui, self._question, parameters.recogniseQuestion
        self._tidy(parameters)
        if self._question is not before:
            self._showMap(ticked=False)
        self._models.offer(self._question.tasks)
        pack = _pack(parameters)
        self._preselect(pack)
        what = self._question is RecogniseQuestion.WHAT
        explained = what and parameters.recognise.saliency.value != "none"
        for name, shown in (("saliency", what), ("target", explained), ("smallest", not what)):
            getattr(ui, name).setVisible(shown)
            getattr(ui, f"{name}Label").setVisible(shown)
        ui.foundSection.setVisible(what and self._found.result is not None)
        ui.regionsSection.setVisible(not what and self._regions.result is not None)
        if what:
            self._regions.leave()
        else:
            self._regions.enter()
        self._models.show(pack.model, self.estimate(pack, voxelCount(parameters.recogniseVolume)))
        if not self._models.cards():
            return (
                _("There is no model that recognises; train one of your own with 'medgan train classify'.")
                if what
                else _("There is no model that finds anomalies; train one of your own with 'medgan train autoencoder'.")
            )
        if len(self._models.cardsOf(pack.model)) != 1:
            return _("There is no model '{name}'; choose another.").format(name=pack.model)
        return "" if parameters.recogniseVolume is not None else _("Choose an input volume.")

    def start(self, parameters):
        node, python = parameters.recogniseVolume, self._host.python()
        inputs, matrix = {"volume": volumeFromNode(node)}, matrixOf(node)
        what = snapshot(parameters.recognise, RecogniseSettings)
        if parameters.recogniseQuestion is RecogniseQuestion.WHAT:
            return JobRun(
                "recognise", inputs, what, [node],
                lambda outputs: publishRecognised(outputs, node, matrix), python=python,
            )  # fmt: skip
        unusual = snapshot(parameters.anomaly, AnomalySettings)
        unusual = dataclasses.replace(unusual, device=what.device, memory_limit_gb=what.memory_limit_gb)
        return JobRun(
            "anomaly", inputs, unusual, [node],
            lambda outputs: publishAnomaly(outputs, node, matrix, unusual.smallest_ml), python=python,
        )  # fmt: skip

    def offer(self, parameters, volume) -> None:
        if parameters.recogniseVolume is None:
            parameters.recogniseVolume = volume

    def forget(self, parameters, node) -> None:
        super().forget(parameters, node)
        for question in [each for each, (*nodes, _meaning) in self._maps.items() if node in nodes]:
            del self._maps[question]
            if question is self._question:
                self._layer.forget()
        self._found.forget(node)
        self._regions.forget(node)

    def reload(self) -> None:
        self._models.reload()

    def finish(self, result, report, preview: bool) -> None:
        self.rememberSpeed(report["settings"], voxelCount(result.volume), report.get("seconds", 0))
        question = RecogniseQuestion.UNUSUAL if isinstance(result, Anomaly) else RecogniseQuestion.WHAT
        if isinstance(result, Anomaly):
            self._regions.show(result, float(report.get("largest") or 0.0))
            unit = str(report.get("unit", ""))
            meaning = _("How unlike healthy anatomy") + (f" ({unit})" if unit else "")
            heatMap = result.map
        else:
            self._found.show(result)
            answer = str(report.get("explained") or _("the answer"))
            meaning, heatMap = _("What '{answer}' rests on: 0 nothing, 1 most").format(answer=answer), result.why
        self._maps.pop(question, None)
        if heatMap is not None:
            self._maps[question] = (result.volume, heatMap, meaning)
        if question is self._question:
            self._showMap(ticked=self._getParameters() is not None)

    def summary(self, result: Recognised | Anomaly, report) -> str:
        if isinstance(result, Anomaly):
            return said(result)
        return f"{result.volume.GetName()}: {report.get('sentence', '')}"

    def leave(self) -> None:
        self._layer.leave()
        self._found.leave()
        self._regions.leave()

    def close(self) -> None:
        self._found.close()
        self._regions.close()

    def _showMap(self, ticked: bool) -> None:
        """Let the heat map be that of the question, in the views or ready to be ticked."""
        if self._question not in self._maps:
            self._layer.forget()
        elif ticked:
            self._layer.show(*self._maps[self._question])
        else:
            self._layer.offer(*self._maps[self._question])

    def _tidy(self, parameters) -> None:
        """Forget what left with a scene that was closed."""
        for result in (self._found.result, self._regions.result):
            if result is not None and result.volume.GetScene() is None:
                self.forget(parameters, result.volume)

    def _preselect(self, pack) -> None:
        """Where the model of the settings is not installed, the first one that is."""
        cards = self._models.cards()
        if cards and not self._models.cardsOf(pack.model) and pack.model in ("", self._default()):
            pack.model = cards[0].name

    def _default(self) -> str:
        kind = RecogniseSettings if self._question is RecogniseQuestion.WHAT else AnomalySettings
        return kind().model

    def _chooseModel(self, name: str) -> None:
        parameters = self._getParameters()
        with slicer.util.NodeModify(parameters):
            _pack(parameters).model = name

    def _use(self, task: str, model: str) -> None:
        """Go to another task, or to the other question, with this volume and a model that fits it."""
        parameters, result = self._getParameters(), self._found.result
        if parameters is None or result is None:
            return
        self.leave()
        with slicer.util.NodeModify(parameters):
            if task == "anomaly":
                parameters.recogniseQuestion = RecogniseQuestion.UNUSUAL
                parameters.recogniseVolume = result.volume
            else:
                parameters.task = task
            if task in VOLUME_OF:
                setattr(parameters, VOLUME_OF[task], result.volume)
            if task == "synthesize":  # the advice for a label map
                parameters.synthesizeSource = SynthesizeSource.LABELS
            getattr(parameters, task).model = model
            if task == "enhance":
                parameters.preselected = ""  # chosen by the person


def _pack(parameters):
    """The settings of the question."""
    return parameters.recognise if parameters.recogniseQuestion is RecogniseQuestion.WHAT else parameters.anomaly
