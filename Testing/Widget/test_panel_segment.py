"""A person segments a volume: chooses, presses Apply, cancels, looks at the table, goes on in the Segment Editor.

The jobs are real child processes; a quick task stands in for the network (see ``quick_segment``), except in the one
test that runs a shipped model.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import slicer
import slicer.util
from panel_tools import SCENE_TESTS, job_folders, oblique_volume
from standin import screens

from medgan.job import Job
from scene_reading import rows_of

LABELS = [
    {"index": 1, "value": 2, "name": "dim", "color": [0.2, 0.4, 0.6]},
    {"index": 2, "value": 41, "name": "bright", "color": [0.9, 0.1, 0.2]},
]


def segment_models(folder: Path) -> Path:
    """Models whose names tell ``quick_segment`` how to behave; their weights are never read."""
    for name, channels in (("quick", ["scan"]), ("endless", ["scan"]), ("failing", ["scan"]), ("two", ["T1", "FLAIR"])):
        (folder / name / "configs").mkdir(parents=True)
        (folder / name / "models").mkdir()
        (folder / name / "models" / "model.pt").write_bytes(b"")
        ours = {
            "title": f"The {name} model",
            "task": "segment",
            "modality": "MR",
            "network": "medgan.PartsNet",
            "weights": {"faithful": {"file": "models/model.pt", "sha256": "0" * 64}},
            "labels": LABELS,
            "channels": channels,
        }
        (folder / name / "configs" / "metadata.json").write_text(json.dumps({"version": "0.0.1", "medgan": ours}))
    return folder


@pytest.fixture
def segmenter(person, tmp_path, monkeypatch):
    """Somebody at the panel of this task who has quick models."""
    monkeypatch.setenv("MEDGAN_MODELS", str(segment_models(tmp_path / "segment models")))
    monkeypatch.setattr(Job, "child_script", SCENE_TESTS / "quick_child.py")
    person.widget._panels["segment"][1].reload()
    person.choose_task("segment")
    return person


@pytest.fixture
def ui(segmenter):
    return segmenter.ui_of("segment")


def choose(person, model: str) -> None:
    person.parameters.segment.model = model


def segmentations() -> list[str]:
    return [node.GetName() for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode")]


def run(person) -> None:
    person.press_apply()
    person.wait_for_end()


def test_panel_says_what_is_missing(segmenter, ui):
    choose(segmenter, "quick")
    assert not segmenter.ui.applyButton.enabled
    assert segmenter.ui.applyButton.toolTip == "Choose an input volume."
    assert not ui.openEditorButton.enabled
    choose(segmenter, "nowhere")
    assert segmenter.ui.applyButton.toolTip == "There is no model 'nowhere'; choose another."


def test_result_is_a_segmentation_with_a_table(segmenter, ui, jobs_folder):
    node = segmenter.volume()
    choose(segmenter, "quick")
    assert segmenter.parameters.segmentVolume is node
    ui.uncertainty.checked = True
    run(segmenter)
    assert segmentations() == ["Head segmented"]
    held = slicer.util.getNode("Head segmented").GetSegmentation()
    names = [held.GetSegment(each).GetName() for each in held.GetSegmentIDs()]
    assert names == ["dim", "bright"]
    rows = {row["name"]: row for row in rows_of(slicer.util.getNode("Head segmented volumes"))}
    assert rows["bright"]["voxels"] > 0
    assert rows["bright"]["mean"] > rows["dim"]["mean"]
    assert slicer.util.getNode("Head segmented uncertainty") is not None
    assert "2 of 3 segments found" in segmenter.ui.progressLabel.text
    assert job_folders(jobs_folder) == []


def test_segment_editor_gets_segmentation_and_volume(segmenter, ui):
    node = segmenter.volume()
    choose(segmenter, "quick")
    run(segmenter)
    assert ui.openEditorButton.enabled
    ui.openEditorButton.click()
    editor = slicer.modules.segmenteditor.widgetRepresentation().self().editor
    assert editor.segmentationNode() is slicer.util.getNode("Head segmented")
    assert editor.sourceVolumeNode() is node
    assert slicer.util.mainWindow().moduleSelector().selectedModule == "SegmentEditor"


def test_table_is_shown_and_the_layout_comes_back(segmenter, ui):
    segmenter.volume()
    choose(segmenter, "quick")
    run(segmenter)
    before = slicer.app.layoutManager().layout
    ui.showTableButton.click()
    assert slicer.app.layoutManager().layout != before
    table = slicer.util.getNode("Head segmented volumes")
    assert slicer.app.applicationLogic().GetSelectionNode().GetActiveTableID() == table.GetID()
    segmenter.choose_task("enhance")
    assert slicer.app.layoutManager().layout == before


def test_cancel_leaves_the_scene_as_it_was(segmenter, jobs_folder):
    segmenter.volume()
    choose(segmenter, "endless")
    before = {node.GetID() for node in slicer.mrmlScene.GetNodes()}
    segmenter.press_apply()
    segmenter.wait_for_work()
    segmenter.ui.applyButton.click()
    segmenter.wait_for_end(5)
    assert segmenter.ui.progressLabel.text == "Cancelled; the scene is as it was."
    assert {node.GetID() for node in slicer.mrmlScene.GetNodes()} == before
    assert job_folders(jobs_folder) == []


def test_failure_is_one_sentence_and_changes_nothing(segmenter):
    segmenter.volume()
    choose(segmenter, "failing")
    before = {node.GetID() for node in slicer.mrmlScene.GetNodes()}
    run(segmenter)
    assert segmenter.ui.errorLabel.text == "Model 'failing' fails; choose another."
    assert {node.GetID() for node in slicer.mrmlScene.GetNodes()} == before


def test_two_channels_need_two_volumes(segmenter, ui):
    segmenter.volume()
    assert ui.segmentVolume2.isHidden()
    choose(segmenter, "two")
    assert not ui.segmentVolume2.isHidden()
    assert ui.segmentVolume3.isHidden()
    assert ui.segmentVolumeLabel.text == "T1"
    assert ui.segmentVolume2Label.text == "FLAIR"
    assert segmenter.ui.applyButton.toolTip == "Choose a volume for 'FLAIR'."
    segmenter.parameters.segmentVolume2 = oblique_volume("Other", (9, 10, 11))
    segmenter.wait(lambda: segmenter.ui.applyButton.enabled)
    run(segmenter)
    assert segmentations() == ["Head segmented"]


def test_chosen_output_is_filled_and_forgotten_when_it_goes(segmenter, ui):
    segmenter.volume()
    choose(segmenter, "quick")
    output = ui.segmentOutput.addNode()
    run(segmenter)
    assert len(segmentations()) == 1
    assert output.GetSegmentation().GetNumberOfSegments() == 2
    slicer.mrmlScene.RemoveNode(output)
    assert segmenter.parameters.segmentOutput is None
    segmenter.wait(lambda: not ui.openEditorButton.enabled)


@pytest.mark.parametrize("how", ["delete", "close"])
def test_result_that_went_while_another_module_was_open_is_forgotten(segmenter, ui, slicer_standin, how):
    segmenter.volume()
    choose(segmenter, "quick")
    run(segmenter)
    slicer_standin.leave_module()
    if how == "close":
        slicer.mrmlScene.Clear()
    else:
        slicer.mrmlScene.RemoveNode(slicer.util.getNode("Head segmented"))
    slicer_standin.open_module("MedGANSlicer")
    segmenter.choose_task("segment")
    assert not ui.openEditorButton.enabled
    assert not ui.showTableButton.enabled


def test_result_of_a_closed_scene_is_forgotten(segmenter, ui):
    segmenter.volume()
    choose(segmenter, "quick")
    run(segmenter)
    slicer.mrmlScene.Clear()
    segmenter.choose_task("segment")
    assert not ui.openEditorButton.enabled


def test_everything_fits_the_panel(segmenter, ui, screenshot):
    segmenter.volume()
    choose(segmenter, "two")
    ui.advancedSection.collapsed = False
    screenshot(segmenter.widget, "40-segment")
    assert screens.misfits(segmenter.widget.parent) == []


def test_settings_of_the_panel_reach_the_task(segmenter, ui):
    segmenter.volume()
    choose(segmenter, "quick")
    ui.coarse.checked = True
    ui.flips.checked = True
    ui.spacing.value = 1.5
    run(segmenter)
    settings = json.loads(slicer.util.getNode("Head segmented").GetAttribute("MedGAN.Settings"))
    assert (settings["coarse"], settings["flips"], settings["clean_up"]) == (True, True, True)
    assert settings["spacing_mm"] == pytest.approx(1.5)
    assert np.isclose(segmenter.parameters.segment.spacing_mm, 1.5)
