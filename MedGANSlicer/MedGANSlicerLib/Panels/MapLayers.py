"""Which map of the result lies over the input (difference, residual or uncertainty), and its legend."""

from __future__ import annotations

from collections.abc import Callable

from slicer.i18n import tr as _

from MedGANSlicerLib.ColorTables import Color, divergingColor, sequentialColor
from MedGANSlicerLib.ResultNodes import MAPS, ResultNodes


class MapLayers:
    """One check box a map, shown when the result has it; checking one unchecks the others.

    ``onChanged()`` hears of it. ``ui`` has a check box ``<map>CheckBox`` for each of ``MAPS`` and the legend.
    """

    def __init__(self, ui, onChanged: Callable[[], None]) -> None:
        self._ui, self._onChanged = ui, onChanged
        self._boxes = {name: getattr(ui, f"{name}CheckBox") for name in MAPS}
        for name, box in self._boxes.items():
            box.connect("toggled(bool)", self._listener(name))

    def offer(self, nodes: ResultNodes | None) -> None:
        """Show the boxes of the maps that there are; the map that is shown stays shown if it is one of them."""
        for name, box in self._boxes.items():
            there = nodes is not None and getattr(nodes, name) is not None
            box.setVisible(there)
            if not there:
                _check(box, False)

    def chosen(self) -> str:
        """The name of the map that is shown, or ""."""
        return next((name for name, box in self._boxes.items() if box.checked), "")

    def showLegend(self, nodes: ResultNodes, source) -> None:
        """Colours, ends and unit of the map that is shown."""
        ui, name = self._ui, self.chosen()
        ui.legend.setVisible(bool(name))
        ui.afterLabel.setText(_titles()[name])
        if not name:
            return
        display = getattr(nodes, name).GetDisplayNode()
        low, high = display.GetWindowLevelMin(), display.GetWindowLevelMax()
        signed = low < 0
        ui.legendLow.setText(f"{low:.3g}")
        ui.legendHigh.setText(f"+{high:.3g}" if signed else f"{high:.3g}")
        ui.legendBar.setStyleSheet(legendStyle(divergingColor if signed else sequentialColor))
        ui.legendUnit.setText(_meanings()[name].format(unit=unitOf(source)))

    def _listener(self, name: str) -> Callable[[bool], None]:
        return lambda checked: self._toggled(name, checked)

    def _toggled(self, name: str, checked: bool) -> None:
        if checked:
            for other in set(self._boxes) - {name}:
                _check(self._boxes[other], False)
        self._onChanged()


def legendStyle(colorAt: Callable[[float], Color]) -> str:
    """Style sheet of a bar with the colours that ``colorAt`` gives for shares from 0 to 1."""
    stops = []
    for tenth in range(11):
        red, green, blue = (round(255 * part) for part in colorAt(tenth / 10))
        stops.append(f"stop:{tenth / 10:g} rgb({red},{green},{blue})")
    return f"background: qlineargradient(x1:0, y1:0, x2:1, y2:0, {', '.join(stops)}); border: 1px solid gray;"


def unitOf(node) -> str:
    """The unit of a volume's voxels, as its node knows it."""
    units = node.GetVoxelValueUnits()
    return (units.GetCodeMeaning() if units is not None else "") or _("the unit of the input")


def _titles() -> dict[str, str]:
    return {"": _("After"), "difference": _("Change"), "residual": _("Residual"), "uncertainty": _("Uncertainty")}


def _meanings() -> dict[str, str]:
    return {
        "difference": _("Result minus input, in {unit}"),
        "residual": _("Result measured again minus input, in {unit}"),
        "uncertainty": _("Standard deviation of the model's answers, in {unit}"),
    }


def _check(box, checked: bool) -> None:
    was = box.blockSignals(True)
    box.setChecked(checked)
    box.blockSignals(was)
