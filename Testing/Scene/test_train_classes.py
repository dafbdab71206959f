"""Classes of the volumes of a scene are the folders of the subject hierarchy that they lie in."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
from scene_tools import add_volume, noisy_box, oblique_matrix, to_vtk_matrix

from medgan.settings import TrainKind, TrainSettings
from medgan.training.data_files import search
from medgan.training.data_pairs import find_cases
from MedGANSlicerLib import TrainInputs
from MedGANSlicerLib.LabelInputs import labelMapOf
from MedGANSlicerLib.NodePairs import Pair
from MedGANSlicerLib.SceneBridge import fillVoxels
from MedGANSlicerLib.SceneEdits import subjectHierarchy
from MedGANSlicerLib.TableNodes import folderItem, putInFolder


def in_folders(scene, *names: str) -> list:
    """Two oblique volumes in a folder for each name; "" is no folder."""
    nodes = []
    for name in names:
        held = [add_volume(scene, noisy_box(), oblique_matrix(), f"{name or 'loose'}_T1 {n}") for n in range(2)]
        if name:
            putInFolder(scene, folderItem(scene, name), *held)
        nodes += held
    return nodes


def test_volumes_reach_the_engine_in_the_folders_of_their_classes(a_scene):
    nodes = in_folders(a_scene, "with/lesion", "healthy")
    assert [TrainInputs.classOf(node) for node in nodes] == ["with/lesion"] * 2 + ["healthy"] * 2
    pairs = [Pair(node) for node in nodes]
    assert TrainInputs.obstacle(pairs, TrainKind.CLASSIFY) == ""
    inputs = TrainInputs.engineInputs(pairs, TrainKind.CLASSIFY)
    cases = find_cases(search("", inputs), TrainSettings(kind=TrainKind.CLASSIFY)).cases
    assert sorted(case.group for case in cases) == ["healthy", "healthy", "with lesion", "with lesion"]
    assert len({case.patient for case in cases}) == 4
    np.testing.assert_array_equal(next(iter(inputs.values())).array, noisy_box())


def test_folder_of_a_patient_is_no_class(a_scene):
    node = add_volume(a_scene, noisy_box(), np.eye(4), "T1")
    hierarchy = subjectHierarchy(a_scene)
    folder = folderItem(a_scene, "sick")
    patient = hierarchy.CreateSubjectItem(folder, "P7")
    study = hierarchy.CreateStudyItem(patient, "first")
    item = hierarchy.GetItemByDataNode(node) or hierarchy.CreateItem(study, node)
    hierarchy.SetItemParent(item, study)
    assert TrainInputs.classOf(node) == "sick"
    hierarchy.SetItemParent(patient, hierarchy.GetSceneItemID())
    assert TrainInputs.classOf(node) == ""


@pytest.mark.parametrize(
    ("folders", "said"),
    [(("", "healthy"), "'loose_T1 0' lies in no folder; in the Data module"), (("healthy",), "All volumes are of the")],
)
def test_what_is_missing_is_said(a_scene, folders, said):
    pairs = [Pair(node) for node in in_folders(a_scene, *folders)]
    assert said in TrainInputs.obstacle(pairs, TrainKind.CLASSIFY)


def test_partners_come_into_the_frame_of_their_volume(a_scene):
    """A target that was registered by a transform is where it was registered to; so is a label map."""
    node, target = (add_volume(a_scene, noisy_box(), oblique_matrix(), name) for name in ("noisy", "clean"))
    transform = a_scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "registration")
    matrix = np.eye(4)
    matrix[:3, 3] = 20.0, 0.0, -5.0
    transform.SetMatrixTransformToParent(to_vtk_matrix(matrix))
    target.SetAndObserveTransformNodeID(transform.GetID())
    inputs = TrainInputs.engineInputs([Pair(node, target)], TrainKind.ENHANCE)
    volume, partner = inputs.values()
    np.testing.assert_allclose(partner.ijk_to_ras, matrix @ volume.ijk_to_ras, atol=1e-6)
    labels = slicer.vtkMRMLLabelMapVolumeNode()
    labels.SetName("labels")
    a_scene.AddNode(labels)
    fillVoxels(labels, (noisy_box() > 0).astype(np.uint8), oblique_matrix(), target, {})
    labels.SetAndObserveTransformNodeID(transform.GetID())
    np.testing.assert_allclose(labelMapOf(labels, node).ijk_to_ras, matrix @ oblique_matrix(), atol=1e-6)
    np.testing.assert_allclose(labelMapOf(labels).ijk_to_ras, oblique_matrix(), atol=1e-6)
