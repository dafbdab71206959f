"""The pictures of the panels in the README, with the shipped models and the sample scan.

    MEDGAN_SCREENSHOTS=Resources/Screenshots python -m pytest Testing/Widget/readme_pictures.py

Not part of the test run: the tasks work for minutes here, and the pictures are looked at by a person.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import slicer
import slicer.util

from medgan.models import SHIPPED

TIMEOUT_S = 3000


@pytest.fixture
def visitor(person, monkeypatch):
    """Somebody who has the shipped models alone, and has loaded the sample scan."""
    monkeypatch.setenv("MEDGAN_MODELS", "~/.medgan/models")  # as the panel shows it, and nobody's folder
    for _root, panel in person.widget._panels.values():
        panel.reload()
    from MedGANSlicerLib import Samples

    node = Samples.load()
    slicer.util.setSliceViewerLayers(background=node)
    person.wait(lambda: person.parameters.inputVolume is node)
    return person


@pytest.fixture
def shot(visitor, screenshot):
    """``shot(name)`` leaves the light picture alone, under that name."""

    def take(name: str) -> None:
        visitor.ui.progressLabel.setVisible(False)  # how long it took on this computer
        screenshot(visitor.widget, name)  # the first time the heights of wrapped texts are found
        light, dark = screenshot(visitor.widget, name)
        dark.unlink()
        light.rename(light.with_name(f"{name}.png"))

    return take


def parts(visitor):
    """A segmentation of the sample scan: by thresholds, with names and label values of FreeSurfer."""
    node = slicer.util.getNode("BrainT1")
    array = slicer.util.arrayFromVolume(node)
    labels = np.zeros(array.shape, np.int16)
    for value, share in ((24, 0.05), (3, 0.35), (2, 0.6)):
        labels[array > share * np.percentile(array, 99.5)] = value
    made = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "BrainT1 tissues")
    made.CreateDefaultDisplayNodes()
    from medgan.labels import segmentation_of
    from medgan.volume import Label, LabelMap
    from MedGANSlicerLib.SceneBridge import matrixOf
    from MedGANSlicerLib.SegmentationBridge import publishSegmentation

    names = {
        24: Label("CSF", (0.24, 0.24, 0.9)),
        3: Label("Cortex", (0.8, 0.24, 0.3)),
        2: Label("White matter", (0.9, 0.9, 0.9)),
    }
    segments = segmentation_of([LabelMap(labels, matrixOf(node), names)])[0]
    return publishSegmentation(slicer.mrmlScene, segments, "", None, node, made)


def test_enhance(visitor, shot):
    visitor.press_apply()
    visitor.wait_for_end(TIMEOUT_S)
    shot("panel")


def test_segment(visitor, shot):
    visitor.choose_task("segment")
    shot("segment")


def test_convert(visitor, shot):
    visitor.choose_task("convert")
    visitor.parameters.convertSegmentation = parts(visitor)
    visitor.press_apply()
    visitor.wait_for_end(TIMEOUT_S)
    visitor.parameters.convertSegmentation = slicer.util.getNode("BrainT1 tissues")
    shot("convert")


def test_train(visitor, shot):
    import qt

    array = slicer.util.arrayFromVolume(slicer.util.getNode("BrainT1"))
    for name in ("Scan 2", "Scan 3"):
        slicer.util.addVolumeFromArray(array[::4, ::4, ::4], np.diag([4.0, 4.0, 4.0, 1.0]), name)
    visitor.choose_task("train")
    table = visitor.ui_of("train").volumesTable
    visitor.wait(lambda: table.rowCount == 3)
    for row in range(3):
        table.item(row, 0).setCheckState(qt.Qt.Checked)
    shot("train")


def test_evaluate(visitor, shot):
    node = slicer.util.getNode("BrainT1")
    array = slicer.util.arrayFromVolume(node)[::2, ::2, ::2].astype(float)
    noisy = array + np.random.default_rng(0).normal(0, 0.05 * np.percentile(array, 99.5), array.shape)
    spread = (noisy + np.roll(noisy, 1, 0) + np.roll(noisy, 1, 1) + np.roll(noisy, 1, 2)) / 4
    slicer.mrmlScene.RemoveNode(node)
    for name, voxels in (("Scan", array), ("Scan noisy", noisy), ("Scan smoothed", spread)):
        slicer.util.addVolumeFromArray(voxels.astype(np.float32), np.diag([2.0, 2.0, 2.0, 1.0]), name)
    visitor.choose_task("evaluate")
    ui = visitor.ui_of("evaluate")
    visitor.wait(lambda: ui.resultsTable.rowCount == 3)
    for row in (1, 2):
        ui.resultsTable.selectRow(row)
        ui.referenceSelector.setCurrentIndex(ui.referenceSelector.findText("Scan"))
        ui.referenceSelector.activated(ui.referenceSelector.currentIndex)
    visitor.press_apply()
    visitor.wait_for_end(TIMEOUT_S)
    shot("evaluate")


@pytest.mark.skipif(not Path(SHIPPED, "recognise").is_dir(), reason="there is no model that recognises")
def test_recognise(visitor, shot):
    visitor.choose_task("recognise")
    visitor.press_apply()
    visitor.wait_for_end(TIMEOUT_S)
    assert visitor.ui.errorLabel.text == ""
    shot("recognise")


@pytest.mark.skipif(not Path(SHIPPED, "anomaly").is_dir(), reason="there is no model that finds anomalies")
def test_unusual(visitor, shot):
    visitor.choose_task("recognise")
    ui = visitor.ui_of("recognise")
    ui.recogniseQuestion.setCurrentIndex(1)
    visitor.press_apply()
    visitor.wait_for_end(TIMEOUT_S)
    assert visitor.ui.errorLabel.text == ""
    shot("unusual")


@pytest.mark.skipif(not Path(SHIPPED, "label-to-volume").is_dir(), reason="there is no model from labels")
def test_synthesize(visitor, shot):
    visitor.parameters.segment.flips = False
    visitor.choose_task("segment")
    visitor.press_apply()
    visitor.wait_for_end(TIMEOUT_S)
    visitor.parameters.synthesizeLabels = slicer.util.getNode("BrainT1 segmented")
    visitor.choose_task("synthesize")
    ui = visitor.ui_of("synthesize")
    ui.contrast.setCurrentIndex(ui.contrast.findText("MR T2"))
    ui.deformation.value = 3.0
    ui.count.value = 3
    visitor.press_apply()
    visitor.wait_for_end(TIMEOUT_S)
    assert visitor.ui.errorLabel.text == ""
    shot("synthesize")
