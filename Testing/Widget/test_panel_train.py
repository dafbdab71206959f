"""A person trains a model in the panel: chooses volumes, watches, stops, goes on, and finds the model in the menus.

The trainings are real child processes; a quick task that writes the same files stands in for the networks (see
``quick_train``), except in the last test.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import slicer
import slicer.util
from panel_tools import SCENE_TESTS, import_scene, oblique_volume, save_scene

import phantoms
from medgan.job import Job
from medgan.settings import Pairing, TrainKind
from medgan.training.journal import Journal
from MedGANSlicerLib.RunLog import RunLog
from MedGANSlicerLib.TableNodes import folderItem, putInFolder
from scene_reading import load_scene


class Trainer:
    """Somebody at the panel of Train; their folder of runs is ``runs``."""

    def __init__(self, person, runs: Path) -> None:
        self.person, self.runs = person, runs
        self.ui, self.shared, self.parameters = person.ui_of("train"), person.ui, person.parameters

    def rows(self) -> list[tuple[str, bool, str]]:
        """Name, tick and partner of every line."""
        import qt

        table = self.ui.volumesTable
        return [
            (table.item(n, 0).text(), table.item(n, 0).checkState() == qt.Qt.Checked, table.item(n, 1).text())
            for n in range(table.rowCount)
        ]

    def tick(self, *names: str) -> None:
        import qt

        table = self.ui.volumesTable
        for number in range(table.rowCount):
            if table.item(number, 0).text() in names:
                table.item(number, 0).setCheckState(qt.Qt.Checked)

    def goes_with(self, name: str, partner: str) -> None:
        """Select the line of a volume and choose what goes with it."""
        self.ui.volumesTable.selectRow([row[0] for row in self.rows()].index(name))
        index = self.ui.partnerSelector.findText(partner)
        assert index >= 0, partner
        self.ui.partnerSelector.setCurrentIndex(index)
        self.ui.partnerSelector.activated(index)

    def choose(self, selector: str, text: str) -> None:
        widget = getattr(self.ui, selector)
        index = widget.findText(text)
        assert index >= 0, text
        widget.setCurrentIndex(index)
        widget.activated(index)

    def told(self, name: str) -> dict:
        """What the child process was given."""
        return json.loads((self.runs / name / "inputs.json").read_text())

    def go_on(self) -> None:
        """Let the training "waiting" go on, which waits at its step 100."""
        (self.runs / "waiting" / "go").touch()

    def wait_for_step(self, step: int) -> None:
        self.person.wait(lambda: self.panel._watch.log.step >= step)

    @property
    def panel(self):
        return self.person.widget._panels["train"][1]


@pytest.fixture
def trainer(person, monkeypatch, tmp_path):
    monkeypatch.setattr(Job, "child_script", SCENE_TESTS / "quick_child.py")
    for name in ("T1", "T2"):
        oblique_volume(name)
    person.wait(lambda: person.parameters.inputVolume is not None)
    person.choose_task("train")
    return Trainer(person, tmp_path / "runs")


def plots() -> dict[str, list]:
    """Charts of the scene and the names of their series."""
    charts = slicer.util.getNodesByClass("vtkMRMLPlotChartNode")
    return {
        chart.GetName(): [chart.GetNthPlotSeriesNode(n).GetName() for n in range(chart.GetNumberOfPlotSeriesNodes())]
        for chart in charts
    }


def curve(name: str) -> np.ndarray:
    """x and y of the series of that name."""
    table = slicer.util.getNode(name).GetTableNode().GetTable()
    return np.array([[table.GetValue(n, c).ToDouble() for c in (0, 1)] for n in range(table.GetNumberOfRows())])


def test_menu_of_tasks_leads_to_the_panel_and_back(trainer):
    person = trainer.person
    assert person.tasks()[0] == "Enhance"
    assert "Train" in person.tasks()
    assert trainer.shared.applyButton.text == "Train"
    assert trainer.shared.previewButton.isHidden()
    assert person.enhance_ui.inputVolume.isVisible() is False
    person.choose_task("enhance")
    assert trainer.shared.applyButton.text == "Apply"
    assert not trainer.shared.previewButton.isHidden()


def test_panel_says_what_is_missing(trainer):
    assert trainer.shared.applyButton.toolTip == "Choose the volumes to learn from."
    assert trainer.rows() == [("T1", False, ""), ("T2", False, "")]
    trainer.tick("T1")
    assert trainer.shared.applyButton.toolTip == "Choose two volumes or more, or set Validation to 0."
    trainer.parameters.train.validation_share = 0.0
    assert trainer.shared.applyButton.enabled
    trainer.choose("kind", "Segmentation")
    assert trainer.shared.applyButton.toolTip == "Choose the segmentation or label map that goes with 'T1'."
    trainer.choose("trainSource", "Folder or list")
    assert trainer.shared.applyButton.toolTip == "Choose a folder of volumes."
    trainer.ui.dataFolder.text = "/data"
    assert trainer.shared.applyButton.enabled
    trainer.choose("kind", "Classification")
    assert trainer.shared.applyButton.enabled
    trainer.choose("trainSource", "Volumes of the scene")
    assert "lies in no folder" in trainer.shared.applyButton.toolTip


def test_volumes_that_come_and_go_are_listed(trainer):
    trainer.tick("T1", "T2")
    node = oblique_volume("T3")
    trainer.person.wait(lambda: len(trainer.rows()) == 3)
    slicer.mrmlScene.RemoveNode(slicer.util.getNode("T1"))
    trainer.person.wait(lambda: trainer.rows() == [("T2", True, ""), ("T3", False, "")])
    slicer.mrmlScene.RemoveNode(node)
    trainer.person.wait(lambda: trainer.rows() == [("T2", True, "")])


def test_training_shows_curves_pictures_and_alarms_and_the_model_is_in_the_menus(trainer):
    person = trainer.person
    layout = slicer.app.layoutManager().layout
    trainer.tick("T1", "T2")
    trainer.ui.steps.value = 300
    trainer.ui.modelName.text = "brain"
    person.press_apply()
    assert trainer.shared.applyButton.text == "Stop"
    assert not trainer.ui.trainInputs.enabled
    assert slicer.app.layoutManager().layout == layout, "there is no curve yet"
    person.wait_for_end()
    assert trainer.ui.curvesButton.enabled
    assert trainer.ui.curvesButton.checked
    assert slicer.app.layoutManager().layout != layout
    assert trainer.shared.errorLabel.text == "", person.log()
    assert "The model 'brain' is in the menus." in trainer.shared.progressLabel.text
    assert "Yes: it has hardly risen." in trainer.shared.progressLabel.text
    assert plots() == {"brain: losses": ["Generator", "Critic"], "brain: validation": ["PSNR"]}
    losses, psnr = curve("Generator"), curve("PSNR")
    assert np.array_equal(losses[:, 0], np.arange(10, 301, 10))
    np.testing.assert_allclose(losses[:, 1], 1 / losses[:, 0], rtol=1e-5)
    assert np.array_equal(psnr[:, 0], np.arange(50, 301, 50))
    assert trainer.ui.statusLabel.text.startswith("Step 300 · generator 0.00333 · critic 0.5 · PSNR 29.67")
    assert trainer.ui.alarmsLabel.text == "Step 200: The critic is too sure: lower its rate."
    assert trainer.ui.verdictLabel.text.startswith("Is it done? ")
    assert trainer.ui.sampleCaption.text == "Step 300: input, made, target"
    assert trainer.ui.samplePicture.pixmap is not None
    assert "My brain" in person.menu()
    told = trainer.told("brain")
    assert sorted(each[1] for each in told["inputs"].values()) == ["Volume", "Volume"]
    assert sorted(told["inputs"]) == ["images/01\u00a0T1", "images/02\u00a0T2"]
    assert told["settings"]["pairing"] == Pairing.UNPAIRED.value
    person.choose_task("enhance")
    assert slicer.app.layoutManager().layout == layout


def test_views_of_the_layout_show_the_two_charts(trainer):
    trainer.tick("T1", "T2")
    trainer.ui.steps.value = 100
    trainer.person.press_apply()
    trainer.person.wait_for_end()
    views = {node.GetLayoutName(): node for node in slicer.util.getNodesByClass("vtkMRMLPlotViewNode")}
    assert views["MedGANLosses"].GetPlotChartNode().GetName() == "my-noise: losses"
    assert views["MedGANValidation"].GetPlotChartNode().GetName() == "my-noise: validation"


def test_scene_of_another_task_that_is_imported_brings_the_layout_back(trainer, tmp_path):
    layout = slicer.app.layoutManager().layout
    trainer.person.choose_task("segment")
    save_scene(tmp_path / "scene.mrml")
    trainer.person.choose_task("train")
    trainer.tick("T1", "T2")
    trainer.ui.steps.value = 100
    trainer.person.press_apply()
    trainer.person.wait_for_end()
    assert slicer.app.layoutManager().layout != layout
    import_scene(tmp_path / "scene.mrml")
    assert trainer.person.parameters.task == "segment"
    assert slicer.app.layoutManager().layout == layout


def test_stop_saves_and_the_training_goes_on_later(trainer):
    person = trainer.person
    trainer.tick("T1", "T2")
    trainer.ui.steps.value = 0
    person.press_apply()
    trainer.wait_for_step(100)
    trainer.shared.applyButton.click()
    assert trainer.shared.progressLabel.text == "Stopping; the training is being saved…"
    person.wait_for_end()
    step = int((trainer.runs / "my-noise" / "checkpoint.pt").read_text())
    assert step >= 100
    assert trainer.shared.progressLabel.text.startswith("Stopped at step ")
    assert trainer.shared.applyButton.text == "Continue"
    assert trainer.ui.trainInputs.enabled
    assert trainer.ui.folderLabel.text.startswith("This folder holds a training of ")
    trainer.ui.steps.value = step + 50
    person.press_apply()
    person.wait_for_end()
    assert curve("Generator")[-1, 0] == (step + 50) // 10 * 10
    assert not trainer.shared.applyButton.enabled
    assert trainer.shared.applyButton.toolTip == (
        f"This training has its {step + 50} steps; raise Steps or choose another name."
    )
    trainer.ui.modelName.text = "another"
    assert trainer.shared.applyButton.text == "Train"
    assert trainer.ui.folderLabel.isHidden()


def test_training_whose_model_could_not_be_written_is_finished_by_continue(trainer):
    full = trainer.runs / "brain" / "full"
    full.parent.mkdir(parents=True)
    full.touch()
    trainer.tick("T1", "T2")
    trainer.ui.steps.value = 100
    trainer.ui.modelName.text = "brain"
    trainer.person.press_apply()
    trainer.person.wait_for_end()
    assert trainer.shared.errorLabel.text == "The model can not be written."
    assert (trainer.shared.applyButton.text, trainer.shared.applyButton.enabled) == ("Continue", True)
    full.unlink()
    trainer.person.press_apply()
    trainer.person.wait_for_end()
    assert "The model 'brain' is in the menus." in trainer.shared.progressLabel.text
    assert trainer.shared.applyButton.toolTip.startswith("This training has its 100 steps")


def test_training_goes_on_when_the_scene_is_closed(trainer):
    person = trainer.person
    trainer.tick("T1", "T2")
    trainer.ui.steps.value = 400
    trainer.ui.modelName.text = "waiting"
    person.press_apply()
    trainer.wait_for_step(100)
    slicer.mrmlScene.Clear()
    assert trainer.person.widget.taskPanel.busy
    assert person.parameters.task == "train"
    assert trainer.shared.applyButton.text == "Stop"
    assert not trainer.ui.curvesButton.checked
    assert plots() == {}, "a new scene is not filled with the curves of what went before"
    trainer.ui.curvesButton.checked = True
    assert set(plots()) == {"waiting: losses", "waiting: validation"}
    trainer.go_on()
    person.wait_for_end()
    assert "waiting' is in the menus" in trainer.shared.progressLabel.text
    assert curve("Generator")[-1, 0] == 400


def test_trainings_in_folders_of_the_same_name_have_curves_of_their_own(trainer, tmp_path):
    from MedGANSlicerLib.Panels.CurvesView import CurvesView

    view = CurvesView(trainer.person.widget.host)
    for parent in ("first", "second"):
        folder = tmp_path / parent / "run"
        folder.mkdir(parents=True)
        Journal(folder).add({"step": 10, "generator_loss": 1.0})
        log = RunLog(folder)
        log.update()
        view.show(log)
    view.leave()
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLPlotChartNode") == 4  # two each


def test_removing_a_volume_does_not_stop_a_training(trainer):
    trainer.tick("T1", "T2")
    trainer.ui.steps.value = 200
    trainer.ui.modelName.text = "waiting"
    trainer.person.press_apply()
    trainer.wait_for_step(100)
    slicer.mrmlScene.RemoveNode(slicer.util.getNode("T1"))
    trainer.go_on()
    trainer.person.wait_for_end()
    assert "Done in" in trainer.shared.progressLabel.text


def test_quitting_saves_the_training(trainer, slicer_standin, jobs_folder):
    trainer.tick("T1", "T2")
    trainer.ui.steps.value = 0
    trainer.person.press_apply()
    trainer.wait_for_step(50)
    slicer_standin.quit()
    assert int((trainer.runs / "my-noise" / "checkpoint.pt").read_text()) >= 50
    assert list(jobs_folder.glob("medgan-job-*")) == []


def test_failing_training_says_why_and_leaves_no_charts(trainer):
    layout = slicer.app.layoutManager().layout
    trainer.tick("T1", "T2")
    trainer.ui.modelName.text = "failing"
    trainer.person.press_apply()
    trainer.person.wait_for_end()
    assert trainer.shared.errorLabel.text == "No two volumes are left to train on."
    assert trainer.ui.trainInputs.enabled
    assert trainer.shared.applyButton.text == "Train"
    assert slicer.app.layoutManager().layout == layout
    assert plots() == {}


def test_pairs_of_noisy_and_clean_volumes(trainer):
    trainer.parameters.train.validation_share = 0.0  # there is one volume only
    trainer.tick("T1")
    trainer.goes_with("T1", "T2")
    assert trainer.rows() == [("T1", True, "T2"), ("T2", False, "")]
    trainer.ui.steps.value = 20
    trainer.person.press_apply()
    trainer.person.wait_for_end()
    told = trainer.told("my-noise")
    assert sorted(told["inputs"]) == ["input/01\u00a0T1", "target/01\u00a0T1"]
    assert told["settings"]["pairing"] == Pairing.PAIRED.value


def test_label_map_named_after_its_volume_goes_with_it(trainer):
    trainer.parameters.train.validation_share = 0.0  # there is one volume only
    image = slicer.util.arrayFromVolume(slicer.util.getNode("T1"))
    values = (image > 100).astype(np.int16)
    slicer.util.addVolumeFromArray(values, phantoms.awkward_geometry(), "T1 labels", "vtkMRMLLabelMapVolumeNode")
    trainer.choose("kind", "Segmentation")
    trainer.tick("T1")
    assert trainer.rows()[0] == ("T1", True, "T1 labels")
    trainer.ui.steps.value = 20
    trainer.person.press_apply()
    trainer.person.wait_for_end()
    told = trainer.told("my-segment")["inputs"]
    assert {name: kind for name, (_, kind) in told.items()} == {
        "images/01\u00a0T1": "Volume",
        "labels/01\u00a0T1": "LabelMap",
    }


def test_classes_are_the_folders_that_the_volumes_lie_in(trainer):
    trainer.choose("kind", "Classification")
    trainer.tick("?: T1", "?: T2")
    trainer.person.wait(lambda: "lies in no folder" in trainer.shared.applyButton.toolTip)
    for name in ("T1", "T2"):
        node = slicer.util.getNode(name)
        putInFolder(slicer.mrmlScene, folderItem(slicer.mrmlScene, f"class {name}"), node)
    trainer.panel.refresh(trainer.parameters)
    assert [row[0] for row in trainer.rows()] == ["class T1: T1", "class T2: T2"]
    assert trainer.panel.refresh(trainer.parameters) == ""


def test_choice_survives_saving_and_closing_the_scene(trainer, slicer_standin, tmp_path):
    trainer.tick("T1")
    trainer.goes_with("T1", "T2")
    trainer.ui.minutes.value = 7
    trainer.choose("kind", "Translation")
    slicer_standin.scene_holder.saveScene(tmp_path / "s.mrb")
    slicer.mrmlScene.Clear()
    load_scene(slicer_standin.scene_holder.scene, tmp_path / "s.mrb", tmp_path / "unpacked")
    parameters = trainer.person.parameters
    assert parameters.task == "train"
    assert parameters.train.kind is TrainKind.TRANSLATE
    assert parameters.train.minutes == 7
    assert trainer.rows() == [("T1", True, "T2"), ("T2", False, "")]


def test_folder_of_files_and_another_folder_to_keep_it_in(trainer, tmp_path):
    trainer.choose("trainSource", "Folder or list")
    trainer.ui.dataFolder.text = str(tmp_path)
    trainer.ui.runFolder.text = str(tmp_path / "elsewhere")
    trainer.ui.steps.value = 20
    trainer.person.press_apply()
    trainer.person.wait_for_end()
    told = json.loads((tmp_path / "elsewhere" / "inputs.json").read_text())
    assert told["inputs"] == {}
    assert told["settings"]["data"] == str(tmp_path)
    saved = trainer.person.parameters.parameterNode
    assert not any(str(tmp_path) in saved.GetParameter(name) for name in saved.GetParameterNames())


def test_training_starts_from_a_model_that_fits(trainer):
    selector = trainer.ui.startSelector
    titles = [selector.itemText(n) for n in range(selector.count)]
    assert titles[:2] == ["Random weights", "Denoise MR, CT and PET"]
    trainer.choose("startSelector", "Denoise MR, CT and PET")
    assert trainer.person.parameters.train.start == "denoise"
    trainer.choose("kind", "Segmentation")
    assert "Denoise MR, CT and PET" not in [selector.itemText(n) for n in range(selector.count)]
    assert trainer.person.parameters.train.start == ""
    assert selector.currentText == "Random weights"
    trainer.choose("kind", "Translation")
    assert [selector.itemText(n) for n in range(selector.count)] == ["Random weights"]  # the shipped one is made anew


def test_name_follows_the_kind_until_the_person_gives_one(trainer):
    assert trainer.ui.modelName.placeholderText == "my-noise"
    assert trainer.ui.runFolder.placeholderText == str(trainer.runs / "my-noise")
    trainer.choose("kind", "Segmentation")
    assert trainer.ui.runFolder.placeholderText == str(trainer.runs / "my-segment")
    trainer.ui.modelName.text = "my brain"
    assert trainer.shared.applyButton.toolTip == (
        "'my brain' can not be the name of a model; use letters, digits, '-', '_' and '.'."
    )


def test_what_is_trained_stays_in_sight_when_the_scene_is_closed(trainer):
    trainer.tick("T1", "T2")
    trainer.choose("restores", "Blur")
    trainer.ui.modelName.text = "waiting"
    trainer.ui.steps.value = 300
    trainer.person.press_apply()
    trainer.wait_for_step(100)
    slicer.mrmlScene.Clear()
    assert trainer.ui.modelName.text == "waiting"
    assert trainer.person.parameters.train.restores.value == "blur"
    assert trainer.ui.watchSection.text == "Training 'waiting'"
    trainer.go_on()
    trainer.person.wait_for_end()
    assert trainer.ui.statusLabel.text.startswith("Step 300")
    assert trainer.shared.applyButton.toolTip == "This training has its 300 steps; raise Steps or choose another name."


def test_model_goes_out_as_a_file_and_comes_back(trainer, slicer_standin, tmp_path):
    import os
    import shutil

    trainer.tick("T1", "T2")
    trainer.ui.steps.value = 20
    trainer.ui.modelName.text = "brain"
    trainer.person.press_apply()
    trainer.person.wait_for_end()
    ui, file = trainer.ui, tmp_path / "brain.zip"
    ui.ownModels.setCurrentIndex(ui.ownModels.findText("My brain"))
    slicer_standin.answer(str(file))
    ui.exportButton.click()
    assert ui.filesLabel.text == f"Written to {file}."
    slicer_standin.answer(str(file))
    ui.importButton.click()
    assert ui.filesLabel.text == "There is a model 'brain' already; give this one another name."
    shutil.rmtree(Path(os.environ["MEDGAN_MODELS"]) / "brain")
    trainer.panel.changedModels()
    assert "My brain" not in trainer.person.menu()
    slicer_standin.answer(str(file))
    ui.importButton.click()
    assert ui.filesLabel.text == "Added 'brain'."
    assert "My brain" in trainer.person.menu()
    assert ui.ownModels.findText("My brain") >= 0
    slicer_standin.answer(str(tmp_path / "no.zip"))
    ui.importButton.click()
    assert "There is no file" in ui.filesLabel.text


def test_real_training_puts_a_model_into_the_menus(person, tmp_path):
    """The engine itself, in its real child process: few steps on small volumes."""
    for name, side in (("A", 22), ("B", 24), ("C", 26)):
        oblique_volume(name, (side, side, side), sigma=5.0)
    person.choose_task("train")
    trainer = Trainer(person, tmp_path / "runs")
    trainer.tick("A", "B", "C")
    for setting, value in {"steps": 6, "batch": 1, "patch": 16, "validateEvery": 3, "sampleEvery": 3}.items():
        getattr(trainer.ui, setting).value = value
    person.press_apply()
    person.wait_for_end(300)
    assert trainer.shared.errorLabel.text == "", person.log()
    assert "The model 'my-noise' is in the menus." in trainer.shared.progressLabel.text
    assert "my-noise" in [card.name for card in person.widget._panels["enhance"][1]._models.cards()]
    assert trainer.ui.sampleCaption.text.startswith("Step 6: ")
    assert "PSNR" in trainer.ui.statusLabel.text
