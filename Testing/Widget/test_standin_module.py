"""The stand-in runs a module that uses Slicer as the module template does, through a person's day."""

import sys
from pathlib import Path

import numpy as np
import pytest
import slicer
import slicer.util
import vtk

from scene_reading import load_scene

SAMPLE = Path(__file__).parent / "SampleModule" / "SampleModule.py"


@pytest.fixture
def a_widget(slicer_standin):
    """The sample module's widget, opened."""
    slicer_standin.load_module(SAMPLE)
    slicer_standin.start_up()
    return slicer_standin.open_module("SampleModule")


def a_volume(name="Head", value=3.0):
    array = np.full((3, 4, 5), value, dtype=np.float32)
    return slicer.util.addVolumeFromArray(array, ijkToRAS=np.diag([-1.0, 2.0, 3.0, 1.0]), name=name)


def scripted_nodes():
    return slicer.util.getNodesByClass("vtkMRMLScriptedModuleNode")


def test_module_describes_itself(slicer_standin):
    module = slicer_standin.load_module(SAMPLE)
    parent = slicer.util.getModule("SampleModule")
    assert (parent.title, parent.name, parent.path) == ("Sample", "SampleModule", str(SAMPLE))
    assert parent.categories == ("Examples",)
    assert parent.contributors == ("MedGANSlicer developers",)
    assert module.resourcePath("UI/x.ui") == str(SAMPLE.parent / "Resources" / "UI" / "x.ui")
    assert slicer.util.modulePath("SampleModule") == str(SAMPLE)
    assert "SampleModule" in slicer.util.moduleNames()
    with pytest.raises(AttributeError):
        parent.titel = "x"
    with pytest.raises(AttributeError):
        parent.categories = "Examples"


def test_sample_data_is_registered_once_after_start_up(slicer_standin):
    slicer_standin.load_module(SAMPLE)
    assert not hasattr(slicer.modules, "sampleDataSources")
    slicer_standin.start_up()
    slicer_standin.start_up()
    assert [source.sampleName for source in slicer.modules.sampleDataSources["Sample"]] == ["SampleVolume"]


def test_first_volume_is_chosen_and_apply_computes(slicer_standin):
    slicer_standin.load_module(SAMPLE)
    volume = a_volume()
    widget = slicer_standin.open_module("SampleModule")
    assert widget.parent.isEntered is True
    assert widget.ui.inputSelector.currentNode() is volume
    assert widget.ui.applyButton.enabled is False
    output = widget.ui.outputSelector.addNode()
    assert output.GetName() == "Scaled"
    assert widget.ui.applyButton.enabled is True
    widget.ui.factorSlider.value = 2.5
    widget.ui.invertCheckBox.checked = True
    widget.ui.applyButton.click()
    np.testing.assert_allclose(slicer.util.arrayFromVolume(output), -7.5)
    assert widget.logic.getParameterNode().factor == 2.5
    composite = slicer.app.layoutManager().sliceWidget("Red").sliceLogic().GetSliceCompositeNode()
    assert composite.GetBackgroundVolumeID() == output.GetID()


def test_failure_is_shown_and_kept(slicer_standin, a_widget):
    a_volume()
    a_widget.ui.outputSelector.addNode()
    a_widget.ui.inputSelector.setCurrentNodeIndex(0)
    a_widget.ui.factorSlider.value = 0
    with slicer_standin.problems.expected("A factor of 0"):
        a_widget.ui.applyButton.click()
    (message,) = [each for each in slicer_standin.messages if each.kind == "critical"]
    assert message.text == "Failed to compute results.\n\nA factor of 0 leaves nothing."
    assert "ValueError" in message.details


def test_parameter_node_is_a_singleton_in_slicers_format(a_widget):
    node = scripted_nodes()[0]
    assert len(scripted_nodes()) == 1
    assert node.GetID() == "vtkMRMLScriptedModuleNodeSampleModule"
    assert node.GetAttribute("ModuleName") == "SampleModule"
    a_widget.ui.invertCheckBox.checked = True
    assert node.GetParameter("invert") == "True"
    assert node.GetParameter("factor") == "100"
    assert a_widget.logic.getParameterNode().parameterNode is node


def test_closing_the_scene_resets_the_panel(a_widget):
    a_volume()
    a_widget.enter()
    a_widget.ui.factorSlider.value = 7
    slicer.mrmlScene.Clear()
    assert a_widget.ui.factorSlider.value == 100
    assert a_widget.ui.inputSelector.currentNode() is None
    assert scripted_nodes()[0].GetAttribute("ModuleName") == "SampleModule"


def test_leaving_and_returning_binds_again(slicer_standin, a_widget):
    slicer_standin.leave_module()
    assert a_widget.parent.isEntered is False
    a_widget.logic.getParameterNode().factor = 5.0
    assert a_widget.ui.factorSlider.value == 100
    assert slicer_standin.open_module("SampleModule") is a_widget
    assert a_widget.ui.factorSlider.value == 5


def test_quitting_cleans_up(slicer_standin, a_widget):
    said = []
    slicer.app.connect("aboutToQuit()", lambda: said.append(len(a_widget.Observations)))
    slicer_standin.quit()
    assert said == [0]


def test_reload_gives_a_new_widget_of_new_code(slicer_standin, a_widget):
    before = type(a_widget)
    a_widget.onReload()
    after = slicer.util.getModuleWidget("SampleModule")
    assert after is not a_widget
    assert type(after) is not before
    assert type(after).__name__ == "SampleModuleWidget"
    assert a_widget.Observations == []
    assert slicer.modules.SampleModuleWidget is after
    after.ui.factorSlider.value = 8
    assert scripted_nodes()[0].GetParameter("factor") == "8.0"


def test_settings_survive_in_a_saved_scene(slicer_standin, a_widget, tmp_path):
    volume = a_volume()
    a_widget.enter()
    a_widget.ui.factorSlider.value = 4.5
    slicer_standin.scene_holder.saveScene(tmp_path / "scene.mrb")
    slicer.mrmlScene.Clear()
    assert a_widget.ui.factorSlider.value == 100
    load_scene(slicer_standin.scene_holder.scene, tmp_path / "scene.mrb", tmp_path / "unpacked")
    assert a_widget.ui.factorSlider.value == 4.5
    assert a_widget.ui.inputSelector.currentNode().GetName() == volume.GetName()


def test_modules_own_test_runs(slicer_standin, a_widget):
    slicer.selfTests["SampleModule"]()
    assert [message.text for message in slicer_standin.messages] == ["Starting the test"]


def test_error_in_a_hook_fails_the_test(slicer_standin, a_widget):
    a_widget.exit = lambda: 1 / 0
    with slicer_standin.problems.expected("ZeroDivisionError"):
        slicer_standin.leave_module()


def test_error_in_an_observer_fails_the_test(slicer_standin, a_widget):
    a_widget.addObserver(scripted_nodes()[0], vtk.vtkCommand.ModifiedEvent, lambda caller, event: {}["gone"])
    with slicer_standin.problems.expected("KeyError"):
        scripted_nodes()[0].Modified()


@pytest.fixture
def a_foreign_excepthook(make_standin, monkeypatch):
    """As typer leaves one behind in the process of a test that ran a command."""
    monkeypatch.setattr(sys, "excepthook", lambda kind, error, trace: None)


def test_error_in_an_observer_is_seen_whatever_ran_before(a_foreign_excepthook, slicer_standin, a_widget):
    a_widget.addObserver(scripted_nodes()[0], vtk.vtkCommand.ModifiedEvent, lambda caller, event: {}["gone"])
    with slicer_standin.problems.expected("KeyError"):
        scripted_nodes()[0].Modified()


def test_module_that_does_not_exist_can_not_be_selected(slicer_standin):
    with slicer_standin.problems.expected("no module 'Nowhere'"):
        slicer.util.selectModule("Nowhere")
    with pytest.raises(RuntimeError):
        slicer.util.getModule("Nowhere")


def test_picture_at_panel_width(a_widget, screenshot, monkeypatch, tmp_path):
    from standin import screens

    monkeypatch.setitem(screenshot.__globals__, "PICTURES", tmp_path)
    light, dark = screenshot(a_widget, "sample")
    assert (light.name, dark.name) == ("sample-light.png", "sample-dark.png")
    from PySide6 import QtGui

    images = [QtGui.QImage(str(path)) for path in (light, dark)]
    assert [image.width() for image in images] == [350, 350]
    corners = [image.pixelColor(2, image.height() - 2).lightness() for image in images]
    assert corners[0] > 200 > 90 > corners[1]
    assert screens.misfits(a_widget.parent) == []
    a_widget.ui.factorLabel.text = "A label far too long for a panel that is 350 pixels wide, in every look"
    assert any("panel needs" in fault for fault in screens.misfits(a_widget.parent))


def test_waiting_runs_timers_and_stops_at_problems(slicer_standin, wait_until, heartbeat):
    import qt

    ticks = []
    timer = qt.QTimer()
    timer.connect("timeout()", lambda: ticks.append(1))
    timer.start(5)
    with heartbeat:
        wait_until(lambda: len(ticks) > 5)
    assert 0 < heartbeat.longest_gap < 5
    with pytest.raises(AssertionError, match="still not so"):
        wait_until(lambda: False, timeout=0.05)
    timer.timeout.connect(lambda: 1 / 0)
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        wait_until(lambda: False, timeout=5)
    timer.stop()


@pytest.mark.filterwarnings("ignore:'exec_' will be removed:DeprecationWarning")
def test_waiting_and_pictures_inside_slicer(slicer_standin, a_widget, monkeypatch, tmp_path):
    """The other implementation of the fixtures, with an event loop that may turn for once."""
    import inside_slicer
    import qt
    from standin import modal

    monkeypatch.setattr(modal, "member_function", lambda native, name: None)
    ticks = []
    qt.QTimer.singleShot(5, lambda: ticks.append(1))
    with inside_slicer.Heartbeat() as heartbeat:
        inside_slicer.wait_until(lambda: ticks)
    assert heartbeat.longest_gap > 0
    with pytest.raises(AssertionError, match="still not so"):
        inside_slicer.wait_until(lambda: False, timeout=0.05)
    (picture,) = inside_slicer.take(a_widget.parent, "sample", tmp_path, 350)
    assert picture.stat().st_size > 500
