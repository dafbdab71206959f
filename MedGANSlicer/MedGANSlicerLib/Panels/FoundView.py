"""What a volume was recognised as, how good it is, and which models fit it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from slicer.i18n import tr as _

from MedGANSlicerLib.Panels import Lines
from MedGANSlicerLib.Panels.DataView import DataView
from MedGANSlicerLib.Panels.LongNames import breakable
from MedGANSlicerLib.Panels.NodeWatch import NodeWatch
from MedGANSlicerLib.RecogniseNodes import Recognised, answersOf, keepTables

SHOWN = 3
"""Answers to a question that the panel lists; the tables that can be kept have all of them."""


class FoundView:
    """``ui``: the widgets of the section "What it is". ``use(task, model)`` hears of advice that is followed."""

    def __init__(self, ui, host, use: Callable[[str, str], None]) -> None:
        self._ui, self._use = ui, use
        self._result: Recognised | None = None
        self._advice: list[Mapping[str, Any]] = []
        self._view = DataView(host)
        self._watch = NodeWatch(self._say)
        Lines.prepare(ui.answersTable, (_("What"), _("Answer"), _("Confidence")), 1)
        Lines.prepare(ui.qualityTable, (_("Quality"), _("Value")), 0)
        ui.adviceButton.connect("clicked(bool)", self._follow)
        ui.adviceList.connect("itemActivated(QListWidgetItem*)", self._follow)
        ui.tablesButton.connect("clicked(bool)", self._keep)
        self._draw()

    @property
    def result(self) -> Recognised | None:
        return self._result

    def show(self, result: Recognised) -> None:
        """What a run found."""
        self._result = result
        self._watch.watch(result.volume)
        self._draw()

    def forget(self, node) -> None:
        """A node is about to leave the scene."""
        if self._result is not None and node is self._result.volume:
            self._watch.watch()
            self._result = None
            self.leave()
            self._draw()

    def close(self) -> None:
        self._watch.watch()

    def leave(self) -> None:
        """Give the person's layout back."""
        self._view.leave()

    def _draw(self) -> None:
        ui = self._ui
        ui.foundSection.setVisible(self._result is not None)
        if self._result is None:
            return
        report = self._result.report
        self._say()
        answers = shownAnswers(report)
        Lines.fill(ui.answersTable, answers)
        ui.answersTable.setVisible(bool(answers))
        quality = report.get("quality") or []
        Lines.fill(ui.qualityTable, [qualityLine(each) for each in quality], [each["sentence"] for each in quality])
        ui.qualityTable.setVisible(bool(quality))
        remarks = [*report.get("warnings", ()), *(each["sentence"] for each in quality if each.get("remark"))]
        ui.remarksLabel.setText("\n".join(remarks))
        ui.remarksLabel.setVisible(bool(remarks))
        self._advice = list(report.get("advice") or ())
        ui.adviceList.clear()
        for each in self._advice:
            ui.adviceList.addItem(each["sentence"])
        if self._advice:
            ui.adviceList.setCurrentRow(0)
        for widget in (ui.adviceList, ui.adviceButton):
            widget.setVisible(bool(self._advice))

    def _say(self) -> None:
        sentence = self._result.report.get("sentence", "")
        self._ui.sentenceLabel.setText(breakable(f"{self._result.volume.GetName()}: {sentence}"))

    def _follow(self, item=None) -> None:
        row = self._ui.adviceList.currentRow
        if self._result is not None and 0 <= row < len(self._advice):
            self._use(self._advice[row]["task"], self._advice[row]["model"])

    def _keep(self, checked=False) -> None:
        if self._result is not None:
            tables = keepTables(self._result)
            if tables:
                self._view.show(table=tables[0])


def shownAnswers(report: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """The likeliest answers to every question; the question stands before the first of them."""
    lines, counts = [], {}
    for row in answersOf(report):
        count = counts.get(row["question"], 0)
        if count < SHOWN:
            mark = "✓ " if row["chosen"] else ""
            lines.append((row["question"] if not count else "", f"{mark}{row['answer']}", f"{row['share']:.0f} %"))
        counts[row["question"]] = count + 1
    return lines


def qualityLine(finding: Mapping[str, Any]) -> tuple[str, str]:
    """Name and value of a finding about quality; one that asks for attention has a mark."""
    value = finding.get("value")
    text = f"{value:.3g} {finding.get('unit') or ''}".strip() if isinstance(value, int | float) else "–"
    return ("⚠ " if finding.get("remark") else "") + finding["title"], text
