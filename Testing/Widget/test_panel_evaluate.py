"""A person measures results in the panel: with and without a reference, several at once, volumes and segmentations.

The evaluations are real child processes of the real task.
"""

from __future__ import annotations

import cProfile
import csv
import json

import numpy as np
import pytest
import slicer
import slicer.util
from standin import screens

import phantoms
from scene_reading import rows_of

SHAPE = (20, 24, 28)


def volume(name: str, sigma: float = 0.0, matrix=None, source=None):
    """The head phantom with noise, in Hounsfield-like integers, at an oblique left-handed place."""
    array = phantoms.head(SHAPE) + np.random.default_rng(3).normal(0, sigma, SHAPE) if sigma else phantoms.head(SHAPE)
    matrix = phantoms.awkward_geometry() if matrix is None else matrix
    node = slicer.util.addVolumeFromArray(np.rint(array).astype(np.int16), matrix, name)
    if source is not None:
        node.SetNodeReferenceID("MedGAN.Source", source.GetID())
    return node


def box(start: int, stop: int) -> np.ndarray:
    values = np.zeros(SHAPE, np.int16)
    values[start:stop, 4:14, 6:20] = 1
    return values


def label_map(name: str, values: np.ndarray):
    return slicer.util.addVolumeFromArray(values, phantoms.awkward_geometry(), name, "vtkMRMLLabelMapVolumeNode")


class Examiner:
    """Somebody at the panel of Evaluate."""

    def __init__(self, person) -> None:
        self.person, self.ui, self.shared = person, person.ui_of("evaluate"), person.ui

    def names(self) -> list[str]:
        table = self.ui.resultsTable
        return [table.item(n, 0).toolTip() for n in range(table.rowCount)]

    def tick(self, *names: str) -> None:
        import qt

        for name in names:
            self.person.wait(lambda name=name: name in self.names())
            self.ui.resultsTable.item(self.names().index(name), 0).setCheckState(qt.Qt.Checked)

    def against(self, name: str, reference: str) -> None:
        self.person.wait(lambda: name in self.names())
        self.ui.resultsTable.selectRow(self.names().index(name))
        index = self.ui.referenceSelector.findText(reference)
        assert index >= 0, reference
        self.ui.referenceSelector.setCurrentIndex(index)
        self.ui.referenceSelector.activated(index)

    def measure(self) -> None:
        self.person.press_apply()
        self.person.wait_for_end()

    def untick_metric(self, title: str) -> None:
        import qt

        items = [self.ui.metricsList.item(n) for n in range(self.ui.metricsList.count)]
        next(item for item in items if item.text() == title).setCheckState(qt.Qt.Unchecked)


@pytest.fixture
def examiner(person):
    person.choose_task("evaluate")
    return Examiner(person)


def rows(name: str) -> list[dict]:
    return rows_of(slicer.util.getNode(name))


def folder_of(node) -> str:
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    return hierarchy.GetItemName(hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)))


def psnr(result: np.ndarray, reference: np.ndarray, span: float) -> float:
    return float(10 * np.log10(span**2 / np.mean((result - reference) ** 2)))


@pytest.mark.parametrize("before", ["ConventionalView", "OneUp3DView", "3DTableView", "OneUpPlotView"])
def test_table_and_chart_are_both_shown_whatever_was_before(slicer_standin, before):
    from MedGANSlicerLib.Host import Host

    layouts = slicer.app.layoutManager()
    layouts.setLayout(getattr(slicer.vtkMRMLLayoutNode, f"SlicerLayout{before}"))
    nodes = [slicer.mrmlScene.AddNewNodeByClass(f"vtkMRML{kind}Node") for kind in ("Table", "PlotChart")]
    Host().showData(*nodes)
    assert layouts.layout == slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpPlotTableView


def test_panel_says_what_is_missing(examiner):
    assert examiner.shared.applyButton.toolTip == "Choose at least one result."
    volume("Clean")
    label_map("Labels", box(4, 12))
    examiner.tick("Labels")
    assert examiner.shared.applyButton.toolTip == (
        "'Labels' needs a reference; only volumes can be measured without one."
    )
    examiner.tick("Clean")
    assert "measured apart" in examiner.shared.applyButton.toolTip
    assert examiner.ui.foundSection.isHidden()


def test_figures_of_a_run_that_ends_in_another_module_are_there(examiner, slicer_standin):
    layout = slicer.app.layoutManager().layout
    volume("Clean")
    volume("Noisy", 40)
    examiner.against("Noisy", "Clean")
    examiner.person.parameters.evaluateHidden = "psnr"
    examiner.person.press_apply()
    slicer_standin.leave_module()
    examiner.person.wait_for_end()
    assert slicer.app.layoutManager().layout == layout
    slicer_standin.open_module("MedGANSlicer")
    assert not examiner.ui.foundSection.isHidden()
    assert "PSNR" not in examiner.ui.foundLabel.text
    examiner.ui.showButton.click()
    assert slicer.app.layoutManager().layout != layout


def test_two_results_against_a_reference(examiner, slicer_standin, tmp_path):
    layout = slicer.app.layoutManager().layout
    clean = volume("Clean")
    noisy = volume("Head", 40)
    volume("Head denoised", 10, source=noisy)
    volume("Head deblurred", 20, source=noisy)
    examiner.against("Head denoised", "Clean")
    examiner.tick("Head deblurred")
    assert examiner.ui.resultsTable.item(examiner.names().index("Head deblurred"), 1).text() == "Clean"
    examiner.ui.dataRange.value = 1000
    examiner.measure()
    assert examiner.shared.errorLabel.text == "", examiner.person.log()
    figures = {row["method"]: row for row in rows("Evaluation")}
    assert set(figures) == {"before", "denoised", "deblurred"}
    arrays = {
        name: slicer.util.arrayFromVolume(slicer.util.getNode(name)).astype(float)
        for name in ("Clean", "Head denoised")
    }
    expected = psnr(arrays["Head denoised"], arrays["Clean"], 1000)
    assert figures["denoised"]["psnr"] == pytest.approx(expected, abs=1e-3)
    assert figures["before"]["psnr"] < figures["deblurred"]["psnr"] < figures["denoised"]["psnr"]
    assert f"denoised: PSNR {expected:.4g} dB" in examiner.ui.foundLabel.text
    done = examiner.shared.progressLabel.text
    assert "3 rows of figures are in the table 'Evaluation'. MS-SSIM has " in done
    assert done.endswith("more in the log.)")
    chart = slicer.util.getNode("Evaluation PSNR")
    series = [chart.GetNthPlotSeriesNode(n) for n in range(chart.GetNumberOfPlotSeriesNodes())]
    assert [each.GetName() for each in series] == ["before", "denoised", "deblurred"]
    table = series[1].GetTableNode().GetTable()
    assert table.GetValueByName(0, "denoised").ToDouble() == pytest.approx(expected, abs=1e-3)
    assert chart.GetYAxisTitle() == "PSNR [dB] (more is better)"
    assert {folder_of(node) for node in (chart, slicer.util.getNode("Evaluation"), series[0])} == {"Evaluation"}
    assert slicer.app.layoutManager().layout == slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpPlotTableView
    selection = slicer.app.applicationLogic().GetSelectionNode()
    assert selection.GetActiveTableID() == slicer.util.getNode("Evaluation").GetID()
    assert selection.GetActivePlotChartID() == chart.GetID()
    examiner.person.choose_task("enhance")
    assert slicer.app.layoutManager().layout == layout
    assert clean.GetName() == "Clean"


def test_another_choice_of_metrics_makes_the_nodes_anew_and_is_kept(examiner):
    volume("Clean")
    volume("Noisy", 30)
    examiner.against("Noisy", "Clean")
    examiner.measure()
    titles = [examiner.ui.metricsList.item(n).text() for n in range(examiner.ui.metricsList.count)]
    assert titles[:2] == ["PSNR [dB]", "SSIM"]
    examiner.untick_metric("PSNR [dB]")
    assert "psnr" not in rows("Evaluation")[0]
    assert "ssim" in rows("Evaluation")[0]
    assert slicer.util.getNodes("Evaluation PSNR") == {}
    charts = slicer.util.getNodesByClass("vtkMRMLPlotChartNode")
    assert len(slicer.util.getNodesByClass("vtkMRMLTableNode")) == 2 + len(charts)
    assert "Evaluation Data range" not in [chart.GetName() for chart in charts], "it is the same everywhere"
    assert examiner.person.parameters.evaluateHidden == "psnr"
    examiner.measure()
    assert "psnr" not in rows("Evaluation 1")[0]


def test_report_is_written_without_the_metrics_that_are_not_wanted(examiner, slicer_standin, tmp_path):
    volume("Clean")
    volume("Noisy", 30)
    examiner.against("Noisy", "Clean")
    examiner.measure()
    assert "1 row of figures is in the table 'Evaluation'." in examiner.shared.progressLabel.text
    examiner.untick_metric("SSIM")
    assert not examiner.ui.openButton.enabled
    slicer_standin.answer(str(tmp_path))
    examiner.ui.saveButton.click()
    assert examiner.ui.savedLabel.text == str(tmp_path)
    assert examiner.ui.openButton.enabled
    with (tmp_path / "cases.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert float(row["psnr"]) == pytest.approx(rows("Evaluation")[0]["psnr"], rel=1e-5)
    assert "ssim" not in row
    assert "ssim" not in json.loads((tmp_path / "report.json").read_text())["metrics"]
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "data:image/png;base64," in page


def test_files_that_are_there_are_replaced_only_when_the_person_says_so(examiner, slicer_standin, tmp_path):
    volume("Clean")
    volume("Noisy", 30)
    examiner.against("Noisy", "Clean")
    examiner.measure()
    folder = tmp_path / "study"
    folder.mkdir()
    for name in ("cases.csv", "comparisons.csv"):
        (folder / name).write_text("mine", encoding="utf-8")
    slicer_standin.answer(str(folder), False)
    examiner.ui.saveButton.click()
    assert [file.read_text(encoding="utf-8") for file in sorted(folder.iterdir())] == ["mine", "mine"]
    assert not examiner.ui.openButton.enabled
    slicer_standin.answer(str(folder), True)
    examiner.ui.saveButton.click()
    assert (folder / "cases.csv").read_text(encoding="utf-8") != "mine"
    assert examiner.ui.savedLabel.text == str(folder)


def test_segmentation_against_a_label_map(examiner):
    reference = label_map("Reference", box(4, 12))
    result = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Result")
    moved = label_map("moved", box(6, 14))
    result.SetReferenceImageGeometryParameterFromVolumeNode(reference)
    slicer.vtkSlicerSegmentationsModuleLogic.ImportLabelmapToSegmentationNode(moved, result)
    slicer.mrmlScene.RemoveNode(moved)
    examiner.against("Result", "Reference")
    examiner.measure()
    assert examiner.shared.errorLabel.text == "", examiner.person.log()
    (row,) = rows("Evaluation")
    assert row["dice"] == pytest.approx(2 * 6 / 16)
    assert row["sensitivity"] == pytest.approx(6 / 8)
    assert "Dice 0.75" in examiner.ui.foundLabel.text


def test_other_grid_is_an_error_until_resampling_is_asked_for(examiner):
    volume("Clean")
    moved = phantoms.awkward_geometry()
    moved[:3, 3] += [3.0, 0.0, 0.0]
    volume("Shifted", matrix=moved)
    examiner.against("Shifted", "Clean")
    examiner.measure()
    assert "another" in examiner.shared.errorLabel.text or "differ" in examiner.shared.errorLabel.text
    assert slicer.util.getNodes("Evaluation*") == {}
    examiner.ui.resample.checked = True
    examiner.measure()
    assert rows("Evaluation")[0]["psnr"] < 40


def test_parent_transform_counts(examiner):
    """The result's own grid lies elsewhere; its transform brings it where the reference is."""
    volume("Clean")
    moved = phantoms.awkward_geometry()
    moved[:3, 3] += [3.0, -2.0, 5.0]
    node = volume("Moved", 30, matrix=moved)
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Back")
    matrix = slicer.util.vtkMatrixFromArray(np.array([[1, 0, 0, -3.0], [0, 1, 0, 2], [0, 0, 1, -5], [0, 0, 0, 1]]))
    transform.SetMatrixTransformToParent(matrix)
    node.SetAndObserveTransformNodeID(transform.GetID())
    examiner.against("Moved", "Clean")
    examiner.measure()
    assert examiner.shared.errorLabel.text == "", examiner.person.log()
    assert rows("Evaluation")[0]["psnr"] > 15


def test_without_a_reference_noise_and_contrast_of_segments(examiner):
    volume("Noisy", 30)
    region = label_map("Region", box(4, 12) + 2 * box(14, 18))
    examiner.tick("Noisy")
    examiner.ui.evaluateRegion.setCurrentNode(region)
    examiner.measure()
    assert examiner.shared.errorLabel.text == "", examiner.person.log()
    found = rows("Evaluation")
    assert any(row.get("noise_sigma") and row["noise_sigma"] > 10 for row in found)
    assert len({row["label"] for row in found if row.get("label")}) == 2


def test_reference_that_is_edited_meanwhile_is_named(examiner):
    node = volume("Clean")
    volume("Noisy", 30)
    examiner.against("Noisy", "Clean")
    examiner.person.press_apply()
    slicer.util.arrayFromVolumeModified(node)
    examiner.person.wait_for_end()
    assert "'Clean' was edited meanwhile" in examiner.shared.progressLabel.text


def test_method_is_what_a_name_says_beyond_that_of_its_reference(examiner):
    for name, sigma in (("Head", 0.0), ("Headache denoised", 30.0), ("Head denoised", 20.0)):
        volume(name, sigma)
    examiner.against("Headache denoised", "Head")
    examiner.against("Head denoised", "Head")
    examiner.measure()
    assert examiner.ui.foundLabel.text.splitlines()[0].startswith("Headache denoised:")
    assert examiner.ui.foundLabel.text.splitlines()[1].startswith("denoised:")


def test_nodes_of_one_name_are_told_apart_in_the_list(examiner):
    for _ in range(2):
        volume("Scan")
    volume("Scan denoised", 10.0)
    examiner.against("Scan denoised", "Scan (2)")
    assert examiner.names() == ["Scan (1)", "Scan (2)", "Scan denoised"]
    assert examiner.ui.resultsTable.item(2, 1).text() == "Scan (2)"
    assert [pair.partner for pair in examiner.person.widget._panels["evaluate"][1]._results.chosen()] == [
        list(slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode"))[1]
    ]


def test_selected_line_stays_with_its_node(examiner):
    for name in "ABCD":
        volume(name)
    examiner.person.wait(lambda: "D" in examiner.names())
    table = examiner.ui.resultsTable
    table.selectRow(2)
    slicer.mrmlScene.RemoveNode(slicer.util.getNode("A"))
    examiner.person.wait(lambda: examiner.names() == ["B", "C", "D"])
    assert table.item(table.currentRow(), 0).text() == "C"
    assert [examiner.ui.referenceSelector.itemText(n) for n in range(3)] == ["No reference", "B", "D"]
    slicer.mrmlScene.RemoveNode(slicer.util.getNode("C"))
    examiner.person.wait(lambda: examiner.names() == ["B", "D"])
    assert table.item(table.currentRow(), 0).text() == "D"


def test_long_list_takes_no_walk_through_the_scene_for_every_line(examiner):
    from MedGANSlicerLib.EvaluateInputs import CHOSEN
    from MedGANSlicerLib.NodePairs import Pair, nodesOf

    for _ in range(8):
        volume("Scan")
    examiner.person.wait(lambda: len(examiner.names()) == 8)
    parameters = examiner.person.parameters
    *results, reference = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
    CHOSEN.write(parameters.parameterNode, [Pair(result, reference) for result in results])
    panel = examiner.person.widget._panels["evaluate"][1]
    profile = cProfile.Profile()
    profile.runcall(panel.refresh, parameters)
    assert [examiner.ui.resultsTable.item(number, 1).text() for number in range(8)] == ["Scan (8)"] * 7 + [""]
    assert sum(each.callcount for each in profile.getstats() if each.code is nodesOf.__code__) <= 2


def test_long_names_can_be_told_apart_in_the_list_and_widen_nothing(examiner):
    name = "sub-01_ses-02_acq-mprage_run-01_T1w"
    volume("Clean")
    volume(f"{name} denoised", 10)
    volume(f"{name} deblurred", 20)
    examiner.tick("Clean")
    assert screens.misfits(examiner.person.widget.parent) == []
    table = examiner.ui.resultsTable
    heights = [table.rowHeight(row) for row in range(table.rowCount)]
    assert min(heights[1:]) >= 3 * table.fontMetrics().height(), "every line of a long name is in sight"
    assert heights[0] < 2 * table.fontMetrics().height()


def test_figures_and_path_of_a_report_are_copied_as_they_are(examiner, slicer_standin, tmp_path):
    name = "t1_mprage_sag_p2_iso_1mm_ND_prescan_normalized_rep2_moco_T1w"
    volume("Clean")
    volume(name, 10)
    examiner.against(name, "Clean")
    examiner.measure()
    folder = tmp_path / name
    folder.mkdir()
    slicer_standin.answer(str(folder))
    examiner.ui.saveButton.click()
    assert examiner.ui.savedLabel.text == examiner.ui.savedLabel.toolTip == str(folder)
    assert name in examiner.ui.foundLabel.text
    assert screens.misfits(examiner.person.widget.parent) == []


def test_result_removed_while_it_is_measured_drops_the_figures(examiner):
    volume("Clean")
    node = volume("Noisy", 30)
    examiner.against("Noisy", "Clean")
    examiner.person.press_apply()
    slicer.mrmlScene.RemoveNode(node)
    examiner.person.wait_for_end()
    assert examiner.shared.progressLabel.text == "'Noisy' has left the scene, so its result was dropped."
    assert slicer.util.getNodes("Evaluation*") == {}


def test_figures_survive_closing_the_scene_as_files(examiner, slicer_standin, tmp_path):
    volume("Clean")
    volume("Noisy", 30)
    examiner.against("Noisy", "Clean")
    examiner.measure()
    slicer.mrmlScene.Clear()
    examiner.person.choose_task("evaluate")
    examiner.ui.showButton.checked = True
    assert slicer.app.layoutManager().layout != slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpPlotTableView
    slicer_standin.answer(str(tmp_path))
    examiner.ui.saveButton.click()
    assert (tmp_path / "report.html").is_file()
