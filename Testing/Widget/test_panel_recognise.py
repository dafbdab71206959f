"""A person asks what a volume is and what looks unusual in it, follows the advice, and looks at the regions.

The jobs are real child processes; quick tasks stand in for the networks (``quick_recognise``, ``quick_anomaly``).
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import slicer
import slicer.util
from panel_tools import SCENE_TESTS, import_scene, job_folders, save_scene
from standin import screens

from medgan.job import Job
from medgan.settings import Device
from medgan.settings.recognise import Saliency
from MedGANSlicerLib.SceneEdits import removeNode
from scene_reading import rows_of

MODELS = {"recognise": ("quick", "unsure", "endless", "failing"), "classify": ("own",), "anomaly": ("heat",)}


def recognise_models(folder: Path) -> Path:
    """Models whose names tell the quick tasks how to behave; their weights are never read."""
    for task, names in MODELS.items():
        for name in names:
            (folder / name / "configs").mkdir(parents=True)
            (folder / name / "models").mkdir()
            (folder / name / "models" / "model.pt").write_bytes(b"")
            ours = {
                "title": f"The {name} model",
                "task": task,
                "modality": "MR, CT, PET, label maps",
                "network": "medgan.DenoiseNet",
                "weights": {"faithful": {"file": "models/model.pt", "sha256": "0" * 64}},
            }
            (folder / name / "configs" / "metadata.json").write_text(
                json.dumps({"version": "0.0.1", "license": "Apache-2.0", "medgan": ours})
            )
    return folder


@pytest.fixture
def reader(person, tmp_path, monkeypatch):
    """Somebody at the panel of this task who has quick models."""
    monkeypatch.setenv("MEDGAN_MODELS", str(recognise_models(tmp_path / "recognise models")))
    monkeypatch.setattr(Job, "child_script", SCENE_TESTS / "quick_child.py")
    person.widget._panels["recognise"][1].reload()
    person.choose_task("recognise")
    return person


@pytest.fixture
def ui(reader):
    return reader.ui_of("recognise")


def run(person, model: str, question: str = "WHAT") -> None:
    person.parameters.recogniseQuestion = type(person.parameters.recogniseQuestion)[question]
    pack = person.parameters.recognise if question == "WHAT" else person.parameters.anomaly
    pack.model = model
    person.press_apply()
    person.wait_for_end()
    assert person.ui.errorLabel.text == ""


def cells(table) -> list[list[str]]:
    return [[table.item(row, column).text() for column in range(table.columnCount)] for row in range(table.rowCount)]


def names_of(kind: str) -> list[str]:
    return [node.GetName() for node in slicer.util.getNodesByClass(kind)]


def composite():
    return slicer.app.layoutManager().sliceWidget("Red").mrmlSliceCompositeNode()


def test_panel_says_what_is_missing_and_offers_the_models_of_the_question(reader, ui):
    reader.parameters.recognise.model = "quick"
    assert reader.ui.applyButton.toolTip == "Choose an input volume."
    assert reader.ui.applyButton.text == "Recognise"
    assert "diagnosis" in ui.researchLabel.text
    titles = [ui.modelSelector.itemText(n) for n in range(ui.modelSelector.count)]
    assert {"The quick model", "The own model"} <= set(titles)
    assert "The heat model" not in titles
    ui.recogniseQuestion.setCurrentIndex(1)
    assert reader.parameters.recogniseQuestion.name == "UNUSUAL"
    assert "The heat model" in [ui.modelSelector.itemText(n) for n in range(ui.modelSelector.count)]
    assert reader.ui.applyButton.text == "Find"
    assert ui.saliency.isHidden()
    assert not ui.smallest.isHidden()
    reader.parameters.anomaly.model = "nowhere"
    assert reader.ui.applyButton.toolTip == "There is no model 'nowhere'; choose another."


def test_time_is_that_of_the_device(reader, ui):
    reader.volume()
    run(reader, "quick")
    assert "about" in ui.modelSummary.text
    reader.parameters.recognise.device = Device.CPU
    assert "about" not in ui.modelSummary.text
    reader.parameters.recognise.device = Device.AUTO
    assert "about" in ui.modelSummary.text


def test_answers_quality_advice_and_the_way_on(reader, ui, jobs_folder):
    node = reader.volume()
    run(reader, "quick")
    assert ui.sentenceLabel.text == "Head: MR, T1, head, axial slices."
    assert "MR, T1, head" in reader.ui.progressLabel.text
    answers = cells(ui.answersTable)
    assert answers[0] == ["Kind of scan", "✓ MR T1", "90 %"]
    assert answers[1][0] == ""
    assert cells(ui.qualityTable)[:2] == [["⚠ Noise", "7.25 % of the range"], ["Blur", "0.71 voxels"]]
    assert ui.qualityTable.item(1, 0).toolTip() == "It is as sharp as its voxels allow."
    assert ui.remarksLabel.text == "There is much noise: 7.25 % of the range."
    assert job_folders(jobs_folder) == []
    ui.adviceList.setCurrentRow(1)
    ui.adviceButton.click()
    assert reader.parameters.task == "segment"
    assert reader.parameters.segment.model == "brain-parts"
    assert reader.parameters.segmentVolume is node
    assert not reader.widget._panels["segment"][0].isHidden()


def test_advice_for_enhancement_is_kept_against_the_recommendation(reader, ui):
    node = reader.volume()
    run(reader, "quick")
    reader.parameters.inputVolume = None
    ui.adviceButton.click()
    assert reader.parameters.task == "enhance"
    assert reader.parameters.enhance.model == "quick"
    assert reader.parameters.preselected == ""
    assert reader.parameters.inputVolume is node


def test_unsure_answers_and_own_classes(reader, ui):
    reader.volume()
    run(reader, "unsure")
    assert ui.remarksLabel.text.startswith("Model 'x' was trained on CT.")
    assert not any("✓" in row[1] for row in cells(ui.answersTable))
    assert ui.adviceButton.isHidden()
    run(reader, "own")
    assert cells(ui.answersTable) == [["Class", "✓ healthy", "80 %"], ["", "ill", "20 %"]]
    assert ui.qualityTable.isHidden()
    assert ui.remarksLabel.isHidden()


def test_reasons_are_a_layer_that_goes_again(reader, ui):
    node = reader.volume()
    assert ui.target.isHidden()
    reader.parameters.recognise.saliency = Saliency.GRAD_CAM
    assert not ui.target.isHidden()
    run(reader, "quick")
    why = slicer.util.getNode("Head why")
    assert composite().GetForegroundVolumeID() == why.GetID()
    assert composite().GetForegroundOpacity() == pytest.approx(0.6)
    ui.layerOpacity.value = 30
    assert composite().GetForegroundOpacity() == pytest.approx(0.3)
    assert ui.legendHigh.text == "1"
    reader.choose_task("convert")
    assert composite().GetForegroundVolumeID() is None
    assert composite().GetBackgroundVolumeID() == node.GetID()
    reader.choose_task("recognise")
    ui.layerCheckBox.checked = True
    assert composite().GetForegroundVolumeID() == why.GetID()
    slicer.mrmlScene.RemoveNode(why)
    assert ui.layer.isHidden()
    assert composite().GetForegroundVolumeID() is None


def test_kept_tables_are_in_the_scene_and_shown(reader, ui):
    reader.volume()
    run(reader, "quick")
    before = slicer.app.layoutManager().layout
    ui.tablesButton.click()
    assert rows_of(slicer.util.getNode("Head quality"))[0]["unit"] == "% of the range"
    table = slicer.util.getNode("Head recognised")
    assert slicer.app.applicationLogic().GetSelectionNode().GetActiveTableID() == table.GetID()
    reader.choose_task("convert")
    assert slicer.app.layoutManager().layout == before


def test_regions_follow_the_threshold_without_another_run(reader, ui, monkeypatch):
    reader.volume()
    reader.parameters.anomaly.smallest_ml = 0.0
    run(reader, "heat", "UNUSUAL")
    assert not ui.regionsSection.isHidden()
    assert ui.foundSection.isHidden()
    assert "2 regions from 0.5 on" in ui.regionsLabel.text
    assert ui.regionThreshold.value == pytest.approx(0.5)
    assert ui.regionThreshold.maximum == pytest.approx(1.0)
    assert ui.regionsTable.rowCount == 2
    assert names_of("vtkMRMLMarkupsROINode") == ["Head region 1", "Head region 2"]
    map_ = slicer.util.getNode("Head anomaly map")
    assert composite().GetForegroundVolumeID() == map_.GetID()
    monkeypatch.setattr(reader.widget.taskPanel, "begin", lambda *_: pytest.fail("there was another run"))
    ui.regionThreshold.value = 0.7
    reader.wait(lambda: ui.regionsTable.rowCount == 1)
    assert names_of("vtkMRMLMarkupsROINode") == ["Head region 1"]
    assert map_.GetDisplayNode().GetLowerThreshold() == pytest.approx(0.7)
    assert len(rows_of(slicer.util.getNode("Head anomaly regions"))) == 1
    ui.regionThreshold.value = 0.95
    reader.wait(lambda: "No region" in ui.regionsLabel.text)
    assert ui.regionsTable.isHidden()


def test_what_was_found_names_its_volume_also_beside_another_input(reader, ui):
    node = reader.volume("Patient 1")
    other = slicer.util.addVolumeFromArray(slicer.util.arrayFromVolume(node), name="Patient 2")
    run(reader, "quick")
    run(reader, "heat", "UNUSUAL")
    reader.parameters.recogniseVolume = other
    assert ui.regionsLabel.text == (
        "Patient 1: No region from 0.5 on. That does not say that nothing is there.\nOnly 7 ml look like a brain."
    )
    reader.choose_task("segment")
    reader.choose_task("recognise")
    assert "Only 7 ml look like a brain." in ui.regionsLabel.text
    node.SetName("Anna")
    assert ui.regionsLabel.text.startswith("Anna: No region")
    assert ui.sentenceLabel.text.startswith("Anna: MR, T1")
    ui.regionThreshold.value = 0.55
    reader.wait(lambda: "0.55" in ui.regionsLabel.text)
    assert "Only 7 ml look like a brain." in ui.regionsLabel.text


def test_what_was_said_of_one_question_is_not_left_to_the_other(reader):
    reader.volume()
    run(reader, "quick")
    assert "MR, T1" in reader.ui.progressLabel.text
    reader.parameters.recogniseQuestion = type(reader.parameters.recogniseQuestion).UNUSUAL
    assert reader.ui.progressLabel.text == ""


def test_heat_map_of_a_run_that_ends_in_another_module_can_be_shown(reader, ui, slicer_standin):
    node = reader.volume()
    reader.parameters.recogniseQuestion = type(reader.parameters.recogniseQuestion).UNUSUAL
    reader.parameters.anomaly.model = "heat"
    reader.press_apply()
    slicer_standin.leave_module()
    reader.wait_for_end()
    assert composite().GetBackgroundVolumeID() == node.GetID()
    assert composite().GetForegroundVolumeID() is None
    slicer_standin.open_module("MedGANSlicer")
    assert not ui.layer.isHidden()
    ui.layerCheckBox.checked = True
    assert composite().GetForegroundVolumeID() == slicer.util.getNode("Head anomaly map").GetID()


def test_each_question_keeps_its_heat_map(reader, ui):
    reader.volume()
    run(reader, "heat", "UNUSUAL")
    map_ = slicer.util.getNode("Head anomaly map")
    run(reader, "quick")
    assert ui.layer.isHidden(), "nobody asked why"
    reader.parameters.recogniseQuestion = type(reader.parameters.recogniseQuestion).UNUSUAL
    assert not ui.layer.isHidden()
    assert not ui.layerCheckBox.checked
    ui.layerCheckBox.checked = True
    assert composite().GetForegroundVolumeID() == map_.GetID()


def test_click_on_a_region_centres_the_views_and_boxes_can_be_hidden(reader, ui):
    reader.volume()
    reader.parameters.anomaly.smallest_ml = 0.0
    run(reader, "heat", "UNUSUAL")
    box = slicer.util.getNode("Head region 2")
    ui.regionsTable.selectRow(1)
    matrix = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceNode().GetSliceToRAS()
    assert [matrix.GetElement(row, 3) for row in range(3)] == pytest.approx(box.GetCenterWorld(), abs=1.0)
    ui.boxesCheckBox.checked = False
    assert not box.GetDisplayNode().GetVisibility()
    slicer.mrmlScene.RemoveNode(box)
    ui.regionThreshold.value = 0.55
    reader.wait(lambda: "0.55" in ui.regionsLabel.text)
    assert len(names_of("vtkMRMLMarkupsROINode")) == 2
    removeNode(slicer.mrmlScene, slicer.util.getNode("Head region 1"))
    ui.regionThreshold.value = 0.45
    reader.wait(lambda: "0.45" in ui.regionsLabel.text)
    described = {box.GetName(): box.GetDescription() for box in slicer.util.getNodesByClass("vtkMRMLMarkupsROINode")}
    assert described["Head region 1"].startswith("Region 1:")
    assert described["Head region 2"].startswith("Region 2:")
    assert len(described) == 2
    slicer.mrmlScene.RemoveNode(slicer.util.getNode("Head anomaly map"))
    assert ui.regionsSection.isHidden()
    assert ui.layer.isHidden()


def test_only_boxes_of_the_last_run_are_in_the_views_and_only_beside_the_panel(reader, ui, slicer_standin):
    def shown() -> list[str]:
        boxes = slicer.util.getNodesByClass("vtkMRMLMarkupsROINode")
        return [box.GetName() for box in boxes if box.GetDisplayNode().GetVisibility()]

    reader.volume()
    reader.parameters.anomaly.smallest_ml = 0.0
    run(reader, "heat", "UNUSUAL")
    assert shown() == ["Head region 1", "Head region 2"]
    run(reader, "heat", "UNUSUAL")
    assert shown() == ["Head region 1 1", "Head region 2 1"]
    reader.choose_task("convert")
    assert shown() == []
    reader.choose_task("recognise")
    assert len(shown()) == 2
    slicer_standin.leave_module()
    assert shown() == []
    slicer_standin.open_module("MedGANSlicer")
    assert len(shown()) == 2
    reader.parameters.recogniseQuestion = type(reader.parameters.recogniseQuestion).WHAT
    assert shown() == []
    reader.parameters.recogniseQuestion = type(reader.parameters.recogniseQuestion).UNUSUAL
    ui.boxesCheckBox.checked = False
    reader.choose_task("convert")
    reader.choose_task("recognise")
    assert shown() == []
    ui.boxesCheckBox.checked = True
    slicer.mrmlScene.RemoveNode(slicer.util.getNode("Head anomaly map 1"))
    assert shown() == []


def test_scene_of_another_task_that_is_imported_takes_boxes_and_heat_map_out_of_the_views(reader, ui, tmp_path):
    reader.volume()
    reader.choose_task("convert")
    save_scene(tmp_path / "scene.mrml")
    reader.choose_task("recognise")
    reader.parameters.anomaly.smallest_ml = 0.0
    run(reader, "heat", "UNUSUAL")
    boxes = [slicer.util.getNode(f"Head region {number}") for number in (1, 2)]
    assert all(box.GetDisplayNode().GetVisibility() for box in boxes)
    import_scene(tmp_path / "scene.mrml")
    assert reader.parameters.task == "convert"
    assert not any(box.GetDisplayNode().GetVisibility() for box in boxes)
    assert not ui.layerCheckBox.checked


def test_cancel_and_failure_change_nothing(reader, ui, jobs_folder):
    reader.volume()
    before = {node.GetID() for node in slicer.mrmlScene.GetNodes()}
    reader.parameters.recognise.model = "endless"
    reader.press_apply()
    reader.wait_for_work()
    reader.ui.applyButton.click()
    reader.wait_for_end(10)
    assert reader.ui.progressLabel.text == "Cancelled; the scene is as it was."
    reader.parameters.recognise.model = "failing"
    reader.press_apply()
    reader.wait_for_end()
    assert reader.ui.errorLabel.text == "Model 'failing' fails; choose another."
    assert {node.GetID() for node in slicer.mrmlScene.GetNodes()} == before
    assert job_folders(jobs_folder) == []


@pytest.mark.parametrize(
    "name",
    [
        "t1_mprage_sag_p2_iso_1mm_ND_prescan_normalized_rep2_moco_T1w",
        "1.2.840.113619.2.55.3.2831165743.886.1415788112.327.4.20240131",
        "T1MPRAGEisoSagittalPreContrastFatSatT1MPRAGEisoSagittalPreContrastFatSat",
    ],
)
def test_long_name_without_a_space_does_not_widen_the_panel(reader, name):
    reader.volume(name)
    run(reader, "quick")
    assert screens.misfits(reader.widget.parent) == []


def test_why_a_run_was_ended_can_be_read_though_the_next_scene_begins_with_another_task(reader):
    reader.volume()
    reader.parameters.recognise.model = "endless"
    reader.press_apply()
    reader.wait_for_work()
    slicer.mrmlScene.Clear()
    assert reader.parameters.task == "enhance"
    assert reader.ui.progressLabel.text == "The scene was closed, so the run was ended."
    assert not reader.ui.progressLabel.isHidden()
    reader.choose_task("recognise")
    assert reader.ui.progressLabel.text == ""


def test_nothing_is_left_of_a_closed_scene(reader, ui):
    reader.volume()
    reader.parameters.anomaly.smallest_ml = 0.0
    run(reader, "quick")
    run(reader, "heat", "UNUSUAL")
    slicer.mrmlScene.Clear()
    reader.choose_task("recognise")
    assert ui.foundSection.isHidden()
    assert ui.regionsSection.isHidden()
    assert ui.layer.isHidden()


def test_everything_fits_the_panel(reader, ui, screenshot):
    reader.volume()
    reader.parameters.recognise.saliency = Saliency.GRAD_CAM
    run(reader, "quick")
    ui.advancedSection.collapsed = False
    screenshot(reader.widget, "60-recognise")
    assert screens.misfits(reader.widget.parent) == []
    reader.parameters.anomaly.smallest_ml = 0.0
    run(reader, "heat", "UNUSUAL")
    screenshot(reader.widget, "61-anomaly")
    assert screens.misfits(reader.widget.parent) == []


def test_shipped_model_and_the_real_quality_reach_the_panel(person, monkeypatch, tmp_path):
    """No stand-ins: the task of the engine with the shipped weights, on a phantom that is too small to be anything."""
    from medgan.models import SHIPPED

    if not (SHIPPED / "recognise").is_dir():
        pytest.skip("there is no model that recognises")
    monkeypatch.setenv("MEDGAN_MODELS", str(tmp_path / "none"))
    person.widget._panels["recognise"][1].reload()
    person.choose_task("recognise")
    person.volume("Head", (20, 24, 28))
    person.parameters.recognise.saliency = Saliency.GRAD_CAM
    person.press_apply()
    person.wait_for_end(300)
    assert person.ui.errorLabel.text == ""
    ui = person.ui_of("recognise")
    assert ui.sentenceLabel.text.startswith("Head: ")
    assert cells(ui.qualityTable)[0][0].removeprefix("⚠ ") == "Noise"
    assert {row[0] for row in cells(ui.answersTable)} == {"Kind of scan", "Part of the body", "Plane of the slices", ""}
    why = slicer.util.arrayFromVolume(slicer.util.getNode("Head why"))
    assert why.shape == (20, 24, 28)
    assert 0 <= why.min() < why.max() <= 1
    assert composite().GetForegroundVolumeID() == slicer.util.getNode("Head why").GetID()
