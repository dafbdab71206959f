"""Tables, plots and their folders in a real scene: values, titles, units, and what an observer hears."""

from __future__ import annotations

import math

import numpy as np
import pytest
import slicer
import vtk

from MedGANSlicerLib.PlotNodes import Line, LinePlot, addBars
from MedGANSlicerLib.SceneEdits import placeBeside, subjectHierarchy
from MedGANSlicerLib.TableNodes import Column, addTable, folderItem, putInFolder
from scene_reading import load_scene, rows_of

ROWS = [
    {"name": "Left thalamus", "voxels": 7000, "volume_ml": 7.123456789, "mean": None},
    {"name": "Right thalamus", "voxels": 6900, "volume_ml": 6.9, "mean": 101.5},
]


def heard(node) -> list:
    """A list that grows with every ModifiedEvent of the node."""
    events: list = []
    node.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda caller, event: events.append(event))
    return events


def points(plotSeries) -> list[tuple[float, float]]:
    table = plotSeries.GetTableNode().GetTable()
    return [tuple(table.GetValue(n, c).ToDouble() for c in (0, 1)) for n in range(table.GetNumberOfRows())]


def test_table_holds_text_whole_numbers_and_numbers(a_scene):
    columns = {"name": Column("Segment"), "volume_ml": Column("Volume", "ml", "Voxels times their size.")}
    node = addTable(a_scene, "Segments", ROWS, columns, {"MedGAN.Model": "x"})
    assert rows_of(node) == [
        {"name": "Left thalamus", "volume_ml": 7.12346},
        {"name": "Right thalamus", "volume_ml": 6.9},
    ]
    assert (node.GetColumnTitle("volume_ml"), node.GetColumnUnitLabel("volume_ml")) == ("Volume", "ml")
    assert node.GetColumnDescription("volume_ml") == "Voxels times their size."
    assert node.GetUseColumnTitleAsColumnHeader()
    assert node.GetAttribute("MedGAN.Model") == "x"


def test_columns_without_a_list_are_the_keys_of_the_rows(a_scene):
    node = addTable(a_scene, "Segments", [*ROWS, {"name": "Brain", "extra": "yes"}])
    table = node.GetTable()
    assert [table.GetColumnName(n) for n in range(table.GetNumberOfColumns())] == [
        "name",
        "voxels",
        "volume_ml",
        "mean",
        "extra",
    ]
    assert table.GetColumnByName("voxels").GetDataType() == vtk.VTK_DOUBLE, "one is missing"
    assert math.isnan(rows_of(node)[0]["mean"])
    assert [row["extra"] for row in rows_of(node)] == ["", "", "yes"]


def test_whole_numbers_stay_whole(a_scene):
    node = addTable(a_scene, "Segments", ROWS, ["voxels"])
    assert node.GetTable().GetColumn(0).GetDataType() == vtk.VTK_INT
    assert node.GetTable().GetValue(0, 0).ToInt() == 7000


def test_second_table_of_a_name_gets_another_and_a_given_one_is_filled_anew(a_scene):
    first = addTable(a_scene, "Segments", ROWS)
    assert addTable(a_scene, "Segments", ROWS).GetName() == "Segments 1"
    events = heard(first)
    assert addTable(a_scene, "Segments", [{"a": 1}], tableNode=first) is first
    assert rows_of(first) == [{"a": 1.0}]
    assert len(events) == 1
    assert first.GetName() == "Segments"


def test_table_and_folder_lie_beside_their_source(a_scene, a_volume_node):
    hierarchy = subjectHierarchy(a_scene)
    study = hierarchy.CreateStudyItem(hierarchy.GetSceneItemID(), "Study")
    hierarchy.CreateItem(study, a_volume_node)
    table = addTable(a_scene, "Segments", ROWS, beside=a_volume_node)
    assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(table)) == study
    folder = folderItem(a_scene, "Evaluation", a_volume_node)
    putInFolder(a_scene, folder, table)
    assert hierarchy.GetItemParent(folder) == study
    assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(table)) == folder
    assert hierarchy.GetItemName(folderItem(a_scene, "Evaluation")) != "Evaluation", "each has a name of its own"


def test_bars_have_a_series_for_each_method_and_a_group_for_each_label(a_scene):
    chart, table, first, second = addBars(
        a_scene, "Dice", ["left", "right"], {"A": [0.9, 0.8], "B": [0.7, 0.6]}, "Dice (more is better)"
    )
    assert chart.GetTitle() == "Dice"
    assert chart.GetYAxisTitle() == "Dice (more is better)"
    assert chart.GetXAxisTitle() == "0: left · 1: right"
    assert [chart.GetNthPlotSeriesNode(n) for n in range(2)] == [first, second]
    assert (first.GetName(), second.GetName()) == ("A", "B")
    assert first.GetPlotType() == slicer.vtkMRMLPlotSeriesNode.PlotTypeBar
    assert first.GetColor() != second.GetColor()
    held = table.GetTable()
    column = held.GetColumnByName(second.GetYColumnName())
    assert [column.GetValue(n) for n in range(2)] == [0.7, 0.6]
    assert held.GetColumnByName(first.GetLabelColumnName()).GetValue(1) == "right"


def test_many_bars_are_named_where_the_mouse_points(a_scene):
    names = [f"a structure of the brain {n}" for n in range(40)]
    chart, *_ = addBars(a_scene, "Dice", names, {"A": [0.5] * 40})
    assert chart.GetXAxisTitle() == "point at a bar for its name"


def test_curves_grow_in_place(a_scene):
    plot = LinePlot("brain: losses", "Step", "Loss")
    made = plot.show(a_scene, [Line("Generator", [10], [1.0])])
    assert [node.GetClassName() for node in made] == [
        "vtkMRMLPlotChartNode",
        "vtkMRMLTableNode",
        "vtkMRMLPlotSeriesNode",
    ]
    chart, _table, series = made
    before = a_scene.GetNumberOfNodes()
    events = heard(chart)
    longer = [Line("Generator", [10, 20, 30], [1.0, 0.5, 0.25]), Line("Critic", [10, 20], [0.7, 0.6])]
    assert len(plot.show(a_scene, longer)) == 2
    assert len(events) == 1, "the view draws once"
    assert a_scene.GetNumberOfNodes() == before + 2
    assert points(series) == [(10, 1.0), (20, 0.5), (30, 0.25)]
    assert chart.GetNumberOfPlotSeriesNodes() == 2
    events.clear()
    assert plot.show(a_scene, longer) == []
    assert events == [], "nothing new, nothing drawn"


def test_curves_are_made_anew_after_the_scene_was_closed(a_scene):
    plot = LinePlot("brain: losses", "Step", "Loss")
    plot.show(a_scene, [Line("Generator", [10], [1.0])])
    a_scene.Clear(False)
    assert not plot.inScene(a_scene)
    made = plot.show(a_scene, [Line("Generator", [10, 20], [1.0, 0.5])])
    assert points(made[2]) == [(10, 1.0), (20, 0.5)]
    assert plot.inScene(a_scene)


def test_series_that_a_person_deleted_comes_back(a_scene):
    plot = LinePlot("brain: losses", "Step", "Loss")
    _chart, _table, series = plot.show(a_scene, [Line("Generator", [10], [1.0])])
    a_scene.RemoveNode(series)
    made = plot.show(a_scene, [Line("Generator", [10, 20], [1.0, 0.5])])
    assert points(made[1]) == [(10, 1.0), (20, 0.5)]


def test_plots_survive_saving(a_headless_scene, tmp_path):
    scene = a_headless_scene.scene
    addBars(scene, "Dice", ["left", "right"], {"A": [0.9, 0.8]})
    plot = LinePlot("losses", "Step", "Loss")
    plot.show(scene, [Line("Generator", list(range(100)), list(np.linspace(1, 0, 100)))])
    a_headless_scene.saveScene(tmp_path / "s.mrb")
    scene.Clear(False)
    load_scene(a_headless_scene.scene, tmp_path / "s.mrb", tmp_path / "unpacked")
    charts = {chart.GetName(): chart for chart in scene.GetNodes() if chart.IsA("vtkMRMLPlotChartNode")}
    assert set(charts) == {"Dice", "losses"}
    series = charts["losses"].GetNthPlotSeriesNode(0)
    assert points(series)[-1] == (99.0, 0.0)
    values = charts["Dice"].GetNthPlotSeriesNode(0).GetTableNode().GetTable()
    assert values.GetValueByName(1, "A").ToDouble() == pytest.approx(0.8)


def test_node_without_a_folder_stays_where_it_is(a_scene, a_volume_node):
    table = addTable(a_scene, "Segments", ROWS)
    putInFolder(a_scene, 0, table)
    placeBeside(a_scene, table, a_volume_node)
    hierarchy = subjectHierarchy(a_scene)
    assert not hierarchy.GetItemByDataNode(table)
