"""An evaluation as nodes, and what of the scene the engine is given to measure."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
from scene_tools import add_volume, node_ids, noisy_box, oblique_matrix, to_vtk_matrix

from medgan.evaluation.table import Evaluation, MetricInfo
from medgan.settings import EvaluateSettings, TrainKind
from medgan.tasks import evaluate
from medgan.volume import LabelMap
from MedGANSlicerLib import EvaluateInputs, TrainInputs
from MedGANSlicerLib.EvaluationNodes import grouped, publishEvaluation, removeEvaluation
from MedGANSlicerLib.NodePairs import NodePairs, Pair, nodesOf
from MedGANSlicerLib.SceneBridge import SOURCE_ROLE
from MedGANSlicerLib.SceneEdits import subjectHierarchy
from scene_reading import rows_of


def an_evaluation() -> Evaluation:
    """Two methods on two labels of two cases; one case of B failed."""
    values = {("p1", "A"): 0.9, ("p1", "B"): 0.8, ("p2", "A"): 0.7}
    rows = [
        {"case": case, "method": method, "label": label, "dice": value, "hd95": 10 * (1 - value)}
        for (case, method), value in values.items()
        for label in ("left", "right")
    ]
    rows.append({"case": "p2", "method": "B", "error": "Another grid."})
    summary = [
        {"method": "A", "metric": "dice", "n": 2, "mean": 0.8, "sd": 0.1, "median": 0.8, "low": None, "high": None}
    ]
    comparisons = [
        {"metric": "dice", "a": "A", "b": "B", "n": 1, "difference": 0.1, "low": None, "high": None, "p": None}
    ]
    metrics = {
        "dice": MetricInfo("Dice", "", "higher", "Overlap."),
        "hd95": MetricInfo("HD95", "mm", "lower", "Distance."),
        "nsd": MetricInfo("NSD"),
    }
    return Evaluation("segmentations", metrics, rows, summary, comparisons)


def test_tables_and_charts_of_an_evaluation(a_scene):
    nodes = publishEvaluation(a_scene, an_evaluation())
    found = rows_of(nodes.figures)
    assert len(found) == 7
    assert found[0] == {"case": "p1", "method": "A", "label": "left", "dice": 0.9, "hd95": 1.0, "error": ""}
    assert found[-1]["error"] == "Another grid."
    assert np.isnan(found[-1]["dice"])
    assert nodes.figures.GetColumnUnitLabel("hd95") == "mm"
    assert nodes.figures.GetColumnTitle("hd95") == "HD95, mm"
    assert nodes.figures.GetColumnDescription("dice") == "Overlap."
    assert list(nodes.charts) == ["dice", "hd95"], "NSD was measured nowhere"
    assert rows_of(nodes.summary) == [
        {"method": "A", "metric": "Dice", "n": 2.0, "mean": 0.8, "sd": 0.1, "median": 0.8},
    ]
    assert rows_of(nodes.comparisons)[0]["difference"] == 0.1
    assert nodes.figures.GetAttribute("MedGAN.Evaluation") == "segmentations"
    hierarchy = subjectHierarchy(a_scene)
    shown = [node for node in nodes.all() if not node.GetHideFromEditors()]
    assert len(shown) == len(nodes.all()) - len(nodes.charts), "the numbers behind a chart are not listed"
    folders = {hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) for node in shown}
    assert [hierarchy.GetItemName(folder) for folder in folders] == ["Evaluation"]


def test_bars_stand_for_what_all_methods_were_measured_in():
    groups, values = grouped(an_evaluation(), "dice")
    assert groups == ["p1 · left", "p1 · right"]
    assert values == {"A": [0.9, 0.9], "B": [0.8, 0.8]}


def test_hidden_metrics_are_nowhere(a_scene):
    nodes = publishEvaluation(a_scene, an_evaluation(), hidden=["dice"])
    assert "dice" not in rows_of(nodes.figures)[0]
    assert list(nodes.charts) == ["hd95"]
    assert nodes.summary is None


def test_removing_an_evaluation_leaves_nothing(a_scene):
    before, hierarchy = node_ids(a_scene), subjectHierarchy(a_scene)
    items = hierarchy.GetNumberOfItems()
    removeEvaluation(a_scene, publishEvaluation(a_scene, an_evaluation()))
    assert node_ids(a_scene) == before
    assert hierarchy.GetNumberOfItems() == items


def test_failure_leaves_nothing(a_scene, monkeypatch):
    before = node_ids(a_scene)
    monkeypatch.setattr("MedGANSlicerLib.EvaluationNodes.addBars", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        publishEvaluation(a_scene, an_evaluation())
    assert node_ids(a_scene) == before


# What the engine is given


def named(scene, name: str, matrix=None):
    return add_volume(scene, noisy_box(), np.eye(4) if matrix is None else matrix, name)


def a_segmentation(scene, volume, name: str = "Parts"):
    """Two segments with the values 3 and 7, drawn on the volume."""
    values = np.zeros(slicer_shape(volume), np.int16)
    values[1:3], values[4:5] = 3, 7
    labels = add_volume(scene, values, matrix_of(volume), "labels", "vtkMRMLLabelMapVolumeNode")
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    slicer.vtkSlicerSegmentationsModuleLogic.ImportLabelmapToSegmentationNode(labels, node)
    scene.RemoveNode(labels)
    return node, values


def slicer_shape(volume) -> tuple[int, int, int]:
    return volume.GetImageData().GetDimensions()[::-1]


def matrix_of(volume) -> np.ndarray:
    from MedGANSlicerLib.SceneBridge import matrixOf

    return matrixOf(volume)


def test_results_of_one_reference_are_methods_of_one_case(a_scene):
    head, clean = named(a_scene, "Head"), named(a_scene, "Clean")
    first, second = named(a_scene, "Head denoised"), named(a_scene, "Other")
    first.SetNodeReferenceID(SOURCE_ROLE, head.GetID())
    inputs = EvaluateInputs.engineInputs([Pair(first, clean), Pair(second, clean)])
    assert sorted(inputs) == ["before", "reference", "result Other", "result denoised"]
    assert "before" not in EvaluateInputs.engineInputs([Pair(first, clean)], withSources=False)


def test_results_of_several_references_are_cases(a_scene):
    nodes = {name: named(a_scene, name) for name in ("P1", "P2", "P1 denoised", "P2 denoised")}
    pairs = [Pair(nodes[f"{name} denoised"], nodes[name]) for name in ("P1", "P2")]
    assert sorted(EvaluateInputs.engineInputs(pairs)) == [
        "reference/P1",
        "reference/P2",
        "result denoised/P1",
        "result denoised/P2",
    ]


def test_two_results_of_one_name_are_told_apart(a_scene):
    clean = named(a_scene, "Clean")
    inputs = EvaluateInputs.engineInputs([Pair(named(a_scene, "Result"), clean), Pair(named(a_scene, "Result"), clean)])
    assert sorted(inputs) == ["reference", "result Result", "result Result 2"]


def test_number_of_a_result_of_another_volume_of_the_same_name_is_no_method(a_scene):
    pairs = []
    for result in ("Scan denoised", "Scan denoised 1"):
        scan, clean = named(a_scene, "Scan"), named(a_scene, "Clean")
        pairs.append(Pair(named(a_scene, result), clean))
        pairs[-1].node.SetNodeReferenceID(SOURCE_ROLE, scan.GetID())
    assert list(EvaluateInputs._named(pairs)) == [("Clean", "denoised"), ("Clean 2", "denoised")]
    again = named(a_scene, "Scan denoised 2")
    again.SetNodeReferenceID(SOURCE_ROLE, scan.GetID())
    of_one = [Pair(pairs[1].node, clean), Pair(again, clean)]
    assert list(EvaluateInputs._named(of_one)) == [("", "denoised 1"), ("", "denoised 2")]
    own = [Pair(named(a_scene, f"Other {number}"), clean) for number in (1, 2)]
    assert list(EvaluateInputs._named(own)) == [("", "Other 1"), ("", "Other 2")]


def test_references_of_one_name_are_cases_of_their_own(a_scene):
    """Names of nodes need not differ; each result is measured against its own reference."""
    pairs = []
    for value in (100, 900):
        clean, result = (
            add_volume(a_scene, np.full((4, 5, 6), value + more, np.int16), np.eye(4), "T1") for more in (0, 1)
        )
        pairs.append(Pair(result, clean))
    pairs.append(Pair(named(a_scene, "T1"), None))
    cases = EvaluateInputs._named(pairs)
    assert [case for case, _ in cases] == ["T1", "T1 2", "T1 3"]
    inputs = EvaluateInputs.engineInputs(pairs[:2])
    for case, value in (("T1", 100), ("T1 2", 900)):
        (result,) = [held for name, held in inputs.items() if name.startswith("result") and name.endswith(f"/{case}")]
        assert (inputs[f"reference/{case}"].array.max(), result.array.max()) == (value, value + 1)


def test_nodes_under_different_transforms_are_compared_in_the_world(a_scene):
    clean, result = named(a_scene, "Clean"), named(a_scene, "Result", oblique_matrix(left_handed=True))
    transform = a_scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "T")
    move = np.eye(4)
    move[:3, 3] = [5, -3, 2]
    transform.SetMatrixTransformToParent(to_vtk_matrix(move))
    result.SetAndObserveTransformNodeID(transform.GetID())
    inputs = EvaluateInputs.engineInputs([Pair(result, clean)])
    np.testing.assert_allclose(inputs["result Result"].ijk_to_ras, move @ oblique_matrix(left_handed=True))
    np.testing.assert_allclose(inputs["reference"].ijk_to_ras, np.eye(4))


def test_region_is_a_mask_with_a_reference_and_segments_without(a_scene):
    clean, result = named(a_scene, "Clean"), named(a_scene, "Result")
    region, values = a_segmentation(a_scene, clean)
    with_reference = EvaluateInputs.engineInputs([Pair(result, clean)], region)
    assert np.array_equal(with_reference["mask"].array, values)
    without = EvaluateInputs.engineInputs([Pair(result)], region)
    assert isinstance(without["segments"], LabelMap)
    assert set(without["segments"].labels) == {3, 7}


def test_obstacles_name_the_node(a_scene):
    clean, result = named(a_scene, "Clean"), named(a_scene, "Result")
    segmentation, _ = a_segmentation(a_scene, clean)
    assert EvaluateInputs.obstacle([]) == "Choose at least one result."
    assert EvaluateInputs.obstacle([Pair(result)]) == ""
    assert EvaluateInputs.obstacle([Pair(result, clean), Pair(clean)]).startswith("'Clean' has no reference")
    assert "'Parts' needs a reference" in EvaluateInputs.obstacle([Pair(segmentation)])
    assert EvaluateInputs.referencesFor(segmentation, EvaluateInputs.results(a_scene)) == []
    assert EvaluateInputs.referencesFor(result, EvaluateInputs.results(a_scene)) == [clean]


@pytest.mark.parametrize("longer", ["P10", "P1 10"])
def test_labels_of_another_patient_are_not_guessed_by_the_start_of_a_name(a_scene, longer):
    one, ten = named(a_scene, "P1"), named(a_scene, longer)
    labels = a_scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", f"{longer}_labels")
    assert TrainInputs.guessPartner(one, TrainKind.SEGMENT) is None
    assert TrainInputs.guessPartner(ten, TrainKind.SEGMENT) is labels


def test_training_gets_labels_on_the_grid_of_their_volume(a_scene):
    volume = named(a_scene, "Head", oblique_matrix(left_handed=True))
    segmentation, values = a_segmentation(a_scene, volume)
    assert TrainInputs.guessPartner(volume, TrainKind.SEGMENT) is segmentation
    assert TrainInputs.guessPartner(volume, TrainKind.SEGMENT, [segmentation]) is None
    inputs = TrainInputs.engineInputs([Pair(volume, segmentation)], TrainKind.SEGMENT)
    assert sorted(inputs) == ["images/01\u00a0Head", "labels/01\u00a0Head"]
    labels = inputs["labels/01\u00a0Head"]
    assert np.array_equal(labels.array, values)
    np.testing.assert_allclose(labels.ijk_to_ras, inputs["images/01\u00a0Head"].ijk_to_ras, atol=1e-6)


def test_volumes_of_one_patient_are_named_alike(a_scene):
    hierarchy = subjectHierarchy(a_scene)
    patient = hierarchy.CreateSubjectItem(hierarchy.GetSceneItemID(), "Patient")
    study = hierarchy.CreateStudyItem(patient, "Study")
    volumes = [named(a_scene, "T1 low-dose"), named(a_scene, "T2")]
    for volume in volumes:
        hierarchy.CreateItem(study, volume)
    inputs = TrainInputs.engineInputs([Pair(volume) for volume in volumes], TrainKind.AUTOENCODER)
    assert sorted(inputs) == [f"images/sub-{patient}_01\u00a0T1\u00a0low\u00a0dose", f"images/sub-{patient}_02\u00a0T2"]


def test_engine_finds_patients_and_pairs_by_these_names(a_scene):
    from medgan.settings import Pairing, TrainSettings
    from medgan.training.data_files import search
    from medgan.training.data_pairs import find_cases

    first, second = named(a_scene, "T1 source"), named(a_scene, "Low dose target")
    inputs = TrainInputs.engineInputs([Pair(first, second), Pair(second, first)], TrainKind.TRANSLATE)
    settings = TrainSettings(kind=TrainKind.TRANSLATE, pairing=Pairing.PAIRED)
    cases = find_cases(search("", inputs), settings)
    assert cases.rejected == []
    assert [sorted(case.volumes) for case in cases.cases] == [["source", "target"]] * 2
    assert len({case.patient for case in cases.cases}) == 2


def test_training_says_what_is_missing(a_scene):
    volume, other = named(a_scene, "T1"), named(a_scene, "T2")
    assert TrainInputs.obstacle([], TrainKind.ENHANCE) == "Choose the volumes to learn from."
    assert TrainInputs.obstacle([Pair(volume)], TrainKind.ENHANCE) == ""
    too_few = "Choose two volumes or more, or set Validation to 0."
    assert TrainInputs.obstacle([Pair(volume)], TrainKind.ENHANCE, validationShare=0.2) == too_few
    assert TrainInputs.obstacle([Pair(volume), Pair(other)], TrainKind.ENHANCE, validationShare=0.2) == ""
    assert TrainInputs.obstacle([Pair(volume)], TrainKind.TRANSLATE) == "Choose the target that goes with 'T1'."
    mixed = [Pair(volume, other), Pair(other)]
    assert TrainInputs.obstacle(mixed, TrainKind.ENHANCE).startswith("'T2' has no degraded version")
    with pytest.raises(ValueError, match="goes with 'T1'"):
        TrainInputs.engineInputs([Pair(volume)], TrainKind.SEGMENT)


def test_choice_is_kept_by_the_parameter_node(a_scene):
    node = a_scene.AddNewNodeByClass("vtkMRMLScriptedModuleNode")
    volume, other, third = (named(a_scene, name) for name in ("T1", "T2", "T3"))
    kept = NodePairs("Train")
    kept.write(node, [Pair(volume, other), Pair(third)])
    assert kept.read(node) == [Pair(volume, other), Pair(third)]
    assert NodePairs("Evaluate").read(node) == []
    a_scene.RemoveNode(volume)
    assert kept.read(node) == [Pair(third)]
    kept.write(node, [Pair(other, third)])
    assert kept.read(node) == [Pair(other, third)]


def test_previews_and_maps_are_not_offered(a_scene):
    volume = named(a_scene, "T1")
    named(a_scene, "preview").SetAttribute("MedGAN.Preview", "yes")
    named(a_scene, "difference").SetAttribute("MedGAN.Content", "result minus input")
    assert nodesOf(a_scene, ("vtkMRMLScalarVolumeNode",)) == [volume]


def nested(scene, volume, name: str, inner_side: int):
    """A "Brain" and, over it, a "Tumor" of some voxels a side."""
    shape = slicer_shape(volume)
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    for segment, side in (("Brain", min(shape)), ("Tumor", inner_side)):
        values = np.zeros(shape, np.int16)
        values[:side, :side, :side] = 1
        labels = add_volume(scene, values, matrix_of(volume), segment, "vtkMRMLLabelMapVolumeNode")
        slicer.vtkSlicerSegmentationsModuleLogic.ImportLabelmapToSegmentationNode(labels, node)
        held = node.GetSegmentation()
        held.GetNthSegment(held.GetNumberOfSegments() - 1).SetName(segment)
        scene.RemoveNode(labels)
    return node


def test_segments_that_overlap_are_measured_whole(a_scene):
    volume = named(a_scene, "Head")
    pairs = [Pair(nested(a_scene, volume, "Result", 2), nested(a_scene, volume, "Reference", 3))]
    report = evaluate.run(EvaluateInputs.engineInputs(pairs), EvaluateSettings(bootstrap=100)).report
    rows = {row["label"]: row for row in report["rows"]}
    assert rows["Brain"]["dice"] == 1.0
    assert rows["Brain"]["volume_difference"] == 0.0
    assert rows["Tumor"]["dice"] == pytest.approx(2 * 8 / (8 + 27))


def test_segments_that_overlap_are_whole_where_signal_is_measured(a_scene):
    volume = named(a_scene, "Head")
    inputs = EvaluateInputs.engineInputs([Pair(volume)], nested(a_scene, volume, "Parts", 3))
    rows = evaluate.run(inputs, EvaluateSettings(bootstrap=100)).report["rows"]
    side = min(slicer_shape(volume))
    brain = inputs["result Head"].array[:side, :side, :side]
    assert next(row["mean"] for row in rows if row.get("label") == "Brain") == pytest.approx(brain.mean(), rel=1e-5)


def test_lost_voxels_of_segments_to_learn_from_are_told(a_scene):
    volume = named(a_scene, "Head")
    segmentation, messages = nested(a_scene, volume, "Parts", 2), []
    TrainInputs.engineInputs([Pair(volume, segmentation)], TrainKind.SEGMENT, messages)
    assert messages == ["'Parts': Where segments overlap, the last in the list wins; voxels lost: 'Brain' 8."]
    TrainInputs.engineInputs([Pair(volume, a_segmentation(a_scene, volume)[0])], TrainKind.SEGMENT, messages)
    assert len(messages) == 1
