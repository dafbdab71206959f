"""A person makes volumes from labels, from noise and from one volume, and looks at them in the gallery.

The jobs are real child processes; a quick task stands in for the networks (see ``quick_synthesize``).
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import slicer
import slicer.util
import vtk
from panel_tools import SCENE_TESTS, job_folders, oblique_volume
from standin import screens

import phantoms
from medgan.job import Job
from medgan.settings import Contrast, Target

MODELS = {
    "quick": {"task": "label-to-volume"},
    "endless": {"task": "label-to-volume"},
    "failing": {"task": "label-to-volume"},
    "brain": {"task": "from-noise", "sliders": ["Size", "Ventricles"]},
    "own": {"task": "translate"},
    "heads": {"task": "from-noise", "network": "medgan.ShapeNet", "sliders": 8},
    "contrasts": {"task": "translate", "network": "medgan.ContrastNet"},
}


def synthesize_models(folder: Path) -> Path:
    """Models whose names tell ``quick_synthesize`` how to behave; their weights are never read."""
    for name, more in MODELS.items():
        (folder / name / "configs").mkdir(parents=True)
        (folder / name / "models").mkdir()
        (folder / name / "models" / "model.pt").write_bytes(b"")
        ours = {
            "title": f"The {name} model",
            "network": "medgan.DenoiseNet",
            "weights": {"faithful": {"file": "models/model.pt", "sha256": "0" * 64}},
            **more,
        }
        (folder / name / "configs" / "metadata.json").write_text(json.dumps({"version": "0.0.1", "medgan": ours}))
    return folder


@pytest.fixture
def maker(person, tmp_path, monkeypatch):
    """Somebody at the panel of this task who has quick models and no shipped ones."""
    from medgan import models

    monkeypatch.setattr(models, "SHIPPED", tmp_path / "nothing")
    monkeypatch.setenv("MEDGAN_MODELS", str(synthesize_models(tmp_path / "synthesize models")))
    monkeypatch.setattr(Job, "child_script", SCENE_TESTS / "quick_child.py")
    person.widget._panels["synthesize"][1].reload()
    person.choose_task("synthesize")
    person.parameters.synthesize.model = "quick"
    return person


@pytest.fixture
def ui(maker):
    return maker.ui_of("synthesize")


@pytest.fixture
def a_segmentation(maker):
    """Two segments with values of their own, oblique; the panel has chosen it."""
    array = np.zeros((8, 9, 10), np.int16)
    array[1:5, 2:7, 1:4], array[2:6, 3:8, 5:8] = 2, 41
    geometry = phantoms.awkward_geometry()
    labels = slicer.util.addVolumeFromArray(array, geometry, "Parts map", "vtkMRMLLabelMapVolumeNode")
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Parts")
    node.CreateDefaultDisplayNodes()
    slicer.vtkSlicerSegmentationsModuleLogic.ImportLabelmapToSegmentationNode(labels, node)
    slicer.mrmlScene.RemoveNode(labels)
    maker.parameters.synthesizeLabels = node
    return node


def start_from(person, source: str) -> None:
    person.parameters.synthesizeSource = type(person.parameters.synthesizeSource)[source]


def make(person) -> None:
    person.press_apply()
    person.wait_for_end()
    assert person.ui.errorLabel.text == ""


def composite():
    return slicer.app.layoutManager().sliceWidget("Red").mrmlSliceCompositeNode()


def background() -> str:
    return slicer.mrmlScene.GetNodeByID(composite().GetBackgroundVolumeID()).GetName()


def settings_of(node) -> dict:
    return json.loads(node.GetAttribute("MedGAN.Settings"))


def click(ui, row: int) -> None:
    ui.gallery.setCurrentRow(row)
    ui.gallery.itemClicked(ui.gallery.item(row))


def test_panel_says_what_is_missing_for_each_source(maker, ui):
    assert maker.ui.applyButton.toolTip == "Choose a segmentation or label map."
    assert maker.ui.applyButton.text == "Make"
    ui.synthesizeSource.setCurrentIndex(2)
    assert maker.parameters.synthesizeSource.name == "VOLUME"
    assert maker.ui.applyButton.toolTip == "Choose an input volume."
    ui.synthesizeSource.setCurrentIndex(1)
    assert maker.ui.applyButton.enabled
    assert maker.parameters.synthesize.model == "brain"
    maker.parameters.synthesize.count = 25
    assert maker.ui.applyButton.toolTip.endswith("use 'medgan synthesize --count'.")


def test_each_source_has_its_models_and_options(maker, ui, a_segmentation):
    def options() -> set[str]:
        names = "contrast deformation truncation target minutes coarse count intensitiesTable shapeCheckBox latent1"
        return {name for name in names.split() if not getattr(ui, name).isHidden()}

    def menu() -> list[str]:
        return [ui.modelSelector.itemText(n) for n in range(ui.modelSelector.count)]

    assert options() == {"contrast", "deformation", "count"}
    assert menu() == ["The endless model", "The failing model", "The quick model"]
    start_from(maker, "NOISE")
    assert options() == {"truncation", "count", "shapeCheckBox"}
    assert menu() == ["The brain model", "The heads model"]
    maker.parameters.synthesize.model = "heads"
    assert options() == {"contrast", "deformation", "truncation", "count", "shapeCheckBox"}
    maker.parameters.synthesize.contrast = Contrast.BY_HAND
    assert "no labels yet" in maker.ui.applyButton.toolTip
    maker.parameters.synthesize.contrast = Contrast.T2
    assert maker.ui.applyButton.enabled
    start_from(maker, "VOLUME")
    maker.parameters.synthesize.model = "own"
    assert options() == set()
    assert set(menu()) == {"The contrasts model", "The own model", "Variations of a volume"}
    maker.parameters.synthesize.model = "contrasts"
    assert options() == {"target"}
    maker.parameters.synthesize.model = "variations"
    assert options() == {"minutes", "coarse", "count"}


def test_volumes_from_a_segmentation_are_a_gallery(maker, ui, a_segmentation, jobs_folder):
    ui.count.value = 2
    ui.seed.value = 7
    make(maker)
    assert ui.gallery.count == 2
    assert [ui.gallery.item(n).text() for n in range(2)] == ["seed 7", "seed 8"]
    assert not ui.gallery.item(0).icon().isNull()
    assert background() == "Parts synthetic, seed 7"
    first = slicer.util.getNode("Parts synthetic, seed 7 labels")
    second = slicer.util.getNode("Parts synthetic, seed 8 labels")
    assert (first.GetDisplayNode().GetVisibility(), second.GetDisplayNode().GetVisibility()) == (1, 0)
    click(ui, 1)
    assert background() == "Parts synthetic, seed 8"
    assert (first.GetDisplayNode().GetVisibility(), second.GetDisplayNode().GetVisibility()) == (0, 1)
    assert "moved by 3 mm without folding" in ui.sampleLabel.text
    ui.labelsCheckBox.checked = False
    assert not second.GetDisplayNode().GetVisibility()
    assert "2 synthetic volumes" in maker.ui.progressLabel.text
    assert job_folders(jobs_folder) == []


def test_person_s_own_view_comes_back(maker, ui, a_segmentation):
    node = oblique_volume("Own")
    make(maker)
    assert background() == "Parts synthetic, seed 0"
    maker.choose_task("convert")
    assert composite().GetBackgroundVolumeID() == node.GetID()


def test_removed_volume_leaves_the_gallery(maker, ui, a_segmentation):
    ui.count.value = 3
    make(maker)
    click(ui, 1)
    ui.removeSampleButton.click()
    assert [ui.gallery.item(n).text() for n in range(ui.gallery.count)] == ["seed 0", "seed 2"]
    assert slicer.mrmlScene.GetFirstNodeByName("Parts synthetic, seed 1 labels") is None
    assert not ui.removeSampleButton.enabled
    slicer.mrmlScene.RemoveNode(slicer.util.getNode("Parts synthetic, seed 0"))
    assert ui.gallery.count == 1
    slicer.mrmlScene.Clear()
    maker.choose_task("synthesize")
    assert ui.gallerySection.isHidden()


def test_last_picture_that_is_removed_leaves_nothing_in_the_scene(maker, ui, a_segmentation):
    def held() -> tuple:
        hierarchy, items = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSubjectHierarchyNode"), vtk.vtkIdList()
        hierarchy.GetItemChildren(hierarchy.GetSceneItemID(), items, True)
        return {node.GetID() for node in slicer.mrmlScene.GetNodes()}, items.GetNumberOfIds()

    before = held()
    ui.count.value = 1
    make(maker)
    assert background().startswith("Parts synthetic")
    ui.removeSampleButton.click()
    assert held() == before


def test_segmentation_that_is_edited_meanwhile_is_named(maker, a_segmentation):
    maker.press_apply()
    held = a_segmentation.GetSegmentation()
    held.GetNthSegment(0).GetRepresentation("Binary labelmap").Modified()
    maker.wait_for_end()
    assert "'Parts' was edited meanwhile" in maker.ui.progressLabel.text


def test_typed_intensities_reach_the_task(maker, ui, a_segmentation):
    maker.parameters.synthesize.contrast = Contrast.BY_HAND
    table = ui.intensitiesTable
    assert table.item(0, 0).text() == "Background"
    assert table.rowCount == 3
    table.item(1, 1).setText("0.7")
    table.item(1, 2).setText("0,03")
    value = maker.parameters.synthesize.intensities.partition("=")[0]
    assert maker.parameters.synthesize.intensities == f"{value}=0.7/0.03"
    table.item(2, 1).setText("bright")
    assert "'bright' is no intensity for" in maker.ui.applyButton.toolTip
    assert not maker.ui.applyButton.enabled
    table.item(2, 1).setText("0.4")
    assert maker.ui.applyButton.enabled
    make(maker)
    held = settings_of(slicer.util.getNode("Parts synthetic, seed 0"))
    assert held["intensities"].startswith(f"{value}=0.7/0.03 ")
    assert held["contrast"] == "by hand"
    maker.parameters.synthesize.contrast = Contrast.USUAL
    assert table.isHidden()


def test_reference_gives_the_grid(maker, ui, a_segmentation):
    maker.parameters.synthesize.contrast = Contrast.REFERENCE
    assert maker.ui.applyButton.toolTip == "Choose the reference volume."
    reference = oblique_volume("Reference", (9, 10, 11))
    maker.parameters.synthesizeReference = reference
    make(maker)
    made = slicer.util.getNode("Parts synthetic, seed 0")
    assert made.GetImageData().GetDimensions() == reference.GetImageData().GetDimensions()
    assert made.GetSpacing() == pytest.approx(reference.GetSpacing())


def test_latent_sliders_and_seeds_of_a_model_from_noise(maker, ui):
    start_from(maker, "NOISE")
    assert ui.latent1.isHidden()
    ui.shapeCheckBox.checked = True
    assert ui.latent1Label.text == "Size"
    assert ui.latent3.isHidden()
    ui.latent2.value = -1.5
    assert maker.parameters.synthesize.sliders == "0 -1.5"
    assert ui.mix.isHidden()
    ui.toward.value = 12
    assert not ui.mix.isHidden()
    make(maker)
    made = slicer.util.getNode("The brain model synthetic, seed 0")
    assert (settings_of(made)["sliders"], settings_of(made)["toward"]) == ("0 -1.5", 12)
    assert made.GetImageData().GetDimensions() == (12, 10, 8)
    ui.shapeCheckBox.checked = False
    assert maker.parameters.synthesize.sliders == ""


def test_sliders_of_one_model_do_not_act_hidden_on_another(maker, ui):
    start_from(maker, "NOISE")
    maker.parameters.synthesize.model = "heads"
    ui.shapeCheckBox.checked = True
    ui.latent5.value = 2.0
    maker.parameters.synthesize.model = "brain"
    assert ui.latent3.isHidden()
    make(maker)
    assert settings_of(slicer.util.getNode("The brain model synthetic, seed 0"))["sliders"] == "0 0"


def test_what_was_set_for_another_source_does_not_act_hidden(maker, ui, a_segmentation):
    pack = maker.parameters.synthesize
    pack.target, pack.truncation, pack.coarse_mm = Target.T2, 0.3, 9.0
    start_from(maker, "LABELS")
    make(maker)
    settings = settings_of(slicer.util.getNode("Parts synthetic, seed 0"))
    assert (settings["target"], settings["truncation"], settings["coarse_mm"]) == ("any", 1.0, 3.0)
    assert (pack.target, pack.truncation) == (Target.T2, 0.3)


def test_variations_and_translation_start_from_the_volume(maker, ui):
    start_from(maker, "VOLUME")
    node = oblique_volume("Head")
    maker.wait(lambda: maker.parameters.synthesizeVolume is node)
    maker.parameters.synthesize.model = "variations"
    ui.count.value = 2
    ui.minutes.value = 1.5
    make(maker)
    made = slicer.util.getNode("Head synthetic, seed 1")
    assert settings_of(made)["minutes"] == 1.5
    before, after = (slicer.util.arrayFromVolume(each).astype(float) for each in (node, made))
    assert np.array_equal(after, before + 1)
    assert not ui.labelsCheckBox.enabled
    maker.parameters.synthesize.model = "own"
    make(maker)
    assert settings_of(slicer.util.getNode("Head synthetic, seed 0 1"))["count"] == 1


def test_translation_is_compared_with_its_input_under_the_guards(maker, ui):
    start_from(maker, "VOLUME")
    node = oblique_volume("Head")
    maker.wait(lambda: maker.parameters.synthesizeVolume is node)
    maker.parameters.synthesize.model = "contrasts"
    assert maker.ui.applyButton.toolTip == "Choose the contrast to make."
    ui.target.setCurrentIndex(ui.target.count - 1)
    make(maker)
    assert not maker.ui.compareSection.isHidden()
    assert maker.layers() == ["residual", "uncertainty", "places"]
    assert maker.places() == ["The model is unsure here."]
    assert background() == "Head"
    made = slicer.util.getNode("Head synthetic, seed 0")
    assert composite().GetForegroundVolumeID() == made.GetID()
    assert ui.gallery.count == 1
    maker.choose_task("convert")
    assert composite().GetForegroundVolumeID() is None


def test_own_view_comes_back_after_a_comparison_and_a_picture(maker, ui):
    """The two take the views one after the other; what was there before both is the person's."""
    start_from(maker, "VOLUME")
    own, node = oblique_volume("Own"), oblique_volume("Head")
    composite().SetForegroundVolumeID(own.GetID())
    composite().SetForegroundOpacity(0.5)
    maker.parameters.synthesizeVolume = node
    maker.parameters.synthesize.model = "contrasts"
    ui.target.setCurrentIndex(ui.target.count - 1)
    make(maker)
    ui.gallery.setCurrentRow(0)
    ui.gallery.itemClicked(ui.gallery.item(0))
    assert background() == "Head synthetic, seed 0"
    maker.choose_task("convert")
    assert background() == "Head"
    assert (composite().GetForegroundVolumeID(), composite().GetForegroundOpacity()) == (own.GetID(), 0.5)


def test_variations_take_the_labels_along(maker, ui, a_segmentation):
    start_from(maker, "VOLUME")
    node = oblique_volume("Head", (8, 9, 10))
    maker.wait(lambda: maker.parameters.synthesizeVolume is node)
    maker.parameters.synthesize.model = "variations"
    assert not ui.synthesizeLabels.isHidden()
    make(maker)
    assert slicer.mrmlScene.GetFirstNodeByName("Head synthetic, seed 0 labels") is not None


def test_labels_that_were_refused_are_not_chosen_again(maker, ui, a_segmentation):
    start_from(maker, "VOLUME")
    node = oblique_volume("Head", (8, 9, 10))
    maker.wait(lambda: maker.parameters.synthesizeVolume is node)
    maker.parameters.synthesizeLabels = None
    oblique_volume("Another", (8, 9, 10))
    maker.widget._look()
    assert maker.parameters.synthesizeLabels is None


def test_cancel_and_failure_change_nothing(maker, ui, a_segmentation, jobs_folder):
    before = {node.GetID() for node in slicer.mrmlScene.GetNodes()}
    maker.parameters.synthesize.model = "endless"
    maker.press_apply()
    maker.wait_for_work()
    maker.ui.applyButton.click()
    maker.wait_for_end(10)
    assert maker.ui.progressLabel.text == "Cancelled; the scene is as it was."
    maker.parameters.synthesize.model = "failing"
    maker.press_apply()
    maker.wait_for_end()
    assert maker.ui.errorLabel.text == "Model 'failing' fails; choose another."
    assert {node.GetID() for node in slicer.mrmlScene.GetNodes()} == before
    assert job_folders(jobs_folder) == []


def test_empty_segmentation_is_one_sentence(maker, ui):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Empty")
    maker.parameters.synthesizeLabels = node
    maker.press_apply()
    assert "'Empty' has no segments" in maker.ui.errorLabel.text


def test_everything_fits_the_panel(maker, ui, a_segmentation, screenshot):
    maker.parameters.synthesize.contrast = Contrast.BY_HAND
    ui.count.value = 3
    make(maker)
    ui.advancedSection.collapsed = False
    screenshot(maker.widget, "50-synthesize-labels")
    assert screens.misfits(maker.widget.parent) == []
    start_from(maker, "NOISE")
    ui.shapeCheckBox.checked = True
    ui.toward.value = 3
    maker.parameters.synthesize.count = 1
    screenshot(maker.widget, "51-synthesize-noise")
    assert screens.misfits(maker.widget.parent) == []
    start_from(maker, "VOLUME")
    maker.parameters.synthesize.model = "variations"
    screenshot(maker.widget, "52-synthesize-variations")
    assert ui.modelSelector.width == ui.synthesizeVolume.width, "nothing takes room from the name of the model"
    assert screens.misfits(maker.widget.parent) == []
