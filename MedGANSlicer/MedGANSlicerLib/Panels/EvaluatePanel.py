"""Evaluate: the widgets of this task and what they start."""

from __future__ import annotations

from slicer.i18n import tr as _

from medgan.settings import EvaluateSettings, Figures
from MedGANSlicerLib.EvaluateInputs import CHOSEN, guessReference, obstacle, referencesFor, results
from MedGANSlicerLib.EvaluateRun import EvaluateRun
from MedGANSlicerLib.Panels.FiguresView import FiguresView
from MedGANSlicerLib.Panels.PairsTable import Offer, PairsTable
from MedGANSlicerLib.Panels.Panel import Panel
from MedGANSlicerLib.SettingsPacks import snapshot


class EvaluatePanel(Panel):
    """``ui``: the widgets of Evaluate.ui."""

    task = "evaluate"
    uiFile = "UI/Evaluate.ui"
    inputs = ("evaluateRegion",)

    def __init__(self, ui, host, getParameters) -> None:
        super().__init__(ui, host, getParameters)
        self._unwanted: list[str] = []
        self._results = PairsTable(
            ui.resultsTable, ui.referenceSelector, ui.referenceSelectorLabel, CHOSEN, getParameters
        )
        self._figures = FiguresView(ui, host, self._hidden, self._hide)

    @staticmethod
    def title() -> str:
        return _("Evaluate")

    def refresh(self, parameters) -> str:
        nodes = results(parameters.parameterNode.GetScene())
        offer = Offer(
            nodes,
            (_("Result"), _("Reference")),
            lambda node: referencesFor(node, nodes),
            guessReference,
            _("No reference"),
        )
        self._results.show(parameters, offer)
        pairs = self._results.chosen()
        compared = any(pair.partner is not None for pair in pairs)
        self.ui.resample.setEnabled(compared)
        problem = obstacle(pairs)
        if problem:
            return problem
        if not compared and parameters.evaluate.figures not in (Figures.AUTO, Figures.VOLUMES):
            return _("Choose what the results are compared with; these figures need a reference.")
        return ""

    def start(self, parameters):
        return EvaluateRun(
            self._results.chosen(),
            snapshot(parameters.evaluate, EvaluateSettings),
            parameters.evaluateRegion,
            parameters.evaluateSources,
            self._hidden(),
            python=self._host.python(),
        )

    def finish(self, result, report, preview: bool) -> None:
        self._figures.show(*result, views=self._getParameters() is not None)

    def summary(self, result, report) -> str:
        evaluation, nodes = result
        count, table = len(evaluation.rows), nodes.figures.GetName()
        if count == 1:
            return _("1 row of figures is in the table '{table}'.").format(table=table)
        return _("{count} rows of figures are in the table '{table}'.").format(count=count, table=table)

    def forget(self, parameters, node) -> None:
        super().forget(parameters, node)
        self._figures.forget(node)

    def leave(self) -> None:
        self._figures.leave()

    def _hidden(self) -> list[str]:
        """The metrics that the person does not want to see; while another module is open, those from before."""
        parameters = self._getParameters()
        if parameters is not None:
            self._unwanted = [name for name in parameters.evaluateHidden.split(",") if name]
        return self._unwanted

    def _hide(self, names: list[str]) -> None:
        parameters = self._getParameters()
        if parameters is not None:
            parameters.evaluateHidden = ",".join(names)
