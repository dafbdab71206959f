"""What was recognised in a real scene: reasons, regions, boxes and tables at the right places; nothing left behind."""

from __future__ import annotations

import numpy as np
import pytest
import quick_anomaly
import quick_recognise
import vtk
from scene_tools import matrix_of, node_ids, oblique_matrix, to_vtk_matrix, under_a_transform

from medgan.settings.anomaly import AnomalySettings
from medgan.settings.recognise import RecogniseSettings, Saliency
from medgan.tasks import Outputs
from MedGANSlicerLib import RecogniseNodes
from MedGANSlicerLib.RecogniseNodes import (
    keepTables,
    placeOf,
    publishAnomaly,
    publishRecognised,
    regionsAt,
    showRegions,
)
from MedGANSlicerLib.Recommend import lookAt
from MedGANSlicerLib.SceneBridge import volumeFromNode
from scene_reading import rows_of


def silent(fraction, message=""):
    pass


def recognised(node, **settings):
    return quick_recognise.run({"volume": volumeFromNode(node)}, RecogniseSettings(model="quick", **settings), silent)


def anomalies(node):
    settings = AnomalySettings(model="quick", smallest_ml=0.0)
    return quick_anomaly.run({"volume": volumeFromNode(node)}, settings, silent)


def corners_of(box) -> np.ndarray:
    """The eight corners of a region of interest in RAS mm of its own frame, sorted."""
    matrix = np.array(box.GetObjectToNodeMatrix().GetData()).reshape(4, 4)
    half = np.array(box.GetSize()) / 2
    corners = [matrix @ [*(half * [a, b, c]), 1] for a in (-1, 1) for b in (-1, 1) for c in (-1, 1)]
    return np.array(sorted(np.round(corner[:3], 3).tolist() for corner in corners))


def corners_of_voxels(node, corner) -> np.ndarray:
    """The eight corners of a block of voxels [k, j, i], from the outer faces of its voxels."""
    k, j, i = ((each.start - 0.5, each.stop - 0.5) for each in corner[:3])
    places = [matrix_of(node) @ [x, y, z, 1] for x in i for y in j for z in k]
    return np.array(sorted(np.round(place[:3], 3).tolist() for place in places))


def test_reasons_lie_on_their_volume(a_scene, an_oblique_volume_node):
    node = under_a_transform(a_scene, an_oblique_volume_node)
    outputs = recognised(node, saliency=Saliency.GRAD_CAM)
    result = publishRecognised(outputs, node, matrix_of(node))
    assert matrix_of(result.why) == pytest.approx(matrix_of(node))
    assert result.why.GetParentTransformNode() is node.GetParentTransformNode()
    assert volumeFromNode(result.why).array == pytest.approx(outputs.volumes["why"].array)
    display = result.why.GetDisplayNode()
    assert (display.GetWindowLevelMin(), display.GetWindowLevelMax()) == (0.0, 1.0)
    assert display.GetApplyThreshold()
    assert result.why.GetAttribute("MedGAN.Synthetic") is None
    assert publishRecognised(recognised(node), node, matrix_of(node)).why is None


def test_tables_hold_every_answer_and_finding(a_scene, a_volume_node):
    result = publishRecognised(recognised(a_volume_node), a_volume_node, matrix_of(a_volume_node))
    answers, quality = (rows_of(table) for table in keepTables(result))
    first = {row["question"]: row for row in reversed(answers)}
    assert len(answers) == 13
    assert first["Kind of scan"]["answer"] == "MR T1"
    assert first["Kind of scan"]["share"] == pytest.approx(90)
    assert [row["answer"] for row in answers if row["chosen"]] == ["MR T1", "head", "axial"]
    assert quality[0]["value"] == pytest.approx(7.25)
    assert "7.25 %" in quality[0]["sentence"]


def test_recognised_kind_decides_the_recommendation_where_dicom_is_silent(a_volume_node):
    a_volume_node.SetAttribute("MedGAN.Kind", "CT")
    assert lookAt(a_volume_node).kind == "CT"
    publishRecognised(recognised(a_volume_node), a_volume_node, matrix_of(a_volume_node))
    assert a_volume_node.GetAttribute("MedGAN.Kind") == "MR T1"
    assert lookAt(a_volume_node).kind == "MR"
    outputs = quick_recognise.run({"volume": volumeFromNode(a_volume_node)}, RecogniseSettings(model="unsure"), silent)
    publishRecognised(outputs, a_volume_node, matrix_of(a_volume_node))
    assert a_volume_node.GetAttribute("MedGAN.Kind") is None


def test_kind_of_a_volume_outlasts_an_answer_to_another_question(a_volume_node):
    a_volume_node.SetAttribute("MedGAN.Kind", "CT")
    answer = {"what": {"class": {"label": "ill", "unknown": False, "scores": {"ill": 1.0}}}}
    publishRecognised(Outputs(report=answer), a_volume_node, matrix_of(a_volume_node))
    assert a_volume_node.GetAttribute("MedGAN.Kind") == "CT"
    unknown = {"what": {"kind": {"label": "MR", "unknown": True, "scores": {}}}}
    publishRecognised(Outputs(report=unknown), a_volume_node, matrix_of(a_volume_node))
    assert a_volume_node.GetAttribute("MedGAN.Kind") is None


def test_unknown_is_not_said_to_be_chosen(a_volume_node):
    outputs = quick_recognise.run({"volume": volumeFromNode(a_volume_node)}, RecogniseSettings(model="unsure"), silent)
    assert [row["chosen"] for row in RecogniseNodes.answersOf(outputs.report)] == [""] * 13


@pytest.mark.parametrize("left_handed", [False, True])
def test_boxes_enclose_the_voxels_of_their_regions(a_scene, an_oblique_volume_node, left_handed):
    node = an_oblique_volume_node
    node.SetIJKToRASMatrix(to_vtk_matrix(oblique_matrix(left_handed=left_handed)))
    under_a_transform(a_scene, node)
    result = publishAnomaly(anomalies(node), node, matrix_of(node), 0.0)
    assert [round(region["score"], 2) for region in result.regions] == sorted(
        (round(region["score"], 2) for region in result.regions), reverse=True
    )
    assert len(result.boxes) == 2
    for box, corner in zip(result.boxes.values(), quick_anomaly.CORNERS, strict=True):
        assert corners_of(box) == pytest.approx(corners_of_voxels(node, corner), abs=0.02)
        assert box.GetParentTransformNode() is node.GetParentTransformNode()
        matrix = np.array(box.GetObjectToNodeMatrix().GetData()).reshape(4, 4)
        assert np.linalg.det(matrix) == pytest.approx(1, abs=1e-3)
        assert box.GetLocked()
    rows = rows_of(result.table)
    one_voxel = abs(np.linalg.det(matrix_of(node)[:3, :3])) / 1000
    assert [row["volume_ml"] for row in rows] == pytest.approx([18 * one_voxel] * 2, rel=1e-3)


def test_place_of_a_region_is_that_in_the_world(a_scene, an_oblique_volume_node):
    node = under_a_transform(a_scene, an_oblique_volume_node)
    result = publishAnomaly(anomalies(node), node, matrix_of(node), 0.0)
    to_world = vtk.vtkGeneralTransform()
    node.GetParentTransformNode().GetTransformToWorld(to_world)
    middle = (matrix_of(node) @ [2, 2, 1.5, 1])[:3]  # of the first corner, which is a symmetric block
    assert placeOf(result, 0) == pytest.approx(to_world.TransformPoint(middle), abs=0.02)


def test_sentences_and_table_name_the_place_in_the_world(a_scene, an_oblique_volume_node):
    node = under_a_transform(a_scene, an_oblique_volume_node)
    result = publishAnomaly(anomalies(node), node, matrix_of(node), 0.0)
    found = zip(result.regions, rows_of(result.table), result.boxes.values(), strict=True)
    for number, (region, row, box) in enumerate(found):
        right, anterior, superior = placeOf(result, number)
        where = (
            f"{abs(right):.0f} mm {'right' if right >= 0 else 'left'}, "
            f"{abs(anterior):.0f} mm {'anterior' if anterior >= 0 else 'posterior'}, "
            f"{abs(superior):.0f} mm {'superior' if superior >= 0 else 'inferior'}"
        )
        assert where in region["sentence"]
        assert row["sentence"] == box.GetDescription() == region["sentence"]
        place = [row["right_mm"], row["anterior_mm"], row["superior_mm"]]
        assert place == pytest.approx(placeOf(result, number), abs=1e-3)


def test_regions_stay_with_their_map_when_the_volume_or_the_map_is_hardened(a_scene, an_oblique_volume_node):
    node = under_a_transform(a_scene, an_oblique_volume_node)
    result = publishAnomaly(anomalies(node), node, matrix_of(node), 0.0)
    place, centre = placeOf(result, 0), result.boxes[1].GetCenterWorld()
    node.HardenTransform()
    assert placeOf(result, 0) == pytest.approx(place, abs=0.01)
    showRegions(result, regionsAt(result, 0.55), 0.55)
    assert placeOf(result, 0) == pytest.approx(place, abs=0.01)
    assert result.boxes[1].GetCenterWorld() == pytest.approx(centre, abs=0.01)
    result.map.HardenTransform()
    assert placeOf(result, 0) == pytest.approx(place, abs=0.01)
    showRegions(result, regionsAt(result, 0.6), 0.6)
    assert placeOf(result, 0) == pytest.approx(place, abs=0.01)
    assert result.boxes[1].GetCenterWorld() == pytest.approx(centre, abs=0.01)


def test_another_threshold_changes_table_boxes_and_heat_map_at_once(a_scene, a_volume_node):
    result = publishAnomaly(anomalies(a_volume_node), a_volume_node, matrix_of(a_volume_node), 0.0)
    display = result.map.GetDisplayNode()
    assert (display.GetWindowLevelMin(), display.GetWindowLevelMax()) == pytest.approx((0.0, 1.0))
    assert display.GetLowerThreshold() == pytest.approx(0.5)
    before = node_ids(a_scene)
    showRegions(result, regionsAt(result, 0.7), 0.7)
    assert len(result.boxes) == len(rows_of(result.table)) == 1
    assert result.map.GetDisplayNode().GetLowerThreshold() == pytest.approx(0.7)
    showRegions(result, regionsAt(result, 0.95), 0.95)
    assert (len(result.boxes), len(rows_of(result.table))) == (0, 0)
    showRegions(result, regionsAt(result, 0.5), 0.5)
    assert len(result.boxes) == len(rows_of(result.table)) == 2
    assert len(node_ids(a_scene)) == len(before)


def test_results_follow_a_volume_whose_transform_was_hardened(a_scene, an_oblique_volume_node):
    node = under_a_transform(a_scene, an_oblique_volume_node)
    outputs, matrix = anomalies(node), matrix_of(node)
    node.HardenTransform()
    result = publishAnomaly(outputs, node, matrix, 0.0)
    assert matrix_of(result.map) == pytest.approx(matrix_of(node), abs=1e-6)
    middle = (matrix_of(node) @ [2, 2, 1.5, 1])[:3]
    assert placeOf(result, 0) == pytest.approx(middle, abs=0.02)
    assert result.boxes[1].GetCenter() == pytest.approx(tuple(middle), abs=0.6)


def test_failure_leaves_the_scene_as_it_was(a_scene, a_volume_node, monkeypatch):
    publishAnomaly(anomalies(a_volume_node), a_volume_node, matrix_of(a_volume_node), 0.0)  # its colours stay
    before = node_ids(a_scene)
    outputs = anomalies(a_volume_node)
    monkeypatch.setattr(RecogniseNodes, "showRegions", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        publishAnomaly(outputs, a_volume_node, matrix_of(a_volume_node), 0.0)
    assert node_ids(a_scene) == before
