"""Before and after in the views: fading, difference map, side by side, and the person's own view afterwards."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
import slicer.util
from panel_tools import import_scene, save_scene
from standin import screens

from scene_reading import load_scene


@pytest.fixture
def CompareView(slicer_standin):
    """The module; it needs Slicer's translations, so it is imported once there is a Slicer."""
    from MedGANSlicerLib.Panels import CompareView

    return CompareView


@pytest.fixture
def after_a_run(person):
    """The panel after a quick run on "Head"; the person looked at a volume of their own in one view before."""
    person.volume("Head")
    other = slicer.util.addVolumeFromArray(slicer.util.arrayFromVolume(person.parameters.inputVolume), name="Own")
    composite_of("Green").SetBackgroundVolumeID(other.GetID())
    composite_of("Yellow").SetForegroundOpacity(0.3)
    slicer.app.layoutManager().setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutConventionalView)
    person.choose_model("quick")
    person.press_apply()
    person.wait_for_end()
    return person


def composite_of(name):
    return slicer.app.layoutManager().sliceWidget(name).mrmlSliceCompositeNode()


def shown(name):
    """Names of background and foreground, and the opacity of the foreground."""
    composite = composite_of(name)
    names = []
    for identifier in (composite.GetBackgroundVolumeID(), composite.GetForegroundVolumeID()):
        node = slicer.mrmlScene.GetNodeByID(identifier or "")
        names.append(node.GetName() if node else None)
    return *names, composite.GetForegroundOpacity()


def test_result_is_shown_over_its_input_and_fades(after_a_run):
    assert after_a_run.widget.compare.active
    for view in ("Red", "Yellow", "Green"):
        assert shown(view) == ("Head", "Head denoised", 1.0)
    after_a_run.ui.opacitySlider.value = 25
    assert shown("Red") == ("Head", "Head denoised", 0.25)


def test_scene_of_another_task_that_is_imported_ends_the_comparison(after_a_run, tmp_path):
    person = after_a_run
    person.choose_task("segment")
    save_scene(tmp_path / "scene.mrml")
    person.choose_task("enhance")
    person.press_apply()
    person.wait_for_end()
    assert person.widget.compare.active
    import_scene(tmp_path / "scene.mrml")
    assert person.parameters.task == "segment"
    assert not person.widget.compare.active
    assert person.ui.compareSection.isHidden()


def test_input_that_is_edited_and_result_that_is_renamed_are_told_of(after_a_run):
    ui, node = after_a_run.ui, after_a_run.parameters.inputVolume
    assert ui.resultLabel.text.startswith("Head denoised: noise 40 → 8")
    assert "edited" not in ui.resultLabel.text
    slicer.util.arrayFromVolume(node)[:] += 50
    slicer.util.arrayFromVolumeModified(node)
    assert ui.resultLabel.text.endswith("'Head' was edited meanwhile; this is the result of what it was before.")
    slicer.util.getNode("Head denoised").SetName("Mine")
    assert ui.resultLabel.text.startswith("Mine: noise 40")


def test_noise_that_the_person_set_is_not_told_as_measured(after_a_run):
    after_a_run.parameters.enhance.noise_sigma = 3.0
    after_a_run.press_apply()
    after_a_run.wait_for_end()
    assert "noise set to 40, measured after: 8" in after_a_run.ui.resultLabel.text


def test_comparison_with_one_frame_says_when_the_input_shows_another(person):
    sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", "Cine")
    for number in range(3):
        frame = slicer.util.addVolumeFromArray(np.full((6, 8, 10), 100 + number, np.int16))
        sequence.SetDataNodeAtValue(frame, str(number))
        slicer.mrmlScene.RemoveNode(frame)
    browser = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", "Browser")
    browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    person.parameters.inputVolume = browser.GetProxyNode(sequence)
    person.choose_model("quick")
    person.parameters.allFrames = False
    person.press_apply()
    person.wait_for_end()
    other = "'Cine' shows another frame now; this is the result of the one that it showed."
    label = person.ui.resultLabel
    assert "meanwhile" not in label.text
    browser.SetSelectedItemNumber(2)
    assert label.text.endswith(other)
    browser.SetSelectedItemNumber(0)
    assert "now" not in label.text
    assert "meanwhile" not in label.text
    person.press_apply()
    browser.SetSelectedItemNumber(1)
    person.wait_for_end()
    assert label.text.endswith(other)
    browser.SetSelectedItemNumber(0)
    assert "now" not in label.text
    person.parameters.allFrames = True
    person.press_apply()
    person.wait_for_end()
    browser.SetSelectedItemNumber(2)
    assert "now" not in label.text
    assert "meanwhile" not in label.text


def test_difference_has_a_symmetric_legend_in_the_unit_of_the_input(after_a_run):
    unit = slicer.vtkCodedEntry()
    unit.SetValueSchemeMeaning("[hnsf'U]", "UCUM", "Hounsfield unit")
    after_a_run.parameters.inputVolume.SetVoxelValueUnits(unit)
    after_a_run.ui.differenceCheckBox.checked = True
    assert shown("Red") == ("Head", "Head denoised difference", 1.0)
    ui = after_a_run.ui
    assert not ui.legend.isHidden()
    assert float(ui.legendLow.text) == -float(ui.legendHigh.text) == -5.0
    assert "Hounsfield unit" in ui.legendUnit.text
    assert "rgb(255,255,255)" in ui.legendBar.styleSheet
    ui.differenceCheckBox.checked = False
    assert shown("Red")[1] == "Head denoised"
    assert ui.legend.isHidden()


def test_side_by_side_has_a_layout_of_its_own(after_a_run, CompareView):
    layouts = slicer.app.layoutManager()
    after_a_run.ui.sideBySideCheckBox.checked = True
    assert layouts.layout == CompareView.SIDE_BY_SIDE >= 501
    description = layouts.layoutLogic().GetLayoutNode().GetLayoutDescription(CompareView.SIDE_BY_SIDE)
    assert CompareView.BEFORE in description
    assert CompareView.AFTER in description
    after_a_run.ui.sideBySideCheckBox.checked = False
    assert layouts.layout == slicer.vtkMRMLLayoutNode.SlicerLayoutConventionalView


def test_layout_is_known_before_the_first_comparison(person, CompareView):
    """A scene that was saved side by side opens in a Slicer where nothing was compared yet."""
    node = slicer.app.layoutManager().layoutLogic().GetLayoutNode()
    assert node.IsLayoutDescription(CompareView.SIDE_BY_SIDE)


def test_side_by_side_keeps_the_zoom_of_the_person_s_views(after_a_run):
    red = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceNode()
    red.SetFieldOfView(31.0, 31.0, 1.0)
    after_a_run.ui.sideBySideCheckBox.checked = True
    after_a_run.ui.sideBySideCheckBox.checked = False
    assert red.GetFieldOfView() == (31.0, 31.0, 1.0)


def test_leaving_the_module_brings_the_person_s_own_view_back(after_a_run, slicer_standin):
    after_a_run.ui.sideBySideCheckBox.checked = True
    slicer_standin.leave_module()
    assert slicer.app.layoutManager().layout == slicer.vtkMRMLLayoutNode.SlicerLayoutConventionalView
    assert shown("Red")[:2] == ("Head", None)
    assert shown("Green")[:2] == ("Own", None)
    assert shown("Yellow")[2] == pytest.approx(0.3)
    assert after_a_run.ui.compareSection.isHidden()


def test_what_the_person_changed_meanwhile_is_kept(after_a_run):
    own = slicer.util.getNode("Own")
    composite_of("Red").SetBackgroundVolumeID(own.GetID())
    slicer.app.layoutManager().setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutOneUpRedSliceView)
    after_a_run.ui.closeCompareButton.click()
    assert shown("Red")[0] == "Own"
    assert slicer.app.layoutManager().layout == slicer.vtkMRMLLayoutNode.SlicerLayoutOneUpRedSliceView


def test_scan_that_is_loaded_meanwhile_is_what_comes_back(after_a_run):
    own = slicer.util.getNode("Own")
    slicer.util.setSliceViewerLayers(background=own)
    after_a_run.ui.opacitySlider.value = 50
    assert shown("Red") == ("Head", "Head denoised", 0.5)
    after_a_run.ui.closeCompareButton.click()
    assert [shown(view)[:2] for view in ("Red", "Yellow", "Green")] == [("Own", None)] * 3
    assert shown("Yellow")[2] == pytest.approx(0.3)


def test_long_name_without_a_space_does_not_widen_the_panel(after_a_run):
    import qt

    name = "t1_mprage_sag_p2_iso_1mm_ND_prescan_normalized_rep2_moco_T1w"
    after_a_run.parameters.inputVolume.SetName(name)
    after_a_run.press_apply()
    after_a_run.wait_for_end()
    assert slicer.util.getNode(f"{name} denoised") is not None
    assert screens.misfits(after_a_run.widget.parent) == []
    after_a_run.widget.taskPanel.fail(f"'{name}' is too flat.")
    assert screens.misfits(after_a_run.widget.parent) == []
    after_a_run.ui.errorCopyButton.click()
    assert f"'{name}' is too flat." in qt.QApplication.clipboard().text()


def test_fading_works_again_after_another_layout_was_chosen_beside_the_box(after_a_run):
    after_a_run.ui.sideBySideCheckBox.checked = True
    assert not after_a_run.ui.opacitySlider.enabled
    slicer.app.layoutManager().setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutOneUpRedSliceView)
    after_a_run.ui.sideBySideCheckBox.checked = False
    assert after_a_run.ui.opacitySlider.enabled
    assert slicer.app.layoutManager().layout == slicer.vtkMRMLLayoutNode.SlicerLayoutOneUpRedSliceView


def test_scene_that_was_saved_side_by_side_or_with_curves_opens_in_a_usual_layout(
    after_a_run, slicer_standin, tmp_path, CompareView
):
    from MedGANSlicerLib.Panels.CurvesView import CURVES

    for layout in (CompareView.SIDE_BY_SIDE, CURVES):
        slicer.app.layoutManager().setLayout(layout)
        slicer_standin.scene_holder.saveScene(tmp_path / f"{layout}.mrb")
        slicer.mrmlScene.Clear()
        load_scene(slicer_standin.scene_holder.scene, tmp_path / f"{layout}.mrb", tmp_path / f"unpacked {layout}")
        assert slicer.app.layoutManager().layout == slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView


@pytest.mark.parametrize("name", ["Head", "Head denoised", "Head denoised difference"])
def test_deleting_a_compared_volume_ends_the_comparison(after_a_run, name):
    slicer.mrmlScene.RemoveNode(slicer.util.getNode(name))
    assert not after_a_run.widget.compare.active
    assert shown("Green")[0] == "Own"


def test_second_run_keeps_what_was_before_the_first(after_a_run):
    after_a_run.press_apply()
    after_a_run.wait_for_end()
    assert shown("Red")[1] == "Head denoised 1"
    after_a_run.ui.closeCompareButton.click()
    assert shown("Green")[:2] == ("Own", None)


def test_pair_of_views_shows_input_and_result(CompareView):
    """The composite nodes of the two views, as the application makes them for the layout."""

    from MedGANSlicerLib.Panels.SliceLayers import FIELDS
    from MedGANSlicerLib.ResultNodes import ResultNodes

    class Box:
        enabled = checked = True

        def fontMetrics(self):
            return type("Metrics", (), {"lineSpacing": lambda self: 10})()

        def __getattr__(self, name):
            return lambda *values: None

    class Ui:
        opacitySlider = type("Slider", (Box,), {"value": 40})()

        def __getattr__(self, name):
            return Box()

    class Composite:
        def __init__(self):
            self.values = dict.fromkeys(FIELDS, 0)

        def __getattr__(self, name):
            if name.startswith("Set"):
                return lambda value: self.values.__setitem__(name[3:], value)
            return lambda: self.values[name[3:]]

    composites = {name: Composite() for name in ("Red", CompareView.BEFORE, CompareView.AFTER)}

    class Host:
        def __getattr__(self, name):
            return lambda *values: None

        def layout(self):
            return CompareView.SIDE_BY_SIDE

        def compositeNodes(self):
            return composites

    def node(identifier):
        return type("Node", (), {"GetID": lambda self: identifier})()

    view = CompareView.CompareView(Ui(), Host())
    view._showWidgets = lambda: None
    view._source, view._nodes = node("in"), ResultNodes(node("out"))
    Box.checked = False
    view._refresh()
    before, after = composites[CompareView.BEFORE].values, composites[CompareView.AFTER].values
    assert (before["ForegroundOpacity"], after["ForegroundOpacity"]) == (0.0, 1.0)
    assert before["LinkedControl"] == after["LinkedControl"] == 1
    assert composites["Red"].values["ForegroundOpacity"] == 0.4
    assert composites["Red"].values["LinkedControl"] == 0
