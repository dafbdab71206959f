"""A person converts a segmentation to a label map and back, with a table, and goes on in the Segment Editor."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
import slicer.util
from panel_tools import oblique_volume

import phantoms
from medgan.labels import Overlap, segmentation_of
from medgan.labeltable import read_table
from medgan.labelvalues import Values
from medgan.settings.convert import Direction, GridChoice
from medgan.volume import Label, LabelMap
from MedGANSlicerLib.Conversion import labelsOfNode
from MedGANSlicerLib.SceneBridge import arrayOf
from MedGANSlicerLib.SegmentationBridge import publishSegmentation

VALUES = (2, 17, 40000)


def parts(shape=(6, 7, 8)) -> np.ndarray:
    array = np.zeros(shape, np.int32)
    array[1:3, 1:4, 1:6], array[3:5, 2:6, 2:7] = VALUES[0], VALUES[2]
    return array


@pytest.fixture
def converter(person):
    person.choose_task("convert")
    return person


@pytest.fixture
def ui(converter):
    return converter.ui_of("convert")


@pytest.fixture
def a_segmentation(converter):
    labels = {value: Label(f"part {value}", (0.2, 0.4, 0.6)) for value in VALUES}
    made = segmentation_of([LabelMap(parts(), phantoms.awkward_geometry(), labels)], keep_empty=True)[0]
    return publishSegmentation(slicer.mrmlScene, made, "Parts")


def label_maps() -> list:
    return slicer.util.getNodesByClass("vtkMRMLLabelMapVolumeNode")


def test_segmentation_becomes_a_label_map_with_its_values_and_comes_back(converter, ui, a_segmentation):
    assert "segmentation" in converter.ui.applyButton.toolTip.lower() or not converter.ui.applyButton.enabled
    converter.parameters.convertSegmentation = a_segmentation
    assert converter.ui.applyButton.text == "Convert"
    converter.press_apply()
    converter.wait_for_end()
    (node,) = label_maps()
    np.testing.assert_array_equal(arrayOf(node), parts())
    assert {value: label.name for value, label in labelsOfNode(node).items()} == {v: f"part {v}" for v in VALUES}
    assert "part 17" in ui.reportLabel.text  # it has no voxel
    assert "part 17" not in converter.ui.progressLabel.text, "once is enough"
    assert not ui.saveTableButton.isHidden()
    assert ui.openEditorButton.isHidden()

    converter.parameters.convert.direction = Direction.TO_SEGMENTATION
    assert converter.parameters.convertVolume is node
    assert ui.convertVolume.currentNode() is node
    assert ui.convertSegmentation.isHidden()
    assert not ui.convertVolume2.isHidden()
    converter.press_apply()
    converter.wait_for_end()
    again = converter.parameters.convertSegmentation
    assert again is not a_segmentation
    assert labelsOfNode(again) == pytest.approx(labelsOfNode(a_segmentation))
    assert "3 labels" in converter.ui.progressLabel.text


def test_layers_come_back_all_of_them_and_so_does_their_table(converter, ui, tmp_path, monkeypatch):
    maps = [LabelMap(parts(), phantoms.awkward_geometry(), {n: Label(f"part {n}") for n in VALUES})]
    maps.append(LabelMap((parts() > 0) * np.int32(5), phantoms.awkward_geometry(), {5: Label("over both")}))
    old = slicer.util.addVolumeFromArray(parts(), phantoms.awkward_geometry(), "L", "vtkMRMLLabelMapVolumeNode")
    converter.parameters.convertVolume3 = old
    node = publishSegmentation(slicer.mrmlScene, segmentation_of(maps)[0], "Parts")
    converter.parameters.convertSegmentation = node
    converter.parameters.convert.overlap = Overlap.LAYERS
    converter.press_apply()
    converter.wait_for_end()
    monkeypatch.setattr(converter.widget.host, "chooseNewFile", lambda *given: str(tmp_path / "t.json"))
    ui.saveTableButton.click()
    assert set(read_table(tmp_path / "t.json").labels) == {2, 5, 40000}
    converter.parameters.convert.direction = Direction.TO_SEGMENTATION
    converter.press_apply()
    converter.wait_for_end()
    assert set(labelsOfNode(converter.parameters.convertSegmentation)) == {2, 5, 40000}
    assert converter.parameters.convertVolume3 is None


def test_label_map_that_is_used_has_its_selector_shown(converter, ui):
    nodes = [
        slicer.util.addVolumeFromArray(parts(), phantoms.awkward_geometry(), name, "vtkMRMLLabelMapVolumeNode")
        for name in "ABC"
    ]
    converter.parameters.convert.direction = Direction.TO_SEGMENTATION
    names = ("convertVolume", "convertVolume2", "convertVolume3", "convertVolume4")
    for name, node in zip(names, nodes, strict=False):
        setattr(converter.parameters, name, node)
    for emptied, hidden in (
        (names[1], [False] * 4),
        (names[0], [False, True, False, False]),
        (names[2], [False, *[True] * 3]),
    ):
        setattr(converter.parameters, emptied, None)
        assert [getattr(ui, name).isHidden() for name in names] == hidden
    assert not converter.ui.applyButton.enabled


def test_label_map_that_is_chosen_twice_is_taken_once(converter):
    node = slicer.util.addVolumeFromArray(parts(), phantoms.awkward_geometry(), "A", "vtkMRMLLabelMapVolumeNode")
    converter.parameters.convert.direction = Direction.TO_SEGMENTATION
    converter.parameters.convertVolume = converter.parameters.convertVolume2 = node
    converter.press_apply()
    converter.wait_for_end()
    (made,) = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
    assert made.GetSegmentation().GetNumberOfSegments() == 2


def test_hidden_segmentation_is_not_chosen_by_itself(converter):
    hidden = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Hidden")
    hidden.SetHideFromEditors(True)
    node = oblique_volume()
    converter.wait(lambda: converter.parameters.convertGridVolume is node)
    assert converter.parameters.convertSegmentation is None
    assert converter.parameters.synthesizeLabels is None


def test_result_opens_in_the_segment_editor_with_its_volume(converter, ui):
    volume = oblique_volume("Head", shape=(6, 7, 8))
    converter.wait(lambda: converter.parameters.convertGridVolume is volume)
    node = slicer.util.addVolumeFromArray(parts(), phantoms.awkward_geometry(), "L", "vtkMRMLLabelMapVolumeNode")
    converter.parameters.convert.direction = Direction.TO_SEGMENTATION
    converter.parameters.convertVolume = node
    converter.press_apply()
    converter.wait_for_end()
    made = converter.parameters.convertSegmentation
    ui.openEditorButton.click()
    editor = slicer.modules.segmenteditor.widgetRepresentation().self().editor
    assert editor.segmentationNode() is made
    assert editor.sourceVolumeNode() is volume


def test_values_of_a_table_need_the_table(converter, ui, a_segmentation, tmp_path, monkeypatch):
    converter.parameters.convertSegmentation = a_segmentation
    converter.parameters.convert.values = Values.TABLE
    assert not converter.ui.applyButton.enabled
    assert "table" in converter.ui.applyButton.toolTip
    table = tmp_path / "own.csv"
    table.write_text("LabelValue,Name\n7,part 2\n8,part 40000\n9,something else\n")
    monkeypatch.setattr(converter.widget.host, "chooseFile", lambda *given: str(table))
    ui.tableButton.click()
    assert ui.table.text == str(table)
    converter.press_apply()
    converter.wait_for_end()
    assert set(np.unique(arrayOf(label_maps()[0]))) == {0, 7, 8}
    assert "part 17" in ui.reportLabel.text


def test_grid_of_a_volume_is_asked_for_and_used(converter, ui, a_segmentation):
    converter.parameters.convertSegmentation = a_segmentation
    converter.parameters.convertGridVolume = None
    converter.parameters.convert.grid = GridChoice.VOLUME
    assert "volume" in converter.ui.applyButton.toolTip
    assert not ui.convertGridVolume.isHidden()
    volume = oblique_volume("Head", shape=(9, 8, 7))
    converter.parameters.convertGridVolume = volume
    converter.press_apply()
    converter.wait_for_end()
    (node,) = label_maps()
    assert node.GetImageData().GetDimensions() == (7, 8, 9)


def test_bad_table_is_one_sentence_and_leaves_the_scene_alone(converter, a_segmentation, tmp_path):
    converter.parameters.convertSegmentation = a_segmentation
    bad = tmp_path / "bad.csv"
    bad.write_text("LabelValue,Name\nseven,x\n")
    converter.parameters.convert.table = str(bad)
    before = slicer.mrmlScene.GetNumberOfNodes()
    converter.press_apply()
    converter.wait_for_end()
    assert "'seven' in 'bad.csv' is not a label value" in converter.log()
    assert slicer.mrmlScene.GetNumberOfNodes() == before


def test_table_of_the_result_can_be_saved(converter, ui, a_segmentation, tmp_path, monkeypatch):
    converter.parameters.convertSegmentation = a_segmentation
    converter.press_apply()
    converter.wait_for_end()
    monkeypatch.setattr(converter.widget.host, "chooseNewFile", lambda *given: str(tmp_path / "t.json"))
    ui.saveTableButton.click()
    assert {v: label.name for v, label in read_table(tmp_path / "t.json").labels.items()} == {
        v: f"part {v}" for v in VALUES
    }


def test_cancelled_conversion_makes_nothing(converter, a_segmentation):
    converter.parameters.convertSegmentation = a_segmentation
    before = slicer.mrmlScene.GetNumberOfNodes()
    converter.press_apply()
    converter.ui.applyButton.click()
    converter.wait_for_end()
    assert slicer.mrmlScene.GetNumberOfNodes() == before
    assert label_maps() == []


def test_pictures_of_both_directions(converter, a_segmentation, screenshot):
    converter.parameters.convertSegmentation = a_segmentation
    converter.press_apply()
    converter.wait_for_end()
    assert screenshot(converter.widget, "convert-1-label-map")
    converter.parameters.convert.direction = Direction.TO_SEGMENTATION
    converter.press_apply()
    converter.wait_for_end()
    assert screenshot(converter.widget, "convert-2-segmentation")
