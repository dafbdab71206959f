"""Pictures of synthetic volumes; a click shows one in the slice views, with its labels."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence

import qt
from slicer.i18n import tr as _

from MedGANSlicerLib.Panels.LongNames import breakable
from MedGANSlicerLib.Panels.SliceLayers import SliceLayers
from MedGANSlicerLib.SceneBridge import SOURCE_ROLE
from MedGANSlicerLib.SceneEdits import removeNode
from MedGANSlicerLib.SynthesizeNodes import SAMPLE, Sample, showLabels
from MedGANSlicerLib.TableNodes import folderOf, removeEmptyFolder
from MedGANSlicerLib.Thumbnails import SIDE

A_ROW, MOST_ROWS = 3, 2
"""Pictures beside each other in a panel of usual width; with more rows the gallery scrolls."""


class Gallery:
    """``ui``: the widgets of the section "Made here". Empty until :meth:`add` is called."""

    def __init__(self, ui, host) -> None:
        self._ui, self._host, self._slices = ui, host, SliceLayers(host)
        self._samples: list[Sample] = []
        self._shown: Sample | None = None
        ui.gallery.connect("itemClicked(QListWidgetItem*)", self._clicked)
        ui.gallery.connect("itemActivated(QListWidgetItem*)", self._clicked)
        ui.labelsCheckBox.connect("toggled(bool)", self._showLabels)
        ui.removeSampleButton.connect("clicked(bool)", self._remove)
        self._draw()

    def add(self, samples: Sequence[Sample], show: bool) -> None:
        """Put new volumes behind the others; with ``show`` the first of them goes into the views."""
        first = len(self._samples)
        self._samples += samples
        for sample in samples:
            pixmap = qt.QPixmap()
            pixmap.loadFromData(qt.QByteArray(sample.picture))
            self._ui.gallery.addItem(_("seed {seed}").format(seed=sample.seed))
            item = self._ui.gallery.item(self._ui.gallery.count - 1)
            item.setIcon(qt.QIcon(pixmap))
            item.setToolTip(sample.volume.GetName())
        self._draw()
        if show and samples:
            self._ui.gallery.setCurrentRow(first)
            self._show(samples[0])

    def tidy(self) -> None:
        """Forget what left with a scene that was closed."""
        for sample in [each for each in self._samples if each.volume.GetScene() is None]:
            self.forget(sample.volume)

    def forget(self, node) -> None:
        """A node is about to leave the scene; the picture of a volume goes with it."""
        for row, sample in enumerate(self._samples):
            if node is sample.volume:
                if sample is self._shown:
                    self.leave()
                del self._samples[row]
                self._ui.gallery.takeItem(row)
                self._draw()
                return
            if node is sample.segmentation:
                self._samples[row] = dataclasses.replace(sample, segmentation=None)
                if sample is self._shown:
                    self._shown = self._samples[row]
                return

    def leave(self) -> None:
        """Give the person's views back."""
        if self._shown is not None:
            showLabels(self._shown, False)
        self._shown = None
        self._slices.leave()
        self._ui.gallery.clearSelection()
        self._draw()

    def _draw(self) -> None:
        ui = self._ui
        ui.gallerySection.setVisible(bool(self._samples))
        rows = min(MOST_ROWS, -(-len(self._samples) // A_ROW))
        ui.gallery.setFixedHeight(rows * (SIDE + ui.gallery.fontMetrics().lineSpacing() + 16) + 8)
        ui.sampleLabel.setText(breakable(said(self._shown)) if self._shown is not None else "")
        ui.sampleLabel.setVisible(self._shown is not None)
        ui.labelsCheckBox.setEnabled(self._shown is not None and self._shown.segmentation is not None)
        ui.removeSampleButton.setEnabled(self._shown is not None)

    def _clicked(self, item=None) -> None:
        row = self._ui.gallery.currentRow
        if 0 <= row < len(self._samples):
            self._show(self._samples[row])

    def _show(self, sample: Sample) -> None:
        if self._shown is not None:
            showLabels(self._shown, False)
        self._shown = sample
        fields = {"BackgroundVolumeID": sample.volume.GetID(), "ForegroundVolumeID": None}
        self._slices.put(lambda name, composite: fields)
        source = sample.volume.GetNodeReference(SOURCE_ROLE)
        if source is None or not source.IsA("vtkMRMLVolumeNode"):  # it may lie where the person has not looked
            self._host.fitSlices(*self._host.compositeNodes())
        showLabels(sample, self._ui.labelsCheckBox.checked)
        self._draw()

    def _showLabels(self, shown: bool) -> None:
        if self._shown is not None:
            showLabels(self._shown, shown)

    def _remove(self, checked=False) -> None:
        sample = self._shown
        if sample is not None:
            scene, folder = sample.volume.GetScene(), folderOf(sample.volume)
            for node in reversed(sample.present()):
                removeNode(scene, node)
            removeEmptyFolder(scene, folder)


def said(sample: Sample) -> str:
    """A few words about a synthetic volume, from what its node says of itself."""
    told = json.loads(sample.volume.GetAttribute(SAMPLE) or "{}")
    parts = [f"{sample.volume.GetName()}: " + _("synthetic")]
    folding = told.get("folding")
    if folding and folding["smallest_jacobian"] <= 0:
        parts.append(_("the labels fold somewhere"))
    elif folding and folding.get("rms_mm"):
        parts.append(_("labels moved by {distance:.2g} mm without folding").format(distance=folding["rms_mm"]))
    if told.get("intensity_unit"):
        parts.append(_("intensities: {unit}").format(unit=told["intensity_unit"]))
    return "; ".join(parts) + "."
