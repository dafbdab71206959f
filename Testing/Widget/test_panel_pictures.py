"""Pictures of the panel in each state, for a person to look at; nothing may be cut off at the width of the panel."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from panel_tools import REPOSITORY, SCENE_TESTS, oblique_volume
from standin import screens
from standin.packagingdouble import missing

from medgan.job import Job

USED_BY_HAND = ("Button", "ComboBox", "SpinBox", "SliderWidget", "QSlider", "CheckBox", "QLineEdit")


@pytest.mark.parametrize(
    "path", sorted((REPOSITORY / "MedGANSlicer/Resources/UI").glob("*.ui")), ids=lambda path: path.stem
)
def test_everything_a_person_can_use_has_a_tool_tip(path):
    root = ElementTree.parse(path)
    used = [each for each in root.iter("widget") if each.get("class", "").endswith(USED_BY_HAND)]
    assert len(used) > 3
    without = [each.get("name") for each in used if each.find("property[@name='toolTip']") is None]
    assert without == []


@pytest.fixture
def shot(person, screenshot):
    """``shot(name)`` takes the picture and fails for texts that do not fit."""

    def take(name):
        screenshot(person.widget, name)
        assert screens.misfits(person.widget.parent) == []

    return take


def test_idle(person, shot):
    shot("1-empty")
    person.volume("T1 sagittal, before contrast", shape=(24, 28, 32))
    shot("2-idle")


def test_everything_open(person, shot):
    person.volume()
    ui = person.enhance_ui
    ui.advancedSection.collapsed = False
    ui.modelCardButton.checked = True
    person.ui.logSection.collapsed = False
    shot("3-everything-open")


def test_all_options(equipped_person, shot):
    equipped_person.volume()
    equipped_person.choose_in_menu("Denoise + deblur + super-resolve")
    shot("11-all-options")
    equipped_person.enhance_ui.ratio.value = 1.1
    shot("12-wrong-ratio")


def test_maps_and_places(equipped_person, shot):
    equipped_person.volume()
    equipped_person.enhance_ui.uncertainty.checked = True
    equipped_person.choose_in_menu("Denoise + super-resolve")
    equipped_person.press_apply()
    equipped_person.wait_for_end()
    shot("13-maps-and-places")
    equipped_person.ui.uncertaintyCheckBox.checked = True
    shot("14-uncertainty")


def test_running(person, shot):
    person.volume()
    person.choose_model("endless")
    person.press_apply()
    person.wait_for_work()
    person.wait(lambda: "left" in person.ui.progressLabel.text)
    shot("4-running")
    person.ui.applyButton.click()
    person.wait_for_end()
    shot("5-cancelled")


def test_done(person, shot):
    person.volume()
    person.choose_model("quick")
    person.press_apply()
    person.wait_for_end()
    shot("6-done")
    person.ui.differenceCheckBox.checked = True
    shot("7-difference")


def test_error(person, shot):
    person.volume()
    person.choose_model("failing")
    person.press_apply()
    person.wait_for_end()
    shot("8-error")
    person.ui.errorDetailsButton.checked = True
    shot("9-error-details")


def test_dependencies_missing(person, shot, slicer_standin):
    slicer_standin.use_packaging(True, missing=("torch",))
    person.volume()
    person.press_apply()
    shot("10-dependencies-missing")
    missing.clear()


def test_train(person, shot, monkeypatch):
    import qt

    monkeypatch.setattr(Job, "child_script", SCENE_TESTS / "quick_child.py")
    for name in ("T1 sagittal, before contrast", "T1 sagittal, after contrast", "FLAIR"):
        oblique_volume(name)
    person.choose_task("train")
    shot("20-train-empty")
    ui = person.ui_of("train")
    table = ui.volumesTable
    for row in (0, 1):
        table.item(row, 0).setCheckState(qt.Qt.Checked)
    ui.steps.value = 0
    person.press_apply()
    person.wait(lambda: person.widget._panels["train"][1]._watch.log.step >= 210)
    shot("21-train-running")
    person.ui.applyButton.click()
    person.wait_for_end()
    ui.trainAdvancedSection.collapsed = False
    ui.filesSection.collapsed = False
    shot("22-train-stopped")
    ui.kind.setCurrentIndex(ui.kind.findText("Segmentation"))
    ui.trainSource.setCurrentIndex(1)
    ui.trainAdvancedSection.collapsed = True
    shot("23-train-folder")


def test_evaluate(person, shot):
    for name, sigma in (("Clean", 0.0), ("Head", 60.0), ("Head denoised", 20.0)):
        oblique_volume(name, (20, 24, 28), sigma)
    person.choose_task("evaluate")
    shot("24-evaluate-empty")
    ui = person.ui_of("evaluate")
    person.wait(lambda: ui.resultsTable.rowCount == 3)
    for row in (1, 2):
        ui.resultsTable.selectRow(row)
        ui.referenceSelector.setCurrentIndex(ui.referenceSelector.findText("Clean"))
        ui.referenceSelector.activated(ui.referenceSelector.currentIndex)
    person.press_apply()
    person.wait_for_end()
    ui.evaluateAdvancedSection.collapsed = False
    shot("25-evaluate-done")
