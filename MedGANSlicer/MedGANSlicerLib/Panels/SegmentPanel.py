"""Segment: the widgets of this task, what they start, and where the result goes on."""

from __future__ import annotations

import slicer.util
from slicer.i18n import tr as _

from medgan.bundle import ModelError
from medgan.segmentation.description import Description, describe
from medgan.settings import SegmentSettings
from MedGANSlicerLib.JobRun import JobRun
from MedGANSlicerLib.Panels.DataView import DataView
from MedGANSlicerLib.Panels.ModelMenu import ModelMenu
from MedGANSlicerLib.Panels.Panel import Panel
from MedGANSlicerLib.SceneBridge import matrixOf, voxelCount
from MedGANSlicerLib.SegmentNodes import SegmentResult, publishSegments, segmentInputs
from MedGANSlicerLib.SettingsPacks import snapshot

CHANNELS = ("segmentVolume", "segmentVolume2", "segmentVolume3", "segmentVolume4")
"""The volumes in the parameter node, by channel."""


class SegmentPanel(Panel):
    """``ui``: the widgets of Segment.ui."""

    task = "segment"
    uiFile = "UI/Segment.ui"
    inputs = (*CHANNELS, "segmentOutput")

    def __init__(self, ui, host, getParameters) -> None:
        super().__init__(ui, host, getParameters)
        self._models = ModelMenu(ui, self.task, self._chooseModel)
        self._view = DataView(host)
        self._result: SegmentResult | None = None
        self._described: tuple[object, Description | None, str] = (None, None, "")
        ui.modelCardButton.connect("toggled(bool)", ui.modelCard.setVisible)
        ui.modelCard.setVisible(False)
        ui.openEditorButton.connect("clicked(bool)", self._openEditor)
        ui.showTableButton.connect("clicked(bool)", self._showTable)
        self._showResult()

    @staticmethod
    def title() -> str:
        return _("Segment")

    def refresh(self, parameters) -> str:
        """Show what belongs to the parameters. Returns one sentence that keeps the task from running, or ""."""
        self._preselect(parameters)
        name = parameters.segment.model
        described, problem = self._describe(name)
        wanted = described.channels if described is not None else ("",)
        for number, field in enumerate(CHANNELS):
            label, selector = getattr(self.ui, f"{field}Label"), getattr(self.ui, field)
            label.setVisible(number < len(wanted))
            selector.setVisible(number < len(wanted))
            label.setText(wanted[number] if len(wanted) > 1 and number < len(wanted) else _("Input"))
        nodes = self._nodes(parameters)
        self._models.show(name, self.estimate(parameters.segment, voxelCount(nodes[0])))
        self._showResult()
        if problem:
            return problem
        if len(wanted) > len(CHANNELS):
            return _("The model takes {count} volumes; use 'medgan segment' for it.").format(count=len(wanted))
        missing = next((channel for channel, node in zip(wanted, nodes, strict=False) if node is None), None)
        if missing is None:
            return ""
        return (
            _("Choose a volume for '{channel}'.").format(channel=missing)
            if len(wanted) > 1
            else _("Choose an input volume.")
        )

    def start(self, parameters):
        settings = snapshot(parameters.segment, SegmentSettings)
        described, problem = self._describe(settings.model)
        if described is None:
            raise ValueError(problem)
        nodes = self._nodes(parameters)[: len(described.channels)]
        output = parameters.segmentOutput
        first, matrix = nodes[0], matrixOf(nodes[0])
        return JobRun(
            self.task,
            segmentInputs(nodes),
            settings,
            list(dict.fromkeys(nodes)),
            lambda outputs: publishSegments(outputs, first, matrix, output),
            python=self._host.python(),
        )

    def offer(self, parameters, volume) -> None:
        if parameters.segmentVolume is None:
            parameters.segmentVolume = volume

    def forget(self, parameters, node) -> None:
        super().forget(parameters, node)
        if self._result is not None and node in (self._result.volume, *self._result.present()):
            self._result = None
            self._view.leave()

    def reload(self) -> None:
        self._described = (None, None, "")
        self._models.reload()

    def finish(self, result: SegmentResult, report, preview: bool) -> None:
        self._result = result
        self.rememberSpeed(report["settings"], voxelCount(result.volume), report.get("seconds", 0))
        self._showResult()

    def summary(self, result: SegmentResult, report) -> str:
        found = [row for row in report["segments"] if row["voxels"]]
        text = _("{found} of {count} segments found").format(found=len(found), count=len(report["segments"]))
        if found:
            largest = max(found, key=lambda row: row["volume_ml"])
            volume = _("the largest is {name} with {volume:.4g} ml")
            text += ", " + volume.format(name=largest["name"], volume=largest["volume_ml"])
        return f"{result.segmentation.GetName()}: {text}; {report['device']}."

    def leave(self) -> None:
        self._view.leave()

    def _nodes(self, parameters) -> list:
        return [getattr(parameters, field) for field in CHANNELS]

    def _describe(self, name: str) -> tuple[Description | None, str]:
        """What the bundle of a model says, read once, or a sentence why it can not be used."""
        if self._described[0] != name:
            cards = self._models.cardsOf(name)
            try:
                if len(cards) != 1:
                    raise ModelError(_("There is no model '{name}'; choose another.").format(name=name))
                self._described = (name, describe(cards[0]), "")
            except ModelError as error:
                self._described = (name, None, str(error))
        return self._described[1], self._described[2]

    def _preselect(self, parameters) -> None:
        """Where the model of the settings is not installed, the first one that is."""
        cards = self._models.cards()
        if cards and not self._models.cardsOf(parameters.segment.model):
            default = SegmentSettings().model
            if parameters.segment.model == default:
                parameters.segment.model = cards[0].name

    def _chooseModel(self, name: str) -> None:
        parameters = self._getParameters()
        with slicer.util.NodeModify(parameters):
            parameters.segment.model = name

    def _showResult(self) -> None:
        there = self._result is not None
        self.ui.openEditorButton.setEnabled(there)
        self.ui.showTableButton.setEnabled(there)

    def _openEditor(self, checked=False) -> None:
        if self._result is not None:
            self._host.openSegmentEditor(self._result.segmentation, self._result.volume)

    def _showTable(self, checked=False) -> None:
        if self._result is not None:
            self._view.show(table=self._result.table)
