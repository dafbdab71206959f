"""The panels Recognise and Synthesize in desktop Slicer: the flows of Testing/Widget with real views, for ctest."""

import numpy as np
import slicer
import slicer.util
from MedGANSlicerPanelTest import PanelCase, noisyVolume, turnEventLoop


def heatOver(node):
    """Outputs of a map of anomalies with one block of three voxels along each axis, as the engine gives them."""
    from medgan.tasks import Outputs
    from MedGANSlicerLib.SceneBridge import volumeFromNode

    volume = volumeFromNode(node)
    heat = np.zeros(volume.shape, np.float32)
    heat[4:7, 10:13, 20:23] = 0.8
    matrix = volume.ijk_to_ras
    sides = matrix[:3, :3] * 3
    region = {
        "number": 1,
        "score": 0.8,
        "volume_ml": 0.0475,
        "centre_ras": (matrix @ [21, 11, 5, 1])[:3].tolist(),
        "sentence": "Region 1.",
    }
    lengths = np.linalg.norm(sides, axis=0)
    axes = (sides / lengths).tolist()
    region["box_ras"] = {"centre": region["centre_ras"], "size": lengths.tolist(), "axes": axes}
    told = {"model": "m", "model_version": "1", "model_sha256": {}, "settings": {"model": "m"}, "seed": 0}
    told.update(package_version="0", threshold=0.5, largest=0.8, unit="score", regions=[region], seconds=1.0)
    return Outputs({"anomaly": volume.like(heat, "float32")}, told)


class MedGANSlicerMakeTest(PanelCase):
    def test_regions_have_boxes_and_a_click_goes_there(self):
        from MedGANSlicerLib.RecogniseNodes import publishAnomaly
        from MedGANSlicerLib.SceneBridge import matrixOf

        node = noisyVolume()
        ui, panel = self.chooseTask("recognise"), self.widget._panels["recognise"][1]
        ui.recogniseQuestion.setCurrentIndex(1)
        outputs = heatOver(node)
        panel.finish(publishAnomaly(outputs, node, matrixOf(node), 0.0), outputs.report, False)
        self.widget._refresh()
        box = slicer.util.getNode("Noisy region 1")
        bounds = [0.0] * 6
        box.GetRASBounds(bounds)
        sides = sorted(high - low for low, high in zip(bounds[::2], bounds[1::2], strict=True))
        assert np.allclose(sides, [2.4, 3.3, 6.0], atol=0.01), sides
        assert ui.regionsTable.rowCount == 1
        assert not ui.regionsSection.isHidden()
        if slicer.app.layoutManager() is None:
            self.skipTest("there is no main window")
        composite = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceCompositeNode()
        assert composite.GetForegroundVolumeID() == slicer.util.getNode("Noisy anomaly map").GetID()
        ui.regionsTable.selectRow(0)
        matrix = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceNode().GetSliceToRAS()
        place = [matrix.GetElement(row, 3) for row in range(3)]
        assert np.allclose(place, outputs.report["regions"][0]["centre_ras"], atol=0.01), place
        self.chooseTask("enhance")
        assert composite.GetForegroundVolumeID() is None

    def test_threshold_slider_is_followed(self):
        self.needsNetwork()  # SciPy comes with it
        from MedGANSlicerLib.RecogniseNodes import publishAnomaly
        from MedGANSlicerLib.SceneBridge import matrixOf

        node = noisyVolume()
        ui, panel = self.chooseTask("recognise"), self.widget._panels["recognise"][1]
        outputs = heatOver(node)
        panel.finish(publishAnomaly(outputs, node, matrixOf(node), 0.0), outputs.report, False)
        ui.regionThreshold.value = 0.9
        turnEventLoop(lambda: ui.regionsTable.rowCount == 0, 10)
        assert not slicer.util.getNodesByClass("vtkMRMLMarkupsROINode")
        ui.regionThreshold.value = 0.4
        turnEventLoop(lambda: ui.regionsTable.rowCount == 1, 10)

    def test_scan_is_recognised(self):
        self.needsNetwork()
        noisyVolume()
        ui = self.chooseTask("recognise")
        if not self.widget._panels["recognise"][1]._models.cards():
            self.skipTest("there is no model that recognises")
        self.apply()
        self.waitForEnd()
        assert ui.sentenceLabel.text.startswith("Noisy: ")
        assert ui.qualityTable.rowCount > 2
        ui.tablesButton.click()
        assert slicer.util.getNode("Noisy quality").GetNumberOfRows() > 2

    def test_volumes_from_segments_are_a_gallery(self):
        self.needsNetwork()
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Parts")
        node.CreateDefaultDisplayNodes()
        array = np.zeros((24, 28, 32), np.int16)
        array[4:20, 4:24, 4:28], array[8:16, 8:20, 8:24] = 2, 3
        labels = slicer.util.addVolumeFromArray(
            array, np.diag([2.0, 2.0, 2.0, 1.0]), "map", "vtkMRMLLabelMapVolumeNode"
        )
        slicer.modules.segmentations.logic().ImportLabelmapToSegmentationNode(labels, node)
        slicer.mrmlScene.RemoveNode(labels)
        ui = self.chooseTask("synthesize")
        self.widget._parameters.synthesizeLabels = node
        if not self.widget._panels["synthesize"][1]._models.cards():
            self.skipTest("there is no model that makes volumes from labels")
        ui.count.value = 2
        self.apply()
        self.waitForEnd()
        assert ui.gallery.count == 2
        assert not ui.gallery.item(1).icon().isNull()
        made = slicer.util.getNode("Parts synthetic, seed 1")
        assert made.GetAttribute("MedGAN.Synthetic")
        shown = slicer.util.getNode("Parts synthetic, seed 0 labels")
        assert shown.GetDisplayNode().GetVisibility()
        hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
        folders = {hierarchy.GetItemParent(hierarchy.GetItemByDataNode(each)) for each in (made, shown)}
        assert [hierarchy.GetItemName(folder) for folder in folders] == ["Parts synthetic"]

    def test_typed_intensities_are_kept(self):
        from medgan.settings import Contrast

        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Parts")
        node.GetSegmentation().AddEmptySegment("white", "White matter")
        ui = self.chooseTask("synthesize")
        self.widget._parameters.synthesizeLabels = node
        self.widget._parameters.synthesize.contrast = Contrast.BY_HAND
        assert ui.intensitiesTable.item(1, 0).text() == "White matter"
        ui.intensitiesTable.item(1, 1).setText("0.7")
        assert self.widget._parameters.synthesize.intensities.endswith("=0.7")
