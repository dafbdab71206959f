"""A person works with the panel: chooses, presses Apply, cancels, closes the scene, reloads, saves.

The jobs are real child processes. A quick task stands in for the network (see ``quick_enhance``), except in the
one test that runs the shipped model.
"""

from __future__ import annotations

import gc
import sys
import unittest
import weakref

import numpy as np
import pytest
import slicer
import slicer.util
from panel_tools import job_folders, oblique_volume
from standin import screens

from medgan.job import JobStatus
from medgan.settings import EnhanceSettings
from scene_reading import load_scene


def same_grid(node, other) -> bool:
    return slicer.vtkSlicerVolumesLogic().CompareVolumeGeometry(node, other) == ""


def test_panel_that_was_left_and_opened_again_is_as_quick_as_before(person, slicer_standin):
    """An old wrapper of the parameter node that lived on would read all settings at every change."""
    left = weakref.ref(person.parameters)
    slicer_standin.leave_module()
    slicer_standin.open_module("MedGANSlicer")
    gc.collect()
    assert left() is None
    person.parameters.enhance.seed = 7
    assert person.enhance_ui.seed.value == 7


def test_scene_of_another_version_opens_with_the_settings_that_it_has(person, slicer_standin, tmp_path):
    from MedGANSlicerLib.SettingsPacks import snapshot

    person.parameters.enhance.strength = 0.25
    node = person.parameters.parameterNode
    slicer_standin.leave_module()
    for name in ("enhance.model", "enhance.fit_minutes", "segment.coarse"):  # the first of its pack, and later ones
        assert node.HasParameter(name)
        node.UnsetParameter(name)
    for name, value in {"enhance.axis": "DIAGONAL", "enhance.noise_sigma": "-3", "trainSource": "MOON"}.items():
        node.SetParameter(name, value)
    slicer_standin.scene_holder.saveScene(tmp_path / "scene.mrb")
    for opened_before in (False, True):
        if opened_before:
            slicer_standin.open_module("MedGANSlicer")
        load_scene(slicer_standin.scene_holder.scene, tmp_path / "scene.mrb", tmp_path / f"unpacked {opened_before}")
        if not opened_before:
            slicer_standin.open_module("MedGANSlicer")
        assert person.parameters.enhance.strength == 0.25
        assert person.enhance_ui.strength.value == 0.25
        assert snapshot(person.parameters.enhance, EnhanceSettings) == EnhanceSettings(strength=0.25)
        assert person.parameters.trainSource.name == "SCENE"
        slicer_standin.leave_module()


def test_a_change_is_written_to_each_widget_once(person, monkeypatch):
    from standin.parameters.connectors import NumberConnector

    written = []
    monkeypatch.setattr(NumberConnector, "write", lambda self, value: written.append(self.widget))
    person.parameters.enhance.seed = 7
    assert person.enhance_ui.seed in written
    assert len(written) == len(set(written))


def test_panel_without_a_volume_says_what_is_missing(person):
    assert person.ui.applyButton.text == "Apply"
    assert not person.ui.applyButton.enabled
    assert person.ui.applyButton.toolTip == "Choose an input volume."
    assert not person.ui.previewButton.enabled
    assert not person.ui.errorBox.visible
    assert not person.ui.compareSection.visible


def test_after_loading_a_volume_apply_is_the_only_click(person, jobs_folder):
    """The shipped models that are recommended, in their real child process."""
    node = person.volume(shape=(20, 24, 28))
    assert person.enhance_ui.inputVolume.currentNode() is node
    chain = person.parameters.enhance.model
    assert chain.startswith("denoise")
    assert chain.endswith("superres"), "slices of 2.3 mm with pixels of 0.7 mm"
    person.press_apply()
    assert person.ui.applyButton.text == "Cancel"
    assert not person.ui.taskPlace.enabled
    person.wait_for_end(240)
    assert person.ui.errorLabel.text == "", person.log()
    result = slicer.util.getNode("Head enhanced")
    difference = slicer.util.getNode("Head enhanced difference")
    assert same_grid(node, slicer.util.getNode("Head enhanced residual"))
    assert same_grid(result, difference)
    assert result.GetImageData().GetDimensions() == (28, 24, 66)
    residual = slicer.util.arrayFromVolume(slicer.util.getNode("Head enhanced residual"))
    assert 10 < residual.std() < 80, "about the noise of 40, which is what was taken away"
    assert result.GetAttribute("MedGAN.Model") == chain
    assert "Done in" in person.ui.progressLabel.text
    assert person.ui.resultLabel.text.startswith("Head enhanced: noise ")
    assert job_folders(jobs_folder) == []
    assert "about" in person.enhance_ui.modelSummary.text  # the next estimate is a measured one


def test_denoising_stays_on_the_grid_of_its_input(person):
    node = person.volume(shape=(20, 24, 28))
    person.parameters.enhance.model = "denoise"
    person.press_apply()
    person.wait_for_end(240)
    result = slicer.util.getNode("Head denoised")
    difference = slicer.util.getNode("Head denoised difference")
    assert same_grid(node, result)
    before, after = (slicer.util.arrayFromVolume(each).astype(float) for each in (node, result))
    assert after.std() > 0
    assert 0 < np.abs(after - before).mean() < 200
    assert np.abs(after - before - slicer.util.arrayFromVolume(difference)).max() <= 0.5


def test_running_shows_progress_and_cancel_leaves_the_scene_as_it_was(person, jobs_folder):
    person.volume()
    person.choose_model("endless")
    nodes = person.volumes()
    person.press_apply()
    person.wait_for_work()
    assert person.ui.progressBar.visible or not person.widget.parent.visible
    assert "Still working" in person.ui.progressLabel.text or "Working" in person.ui.progressLabel.text
    assert len(job_folders(jobs_folder)) == 1
    person.ui.applyButton.click()
    assert not person.ui.applyButton.enabled
    assert person.ui.progressLabel.text == "Stopping…"
    person.wait_for_end(5)
    assert person.ui.applyButton.text == "Apply"
    assert person.ui.applyButton.enabled
    assert person.ui.progressLabel.text == "Cancelled; the scene is as it was."
    assert person.volumes() == nodes
    assert job_folders(jobs_folder) == []


def test_failure_is_one_sentence_with_details_that_can_be_copied(person):
    person.volume()
    person.choose_model("failing")
    person.press_apply()
    person.wait_for_end()
    assert person.ui.errorLabel.text == "Model 'failing' fails; choose another."
    assert person.ui.errorDetails.toPlainText() != ""
    assert "Done" not in person.log()
    person.ui.errorCopyButton.click()
    import qt

    copied = qt.QApplication.clipboard().text()
    assert "Model 'failing' fails; choose another." in copied
    assert "Slicer 5" in copied
    person.choose_model("quick")
    person.press_apply()
    assert person.ui.errorLabel.text == ""
    person.wait_for_end()
    assert "Head denoised" in person.volumes()


def test_error_is_not_copied_with_what_breaks_its_lines(person):
    import qt

    path = "/data/a_study/t1_mprage_sag_p2_iso_1mm_ND_prescan_normalized_rep2_moco_T1w.nii.gz"
    person.widget.taskPanel.fail(f"There is no file '{path}'.")
    assert screens.misfits(person.widget.parent) == []
    assert person.ui.errorLabel.textInteractionFlags == qt.Qt.LinksAccessibleByMouse, "text that can not be selected"
    person.ui.errorCopyButton.click()
    assert path in qt.QApplication.clipboard().text()


def test_what_a_run_says_about_its_result_stands_beside_done(person):
    person.volume()
    person.choose_model("quick")
    person.press_apply()
    person.wait_for_end()
    assert person.ui.progressLabel.text.startswith("Done in ")
    assert person.ui.progressLabel.text.endswith(". A quick result.")
    assert person.log().count("A quick result.") == 1


def test_nothing_is_said_of_a_run_once_its_scene_is_closed(person):
    person.volume()
    person.choose_model("quick")
    usual = person.ui.previewButton.toolTip
    person.press_apply()
    person.wait_for_end()
    assert person.ui.progressLabel.text.startswith("Done in ")
    slicer.mrmlScene.Clear()
    assert person.ui.progressLabel.text == ""
    assert not person.ui.previewButton.enabled
    assert person.ui.previewButton.toolTip == "Choose an input volume."
    person.volume()
    assert person.ui.previewButton.toolTip == usual
    person.choose_model("failing")
    person.press_apply()
    person.wait_for_end()
    assert not person.ui.errorBox.isHidden()
    slicer.mrmlScene.Clear()
    assert person.ui.errorBox.isHidden()


def test_chosen_output_is_filled(person):
    node = person.volume()
    person.choose_model("quick")
    output = person.enhance_ui.outputVolume.addNode()
    assert person.parameters.outputVolume is output
    person.press_apply()
    person.wait_for_end()
    assert np.array_equal(slicer.util.arrayFromVolume(output), slicer.util.arrayFromVolume(node) + 5)
    assert output.GetName().startswith("Enhanced")


def test_output_that_is_the_input_can_not_be_applied(person):
    node = person.volume()
    person.parameters.outputVolume = node
    assert not person.ui.applyButton.enabled
    assert "replace its input" in person.ui.applyButton.toolTip


def test_deleted_output_makes_way_for_a_new_volume(person):
    """The selector alone would go on to the volume above, which the next run would overwrite."""
    other = oblique_volume("Other patient")
    output = person.enhance_ui.outputVolume.addNode()
    person.parameters.inputVolume = oblique_volume()
    slicer.mrmlScene.RemoveNode(output)
    assert person.parameters.outputVolume is None
    assert person.enhance_ui.outputVolume.currentNode() is None
    before = slicer.util.arrayFromVolume(other).copy()
    person.choose_model("quick")
    person.press_apply()
    person.wait_for_end()
    assert np.array_equal(slicer.util.arrayFromVolume(other), before)
    assert "Head denoised" in person.volumes()


def test_deleted_input_makes_way_for_what_is_looked_at(person):
    """The selectors alone would go on to a neighbour, which nobody chose."""
    nodes = [oblique_volume(name) for name in ("Neighbour", "Chosen", "In the views")]
    person.parameters.inputVolume = person.parameters.segmentVolume2 = nodes[1]
    slicer.mrmlScene.RemoveNode(nodes[1])
    assert person.parameters.inputVolume is None
    person.wait(lambda: person.parameters.inputVolume is nodes[2])
    assert person.parameters.segmentVolume2 is None


@pytest.mark.parametrize("button", ["applyButton", "previewButton"])
def test_preview_that_is_chosen_as_input_is_what_the_run_works_on(person, button):
    person.volume(shape=(60, 14, 16))
    person.choose_model("quick")
    person.ui.previewButton.click()
    person.wait_for_end()
    preview = slicer.util.getNode("Head denoised preview")
    person.parameters.inputVolume = preview
    getattr(person.ui, button).click()
    person.wait_for_end()
    assert person.parameters.inputVolume is preview
    assert any(name.startswith("Head denoised preview denoised") for name in person.volumes())


@pytest.mark.parametrize("parameter", ["inputVolume", "segmentVolume"])
def test_preview_that_is_chosen_as_input_stays_when_the_module_is_left(person, slicer_standin, parameter):
    person.volume(shape=(60, 14, 16))
    person.choose_model("quick")
    person.ui.previewButton.click()
    person.wait_for_end()
    setattr(person.parameters, parameter, slicer.util.getNode("Head denoised preview"))
    slicer_standin.leave_module()
    assert person.volumes() == ["Head", "Head denoised preview"]


def test_preview_of_a_scene_that_was_saved_is_a_volume_like_any_other(person, slicer_standin, tmp_path):
    person.volume(shape=(60, 14, 16))
    person.choose_model("quick")
    person.ui.previewButton.click()
    person.wait_for_end()
    slicer_standin.scene_holder.saveScene(tmp_path / "s.mrb")
    slicer.mrmlScene.Clear()
    load_scene(slicer_standin.scene_holder.scene, tmp_path / "s.mrb", tmp_path / "unpacked")
    slicer_standin.leave_module()
    assert person.volumes() == ["Head", "Head denoised preview", "Head denoised preview difference"]


def test_volume_deleted_while_it_is_worked_on_drops_the_result_with_a_word(person, jobs_folder):
    node = person.volume()
    person.choose_model("endless")
    person.press_apply()
    person.wait_for_work()
    slicer.mrmlScene.RemoveNode(node)
    person.wait_for_end(5)
    assert person.ui.progressLabel.text == "'Head' has left the scene, so its result was dropped."
    assert person.volumes() == []
    assert job_folders(jobs_folder) == []
    assert not person.ui.applyButton.enabled


def test_closing_the_scene_ends_the_run_at_once(person, jobs_folder):
    person.volume()
    person.choose_model("endless")
    person.press_apply()
    person.wait_for_work()
    slicer.mrmlScene.Clear()
    assert not person.widget.taskPanel.busy
    assert job_folders(jobs_folder) == []
    assert "The scene was closed" in person.log()
    assert person.parameters.enhance.model == "denoise", "nothing is recommended without a volume"
    assert person.volumes() == []


def test_leaving_the_module_lets_the_run_go_on(person, slicer_standin):
    node = person.volume()
    person.choose_model("quick")
    person.press_apply()
    slicer_standin.leave_module()
    person.wait_for_end()
    assert slicer.util.getNode("Head denoised") is not None
    assert not person.widget.compare.active
    composite = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceCompositeNode()
    assert composite.GetBackgroundVolumeID() == node.GetID()
    assert composite.GetForegroundVolumeID() is None


def test_preview_that_ends_in_another_module_leaves_nothing(person, slicer_standin):
    person.volume(shape=(60, 14, 16))
    person.choose_model("quick")
    person.ui.previewButton.click()
    slicer_standin.leave_module()
    person.wait_for_end()
    assert person.volumes() == ["Head"]
    assert not person.widget.compare.active


def test_preview_lies_in_the_view_that_is_shown(person):
    node = person.volume(shape=(60, 14, 16))
    person.choose_model("quick")
    layouts = slicer.app.layoutManager()
    layouts.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutOneUpYellowSliceView)
    layouts.sliceWidget("Red").mrmlSliceNode().JumpSliceByCentering(500, 500, 500)
    bounds = [0.0] * 6
    node.GetRASBounds(bounds)
    centre = [(low + high) / 2 for low, high in zip(bounds[::2], bounds[1::2], strict=True)]
    layouts.sliceWidget("Yellow").mrmlSliceNode().JumpSliceByCentering(*centre)
    person.ui.previewButton.click()
    person.wait_for_end()
    slicer.util.getNode("Head denoised preview").GetRASBounds(bounds)
    middle = [(low + high) / 2 for low, high in zip(bounds[::2], bounds[1::2], strict=True)]
    assert np.abs(np.subtract(middle, centre)).max() < 2.0


def test_reloading_the_module_ends_the_run(person, jobs_folder):
    person.volume()
    person.choose_model("endless")
    person.press_apply()
    person.wait_for_work()
    person.widget.cleanup()
    assert job_folders(jobs_folder) == []
    person.widget.cleanup()  # Slicer calls it again when it quits


def test_quitting_ends_the_run(person, slicer_standin, jobs_folder):
    person.volume()
    person.choose_model("endless")
    person.press_apply()
    person.wait_for_work()
    slicer_standin.quit()
    assert job_folders(jobs_folder) == []


def test_settings_survive_saving_and_closing_the_scene(person, slicer_standin, tmp_path):
    person.volume()
    person.enhance_ui.strength.value = 0.4
    person.enhance_ui.seed.value = 77
    person.enhance_ui.device.currentIndex = 3
    assert person.parameters.enhance.device.value == "cpu"
    slicer_standin.scene_holder.saveScene(tmp_path / "s.mrb")
    slicer.mrmlScene.Clear()
    assert person.enhance_ui.strength.value == 1.0
    load_scene(slicer_standin.scene_holder.scene, tmp_path / "s.mrb", tmp_path / "unpacked")
    assert person.enhance_ui.strength.value == 0.4
    assert person.enhance_ui.seed.value == 77
    assert person.parameters.enhance.device.value == "cpu"
    assert person.parameters.inputVolume.GetName() == "Head"
    assert person.ui.applyButton.enabled


def test_preview_shows_a_slab_around_the_slice_and_goes_with_the_next_run(person):
    node = person.volume(shape=(60, 14, 16))
    person.choose_model("quick")
    person.ui.previewButton.click()
    person.wait_for_end()
    preview = slicer.util.getNode("Head denoised preview")
    assert preview.GetAttribute("MedGAN.Preview") == "yes"
    assert min(preview.GetImageData().GetDimensions()) > 0
    assert preview.GetImageData().GetNumberOfPoints() < node.GetImageData().GetNumberOfPoints()
    person.press_apply()
    person.wait_for_end()
    assert person.volumes() == ["Head", "Head denoised", "Head denoised difference"]


def test_preview_can_be_kept(person):
    person.volume(shape=(60, 14, 16))
    person.choose_model("quick")
    person.ui.previewButton.click()
    person.wait_for_end()
    person.ui.keepPreviewButton.click()
    person.ui.closeCompareButton.click()
    assert "Head denoised preview" in person.volumes()


def test_sequence_gives_a_sequence(person):
    sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", "Cine")
    for number in range(2):
        frame = oblique_volume(f"frame {number}")
        sequence.SetDataNodeAtValue(frame, str(number))
        slicer.mrmlScene.RemoveNode(frame)
    browser = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", "Browser")
    browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    shown = browser.GetProxyNode(sequence)
    person.parameters.inputVolume = shown
    person.choose_model("quick")
    assert not person.enhance_ui.allFrames.isHidden()
    person.press_apply()
    person.wait_for_end()
    result = slicer.util.getFirstNodeByClassByName("vtkMRMLSequenceNode", "Cine denoised")
    assert result.GetNumberOfDataNodes() == 2
    for number in range(2):
        before, after = (slicer.util.arrayFromVolume(each.GetNthDataNode(number)) for each in (sequence, result))
        assert np.array_equal(after, before + 5)
    assert browser.GetProxyNode(result) is not None
    assert person.widget.compare.active
    person.enhance_ui.allFrames.checked = False
    person.press_apply()
    person.wait_for_end()
    assert np.array_equal(
        slicer.util.arrayFromVolume(slicer.util.getNode(f"{shown.GetName()} denoised")),
        slicer.util.arrayFromVolume(shown) + 5,
    )
    person.press_apply()
    browser.SetSelectedItemNumber(1)
    person.wait_for_end()
    assert f"'{shown.GetName()}' shows another frame now" in person.ui.progressLabel.text


def test_sequence_that_no_browser_shows_says_what_to_do(person):
    sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", "Cine")
    sequence.SetDataNodeAtValue(oblique_volume("frame"), "0")
    person.parameters.inputVolume = sequence
    assert not person.ui.applyButton.enabled
    assert person.ui.applyButton.toolTip == "No browser shows the sequence; choose it in the Sequences module first."


def test_model_menu_searches_and_shows_cards(person):
    ui = person.enhance_ui
    assert not ui.modelSearch.isHidden()
    assert ui.modelSelector.currentText == "Denoise MR, CT and PET"
    assert "Apache-2.0" in ui.modelSummary.text
    ui.modelSearch.text = "quick"
    assert [ui.modelSelector.itemText(n) for n in range(ui.modelSelector.count)] == [
        "Denoise MR, CT and PET",
        "The quick model",
    ]
    ui.modelSelector.setCurrentIndex(1)
    assert person.parameters.enhance.model == "quick"
    person.parameters.enhance.model = "gone"
    assert "not on this computer" in ui.modelSummary.text
    assert not person.ui.applyButton.enabled
    assert person.ui.applyButton.toolTip == "Choose an input volume."
    person.volume()
    person.parameters.enhance.model = "gone"
    assert person.ui.applyButton.toolTip == "The model 'gone' is not on this computer; choose another one."


def test_logic_runs_from_a_script(person):
    node = person.volume()
    person.choose_model("quick")
    from medgan.settings import EnhanceSettings

    result = person.widget.logic.process(node, EnhanceSettings(model="quick")).volume
    assert np.array_equal(slicer.util.arrayFromVolume(result), slicer.util.arrayFromVolume(node) + 5)
    assert JobStatus.DONE.value == "done"


def test_self_test_of_the_module_passes_and_skips_what_needs_pytorch(person, monkeypatch, capfd):
    """What "Reload and Test" runs. Its one run of the network is left to Slicer and to the test above."""
    import MedGANSlicer

    monkeypatch.setattr(MedGANSlicer.Host, "isInstalled", lambda self, module: False)
    try:
        slicer.selfTests["MedGANSlicer"]()
    except unittest.SkipTest:
        pytest.fail("Slicer shows what comes out of it as an error")
    said = capfd.readouterr().err
    assert "Ran 3 tests" in said
    assert "OK (skipped=1)" in said
    monkeypatch.setattr(MedGANSlicer.Samples, "load", lambda: 1 / 0)
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        slicer.selfTests["MedGANSlicer"]()


@pytest.fixture
def modules_restored():
    """Reloading makes our modules anew; the tests after this one hold on to those that were there."""
    before = {name: each for name, each in sys.modules.items() if name.split(".")[0] in ("medgan", "MedGANSlicerLib")}
    yield
    sys.modules.update(before)


def test_reload_brings_a_panel_that_works(modules_restored, person, slicer_standin, jobs_folder):
    node = person.volume()
    person.choose_model("endless")
    person.press_apply()
    person.wait_for_work()
    person.parameters.enhance.model = "quick"
    person.widget.onReload()
    assert job_folders(jobs_folder) == []
    widget = slicer.modules.MedGANSlicerWidget
    assert widget is not person.widget
    assert widget.ui.applyButton.text == "Apply"
    widget.enter()
    assert widget._parameters.inputVolume is node
    assert widget._parameters.enhance.model == "quick"


def test_sample_is_offered_and_loads(person):
    import SampleData

    (source,) = SampleData.SampleDataLogic.sampleDataSourcesByCategory("MedGAN")
    (node,) = SampleData.SampleDataLogic().downloadFromSource(source)
    assert node.GetImageData().GetDimensions() == (124, 160, 140)


def test_all_text_can_be_translated(slicer_standin, a_module_widget):
    """What the panel says itself goes through the translation; the texts of .ui files do by Qt."""
    slicer_standin.language(lambda context, text: f"<{text}>")
    a_module_widget._refresh()
    assert a_module_widget.ui.applyButton.text == "<Apply>"
    assert a_module_widget.ui.applyButton.toolTip == "<Choose an input volume.>"


def test_tab_key_goes_from_the_task_through_its_panel_to_apply_and_the_log(person):
    from PySide6 import QtCore, QtTest, QtWidgets
    from standin.proxies import native_of
    from standin.waiting import run_for

    person.volume()
    root = native_of(person.widget.parent)
    root.show()
    root.activateWindow()
    for task, first, ends in (
        ("enhance", "inputVolume", ["previewButton", "applyButton", "logSection"]),
        ("convert", "direction", ["logSection"]),  # nothing is chosen that Apply could work on
    ):
        person.choose_task(task)
        run_for(0.05)
        native_of(person.ui.taskSelector).setFocus()
        names = []
        while names[-1:] != ["logSection"] and len(names) < 60:
            QtTest.QTest.keyClick(QtWidgets.QApplication.focusWidget(), QtCore.Qt.Key_Tab)
            widget = QtWidgets.QApplication.focusWidget()
            while not widget.objectName() or widget.objectName().startswith("qt_"):
                widget = widget.parent()
            names.append(widget.objectName())
        assert names[0] == first
        assert set(names[: -len(ends)]) <= set(vars(person.ui_of(task))), names
        assert names[-len(ends) :] == ends
