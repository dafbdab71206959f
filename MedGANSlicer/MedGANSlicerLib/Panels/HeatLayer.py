"""A heat map over a volume in the slice views, how much of it is seen, and its legend."""

from __future__ import annotations

from MedGANSlicerLib.ColorTables import sequentialColor
from MedGANSlicerLib.Panels.MapLayers import legendStyle
from MedGANSlicerLib.Panels.SliceLayers import SliceLayers


class HeatLayer:
    """``ui`` has layer, layerCheckBox, layerOpacity and the legend. Shows nothing until :meth:`show` or
    :meth:`offer` is called."""

    def __init__(self, ui, host) -> None:
        self._ui, self._slices = ui, SliceLayers(host)
        self._source = self._map = None
        ui.layerCheckBox.connect("toggled(bool)", self._toggled)
        ui.layerOpacity.connect("valueChanged(int)", self._faded)
        ui.legendBar.setStyleSheet(legendStyle(sequentialColor))
        self._draw()

    def show(self, source, heatMap, meaning: str) -> None:
        """Lay ``heatMap`` over ``source`` (both nodes); ``meaning`` says what its values are."""
        self.offer(source, heatMap, meaning)
        self._ui.layerCheckBox.setChecked(True)

    def offer(self, source, heatMap, meaning: str) -> None:
        """As :meth:`show`, when the person ticks the box."""
        self.leave()
        self._source, self._map = source, heatMap
        display = heatMap.GetDisplayNode()
        self._ui.legendLow.setText(f"{display.GetWindowLevelMin():.3g}")
        self._ui.legendHigh.setText(f"{display.GetWindowLevelMax():.3g}")
        self._ui.legendUnit.setText(meaning)
        self._draw()

    def leave(self) -> None:
        """Give the person's views back; the map can be shown again."""
        was = self._ui.layerCheckBox.blockSignals(True)
        self._ui.layerCheckBox.setChecked(False)
        self._ui.layerCheckBox.blockSignals(was)
        self._slices.leave()
        self._draw()

    def forget(self) -> None:
        """There is no map any more."""
        self._source = self._map = None
        self.leave()

    def _draw(self) -> None:
        self._ui.layer.setVisible(self._map is not None)
        self._ui.layerOpacity.setEnabled(self._ui.layerCheckBox.checked)

    def _toggled(self, shown: bool) -> None:
        if shown:
            self._put()
        else:
            self._slices.leave()
        self._draw()

    def _faded(self, value: int) -> None:
        if self._ui.layerCheckBox.checked:
            self._put()

    def _put(self) -> None:
        if self._map is not None:
            fields = {
                "BackgroundVolumeID": self._source.GetID(),
                "ForegroundVolumeID": self._map.GetID(),
                "ForegroundOpacity": self._ui.layerOpacity.value / 100,
            }
            self._slices.put(lambda name, composite: fields)
