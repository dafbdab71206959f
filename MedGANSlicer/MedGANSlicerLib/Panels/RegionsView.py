"""The regions of a map of anomalies: how many, a threshold that they follow at once, a table, and boxes."""

from __future__ import annotations

from slicer.i18n import tr as _

from MedGANSlicerLib.Panels import Lines
from MedGANSlicerLib.Panels.LongNames import breakable
from MedGANSlicerLib.Panels.NodeWatch import NodeWatch
from MedGANSlicerLib.RecogniseNodes import MOST_BOXES, Anomaly, placeOf, regionsAt, showBoxes, showRegions

WAIT_MS = 120
"""So long the slider must rest before regions are looked for: that takes a moment in a large volume."""


class RegionsView:
    """``ui``: the widgets of the section "Unusual places". Shows nothing until :meth:`show` is called.

    Boxes are in the views between :meth:`enter` and :meth:`leave`, as long as they are ticked.
    """

    def __init__(self, ui, host) -> None:
        self._ui, self._host = ui, host
        self._result: Anomaly | None = None
        self._filling = self._entered = False
        self._timer = host.timer(WAIT_MS, self._follow)
        self._watch = NodeWatch(self._say)
        Lines.prepare(ui.regionsTable, (_("Region"), _("Score"), _("ml")), 0, 1, 2)
        ui.regionThreshold.connect("valueChanged(double)", self._wait)
        ui.regionsTable.connect("itemSelectionChanged()", self._go)
        ui.boxesCheckBox.connect("toggled(bool)", self._showBoxes)
        self._draw()

    @property
    def result(self) -> Anomaly | None:
        return self._result

    def show(self, result: Anomaly, largest: float) -> None:
        """What a run found; ``largest`` is the highest value of the map. Boxes of the run before are hidden."""
        self._showBoxes(False)
        self._result = result
        self._watch.watch(result.volume)
        largest = max(largest, 1.5 * result.threshold, 1e-6)
        slider = self._ui.regionThreshold
        was = slider.blockSignals(True)
        slider.decimals = 3 if largest < 2 else 2 if largest < 200 else 0
        slider.minimum, slider.maximum, slider.singleStep = largest / 100, largest, largest / 100
        slider.setValue(result.threshold)
        slider.blockSignals(was)
        self._draw()
        self._showBoxes(self._ui.boxesCheckBox.checked)

    def enter(self) -> None:
        """The person looks at the panel of the regions."""
        if not self._entered:
            self._entered = True
            self._showBoxes(self._ui.boxesCheckBox.checked)

    def leave(self) -> None:
        """Take the boxes out of the views."""
        self._entered = False
        self._showBoxes(False)

    def forget(self, node) -> None:
        """A node is about to leave the scene."""
        result = self._result
        if result is None:
            return
        if node in (result.volume, result.map):
            self._timer.stop()
            self._showBoxes(False)
            self._watch.watch()
            self._result = None
        elif node is result.table:
            result.table = None
        elif node in result.boxes.values():
            result.boxes = {number: box for number, box in result.boxes.items() if box is not node}
        else:
            return
        self._draw()

    def close(self) -> None:
        self._timer.stop()
        self._watch.watch()

    def _wait(self, value: float) -> None:
        self._timer.stop()
        if self._result is not None:
            self._timer.start()

    def _follow(self) -> None:
        """The slider has come to rest."""
        self._timer.stop()
        if self._result is None:
            return
        threshold = self._ui.regionThreshold.value
        if threshold != self._result.threshold:
            showRegions(self._result, regionsAt(self._result, threshold), threshold)
            self._draw()
            self._showBoxes(self._ui.boxesCheckBox.checked)

    def _draw(self) -> None:
        ui, result = self._ui, self._result
        ui.regionsSection.setVisible(result is not None)
        if result is None:
            return
        self._filling = True
        ui.regionsTable.clearSelection()
        rows = [
            (str(region["number"]), f"{region['score']:.3g}", f"{region['volume_ml']:.3g}") for region in result.regions
        ]
        Lines.fill(ui.regionsTable, rows, [region["sentence"] for region in result.regions])
        self._filling = False
        self._say()
        ui.regionsTable.setVisible(bool(rows))
        ui.boxesCheckBox.setVisible(bool(result.boxes))

    def _say(self) -> None:
        text = f"{said(self._result)}\n{self._result.caution}".strip()
        self._ui.regionsLabel.setText(breakable(text))

    def _showBoxes(self, shown: bool) -> None:
        if self._result is not None:
            showBoxes(self._result, shown and self._entered)

    def _go(self) -> None:
        row = self._ui.regionsTable.currentRow()
        if not self._filling and self._result is not None and 0 <= row < len(self._result.regions):
            self._host.centreSlices(placeOf(self._result, row))


def said(result: Anomaly) -> str:
    """Of which volume, how many regions there are from the threshold on, and how large they are together."""
    name = result.volume.GetName()
    count = len(result.regions)
    above = _("from {threshold:.3g} on").format(threshold=result.threshold)
    if not count:
        text = _("{name}: No region {above}. That does not say that nothing is there.")
        return text.format(name=name, above=above)
    volume = sum(region["volume_ml"] for region in result.regions)
    regions = _("1 region") if count == 1 else _("{count} regions").format(count=count)
    text = _("{name}: {regions} {above}, {volume:.3g} ml together.")
    text = text.format(name=name, regions=regions, above=above, volume=volume)
    if count > MOST_BOXES:
        text += " " + _("The first {most} have boxes.").format(most=MOST_BOXES)
    return text
