"""What a node of a result holds and shows, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
import vtk
from scene_tools import add_volume, array_of, image_of, node_ids, noisy_box, oblique_matrix, to_vtk_matrix

from medgan.labeltable import unnamed
from medgan.volume import VolumeError
from MedGANSlicerLib.ColorTables import differenceColors
from MedGANSlicerLib.ResultDisplay import showAsDifference
from MedGANSlicerLib.SceneBridge import labelMapFromNode, publishMap, publishVolume, volumeFromNode

VOXEL_TYPES = ["uint8", "int8", "int16", "uint16", "int32", "uint32", "float32", "float64"]


def published(node, array=None, **options):
    volume = volumeFromNode(node)
    return publishVolume(
        node.GetScene(), volume.like(volume.array if array is None else array), node, "r", {}, **options
    )


@pytest.mark.parametrize("voxel_type", VOXEL_TYPES)
def test_unchanged_voxels_are_bit_identical_in_their_own_type(a_scene, voxel_type):
    array = noisy_box(voxel_type=voxel_type)
    if voxel_type in ("int32", "uint32"):
        array = array + np.array(2**24 + 1, voxel_type)  # the first whole number that float32 does not have
    if voxel_type.startswith("float"):
        array = (array / 3).astype(voxel_type)
    node = add_volume(a_scene, array, oblique_matrix())
    result = array_of(published(node))
    assert volumeFromNode(node).voxel_type == voxel_type
    assert result.dtype == np.dtype(voxel_type)
    assert np.array_equal(result, array)


@pytest.mark.parametrize("voxel_type", ["uint8", "int16", "uint16"])
def test_changed_voxels_are_rounded_and_clipped_to_the_type_of_the_source(a_scene, voxel_type):
    node = add_volume(a_scene, noisy_box(voxel_type=voxel_type), np.eye(4))
    limits = np.iinfo(voxel_type)
    array = np.full(noisy_box().shape, float(limits.max))
    array[0] = float(limits.min)
    array[1, 0, :4] = [limits.max + 2.5, limits.min - 2.5, limits.max - 10.6, limits.min + 10.4]
    result = array_of(published(node, array))
    assert result.dtype == np.dtype(voxel_type)
    assert result[1, 0, :4].tolist() == [limits.max, limits.min, limits.max - 11, limits.min + 10]


@pytest.mark.parametrize(
    ("source", "result"),
    [
        ("uint8", np.linspace(-400, 400, 756)),  # far beyond the type
        ("int16", np.linspace(0, 3.7, 756)),  # rounding would leave four values
        ("uint16", np.full(756, -3.0)),  # not one voxel fits
    ],
)
def test_result_that_does_not_fit_the_type_becomes_float(a_scene, source, result):
    node = add_volume(a_scene, noisy_box(voxel_type=source), np.eye(4))
    array = result.reshape(noisy_box().shape).astype(np.float32)
    stored = array_of(published(node, array))
    assert stored.dtype == np.float32
    assert np.array_equal(stored, array)


def test_sixty_four_bit_integers_become_float64_which_files_can_hold(a_scene):
    array = noisy_box(voxel_type="int64")
    node = a_scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Long")
    node.SetAndObserveImageData(image_of(array))
    result = array_of(published(node))
    assert result.dtype == np.float64
    assert np.array_equal(result, array)


@pytest.mark.parametrize("automatic", [False, True])
def test_result_is_shown_in_the_window_and_colours_of_its_source(a_volume_node, automatic):
    source = a_volume_node.GetDisplayNode()
    if not automatic:
        source.AutoWindowLevelOff()
        source.SetWindowLevel(321.5, 123.25)
    source.SetAndObserveColorNodeID("vtkMRMLColorTableNodeIron")
    source.SetInterpolate(False)
    source.SetThreshold(150, 800)
    source.SetApplyThreshold(True)
    assert source.GetWindow() > 0

    display = published(a_volume_node, noisy_box() * 0.5 + 40).GetDisplayNode()

    assert display is not source
    assert (display.GetWindow(), display.GetLevel()) == (source.GetWindow(), source.GetLevel())
    assert display.GetColorNodeID() == "vtkMRMLColorTableNodeIron"
    assert display.GetInterpolate() == 0
    assert display.GetApplyThreshold() == 1
    assert (display.GetLowerThreshold(), display.GetUpperThreshold()) == (150, 800)


def test_threshold_of_a_plain_source_is_off(a_volume_node):
    display = published(a_volume_node).GetDisplayNode()
    assert display.GetApplyThreshold() == 0
    assert display.GetInterpolate() == 1


def test_units_of_the_voxels_are_carried_over(a_volume_node):
    unit = slicer.vtkCodedEntry()
    unit.SetValueSchemeMeaning("[hnsf'U]", "UCUM", "Hounsfield unit")
    a_volume_node.SetVoxelValueUnits(unit)
    result = published(a_volume_node)
    assert result.GetVoxelValueUnits().GetCodeMeaning() == "Hounsfield unit"
    unit.SetCodeMeaning("changed")
    assert result.GetVoxelValueUnits().GetCodeMeaning() == "Hounsfield unit"


def test_dicom_identifiers_are_not_copied(a_scene, a_volume_node):
    hierarchy = a_scene.GetFirstNodeByClass("vtkMRMLSubjectHierarchyNode")
    study = hierarchy.CreateStudyItem(hierarchy.CreateSubjectItem(hierarchy.GetSceneItemID(), "Subject"), "Study")
    item = hierarchy.CreateItem(study, a_volume_node)
    hierarchy.SetItemUID(item, "DICOM", "1.2.3")
    a_volume_node.SetAttribute("DICOM.instanceUIDs", "1.2.3.4 1.2.3.5")
    a_volume_node.SetAttribute("Other", "x")

    result = published(a_volume_node)

    own = hierarchy.GetItemByDataNode(result)
    assert own != item
    assert hierarchy.GetItemParent(own) == study
    assert hierarchy.GetItemName(own) == "r"
    assert hierarchy.GetItemUID(own, "DICOM") == ""
    assert not [name for name in result.GetAttributeNames() if name.startswith("DICOM")]


def test_source_outside_the_hierarchy_puts_nothing_into_it(a_scene, a_volume_node):
    hierarchy = a_scene.GetFirstNodeByClass("vtkMRMLSubjectHierarchyNode")
    before = hierarchy.GetNumberOfItems()
    published(a_volume_node)
    assert hierarchy.GetNumberOfItems() == before


def test_scene_without_a_hierarchy_works():
    scene = slicer.vtkMRMLScene()
    node = add_volume(scene, noisy_box(), oblique_matrix())
    assert np.array_equal(array_of(published(node)), noisy_box())
    assert scene.GetNumberOfNodesByClass("vtkMRMLSubjectHierarchyNode") == 0


def test_new_node_is_complete_when_observers_see_it(a_scene, a_volume_node):
    seen = []

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def on_added(caller, event, node):
        if node.IsA("vtkMRMLScalarVolumeNode"):
            seen.append((array_of(node).shape, node.GetDisplayNode().GetWindow(), node.GetAttribute("MedGAN.Model")))

    a_scene.AddObserver(slicer.vtkMRMLScene.NodeAddedEvent, on_added)
    volume = volumeFromNode(a_volume_node)
    publishVolume(a_scene, volume, a_volume_node, "r", {"MedGAN.Model": "denoise"})
    assert seen == [(noisy_box().shape, a_volume_node.GetDisplayNode().GetWindow(), "denoise")]


def test_reused_output_gets_the_content_and_keeps_its_name(a_scene, a_volume_node, an_oblique_volume_node):
    output = an_oblique_volume_node
    output.SetAttribute("DICOM.instanceUIDs", "1.2.3")
    output.SetAttribute("MedGAN.Model", "older")
    output.SetAttribute("Mine", "stays")
    display, nodes = output.GetDisplayNode(), node_ids(a_scene)
    result = published(a_volume_node, outputNode=output)
    assert result is output
    assert node_ids(a_scene) == nodes
    assert result.GetName() == "Oblique"
    assert result.GetDisplayNode() is display
    assert result.GetAttribute("DICOM.instanceUIDs") is None
    assert result.GetAttribute("MedGAN.Model") is None
    assert result.GetAttribute("Mine") == "stays"
    assert np.array_equal(volumeFromNode(result).ijk_to_ras, np.eye(4))


def test_input_is_never_its_own_output(a_volume_node):
    with pytest.raises(ValueError, match="would replace its input 'MRHead'"):
        published(a_volume_node, outputNode=a_volume_node)
    assert np.array_equal(array_of(a_volume_node), noisy_box())


def test_output_of_another_kind_is_refused(a_scene, a_volume_node):
    labels = add_volume(a_scene, noisy_box(), np.eye(4), "Labels", "vtkMRMLLabelMapVolumeNode")
    with pytest.raises(ValueError, match="'Labels' can not hold the result"):
        published(a_volume_node, outputNode=labels)


def test_difference_is_blue_white_red_about_zero(a_headless_scene, a_volume_node):
    scene = a_headless_scene.scene
    changes = np.zeros(noisy_box().shape, np.float32)
    changes[:, :6, :3], changes[:, 6:, 3:] = -40.0, 40.0
    volume = volumeFromNode(a_volume_node)
    node = publishMap(scene, volume.like(changes), a_volume_node, "MRHead denoised difference", {}, showAsDifference)
    display = node.GetDisplayNode()
    assert array_of(node).dtype == np.float32
    assert np.array_equal(array_of(node), changes)
    assert display.GetAutoWindowLevel() == 0
    assert display.GetLevel() == 0
    assert display.GetWindow() == pytest.approx(80)
    picture = a_headless_scene.sliceImage(node, "Axial", 120)
    colors = {tuple(color) for color in picture.reshape(-1, 3).tolist()}
    strong = [color for color in colors if max(color) - min(color) > 80]
    assert (255, 255, 255) in colors, "no change is white"
    assert any(blue > red + 80 for red, _, blue in strong)
    assert any(red > blue + 80 for red, _, blue in strong)


def test_one_difference_colour_table_serves_the_scene(a_scene, a_volume_node):
    volume = volumeFromNode(a_volume_node)
    first = publishMap(a_scene, volume, a_volume_node, "a", {}, showAsDifference).GetDisplayNode().GetColorNode()
    second = publishMap(a_scene, volume, a_volume_node, "b", {}, showAsDifference).GetDisplayNode().GetColorNode()
    assert first is second
    assert not first.GetHideFromEditors()


def test_difference_colours_are_opposite_and_monotonic(a_scene):
    table = differenceColors(a_scene)
    rows, rgba = np.zeros((table.GetNumberOfColors(), 4)), [0.0] * 4
    for index in range(len(rows)):
        table.GetColor(index, rgba)
        rows[index] = rgba
    assert rows[127].tolist() == rows[128].tolist() == [1, 1, 1, 1]
    lightness = rows[:, :3] @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(lightness[:128]) >= 0).all()
    assert (np.diff(lightness[128:]) <= 0).all()
    assert rows[0, 2] > rows[0, 0] + 0.4
    assert rows[-1, 0] > rows[-1, 2] + 0.4


def test_difference_without_any_change_has_a_window(a_scene, a_volume_node):
    volume = volumeFromNode(a_volume_node)
    node = publishMap(a_scene, volume.like(volume.array * 0), a_volume_node, "none", {}, showAsDifference)
    assert node.GetDisplayNode().GetWindow() > 0


def test_few_large_changes_do_not_set_the_window(a_scene, a_volume_node):
    volume = volumeFromNode(a_volume_node)
    changes = np.random.default_rng(0).uniform(-10, 10, volume.shape)
    changes[0, 0, 0] = 5000
    node = publishMap(a_scene, volume.like(changes), a_volume_node, "d", {}, showAsDifference)
    assert node.GetDisplayNode().GetWindow() == pytest.approx(20, rel=0.05)


def _without_voxels(node):
    node.SetAndObserveImageData(None)


def _without_size(node):
    node.SetAndObserveImageData(vtk.vtkImageData())


def _with_colours(node):
    image = vtk.vtkImageData()
    image.SetDimensions(4, 4, 4)
    image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 3)
    node.SetAndObserveImageData(image)


def _with_zero_spacing(node):
    node.SetSpacing(0.0, 1.0, 1.0)


def _with_flat_directions(node):
    matrix = np.eye(4)
    matrix[:3, 2] = matrix[:3, 1]
    node.SetIJKToRASMatrix(to_vtk_matrix(matrix))


def _with_a_shifted_extent(node):
    image = vtk.vtkImageData()
    image.SetExtent(2, 6, 0, 3, 0, 2)
    image.AllocateScalars(vtk.VTK_SHORT, 1)
    node.SetAndObserveImageData(image)


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (_without_voxels, "'MRHead' is empty; choose a volume that holds voxels."),
        (_without_size, "'MRHead' is empty; choose a volume that holds voxels."),
        (_with_colours, "'MRHead' has 3 numbers a voxel .*; choose a volume with one."),
        (_with_zero_spacing, "'MRHead' has a voxel spacing of 0 x 1 x 1 mm; correct it in the Volumes module."),
        (_with_flat_directions, "'MRHead' can not be used. The directions of the axes lie in one plane"),
        (_with_a_shifted_extent, "The voxels of 'MRHead' have a grid of their own"),
    ],
)
def test_node_that_can_not_be_read_is_refused_in_one_sentence(a_volume_node, damage, sentence):
    damage(a_volume_node)
    with pytest.raises(VolumeError, match=sentence):
        volumeFromNode(a_volume_node)


@pytest.mark.parametrize("class_name", ["vtkMRMLVectorVolumeNode", "vtkMRMLDiffusionTensorVolumeNode"])
def test_vector_and_tensor_nodes_are_refused(a_scene, class_name):
    node = a_scene.AddNewNodeByClass(class_name, "Many")
    _with_colours(node)
    with pytest.raises(VolumeError, match="choose a volume with one"):
        volumeFromNode(node)


def test_what_is_no_volume_is_refused(a_scene):
    model = a_scene.AddNewNodeByClass("vtkMRMLModelNode", "Surface")
    with pytest.raises(VolumeError, match=r"'Surface' \(Model\) was chosen; choose a volume."):
        volumeFromNode(model)
    with pytest.raises(VolumeError, match="Nothing was chosen; choose a volume"):
        volumeFromNode(None)


def test_labels_that_nobody_named_are_told_apart_by_colour(a_scene):
    values = np.array([0, 1, 2, 700, 701]).reshape(1, 1, 5).astype(np.int16)
    labels = labelMapFromNode(add_volume(a_scene, values, np.eye(4))).labels
    assert labels == {value: unnamed(value) for value in (1, 2, 700, 701)}


def test_label_map_with_fractions_is_refused(a_scene):
    node = add_volume(a_scene, noisy_box(voxel_type="float32") / 3, np.eye(4))
    with pytest.raises(VolumeError, match="not whole numbers"):
        labelMapFromNode(node)


@pytest.mark.parametrize(("value", "said"), [(3e9, r"3e\+09"), (2.0**31, r"2\.147e\+09"), (np.inf, "")])
def test_label_map_with_values_that_no_label_has_is_refused(a_scene, value, said):
    node = add_volume(a_scene, np.full((2, 2, 2), value, np.float32), np.eye(4), "Huge")
    with pytest.raises(VolumeError, match=f"'Huge' has voxels up to {said}" if said else "not whole numbers"):
        labelMapFromNode(node)
