"""The settings of Synthesize that are no single widget: intensities typed for each label, and latent sliders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import qt
import slicer.util
from slicer.i18n import tr as _

from MedGANSlicerLib.Panels import Lines
from MedGANSlicerLib.SynthesizeNodes import Intensity, intensitiesOf, intensityText, labelsIn

SLIDERS = 8
"""Sliders that the panel has; a model may have fewer."""

NUMBER_WIDTH = 62
"""Pixels of a column that a number is typed into."""

_NAME, _MEAN, _SD = range(3)


class IntensitiesTable:
    """One line for each label with mean and standard deviation, kept in ``parameters.synthesize.intensities``."""

    def __init__(self, ui, getParameters) -> None:
        self._table, self._getParameters = ui.intensitiesTable, getParameters
        self._rows: list[Intensity] = []
        self._known: tuple[object, Mapping[int, str]] = (None, {})
        self._filling = False
        self._unreadable = self._mistyped = ""
        Lines.prepare(self._table, (_("Label"), _("Mean"), _("SD")), 0)
        for column in (_MEAN, _SD):
            self._table.horizontalHeader().setSectionResizeMode(column, qt.QHeaderView.Interactive)
            self._table.setColumnWidth(column, NUMBER_WIDTH)
        self._table.connect("itemChanged(QTableWidgetItem*)", self._changed)

    @property
    def problem(self) -> str:
        """One sentence about labels that can not be read or a cell that holds no number, or ""."""
        return self._unreadable or self._mistyped

    def show(self, labelsNode, text: str, visible: bool) -> None:
        """List the labels of a node (or None), with what the setting says of them."""
        self._table.setVisible(visible and labelsNode is not None)
        if not visible or labelsNode is None:
            self._unreadable = self._mistyped = ""
            return
        rows = intensitiesOf(text, self._names(labelsNode))
        same = [(row.value, row.name) for row in rows] == [(row.value, row.name) for row in self._rows]
        if rows == self._rows or (same and self._mistyped):  # what was typed wrongly stays there to be mended
            return
        self._rows, self._mistyped = rows, ""
        self._filling = True
        Lines.fill(
            self._table,
            [(row.name, row.mean, row.sd) for row in rows],
            [_("{name}, label value {value}").format(name=row.name, value=row.value) for row in rows],
            (_MEAN, _SD),
        )
        self._filling = False

    def _names(self, node) -> Mapping[int, str]:
        """Names of the labels, read once for each content of a node."""
        key = (node.GetID(), *_contentTimes(node))
        if self._known[0] != key:
            try:
                self._known, self._unreadable = (key, labelsIn(node)), ""
            except ValueError as error:
                self._known, self._unreadable = (key, {}), str(error)
        return self._known[1]

    def _changed(self, item) -> None:
        if self._filling:
            return
        cells = self._table
        rows = [
            Intensity(row.value, row.name, cells.item(n, _MEAN).text().strip(), cells.item(n, _SD).text().strip())
            for n, row in enumerate(self._rows)
        ]
        parameters = self._getParameters()
        if parameters is None:
            return
        try:
            text, self._mistyped = intensityText(rows), ""
        except ValueError as error:
            self._mistyped = str(error)
            parameters.parameterNode.Modified()  # the panel says so
            return
        self._rows = rows
        parameters.synthesize.intensities = text


class LatentSliders:
    """Sliders for the first numbers of the latent vector, kept in ``parameters.synthesize.sliders``."""

    def __init__(self, ui, getParameters) -> None:
        self._box, self._getParameters = ui.shapeCheckBox, getParameters
        self._sliders = [getattr(ui, f"latent{number}") for number in range(1, SLIDERS + 1)]
        self._labels = [getattr(ui, f"latent{number}Label") for number in range(1, SLIDERS + 1)]
        self._count = 0
        self._filling = False
        ui.shapeCheckBox.connect("toggled(bool)", self._changed)
        for slider in self._sliders:
            slider.connect("valueChanged(double)", self._changed)

    def show(self, names: Sequence[str], text: str) -> None:
        """Offer a slider for each name, at what the setting says."""
        names = names[:SLIDERS]
        self._count = len(names)
        values = [float(part) for part in text.split()] if text else []
        self._filling = True
        self._box.setVisible(bool(names))
        self._box.setChecked(bool(values))
        for number, (slider, label) in enumerate(zip(self._sliders, self._labels, strict=True)):
            there = number < len(names) and bool(values)
            slider.setVisible(there)
            label.setVisible(there)
            if there:
                label.setText(names[number])
                slider.setValue(values[number] if number < len(values) else 0.0)
        self._filling = False

    def _changed(self, value=None) -> None:
        parameters = self._getParameters()
        if self._filling or parameters is None:
            return
        shown = self._box.checked
        values = [slider.value for slider in self._sliders[: self._count]]
        with slicer.util.NodeModify(parameters):
            parameters.synthesize.sliders = " ".join(f"{each:.3g}" for each in values) if shown else ""


def sliderNames(cards: Sequence) -> list[str]:
    """What the card of a model from noise calls the numbers that sliders may set."""
    held = cards[0].details.get("sliders", ()) if len(cards) == 1 else ()
    if isinstance(held, int):
        return [_("Shape {number}").format(number=number + 1) for number in range(held)]
    return [str(each) for each in held] if isinstance(held, list | tuple) else []


def _contentTimes(node) -> tuple[int, ...]:
    """Change whenever labels or their names do."""
    if node.IsA("vtkMRMLSegmentationNode"):
        return (node.GetSegmentation().GetMTime(),)
    colors = node.GetDisplayNode().GetColorNode() if node.GetDisplayNode() is not None else None
    return tuple(each.GetMTime() if each is not None else 0 for each in (node.GetImageData(), colors))
