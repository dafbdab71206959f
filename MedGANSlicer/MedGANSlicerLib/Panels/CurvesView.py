"""The curves of a training as plots, in a layout of two charts; the person's own layout comes back after."""

from __future__ import annotations

from pathlib import Path

import slicer
from slicer.i18n import tr as _

from MedGANSlicerLib.PlotNodes import Line, LinePlot
from MedGANSlicerLib.RunLog import RunLog
from MedGANSlicerLib.TableNodes import folderItem, putInFolder

CURVES = 5312
"""Our layout; numbers from 501 on are free for extensions."""

LOSSES, VALIDATION = "MedGANLosses", "MedGANValidation"

_VIEW = """
  <item><view class="vtkMRMLPlotViewNode" singletontag="{name}">
    <property name="viewlabel" action="default">{label}</property>
  </view></item>"""


class CurvesView:
    """Shows nothing until :meth:`show` is called; :meth:`update` then lets the curves grow."""

    def __init__(self, host) -> None:
        self._host = host
        self._layoutBefore: int | None = None
        self._run: Path | None = None
        self._plots: tuple[LinePlot, ...] = ()
        self._folder = 0

    @property
    def shown(self) -> bool:
        return self._layoutBefore is not None

    def show(self, log: RunLog) -> None:
        """Make the plots of a run and show them."""
        registerLayout(self._host)
        before = self._host.layout()
        self.update(log, make=True)
        if before is None:
            return
        if before != CURVES:
            self._layoutBefore = before
            self._host.setLayout(CURVES)
        self._place()

    def update(self, log: RunLog, make: bool = False) -> None:
        """Draw what is new in the log, if its plots are in the scene or are to be made."""
        scene = slicer.mrmlScene
        name = log.folder.name
        if log.folder != self._run:
            self._run, self._plots = log.folder, ()
        if not self._plots:
            if not make:
                return
            self._plots = (
                LinePlot(_("{name}: losses").format(name=name), _("Step"), _("Loss")),
                LinePlot(_("{name}: validation").format(name=name), _("Step"), ""),
            )
        if not make and not self._plots[0].inScene(scene):  # the scene was closed since
            return
        if not self._plots[0].inScene(scene):
            self._folder = folderItem(scene, _("Training {name}").format(name=name))
        title, curves = log.validation()
        losses = [Line(_named(name), *curve) for name, curve in log.losses().items()]
        made = self._plots[0].show(scene, losses)
        made += self._plots[1].show(scene, [Line(name, *curve) for name, curve in curves.items()])
        self._plots[1].chart.SetYAxisTitle(title)
        putInFolder(scene, self._folder, *made)
        if made and self.shown:
            self._place()

    def leave(self) -> None:
        """Give the person's layout back; the plots stay in the scene."""
        if self.shown and self._host.layout() == CURVES:
            self._host.setLayout(self._layoutBefore)
        self._layoutBefore = None

    def tidy(self) -> None:
        """A scene was opened: a layout that it brings along from a training would never end."""
        if not self.shown and self._host.layout() == CURVES:
            self._host.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)

    def _place(self) -> None:
        """Each chart into its view; a choice of a chart elsewhere does not change that."""
        views = self._host.plotViews()
        for name, plot in zip((LOSSES, VALIDATION), self._plots, strict=True):
            view = views.get(name)
            if view is not None and plot.chart is not None:
                view.SetDoPropagatePlotChartSelection(False)
                view.SetPlotChartNodeID(plot.chart.GetID())


def registerLayout(host) -> None:
    """Make the layout of :class:`CurvesView` known to Slicer."""
    views = _VIEW.format(name=LOSSES, label="L") + _VIEW.format(name=VALIDATION, label="V")
    host.addLayout(CURVES, f'<layout type="vertical" split="true">{views}</layout>')


def _named(name: str) -> str:
    return {"Generator": _("Generator"), "Critic": _("Critic")}.get(name, name)
