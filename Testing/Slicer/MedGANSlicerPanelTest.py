"""The panel in desktop Slicer: the flows of Testing/Widget with real views, for ctest.

By hand:  Slicer --no-splash --testing --ignore-slicerrc --additional-module-paths <MedGANSlicer> \\
              --python-script Testing/Slicer/run_all.py
What runs the network is skipped without PyTorch and MONAI; nothing is ever installed from here.
"""

import time
import unittest

import numpy as np
import slicer
import slicer.util

PATIENCE_S = 300


def turnEventLoop(until, seconds=PATIENCE_S):
    """A test may turn the event loop; the module never does."""
    end = time.monotonic() + seconds
    while not until():
        if time.monotonic() > end:
            raise AssertionError(f"still not so after {seconds} s")
        slicer.app.processEvents()
        time.sleep(0.01)


def noisyVolume(name="Noisy"):
    """A block with noise, oblique and anisotropic."""
    array = np.full((24, 28, 32), 1000.0) + np.random.default_rng(0).normal(0, 40, (24, 28, 32))
    matrix = np.array([[0.0, -1.1, 0.0, 9.0], [0.8, 0.0, 0.0, -7.0], [0.0, 0.0, 2.0, 5.0], [0.0, 0.0, 0.0, 1.0]])
    node = slicer.util.addVolumeFromArray(array.astype(np.int16), matrix, name)
    slicer.util.setSliceViewerLayers(background=node)
    return node


class PanelCase(unittest.TestCase):
    """The opened panel over an empty scene."""

    def setUp(self):
        slicer.mrmlScene.Clear()
        if slicer.util.mainWindow() is not None:
            slicer.util.selectModule("MedGANSlicer")
        self.widget = slicer.modules.medganslicer.widgetRepresentation().self()
        self.widget.enter()
        self.ui = self.widget.ui

    def tearDown(self):
        self.widget.taskPanel.stop()
        slicer.mrmlScene.Clear()

    def needsNetwork(self):
        if not (self.widget.host.isInstalled("torch") and self.widget.host.isInstalled("monai")):
            self.skipTest("PyTorch or MONAI is not installed")

    def chooseTask(self, task):
        """Choose it in the menu at the top. Returns the widgets of its panel."""
        self.ui.taskSelector.setCurrentIndex(self.ui.taskSelector.findData(task))
        return self.widget._panels[task][1].ui

    def apply(self):
        assert self.ui.applyButton.enabled, self.ui.applyButton.toolTip
        self.ui.applyButton.click()

    def waitForEnd(self):
        turnEventLoop(lambda: not self.widget.taskPanel.busy)
        assert self.ui.errorLabel.text == ""


class MedGANSlicerPanelTest(PanelCase):
    def choose(self, node):
        self.widget._parameters.inputVolume = node

    def test_panel_without_a_volume_can_not_apply(self):
        assert not self.ui.applyButton.enabled
        assert self.ui.applyButton.text == "Apply"

    def test_settings_are_bound_to_the_parameter_node(self):
        panel = self.widget._panels["enhance"][1]
        panel.ui.strength.value = 0.4
        assert abs(self.widget._parameters.enhance.strength - 0.4) < 1e-9
        self.widget._parameters.enhance.seed = 7
        assert panel.ui.seed.value == 7
        assert panel.ui.device.itemText(0) == "Automatic"

    def test_what_is_seen_is_said(self):
        self.choose(noisyVolume())
        assert "noise" in self.widget._panels["enhance"][1].ui.seenLabel.text

    def test_apply_gives_a_result_and_a_comparison(self):
        self.needsNetwork()
        node = noisyVolume()
        self.choose(node)
        self.widget._parameters.enhance.model = "denoise"
        self.apply()
        assert self.ui.applyButton.text == "Cancel"
        self.waitForEnd()
        result = slicer.util.getNode("Noisy denoised")
        before, after = (slicer.util.arrayFromVolume(each).astype(float) for each in (node, result))
        assert after.std() < 0.6 * before.std()
        assert self.widget.compare.active

    def test_super_resolution_has_its_options_maps_and_places(self):
        self.needsNetwork()
        panel = self.widget._panels["enhance"][1]
        node = noisyVolume()
        self.choose(node)
        self.widget._parameters.enhance.model = "superres"
        assert not panel.ui.superresGroup.isHidden()
        assert "along k" in panel.ui.planLabel.text.lower()
        panel.ui.uncertainty.checked = True
        assert self.widget._parameters.enhance.uncertainty
        self.apply()
        self.waitForEnd()
        result = slicer.util.getNode("Noisy super-resolved")
        assert abs(result.GetSpacing()[2] - 0.8) < 0.05
        assert not self.ui.uncertaintyCheckBox.isHidden()
        self.ui.uncertaintyCheckBox.checked = True
        assert not self.ui.legend.isHidden()

    def test_click_on_a_place_centres_the_slices(self):
        from MedGANSlicerLib import Places
        from MedGANSlicerLib.ResultNodes import ResultNodes

        if slicer.app.layoutManager() is None:
            self.skipTest("there is no main window")
        node = noisyVolume()
        suspicions = [{"ras_mm": [1.0, 2.0, 3.0], "kind": "added", "sentence": "Look here."}]
        points = Places.publishPlaces(slicer.mrmlScene, suspicions, node, "To check", {})
        result = slicer.vtkSlicerVolumesLogic.CloneVolume(slicer.mrmlScene, node, "Result")
        self.widget.compare.show(node, ResultNodes(result, places=points))
        assert self.ui.placesList.item(0).text() == "Look here."
        self.ui.placesList.setCurrentRow(0)
        self.ui.placesList.itemClicked(self.ui.placesList.item(0))
        matrix = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceNode().GetSliceToRAS()
        assert [round(matrix.GetElement(row, 3), 3) for row in range(3)] == [1.0, 2.0, 3.0]
        self.widget.compare.leave()
        assert not points.GetDisplayNode().GetVisibility()

    def test_layout_and_views_come_back(self):
        layouts = slicer.app.layoutManager()
        if layouts is None:
            self.skipTest("there is no main window")
        node = noisyVolume()
        from MedGANSlicerLib.ResultNodes import ResultNodes

        result = slicer.vtkSlicerVolumesLogic.CloneVolume(slicer.mrmlScene, node, "Result")
        before = layouts.layout
        self.widget.compare.show(node, ResultNodes(result))
        self.ui.sideBySideCheckBox.checked = True
        names = list(layouts.sliceViewNames())
        assert "MedGANBefore" in names
        opacity = {
            name: layouts.sliceWidget(name).mrmlSliceCompositeNode().GetForegroundOpacity()
            for name in ("MedGANBefore", "MedGANAfter")
        }
        assert opacity == {"MedGANBefore": 0.0, "MedGANAfter": 1.0}
        self.widget.compare.leave()
        assert layouts.layout == before
        red = layouts.sliceWidget("Red").mrmlSliceCompositeNode()
        assert (red.GetBackgroundVolumeID(), red.GetForegroundVolumeID()) == (node.GetID(), None)

    def test_cancel_and_scene_close_leave_nothing(self):
        self.needsNetwork()
        self.choose(noisyVolume())
        self.apply()
        self.ui.applyButton.click()
        turnEventLoop(lambda: not self.widget.taskPanel.busy, 10)
        assert len(slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")) == 1
        self.apply()
        slicer.mrmlScene.Clear()
        assert not self.widget.taskPanel.busy

    def test_deleted_input_drops_the_result(self):
        self.needsNetwork()
        node = noisyVolume()
        self.choose(node)
        self.apply()
        slicer.mrmlScene.RemoveNode(node)
        turnEventLoop(lambda: not self.widget.taskPanel.busy, 10)
        assert "has left the scene" in self.ui.progressLabel.text

    def test_every_task_has_a_panel_that_opens(self):
        noisyVolume()
        for task in self.widget._panels:
            self.ui.taskSelector.setCurrentIndex(self.ui.taskSelector.findData(task))
            assert self.widget._parameters.task == task
            shown = [name for name, (root, _panel) in self.widget._panels.items() if not root.isHidden()]
            assert shown == [task]
            assert self.ui.applyButton.toolTip

    def test_ticked_volumes_are_learned_from(self):
        import qt

        for _number in range(2):  # one of them is for validation
            noisyVolume()
        self.ui.taskSelector.setCurrentIndex(self.ui.taskSelector.findData("train"))
        table = self.widget._panels["train"][1].ui.volumesTable
        turnEventLoop(lambda: table.rowCount == 2, 5)
        for row in range(2):
            table.item(row, 0).setCheckState(qt.Qt.Checked)
        assert self.ui.applyButton.enabled, self.ui.applyButton.toolTip
        assert self.ui.applyButton.text in ("Train", "Continue")

    def test_curves_of_a_training_have_their_views_and_the_layout_comes_back(self):
        import json
        import tempfile
        from pathlib import Path

        layouts = slicer.app.layoutManager()
        if layouts is None:
            self.skipTest("there is no main window")
        from MedGANSlicerLib.Panels.CurvesView import CurvesView
        from MedGANSlicerLib.RunLog import RunLog

        before = layouts.layout
        with tempfile.TemporaryDirectory() as folder:
            rows = [
                {"step": n, "generator_loss": 1 / n, "critic_loss": 0.5, "val_psnr": 30.0, "val_score": 30.0}
                for n in range(10, 300, 10)
            ]
            Path(folder, "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
            log = RunLog(folder)
            log.update()
            view = CurvesView(self.widget.host)
            view.show(log)
        charts = {name: node.GetPlotChartNode() for name, node in self.widget.host.plotViews().items()}
        assert charts["MedGANLosses"].GetNumberOfPlotSeriesNodes() == 2
        assert charts["MedGANValidation"].GetNthPlotSeriesNode(0).GetName() == "PSNR"
        view.leave()
        assert layouts.layout == before

    def test_noise_is_measured_without_a_reference(self):
        import qt

        self.needsNetwork()
        noisyVolume()
        self.ui.taskSelector.setCurrentIndex(self.ui.taskSelector.findData("evaluate"))
        panel = self.widget._panels["evaluate"][1]
        turnEventLoop(lambda: panel.ui.resultsTable.rowCount == 1, 5)
        panel.ui.resultsTable.item(0, 0).setCheckState(qt.Qt.Checked)
        self.apply()
        self.waitForEnd()
        assert slicer.util.getNode("Evaluation").GetNumberOfRows() >= 1
        assert "Noise" in panel.ui.foundLabel.text

    def test_module_reloads(self):
        slicer.util.reloadScriptedModule("MedGANSlicer")
        self.widget = slicer.modules.medganslicer.widgetRepresentation().self()
        assert self.widget.ui.applyButton.text == "Apply"

    def test_sample_is_offered(self):
        import SampleData

        names = [each.sampleName for each in SampleData.SampleDataLogic.sampleDataSourcesByCategory("MedGAN")]
        assert "BrainT1" in names
