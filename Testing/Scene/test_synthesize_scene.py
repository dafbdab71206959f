"""Synthetic volumes in a real scene: where they lie, what they say of themselves, their labels, and their pictures."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
import quick_synthesize
import slicer
import vtk
from scene_tools import (
    add_volume,
    array_of,
    finer_outputs,
    matrix_of,
    node_ids,
    oblique_matrix,
    to_world,
    under_a_transform,
)
from vtk.util.numpy_support import vtk_to_numpy

from medgan.labels import segmentation_of
from medgan.segments import Layer, Segment, Segmentation
from medgan.settings import SynthesizeSettings
from medgan.volume import Label, LabelMap, Volume
from MedGANSlicerLib import SynthesizeNodes, TaskLogic
from MedGANSlicerLib.Places import worldPlace
from MedGANSlicerLib.SceneBridge import volumeFromNode
from MedGANSlicerLib.SceneEdits import subjectHierarchy
from MedGANSlicerLib.SegmentationBridge import publishSegmentation, readSegmentation
from MedGANSlicerLib.SegmentGrids import volumeGrid
from MedGANSlicerLib.SynthesizeNodes import (
    Intensity,
    intensitiesOf,
    intensityText,
    labelInputs,
    labelsIn,
    publishSamples,
    showLabels,
)
from MedGANSlicerLib.Thumbnails import thumbnail

NAMES = {2: "white", 41: "grey"}


def made(inputs, **settings):
    return quick_synthesize.run(inputs, SynthesizeSettings(model="quick", seed=5, **settings), lambda *_: None)


@pytest.fixture
def a_segmentation(a_scene):
    """Two segments with values of their own, oblique and left-handed, under a transform."""
    array = np.zeros((7, 12, 9), np.uint8)
    array[1:5, 2:9, 1:4], array[2:6, 3:8, 5:8] = 2, 41
    labels = LabelMap(array, oblique_matrix(left_handed=True), {value: Label(name) for value, name in NAMES.items()})
    node = publishSegmentation(a_scene, segmentation_of([labels])[0], "Parts")
    return under_a_transform(a_scene, node)


def labels_of(node, volume_node) -> np.ndarray:
    held, grid = readSegmentation(node, volumeGrid(volume_node))
    result = np.zeros(grid.shape, int)
    for number, segment in enumerate(held.segments):
        result[held.mask(number)] = segment.known_value
    return result


def test_volume_and_labels_lie_on_the_segmentation(a_scene, a_segmentation):
    outputs = made(labelInputs(a_segmentation), count=2)
    first, second = publishSamples(a_scene, outputs, a_segmentation, "Parts")
    assert [first.seed, second.seed] == [5, 6]
    assert first.volume.GetName() == "Parts synthetic, seed 5"
    assert first.volume.GetParentTransformNode() is a_segmentation.GetParentTransformNode()
    expected = labels_of(a_segmentation, first.volume)
    assert set(np.unique(expected)) == {0, 2, 41}
    assert array_of(first.volume) == pytest.approx(10.0 * expected + 5)
    assert np.array_equal(labels_of(first.segmentation, first.volume), expected)
    assert second.segmentation.GetParentTransformNode() is a_segmentation.GetParentTransformNode()
    assert not first.segmentation.GetDisplayNode().GetVisibility()
    showLabels(first, True)
    assert first.segmentation.GetDisplayNode().GetVisibility()


def test_nodes_say_that_they_are_synthetic_and_how_they_were_made(a_scene, a_segmentation):
    (sample,) = publishSamples(a_scene, made(labelInputs(a_segmentation)), a_segmentation, "Parts")
    for node in sample.present():
        assert node.GetAttribute("MedGAN.Synthetic") == "voxels produced by a network"
        assert node.GetAttribute("MedGAN.Seed") == "5"
        assert node.GetAttribute("MedGAN.SourceName") == "Parts"
        assert json.loads(node.GetAttribute("MedGAN.Sample"))["folding"]["rms_mm"] == 3.0
        assert json.loads(node.GetAttribute("MedGAN.Settings"))["model"] == "quick"
    assert sample.volume.GetNodeReference("MedGAN.Source") is a_segmentation
    assert sample.segmentation.GetNodeReference("MedGAN.Source") is sample.volume


def test_segments_that_overlap_are_all_in_the_table_of_intensities(a_scene):
    """The Segment Editor gives both the value 1, each in a layer of its own."""
    organ, tumour = np.zeros((7, 12, 9), np.uint8), np.zeros((7, 12, 9), np.uint8)
    organ[1:6, 2:10, 1:8], tumour[2:4, 3:6, 3:6] = 1, 1
    segments = [Segment(Label("organ"), 0, 1), Segment(Label("tumour"), 1, 1)]
    both = Segmentation(organ.shape, oblique_matrix(), [Layer(organ), Layer(tumour)], segments)
    node = publishSegmentation(a_scene, both, "Parts")
    for each in node.GetSegmentation().GetSegmentIDs():
        node.GetSegmentation().GetSegment(each).RemoveTag("MedGAN.LabelValue")
    assert labelsIn(node) == {0: "Background", 1: "organ", 2: "tumour"}
    held = labelInputs(node)["labels"]
    assert {value: label.name for value, label in held.labels.items()} == {1: "organ", 2: "tumour"}
    assert set(np.unique(held.array)) == {0, 1, 2}


def test_samples_share_a_folder(a_headless_scene, a_scene, a_segmentation):
    slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(a_scene)
    samples = publishSamples(a_scene, made(labelInputs(a_segmentation), count=2), a_segmentation, "Parts")
    hierarchy = subjectHierarchy(a_scene)
    items = {hierarchy.GetItemByDataNode(node) for sample in samples for node in sample.present()}
    parents = {hierarchy.GetItemParent(item) for item in items}
    assert len(items) == 4
    assert [hierarchy.GetItemName(parent) for parent in parents] == ["Parts synthetic"]


def test_volume_from_noise_needs_no_source(a_scene):
    (sample,) = publishSamples(a_scene, made({}), None, "Brain from noise")
    assert matrix_of(sample.volume) == pytest.approx(np.eye(4))
    assert sample.volume.GetParentTransformNode() is None
    assert sample.segmentation.GetSegmentation().GetNumberOfSegments() == 1
    assert sample.volume.GetAttribute("MedGAN.SourceName") == ""


def test_result_follows_a_volume_whose_transform_was_hardened(a_scene, an_oblique_volume_node):
    node = under_a_transform(a_scene, an_oblique_volume_node)
    outputs, matrix = made({"volume": volumeFromNode(node)}), matrix_of(node)
    node.HardenTransform()
    (sample,) = publishSamples(a_scene, outputs, node, "Head", matrix)
    assert matrix_of(sample.volume) == pytest.approx(matrix_of(node))
    assert sample.segmentation is None


def test_translated_volume_has_its_guards(a_scene, an_oblique_volume_node):
    node = under_a_transform(a_scene, an_oblique_volume_node)
    settings = SynthesizeSettings(model="contrasts", seed=5)
    outputs = quick_synthesize.run({"volume": volumeFromNode(node)}, settings, lambda *_: None)
    (sample,) = publishSamples(a_scene, outputs, node, "Head", matrix_of(node))
    assert sample.maps.volume is sample.volume
    assert array_of(sample.maps.residual) == pytest.approx(2.0)
    assert array_of(sample.maps.uncertainty) == pytest.approx(3.0)
    assert matrix_of(sample.maps.residual) == pytest.approx(matrix_of(node))
    assert worldPlace(sample.maps.places, 0) == pytest.approx(
        to_world(node)((matrix_of(node) @ [3, 2, 1, 1])[:3]), abs=1e-4
    )
    assert len(sample.present()) == 4
    assert sample.maps.residual.GetAttribute("MedGAN.Content") == "result translated back minus input"


def test_guards_of_a_translated_volume_follow_it_when_it_is_filled(a_scene, an_oblique_volume_node):
    settings, node = SynthesizeSettings(model="contrasts", seed=5), an_oblique_volume_node
    outputs = quick_synthesize.run({"volume": volumeFromNode(node)}, settings, lambda *_: None)
    (sample,) = publishSamples(a_scene, outputs, node, "Head", matrix_of(node))
    finer = finer_outputs(volumeFromNode(node))
    filled = TaskLogic.publish(finer, node, sample.volume)
    assert filled.residual is sample.maps.residual
    assert filled.places is sample.maps.places
    assert array_of(filled.residual) == pytest.approx(finer.volumes["residual"].array)
    assert filled.residual.GetAttribute("MedGAN.Content") == "result measured again minus input"
    del finer.volumes["residual"], finer.volumes["uncertainty"]
    TaskLogic.publish(finer, node, sample.volume)
    assert not a_scene.IsNodePresent(sample.maps.residual)
    assert not a_scene.IsNodePresent(sample.maps.uncertainty)


def test_segments_are_read_on_the_grid_of_the_reference(a_scene, a_segmentation):
    grid = oblique_matrix((0.9, 1.0, 1.7))
    reference = under_a_transform(a_scene, add_volume(a_scene, np.zeros((9, 14, 11), np.int16), grid, "Reference"))
    reference.SetAndObserveTransformNodeID(a_segmentation.GetTransformNodeID())
    inputs = labelInputs(a_segmentation, reference)
    assert inputs["labels"].shape == inputs["reference"].shape == (9, 14, 11)
    assert np.array_equal(inputs["labels"].array, labels_of(a_segmentation, reference))


def test_typed_intensities_become_the_setting_and_come_back(a_segmentation):
    names = labelsIn(a_segmentation)
    assert names == {0: "Background", **NAMES}
    rows = intensitiesOf("41=0.5 2=0.7/0.03 99=1", names)
    assert rows == [Intensity(0, "Background"), Intensity(2, "white", "0.7", "0.03"), Intensity(41, "grey", "0.5")]
    assert intensityText(rows) == "2=0.7/0.03 41=0.5"
    assert intensityText([Intensity(2, "white", "0,25")]) == "2=0.25"


@pytest.mark.parametrize("row", [("a", ""), ("", "0.1"), ("nan", ""), ("1", "inf")])
def test_what_is_no_number_is_said(row):
    with pytest.raises(ValueError, match="no intensity for white; type a"):
        intensityText([Intensity(2, "white", *row)])


def test_failure_leaves_the_scene_as_it_was(a_headless_scene, a_scene, a_segmentation, monkeypatch):
    outputs = made(labelInputs(a_segmentation), count=2)
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(a_scene)
    before, items = node_ids(a_scene), hierarchy.GetNumberOfItems()
    monkeypatch.setattr(SynthesizeNodes, "thumbnail", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        publishSamples(a_scene, outputs, a_segmentation, "Parts")
    assert node_ids(a_scene) == before
    assert hierarchy.GetNumberOfItems() == items, "its folder went as well"


@pytest.mark.parametrize("flip", [(1, 1, 1), (-1, 1, 1), (1, -1, -1)])
def test_picture_shows_the_front_above_and_the_right_on_the_left(flip):
    """A bright corner at the right front of the patient, whatever the directions of the voxels."""
    directions = np.diag([*flip, 1.0]) @ np.diag([1.0, 1.0, 3.0, 1.0])
    array = np.zeros((4, 20, 10), np.float32)  # k, j, i
    i, j = (slice(6, 10) if flip[0] > 0 else slice(0, 4)), (slice(12, 20) if flip[1] > 0 else slice(0, 8))
    array[:, j, i] = 1.0
    picture = pixels_of(thumbnail(Volume(array, directions), 40))
    assert picture.shape == (40, 20)
    assert picture[2, 2] == 255
    assert picture[2, -2] == picture[-2, 2] == picture[-2, -2] == 0


def test_picture_of_nothing_is_black():
    assert pixels_of(thumbnail(Volume(np.full((3, 4, 5), np.nan, np.float32), np.eye(4)))).max() == 0


def pixels_of(png: bytes) -> np.ndarray:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "picture.png")
        path.write_bytes(png)
        reader = vtk.vtkPNGReader()
        reader.SetFileName(str(path))
        reader.Update()
        image = reader.GetOutput()
    width, height, _ = image.GetDimensions()
    return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(height, width)[::-1]
