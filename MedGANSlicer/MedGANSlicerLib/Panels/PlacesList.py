"""The places to check: points in the views, their sentences in a list, and a click that goes there."""

from __future__ import annotations

from collections.abc import Sequence

import slicer
from slicer.i18n import tr as _

from MedGANSlicerLib.Places import sentencesOf, worldPlace

_EVENTS = ("PointAddedEvent", "PointRemovedEvent", "PointModifiedEvent")

_LINES_EACH, _MOST_SHOWN = 3, 4  # a sentence wraps; with more places than this the list scrolls


class PlacesList:
    """``ui`` has placesCheckBox and placesList. Shows nothing until :meth:`show` is called."""

    def __init__(self, ui, host) -> None:
        self._ui, self._host = ui, host
        self._node = None
        self._tags: list[int] = []
        ui.placesCheckBox.connect("toggled(bool)", self._showPoints)
        ui.placesList.connect("itemClicked(QListWidgetItem*)", self._go)
        ui.placesList.connect("itemActivated(QListWidgetItem*)", self._go)
        self._fill([])

    def show(self, node, sentences: Sequence[str]) -> None:
        """A point list of the scene, with its points visible; without one (None) the sentences alone."""
        self.leave()
        self._node = node
        if node is not None:
            events = (getattr(slicer.vtkMRMLMarkupsNode, name) for name in _EVENTS)
            self._tags = [node.AddObserver(event, self._changed) for event in events]
        self._ui.placesCheckBox.setChecked(node is not None)
        self._fill(sentencesOf(node) if node is not None else sentences)

    def leave(self) -> None:
        """Hide the points; they stay in the scene."""
        if self._node is not None:
            for tag in self._tags:
                self._node.RemoveObserver(tag)
            self._ui.placesCheckBox.setChecked(False)
        self._node, self._tags = None, []
        self._fill([])

    def _fill(self, sentences: Sequence[str]) -> None:
        ui = self._ui
        ui.placesList.clear()
        for sentence in sentences:
            ui.placesList.addItem(sentence)
        lines = _LINES_EACH * min(len(sentences), _MOST_SHOWN)
        ui.placesList.setFixedHeight(lines * ui.placesList.fontMetrics().lineSpacing() + 8)
        ui.placesCheckBox.setText(_("Places to check ({count})").format(count=len(sentences)))
        ui.placesCheckBox.setEnabled(self._node is not None)
        # A sequence has frames without a place; the box then says so.
        ui.placesCheckBox.setVisible(bool(sentences) or self._node is not None)
        ui.placesList.setVisible(bool(sentences))

    def _changed(self, caller=None, event=None) -> None:
        """The slider of a sequence went to another frame."""
        sentences = sentencesOf(self._node)
        shown = [self._ui.placesList.item(row).text() for row in range(self._ui.placesList.count)]
        if sentences != shown:
            self._fill(sentences)

    def _showPoints(self, visible: bool) -> None:
        display = self._node.GetDisplayNode() if self._node is not None else None
        if display is not None:
            display.SetVisibility(visible)

    def _go(self, item=None) -> None:
        row = self._ui.placesList.currentRow
        if self._node is not None and 0 <= row < self._node.GetNumberOfControlPoints():
            self._host.centreSlices(worldPlace(self._node, row))
