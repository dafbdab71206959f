"""A scene saved by us is the same scene when it is opened again."""

from __future__ import annotations

import re
import zipfile

import numpy as np
import pytest
import SimpleITK as sitk
from scene_tools import (
    add_volume,
    array_of,
    matrix_of,
    node_ids,
    noisy_box,
    oblique_matrix,
    outputs_like,
    world_corners,
)
from test_bridge_geometry import a_bspline_transform, a_grid_transform, a_linear_transform

from medgan.volume import Label
from MedGANSlicerLib import TaskLogic
from MedGANSlicerLib.ColorTables import labelColors
from MedGANSlicerLib.HeadlessScene import VIEWS, HeadlessScene
from MedGANSlicerLib.SceneBridge import labelMapFromNode, volumeFromNode
from scene_reading import load_scene


@pytest.mark.parametrize("left_handed", [False, True])
def test_saved_scene_comes_back_with_voxels_places_and_origin(a_headless_scene, tmp_path, left_handed):
    scene = a_headless_scene.scene
    source = add_volume(scene, noisy_box(), oblique_matrix(left_handed=left_handed), "Kopf ü 1")
    source.GetDisplayNode().AutoWindowLevelOff()
    source.GetDisplayNode().SetWindowLevel(500, 400)
    chain = a_linear_transform(scene, oblique_matrix((1, 1, 1)), a_grid_transform(scene))
    source.SetAndObserveTransformNodeID(chain.GetID())
    nodes = TaskLogic.publish(outputs_like(volumeFromNode(source)), source).present()
    a_headless_scene.show(source, nodes[0])
    path = tmp_path / "a folder é" / "scene.mrb"
    path.parent.mkdir()

    a_headless_scene.saveScene(path)

    assert [each.name for each in path.parent.iterdir()] == ["scene.mrb"], "no temporary folder may stay"
    with HeadlessScene() as other:
        load_scene(other.scene, path, tmp_path / "unpacked")
        for node in (source, *nodes):
            again = other.scene.GetFirstNodeByName(node.GetName())
            assert array_of(again).dtype == array_of(node).dtype
            assert np.array_equal(array_of(again), array_of(node))
            assert np.abs(matrix_of(again) - matrix_of(node)).max() < 1e-9
            assert np.abs(world_corners(again) - world_corners(node)).max() < 1e-4
            shown, was = again.GetDisplayNode(), node.GetDisplayNode()
            assert (shown.GetWindow(), shown.GetLevel()) == (was.GetWindow(), was.GetLevel())
            assert shown.GetColorNode().GetName() == was.GetColorNode().GetName()
            assert again.GetAttributeNames() == node.GetAttributeNames()
            for name in node.GetAttributeNames():
                assert again.GetAttribute(name) == node.GetAttribute(name)
        result = other.scene.GetFirstNodeByName("Kopf ü 1 denoised")
        assert result.GetNodeReference("MedGAN.Source").GetName() == "Kopf ü 1"
        assert result.GetParentTransformNode().GetParentTransformNode().GetName() == "Grid"
        for view in VIEWS:
            composite = other.scene.GetNodeByID(f"vtkMRMLSliceCompositeNode{view}")
            assert other.scene.GetNodeByID(composite.GetBackgroundVolumeID()).GetName() == "Kopf ü 1"
            assert other.scene.GetNodeByID(composite.GetForegroundVolumeID()) is result
            assert composite.GetForegroundOpacity() == 1.0


def test_saved_scene_keeps_bspline_labels_and_difference_colours(a_headless_scene, an_oblique_volume_node, tmp_path):
    scene = a_headless_scene.scene
    an_oblique_volume_node.SetAndObserveTransformNodeID(a_bspline_transform(scene).GetID())
    box = ((noisy_box() > 500) * 17).astype(np.uint8)
    organs = add_volume(scene, box, matrix_of(an_oblique_volume_node), "Organs", "vtkMRMLLabelMapVolumeNode")
    organs.SetAndObserveTransformNodeID(an_oblique_volume_node.GetTransformNodeID())
    colors = labelColors(scene, {17: Label("box", (1, 0.5, 0))}, "Organs labels")
    organs.GetDisplayNode().SetAndObserveColorNodeID(colors.GetID())
    outputs = outputs_like(volumeFromNode(an_oblique_volume_node))
    difference = TaskLogic.publish(outputs, an_oblique_volume_node).difference
    picture = a_headless_scene.sliceImage(difference, "Axial", 64)
    a_headless_scene.saveScene(tmp_path / "s.mrb")
    with HeadlessScene() as other:
        load_scene(other.scene, tmp_path / "s.mrb", tmp_path / "unpacked")
        again = other.scene.GetFirstNodeByName("Organs")
        assert np.array_equal(array_of(again), array_of(organs))
        assert np.abs(world_corners(again) - world_corners(organs)).max() < 1e-4
        assert labelMapFromNode(again).labels[17].name == "box"
        assert labelMapFromNode(again).labels[17].color == pytest.approx((1, 0.5, 0), abs=1 / 255)
        shown = other.sliceImage(other.scene.GetFirstNodeByName(difference.GetName()), "Axial", 64)
        assert np.abs(shown.astype(int) - picture).max() <= 2


def test_saved_bundle_holds_a_scene_and_data_files(a_headless_scene, a_volume_node, tmp_path):
    TaskLogic.publish(outputs_like(volumeFromNode(a_volume_node)), a_volume_node)
    a_headless_scene.saveScene(tmp_path / "medgan-demo.mrb")
    with zipfile.ZipFile(tmp_path / "medgan-demo.mrb") as archive:
        names = archive.namelist()
        described = archive.read("medgan-demo/medgan-demo.mrml").decode()
    data = [name for name in names if "/Data/" in name]
    volumes = ["MRHead", "MRHead denoised", "MRHead denoised difference"]
    assert set(data) == {
        *(f"medgan-demo/Data/{name}.nrrd" for name in volumes),
        "medgan-demo/Data/MedGAN difference.csv",
    }
    assert described.count("<Volume\n") == 3
    assert "<SceneView" not in described
    assert str(tmp_path) not in described, "a scene must not know where it was made"
    assert re.search(r'layoutName="Red"', described)


def test_scene_that_can_not_be_written_is_an_error(a_headless_scene, a_volume_node, tmp_path, vtk_messages):
    (tmp_path / "file").write_text("not a folder")
    vtk_messages.expected = True
    with pytest.raises(OSError, match="could not be written"):
        a_headless_scene.saveScene(tmp_path / "file" / "s.mrb")


def test_loaded_volume_lies_where_the_file_says(a_headless_scene, tmp_path):
    image = sitk.GetImageFromArray(noisy_box())
    image.SetSpacing((0.7, 1.1, 2.3))
    image.SetOrigin((-12.0, 34.0, 5.0))
    image.SetDirection((0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0))
    sitk.WriteImage(image, str(tmp_path / "T1 scan.nii.gz"))
    node = a_headless_scene.loadVolume(tmp_path / "T1 scan.nii.gz")
    assert node.GetName() == "T1 scan"
    assert np.array_equal(array_of(node), noisy_box())
    last = np.array(image.TransformIndexToPhysicalPoint((8, 11, 6))) * [-1, -1, 1]  # LPS to RAS
    assert (matrix_of(node) @ [8, 11, 6, 1])[:3] == pytest.approx(last, abs=1e-4)


def test_missing_or_broken_volume_is_an_error_and_leaves_nothing(a_headless_scene, tmp_path, vtk_messages):
    nodes = node_ids(a_headless_scene.scene)
    with pytest.raises(OSError, match="There is no file"):
        a_headless_scene.loadVolume(tmp_path / "none.nrrd")
    vtk_messages.expected = True
    (tmp_path / "broken.nrrd").write_text("not a volume")
    with pytest.raises(OSError, match="can not read"):
        a_headless_scene.loadVolume(tmp_path / "broken.nrrd")
    assert node_ids(a_headless_scene.scene) == nodes


def test_slice_image_shows_the_anatomy_in_radiological_orientation(a_headless_scene):
    array = np.zeros((20, 20, 20), np.int16)
    array[:, :10, :10] = 1000  # left and behind: low i is left in this grid, low j behind
    matrix = np.diag([-1.0, 1.0, 1.0, 1.0])  # i runs to the left
    array = array[:, :, ::-1].copy()  # so the bright part, at high i now, is on the left of the patient
    node = add_volume(a_headless_scene.scene, array, matrix)
    node.GetDisplayNode().AutoWindowLevelOff()
    node.GetDisplayNode().SetWindowLevelMinMax(0, 1000)
    nodes = node_ids(a_headless_scene.scene)
    picture = a_headless_scene.sliceImage(node, "Axial", 100)
    assert node_ids(a_headless_scene.scene) == nodes, "drawing must leave the scene alone"
    assert picture.shape == (100, 100, 3)
    assert picture[75, 75].tolist() == [255, 255, 255], "left of the patient is at the right, behind is below"
    for dark in (picture[25, 25], picture[25, 75], picture[75, 25]):
        assert dark.tolist() == [0, 0, 0]
