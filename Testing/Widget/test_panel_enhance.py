"""A person chooses chains of models and their options, runs them, and looks at the maps and places of the result.

Quick stand-ins take the place of the shipped models (see ``quick_enhance``); ``test_panel_run`` runs the real ones.
"""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import pytest
import slicer
import slicer.util
from panel_tools import REPOSITORY, oblique_volume

import phantoms
from scene_reading import load_scene

CHAINS = ["Denoise + super-resolve", "Denoise + deblur", "Denoise + deblur + super-resolve"]

SENTENCES = [
    "At R 13, P 47, S 81 mm the result contradicts what the input supports, by up to 120 there.",
    "At R 15, P 47, S 81 mm the result added what the input supports, by up to 120 there.",
]
MOVED_SENTENCES = [s.replace("R 13", "R 43").replace("R 15", "R 45") for s in SENTENCES]
"""The same 30 mm further to the right."""


@pytest.fixture
def person(equipped_person):
    return equipped_person


def isotropic_volume(name, sigma=40.0, side=24):
    """Noise as told, no blur, 1 mm along each axis."""
    array = phantoms.head((side, side, side)) + 500
    array = array + np.random.default_rng(3).normal(0, sigma, array.shape)
    return slicer.util.addVolumeFromArray(array.astype(np.float32), np.eye(4), name)


def slice_centre(view):
    """World RAS mm of the middle of a slice view."""
    matrix = slicer.app.layoutManager().sliceWidget(view).mrmlSliceNode().GetSliceToRAS()
    return [matrix.GetElement(row, 3) for row in range(3)]


def foreground():
    composite = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceCompositeNode()
    return slicer.mrmlScene.GetNodeByID(composite.GetForegroundVolumeID()).GetName()


def run(person, title):
    person.choose_in_menu(title)
    person.press_apply()
    person.wait_for_end()
    assert person.ui.errorLabel.text == "", person.log()


@pytest.mark.parametrize(
    ("name", "typed"), [("ratio", 2.5), ("blurSigma", 1.55), ("sliceGap", 0.35), ("fitMinutes", 2.5)]
)
def test_typed_numbers_arrive_whole(person, name, typed):
    qt, test = (pytest.importorskip(f"PySide6.{name}") for name in ("QtCore", "QtTest"))  # not inside Slicer
    isotropic_volume("Volume")
    person.choose_in_menu(CHAINS[-1])
    box = getattr(person.enhance_ui, name)._native
    box.selectAll()
    test.QTest.keyClicks(box, str(typed))
    test.QTest.keyClick(box, qt.Qt.Key.Key_Return)
    assert getattr(person.enhance_ui, name).value == typed


@pytest.mark.parametrize(
    "file", sorted((REPOSITORY / "MedGANSlicer" / "Resources" / "UI").glob("*.ui")), ids=lambda file: file.stem
)
def test_no_number_is_taken_before_it_is_typed_whole(file):
    """Slicer writes each value that it takes back into the box, which then refuses further decimals."""
    boxes = [each for each in ElementTree.parse(file).iter("widget") if each.get("class") == "QDoubleSpinBox"]
    for box in boxes:
        assert box.findtext("property[@name='keyboardTracking']/bool") == "false", box.get("name")


def test_menu_offers_the_models_and_the_chains_of_the_shipped_ones(person):
    singles = ["The denoise model", "The deblur model", "The superres model"]
    own = ["The endless model", "The failing model", "The quick model"]
    assert person.menu() == [*singles, *own, *CHAINS]


def test_chain_is_offered_only_when_all_its_models_are_there(person, tmp_path, monkeypatch):
    from panel_tools import models_that

    from medgan import models

    monkeypatch.setattr(models, "SHIPPED", models_that(tmp_path / "fewer", "denoise", "superres"))
    person.widget._panels["enhance"][1]._models.reload()
    assert [title for title in person.menu() if "+" in title] == ["Denoise + super-resolve"]


def test_chosen_chain_is_kept_in_the_parameter_node_and_has_all_cards(person):
    person.choose_in_menu("Denoise + deblur + super-resolve")
    assert person.parameters.parameterNode.GetParameter("enhance.model") == "denoise+deblur+superres"
    ui = person.enhance_ui
    assert ui.modelSelector.currentText == "Denoise + deblur + super-resolve"
    assert [name in ui.modelCard.text for name in ("The denoise model", "The deblur model", "The superres model")]
    person.parameters.enhance.model = "superres+denoise"
    assert ui.modelSelector.currentText == "Denoise + super-resolve", "named in another order, run in the same"
    person.parameters.enhance.model = "denoise+gone"
    assert "not on this computer" in ui.modelSummary.text


@pytest.mark.parametrize(
    ("title", "shown"),
    [
        ("The denoise model", []),
        ("The deblur model", ["deblurGroup", "fitGroup"]),
        ("The superres model", ["superresGroup", "fitGroup"]),
        ("Denoise + deblur", ["deblurGroup", "fitGroup"]),
        ("Denoise + deblur + super-resolve", ["superresGroup", "deblurGroup", "fitGroup"]),
    ],
)
def test_options_are_shown_where_they_have_an_effect(person, title, shown):
    person.choose_in_menu(title)
    ui = person.enhance_ui
    groups = ("superresGroup", "deblurGroup", "fitGroup")
    assert [name for name in groups if not getattr(ui, name).isHidden()] == shown
    assert not ui.uncertainty.isHidden()


def test_panel_says_which_grid_will_come_out(person):
    array = np.random.default_rng(0).normal(500, 40, (10, 16, 16)).astype(np.float32)
    person.parameters.inputVolume = slicer.util.addVolumeFromArray(array, np.diag([1.0, 1.0, 4.0, 1.0]), "Thick")
    person.choose_in_menu("The superres model")
    ui = person.enhance_ui
    assert ui.planLabel.text == "Along k, ratio 4:\n16 × 16 × 10 at 1 × 1 × 4 mm\n→ 16 × 16 × 40 at 1 × 1 × 1 mm"
    ui.ratio.value = 2.0
    assert ui.planLabel.text.endswith("→ 16 × 16 × 20 at 1 × 1 × 2 mm")
    ui.axis.setCurrentIndex(4)
    assert ui.axis.currentText == "All three"
    assert ui.planLabel.text.startswith("All axes, ratio 2:\n")
    assert ui.planLabel.text.endswith("→ 32 × 32 × 20 at 0.5 × 0.5 × 2 mm")


def test_impossible_ratio_is_told_and_can_not_be_applied(person):
    person.volume()
    person.choose_in_menu("The superres model")
    ui = person.enhance_ui
    ui.ratio.value = 1.1
    assert ui.planLabel.text == "The ratio must be 1.2 to 8, or 0 for isotropic voxels."
    assert not person.ui.applyButton.enabled
    assert person.ui.applyButton.toolTip == ui.planLabel.text
    assert not person.ui.previewButton.enabled
    ui.ratio.value = 1.2
    assert person.ui.applyButton.enabled
    ui.sliceGap.value = 2.3
    assert "gap must be smaller" in ui.planLabel.text
    assert not person.ui.applyButton.enabled
    person.choose_in_menu("The denoise model")
    assert person.ui.applyButton.enabled, "the ratio does not matter for denoising"


def test_options_reach_the_run_and_survive_saving(person, slicer_standin, tmp_path):
    person.volume()
    person.choose_in_menu("Denoise + deblur + super-resolve")
    ui = person.enhance_ui
    ui.ratio.value, ui.blurSigma.value, ui.sliceGap.value = 2.0, 1.5, 0.3
    ui.sliceProfile.setCurrentIndex(1)
    ui.uncertainty.checked = True
    ui.fitMinutes.value = 0.5
    assert ui.fitFromScratch.enabled
    person.press_apply()
    person.wait_for_end()
    import json

    settings = json.loads(slicer.util.getNode("Head enhanced").GetAttribute("MedGAN.Settings"))
    expected = {"ratio": 2.0, "blur_sigma": 1.5, "slice_gap_mm": 0.3, "slice_profile": "gaussian"}
    expected |= {"uncertainty": True, "fit_minutes": 0.5, "model": "denoise+deblur+superres", "axis": "auto"}
    assert {name: settings[name] for name in expected} == expected
    from MedGANSlicerLib.Panels.EnhanceOptions import settingsOf

    cards = person.widget._panels["enhance"][1]._models.cardsOf("denoise")
    shown = settingsOf(person.parameters, cards)
    assert (shown.ratio, shown.blur_sigma, shown.uncertainty) == (0.0, 0.0, True), "what is not shown is not meant"
    slicer_standin.scene_holder.saveScene(tmp_path / "s.mrb")
    slicer.mrmlScene.Clear()
    assert ui.ratio.value == 0.0
    load_scene(slicer_standin.scene_holder.scene, tmp_path / "s.mrb", tmp_path / "unpacked")
    assert (ui.ratio.value, ui.blurSigma.value, ui.uncertainty.checked) == (2.0, 1.5, True)
    assert ui.modelSelector.currentText == "Denoise + deblur + super-resolve"


def test_recommended_chain_is_preselected_with_its_reason(person):
    person.volume()
    assert person.parameters.enhance.model == "denoise+superres"
    text = person.enhance_ui.seenLabel.text
    assert text.endswith("Recommended: Denoise + super-resolve, because of noise and thick slices.")
    assert "slices 3.3× thicker than wide" in text
    turned = slicer.util.arrayFromVolume(person.parameters.inputVolume)
    matrix = np.diag([4.0, 1.0, 1.0, 1.0])
    person.parameters.inputVolume = slicer.util.addVolumeFromArray(turned, matrix, "Turned")
    text = person.enhance_ui.seenLabel.text
    assert text.endswith("because of noise and coarse voxels along i.")
    assert "voxels 4.0× longer along i" in text
    person.parameters.inputVolume = isotropic_volume("Even")
    assert person.parameters.enhance.model == "denoise"
    assert person.enhance_ui.seenLabel.text.endswith("Recommended: The denoise model, because of noise.")


def test_mask_is_not_called_a_scan_with_noise(person):
    mask = (slicer.util.arrayFromVolume(isotropic_volume("Even")) > 500).astype(np.uint8)
    person.parameters.inputVolume = slicer.util.addVolumeFromArray(mask, np.eye(4), "Mask")
    assert person.enhance_ui.seenLabel.text == (
        "Nothing is recommended: it looks like a mask or a probability map, not like a scan."
    )


def test_choice_of_the_person_is_not_overruled(person):
    person.parameters.inputVolume = isotropic_volume("Even")
    person.choose_in_menu("The denoise model")  # the one that is recommended, but chosen
    person.parameters.inputVolume = oblique_volume()
    assert person.parameters.enhance.model == "denoise"
    assert "Recommended: Denoise + super-resolve" in person.enhance_ui.seenLabel.text
    person.choose_in_menu("The deblur model")
    person.parameters.inputVolume = isotropic_volume("Another")
    assert person.parameters.enhance.model == "deblur"
    slicer.mrmlScene.Clear()
    person.volume()
    assert person.parameters.enhance.model == "denoise+superres", "a new scene starts anew"


def test_chain_gives_a_result_with_its_maps(person):
    node = person.volume()
    person.enhance_ui.uncertainty.checked = True
    run(person, "Denoise + super-resolve")
    assert person.volumes() == [
        "Head", "Head enhanced", "Head enhanced difference", "Head enhanced residual", "Head enhanced uncertainty"
    ]  # fmt: skip
    result = slicer.util.getNode("Head enhanced")
    assert result.GetImageData().GetDimensions() == (16, 14, round(12 * 2.3 / 0.7))
    assert person.layers() == ["difference", "residual", "uncertainty", "places"]
    text = person.ui.resultLabel.text
    assert text.startswith("Head enhanced: noise 40 → 8, voxels of 0.7 × 1.1 × 0.708 mm, mean change 5, residual 1 ")
    assert text.endswith(" 2 places to check.")
    assert slicer.util.arrayFromVolume(slicer.util.getNode("Head enhanced residual")).shape == (12, 14, 16)
    assert node.GetImageData().GetDimensions() == (16, 14, 12)


def test_one_map_at_a_time_lies_over_the_input_with_its_legend(person):
    person.volume()
    person.enhance_ui.uncertainty.checked = True
    run(person, "Denoise + super-resolve")
    ui = person.ui
    assert foreground() == "Head enhanced"
    assert ui.legend.isHidden()
    ui.residualCheckBox.checked = True
    assert foreground() == "Head enhanced residual"
    assert (ui.legendLow.text, ui.legendHigh.text, ui.afterLabel.text) == ("-1", "+1", "Residual")
    assert ui.legendUnit.text == "Result measured again minus input, in the unit of the input"
    assert "rgb(255,255,255)" in ui.legendBar.styleSheet
    ui.uncertaintyCheckBox.checked = True
    assert not ui.residualCheckBox.checked
    assert foreground() == "Head enhanced uncertainty"
    assert (ui.legendLow.text, ui.legendHigh.text, ui.afterLabel.text) == ("0", "7.96", "Uncertainty")
    assert "rgb(255,255,255)" not in ui.legendBar.styleSheet
    ui.differenceCheckBox.checked = True
    assert not ui.uncertaintyCheckBox.checked
    assert foreground() == "Head enhanced difference"
    ui.differenceCheckBox.checked = False
    assert foreground() == "Head enhanced"
    assert ui.afterLabel.text == "After"


def test_layers_that_a_result_does_not_have_are_not_offered(person):
    person.volume()
    person.enhance_ui.uncertainty.checked = True
    run(person, "The superres model")
    person.ui.uncertaintyCheckBox.checked = True
    person.enhance_ui.uncertainty.checked = False
    run(person, "The quick model")
    assert person.layers() == ["difference"]
    assert not person.ui.uncertaintyCheckBox.checked
    assert foreground() == "Head denoised"
    assert person.places() == []


def test_places_are_listed_and_a_click_centres_the_slices_on_them(person):
    node = person.volume()
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "T")
    matrix = slicer.vtkMRMLSliceNode().GetSliceToRAS()
    matrix.SetElement(0, 3, 30.0)
    transform.SetMatrixTransformToParent(matrix)
    node.SetAndObserveTransformNodeID(transform.GetID())
    run(person, "The superres model")
    assert person.ui.placesCheckBox.text == "Places to check (2)"
    assert person.places() == MOVED_SENTENCES
    assert MOVED_SENTENCES[1] in person.log()
    person.click_place(1)
    world = [phantoms.awkward_geometry() @ [*voxel, 1] + [30, 0, 0, 0] for voxel in ((1, 1, 1), (3, 2, 1))]
    for view in ("Red", "Yellow", "Green"):
        assert slice_centre(view) == pytest.approx(world[1][:3], abs=1e-3)
    person.click_place(0)
    assert slice_centre("Red") == pytest.approx(world[0][:3], abs=1e-3)


def test_points_are_switched_on_and_off_and_hidden_at_the_end(person):
    person.volume()
    run(person, "The superres model")
    display = slicer.util.getNode("Head super-resolved to check").GetDisplayNode()
    assert person.ui.placesCheckBox.checked
    assert display.GetVisibility()
    person.ui.placesCheckBox.checked = False
    assert not display.GetVisibility()
    person.ui.placesCheckBox.checked = True
    assert display.GetVisibility()
    person.ui.closeCompareButton.click()
    assert not display.GetVisibility()
    assert slicer.util.getNode("Head super-resolved to check") is not None


@pytest.mark.parametrize("part", ["residual", "uncertainty", "to check"])
def test_deleting_a_part_ends_the_comparison(person, part):
    person.volume()
    person.enhance_ui.uncertainty.checked = True
    run(person, "The superres model")
    slicer.mrmlScene.RemoveNode(slicer.util.getNode(f"Head super-resolved {part}"))
    assert not person.widget.compare.active
    assert person.ui.compareSection.isHidden()


def test_scene_without_markups_still_shows_the_sentences(person, monkeypatch):
    from MedGANSlicerLib import Places

    monkeypatch.setattr(Places, "CLASS", "vtkMRMLNoSuchNode")
    person.volume()
    run(person, "The superres model")
    assert person.places() == SENTENCES
    assert SENTENCES[0] in person.log()
    assert not person.ui.placesCheckBox.enabled
    person.click_place(1)  # there is no point to go to


def test_preview_of_a_chain_is_a_part_on_a_finer_grid(person, monkeypatch):
    from MedGANSlicerLib import Preview

    node = person.volume(shape=(40, 14, 16))
    person.choose_in_menu("Denoise + super-resolve")
    person.ui.previewButton.click()
    person.wait_for_end()
    preview = slicer.util.getNode("Head enhanced preview")
    spacing = preview.GetSpacing()
    assert spacing == pytest.approx((0.7, 1.1, 0.7), abs=0.05)
    inner, outer = [0.0] * 6, [0.0] * 6
    preview.GetRASBounds(inner)
    node.GetRASBounds(outer)
    assert all(low >= other - 1e-3 for low, other in zip(inner[::2], outer[::2], strict=True))
    assert all(high <= other + 1e-3 for high, other in zip(inner[1::2], outer[1::2], strict=True))
    assert person.ui.keepPreviewButton.isHidden() is False
    monkeypatch.setattr(Preview, "MOST_VOXELS", 8000)
    person.ui.previewButton.click()
    person.wait_for_end()
    assert slicer.util.getNode("Head enhanced preview").GetImageData().GetNumberOfPoints() <= 1.1 * 8000
    person.press_apply()
    person.wait_for_end()
    assert not any("preview" in each for each in person.volumes())
    assert len(slicer.util.getNodesByClass("vtkMRMLMarkupsFiducialNode")) == 1


def test_time_is_estimated_for_each_chain_from_the_voxels_of_its_result(person):
    person.volume()
    ui = person.enhance_ui
    person.choose_in_menu("Denoise + super-resolve")
    assert "roughly" in ui.modelSummary.text
    run(person, "Denoise + super-resolve")
    assert "about" in ui.modelSummary.text
    voxels = 16 * 14 * round(12 * 2.3 / 0.7)
    speed = float(slicer.app.settings().value("MedGAN/voxelsPerSecond/denoise+superres/auto", 0.0))
    assert speed == pytest.approx(voxels / 0.5)
    person.choose_in_menu("Denoise + deblur")
    assert "roughly" in ui.modelSummary.text
    person.choose_in_menu("Denoise + super-resolve")
    ui.fitMinutes.value = 10.0
    assert "about 10 min" in ui.modelSummary.text
    ui.uncertainty.checked = True
    assert "roughly" in ui.modelSummary.text


def test_fit_is_only_asked_for_where_it_is_offered(person):
    import json

    person.volume(shape=(40, 14, 16))
    ui = person.enhance_ui
    person.choose_in_menu("The superres model")
    ui.fitMinutes.value = 20.0
    ui.fitFromScratch.checked = True

    def asked(name):
        settings = json.loads(slicer.util.getNode(name).GetAttribute("MedGAN.Settings"))
        return settings["fit_minutes"], settings["fit_from_scratch"]

    person.ui.previewButton.click()
    person.wait_for_end()
    assert asked("Head super-resolved preview") == (0.0, False), "a preview takes seconds"
    run(person, "The superres model")
    assert asked("Head super-resolved") == (20.0, True)
    run(person, "The quick model")
    assert asked("Head denoised") == (0.0, False)
    assert "min" not in ui.modelSummary.text
    person.choose_in_menu("The superres model")
    ui.fitMinutes.value = 0.0
    assert not ui.fitFromScratch.enabled
    run(person, "The superres model")
    assert asked("Head super-resolved 1") == (0.0, False), "an untrained network alone would be useless"


def test_places_follow_the_slider_of_a_sequence(person):
    sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", "Cine")
    for number in range(2):
        frame = oblique_volume(f"frame {number}", sigma=40.0 + number)
        sequence.SetDataNodeAtValue(frame, str(number))
        slicer.mrmlScene.RemoveNode(frame)
    browser = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", "Browser")
    browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    person.parameters.inputVolume = browser.GetProxyNode(sequence)
    run(person, "The superres model")
    result = slicer.util.getFirstNodeByClassByName("vtkMRMLSequenceNode", "Cine super-resolved")
    places = slicer.util.getFirstNodeByClassByName("vtkMRMLSequenceNode", "Cine super-resolved to check")
    assert result.GetNumberOfDataNodes() == places.GetNumberOfDataNodes() == 2
    assert person.places() == SENTENCES
    places.GetNthDataNode(1).RemoveNthControlPoint(0)
    browser.SetSelectedItemNumber(1)
    assert person.places() == SENTENCES[1:]
    assert person.ui.placesCheckBox.text == "Places to check (1)"
    person.ui.closeCompareButton.click()
    browser.SetSelectedItemNumber(0)
    assert person.places() == []
