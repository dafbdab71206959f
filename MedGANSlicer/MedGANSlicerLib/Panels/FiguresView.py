"""What an evaluation found: a few words, a table and a plot in the views, and the report as files."""

from __future__ import annotations

from pathlib import Path

import qt
import slicer
from slicer.i18n import tr as _

from medgan.evaluation import report
from medgan.evaluation.table import Evaluation
from MedGANSlicerLib.EvaluationNodes import EvaluationNodes, publishEvaluation, removeEvaluation
from MedGANSlicerLib.Panels.DataView import DataView

SHOWN = 3
"""Metrics in the few words."""


class FiguresView:
    """``ui``: the widgets of the section "Figures". Shows nothing until :meth:`show` is called.

    ``hidden()`` and ``hide(names)`` read and keep which metrics the person does not want.
    """

    def __init__(self, ui, host, hidden, hide) -> None:
        self._ui, self._host, self._hidden, self._hide = ui, host, hidden, hide
        self._evaluation: Evaluation | None = None
        self._nodes: EvaluationNodes | None = None
        self._page: Path | None = None
        self._filling = False
        self._view = DataView(host)
        ui.plotSelector.connect("activated(int)", self._plot)
        ui.metricsList.connect("itemChanged(QListWidgetItem*)", self._tick)
        ui.showButton.connect("toggled(bool)", self._showViews)
        ui.saveButton.connect("clicked(bool)", self._save)
        ui.openButton.connect("clicked(bool)", self._open)
        self._draw()

    def show(self, evaluation: Evaluation, nodes: EvaluationNodes, views: bool = True) -> None:
        """Show what was measured, with ``views`` in the views as well."""
        self._evaluation, self._nodes, self._page = evaluation, nodes, None
        self._listMetrics()
        self._draw()
        if self._ui.showButton.checked:
            self._showViews(True)
        else:
            self._ui.showButton.setChecked(views)

    def leave(self) -> None:
        """Give the person's layout back."""
        self._ui.showButton.setChecked(False)
        self._view.leave()

    def forget(self, node) -> None:
        """A node is about to leave the scene; the figures can still be written to files."""
        if self._nodes is not None and node in self._nodes.all():
            self._nodes = None
            self.leave()
            self._draw()

    def _draw(self) -> None:
        ui, evaluation = self._ui, self._evaluation
        ui.foundSection.setVisible(evaluation is not None)
        if evaluation is None:
            return
        ui.foundLabel.setText(inWords(evaluation, self._hidden()))
        charts = list(self._nodes.charts) if self._inScene() else []
        chosen = ui.plotSelector.currentText
        ui.plotSelector.clear()
        for name in charts:
            ui.plotSelector.addItem(evaluation.metrics[name].title)
        ui.plotSelector.setCurrentIndex(max(0, ui.plotSelector.findText(chosen)) if charts else -1)
        for widget in (ui.plotSelector, ui.plotLabel):
            widget.setVisible(bool(charts))
        ui.showButton.setEnabled(self._inScene())
        ui.openButton.setEnabled(self._page is not None)
        ui.savedLabel.setText(str(self._page.parent) if self._page is not None else "")
        ui.savedLabel.setToolTip(ui.savedLabel.text)
        ui.savedLabel.setVisible(self._page is not None)

    def _listMetrics(self) -> None:
        ticks = self._ui.metricsList
        self._filling = True
        ticks.clear()
        for number, (name, info) in enumerate(self._evaluation.metrics.items()):
            ticks.addItem(f"{info.title} [{info.unit}]" if info.unit else info.title)
            item = ticks.item(number)
            item.setFlags(qt.Qt.ItemIsEnabled | qt.Qt.ItemIsUserCheckable)
            item.setCheckState(qt.Qt.Unchecked if name in self._hidden() else qt.Qt.Checked)
            item.setToolTip(info.description)
        self._filling = False

    def _tick(self, item=None) -> None:
        """Another choice of metrics: the nodes are made anew."""
        if self._filling or self._evaluation is None:
            return
        names, ticks = list(self._evaluation.metrics), self._ui.metricsList
        hidden = [name for n, name in enumerate(names) if ticks.item(n).checkState() != qt.Qt.Checked]
        self._hide([*hidden, *(name for name in self._hidden() if name not in names)])
        if self._inScene():
            before, self._nodes = self._nodes, None
            removeEvaluation(slicer.mrmlScene, before)
            self._nodes = publishEvaluation(slicer.mrmlScene, self._evaluation, hidden)
        self._draw()
        if self._ui.showButton.checked:
            self._showViews(True)

    def _plot(self, index: int) -> None:
        self._ui.showButton.setChecked(True)
        self._showViews(True)

    def _showViews(self, wanted: bool) -> None:
        if not wanted:
            self._view.leave()
        elif self._inScene():
            charts, index = list(self._nodes.charts.values()), self._ui.plotSelector.currentIndex
            self._view.show(self._nodes.figures, charts[index] if 0 <= index < len(charts) else None)

    def _inScene(self) -> bool:
        """Whether the nodes are still there: the scene may have been closed."""
        return self._nodes is not None and bool(slicer.mrmlScene.IsNodePresent(self._nodes.figures))

    def _save(self, checked: bool = False) -> None:
        folder = self._host.chooseFolder(_("Save report"), str(Path.home()))
        if not folder or self._evaluation is None:
            return
        there = [name for name in report.FILES if (Path(folder) / name).exists()]
        if there and not self._host.confirm(
            _("'{folder}' holds {files} already. Replace the report there?").format(
                folder=folder, files=", ".join(there)
            )
        ):
            return
        try:
            from medgan.evaluation.conclusions import without  # needs SciPy, which Slicer may not have when it starts

            files = report.write(without(self._evaluation, self._hidden()), Path(folder))
        except OSError as error:
            self._ui.savedLabel.setText(_("It could not be written: {reason}.").format(reason=error.strerror or error))
            self._ui.savedLabel.setVisible(True)
            return
        self._page = files[report.PAGE]
        self._draw()

    def _open(self, checked: bool = False) -> None:
        if self._page is not None:
            self._host.openFile(self._page)


def inWords(evaluation: Evaluation, hidden=()) -> str:
    """The means of the first metrics for each method, with intervals where there are any, and what failed."""
    metrics = [name for name, info in evaluation.metrics.items() if name not in hidden and info.better][:SHOWN]
    lines = []
    for method in dict.fromkeys(entry["method"] for entry in evaluation.summary):
        parts = []
        for name in metrics:
            entries = [e for e in evaluation.summary if e["method"] == method and e["metric"] == name]
            whole = [entry for entry in entries if entry.get("label") in (None, "")] or entries[:1]
            if whole and whole[0].get("mean") is not None:
                parts.append(_figure(evaluation.metrics[name], whole[0]))
        if parts:
            lines.append(f"{method}: {', '.join(parts)}")
    failed = [row for row in evaluation.rows if row.get("error")]
    lines += [f"{row['method']}: {row['error']}" for row in failed[:SHOWN]]
    return "\n".join(lines)


def _figure(info, entry) -> str:
    text = f"{info.title} {entry['mean']:.4g}" + (f" {info.unit}" if info.unit else "")
    if entry.get("low") is not None and entry.get("high") is not None:
        text += _(" ({low:.4g} to {high:.4g})").format(low=entry["low"], high=entry["high"])
    return text
