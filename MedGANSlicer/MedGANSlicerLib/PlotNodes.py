"""Plot nodes: series of a table drawn as lines or bars in a chart, which Slicer shows, prints and saves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import slicer
import vtk

from MedGANSlicerLib.SceneEdits import oneModification, uniqueName
from MedGANSlicerLib.TableNodes import addNumbers

Color = tuple[float, float, float]

COLORS: tuple[Color, ...] = (
    (0.12, 0.38, 0.71),
    (0.85, 0.37, 0.01),
    (0.20, 0.58, 0.35),
    (0.60, 0.31, 0.64),
    (0.65, 0.46, 0.11),
    (0.87, 0.20, 0.44),
)
"""Colours of the series, one after the other: apart from each other for colour-blind eyes, and in grey."""


LONGEST_TITLE = 80

MANY = "point at a bar for its name"


@dataclass(frozen=True)
class Line:
    """A curve of numbers over numbers."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    color: Color | None = None
    dashed: bool = False


def addBars(scene, name: str, labels: Sequence[str], values: Mapping[str, Sequence[float]], yTitle: str = "") -> list:
    """A chart with a group of bars for each label, a bar for each entry of ``values``.

    All numbers must be finite. Slicer numbers the groups from 0 and names one where the mouse points at it, so a few
    labels also stand below. Returns the nodes that were made: the chart, the table behind it, and the series.
    """
    table = slicer.vtkMRMLTableNode()
    table.SetName(uniqueName(scene, f"{name} values"))
    table.SetHideFromEditors(True)
    held = vtk.vtkTable()
    column = vtk.vtkStringArray()
    column.SetName("label")
    for label in labels:
        column.InsertNextValue(label)
    held.AddColumn(column)
    for key, numbers in values.items():
        array = vtk.vtkDoubleArray()
        array.SetName(key)
        for number in numbers:
            array.InsertNextValue(float(number))
        held.AddColumn(array)
    table.SetAndObserveTable(held)
    scene.AddNode(table)
    made = []
    for number, key in enumerate(values):
        series = slicer.vtkMRMLPlotSeriesNode()
        series.SetName(key)
        series.SetPlotType(slicer.vtkMRMLPlotSeriesNode.PlotTypeBar)
        series.SetAndObserveTableNodeID(table.GetID())
        series.SetLabelColumnName("label")
        series.SetYColumnName(key)
        series.SetColor(*COLORS[number % len(COLORS)])
        made.append(scene.AddNode(series))
    few = " · ".join(f"{number}: {label}" for number, label in enumerate(labels))
    chart = _addChart(scene, name, made, few if len(few) <= LONGEST_TITLE else MANY, yTitle)
    return [chart, table, *made]


class LinePlot:
    """A chart of curves that grow. All its nodes are made on the first :meth:`show` and then filled in place.

    Every curve has a table of its own, so that a few validations need not be stretched over many steps. After the
    scene was closed the nodes are gone; the next :meth:`show` makes them anew, in whatever scene it is given.
    """

    def __init__(self, name: str, xTitle: str, yTitle: str) -> None:
        self.name, self._xTitle, self._yTitle = name, xTitle, yTitle
        self.chart = None
        self._lines: dict[str, tuple] = {}

    def inScene(self, scene) -> bool:
        return self.chart is not None and bool(scene.IsNodePresent(self.chart))

    def nodes(self) -> list:
        """The chart, and table and series of every curve."""
        return [] if self.chart is None else [self.chart, *(node for pair in self._lines.values() for node in pair)]

    def show(self, scene, lines: Sequence[Line]) -> list:
        """Draw these curves; one that is drawn already gets its new points. Returns the nodes that were made."""
        made = []
        if not self.inScene(scene):
            self._lines = {}
            self.chart = _addChart(scene, self.name, [], self._xTitle, self._yTitle)
            made.append(self.chart)
        with oneModification(self.chart):  # the view draws once
            for line in lines:
                known = self._lines.get(line.name)
                if known is None or not all(scene.IsNodePresent(node) for node in known):
                    known = self._lines[line.name] = self._addLine(scene, line)
                    self.chart.AddAndObservePlotSeriesNodeID(known[1].GetID())
                    made += known
                elif known[0].GetNumberOfRows() == len(line.x):
                    continue
                addNumbers(known[0], {_X: line.x, _Y: line.y})
        return made

    def _addLine(self, scene, line: Line) -> tuple:
        table = slicer.vtkMRMLTableNode()
        table.SetName(uniqueName(scene, f"{self.name} {line.name}"))
        table.SetHideFromEditors(True)
        addNumbers(table, {_X: [], _Y: []})
        scene.AddNode(table)
        kind = slicer.vtkMRMLPlotSeriesNode
        series = kind()
        series.SetName(line.name)
        series.SetPlotType(kind.PlotTypeScatter)  # the only type with an x axis of one's own
        series.SetAndObserveTableNodeID(table.GetID())
        series.SetXColumnName(_X)
        series.SetYColumnName(_Y)
        series.SetMarkerStyle(kind.MarkerStyleNone)
        series.SetLineStyle(kind.LineStyleDash if line.dashed else kind.LineStyleSolid)
        series.SetColor(*(line.color or COLORS[len(self._lines) % len(COLORS)]))
        return table, scene.AddNode(series)


_X, _Y = "x", "y"


def _addChart(scene, name: str, series: Sequence, xTitle: str, yTitle: str):
    chart = slicer.vtkMRMLPlotChartNode()
    chart.SetName(uniqueName(scene, name))
    chart.SetTitle(name)
    chart.SetXAxisTitle(xTitle)
    chart.SetYAxisTitle(yTitle)
    chart.SetXAxisTitleVisibility(bool(xTitle))
    scene.AddNode(chart)
    for each in series:
        chart.AddAndObservePlotSeriesNodeID(each.GetID())
    return chart
