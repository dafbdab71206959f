"""Before and after over each other or side by side, and what was changed. The person's own view comes back after."""

from __future__ import annotations

from collections.abc import Sequence

import slicer

from MedGANSlicerLib.Panels.MapLayers import MapLayers
from MedGANSlicerLib.Panels.PlacesList import PlacesList
from MedGANSlicerLib.Panels.SliceLayers import SliceLayers
from MedGANSlicerLib.ResultNodes import ResultNodes

SIDE_BY_SIDE = 5311
"""Our layout; numbers from 501 on are free for extensions."""

BEFORE, AFTER = "MedGANBefore", "MedGANAfter"

_VIEW = """
  <item><view class="vtkMRMLSliceNode" singletontag="{name}">
    <property name="orientation" action="default">Axial</property>
    <property name="viewlabel" action="default">{label}</property>
    <property name="viewcolor" action="default">{color}</property>
  </view></item>"""


class CompareView:
    """``ui``: the widgets of the Compare section. Shows nothing until :meth:`show` is called."""

    def __init__(self, ui, host) -> None:
        self._ui, self._host = ui, host
        self._source = None
        self._nodes: ResultNodes | None = None
        self._layoutBefore: int | None = None
        self._slices = SliceLayers(host)
        self._layers = MapLayers(ui, self._refresh)
        self._places = PlacesList(ui, host)
        ui.opacitySlider.connect("valueChanged(int)", self._fade)
        ui.sideBySideCheckBox.connect("toggled(bool)", self._arrange)
        self._showWidgets()

    @property
    def active(self) -> bool:
        return self._nodes is not None

    def show(self, source, nodes: ResultNodes, sentences: Sequence[str] = ()) -> None:
        """Compare a volume node with its result. The first call remembers what the person's views show.

        ``sentences``: what is to be checked, for a scene that can not hold the places as points.
        """
        if not self.active:
            self._layoutBefore = self._host.layout()
        self._source, self._nodes = source, nodes
        self._layers.offer(nodes)
        self._places.show(nodes.places, sentences)
        self._ui.opacitySlider.setValue(100)
        self._refresh()

    def leave(self) -> None:
        """Give the person's layout and slice views back, where they still show what we put there."""
        if not self.active:
            return
        self._slices.leave()
        if self._host.layout() == SIDE_BY_SIDE and self._layoutBefore is not None:
            self._host.setLayout(self._layoutBefore)
        self._source, self._nodes = None, None
        self._layers.offer(None)
        self._places.leave()
        was = self._ui.sideBySideCheckBox.blockSignals(True)
        self._ui.sideBySideCheckBox.setChecked(False)
        self._ui.sideBySideCheckBox.blockSignals(was)
        self._showWidgets()

    def tidy(self) -> None:
        """A scene was opened: a layout that it brings along from a comparison would never end."""
        if not self.active and self._host.layout() == SIDE_BY_SIDE:
            self._host.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)

    def forget(self, node=None) -> None:
        """A node is leaving the scene (None: the whole scene is): stop comparing if it is one of ours."""
        if self.active and (node is None or node in (self._source, *self._nodes.present())):
            self.leave()

    def _fade(self, value: int) -> None:
        self._refresh()

    def _refresh(self) -> None:
        if not self.active:
            return
        source, over = self._source, getattr(self._nodes, self._layers.chosen() or "volume")
        side = self._host.layout() == SIDE_BY_SIDE

        def wanted(name: str, composite) -> dict:
            paired = side and name in (BEFORE, AFTER)
            fields = {
                "BackgroundVolumeID": source.GetID(),
                "ForegroundVolumeID": over.GetID(),
                "ForegroundOpacity": float(name == AFTER) if paired else self._ui.opacitySlider.value / 100,
                "HotLinkedControl": 1 if paired else composite.GetHotLinkedControl(),
            }
            return {**fields, "LinkedControl": 1} if paired else fields

        self._slices.put(wanted)
        self._showWidgets()

    def _arrange(self, sideBySide: bool) -> None:
        if not self.active:
            return
        if sideBySide:
            registerLayout(self._host)
            self._host.setLayout(SIDE_BY_SIDE)
            self._refresh()
            self._host.fitSlices(BEFORE, AFTER)
        else:
            if self._host.layout() == SIDE_BY_SIDE and self._layoutBefore is not None:
                self._host.setLayout(self._layoutBefore)
            self._refresh()

    def _showWidgets(self) -> None:
        self._ui.compareSection.setVisible(self.active)
        if self.active:
            self._layers.showLegend(self._nodes, self._source)
            self._ui.opacitySlider.setEnabled(not self._ui.sideBySideCheckBox.checked)


def registerLayout(host) -> None:
    """Make the layout of :class:`CompareView` known to Slicer."""
    host.addLayout(SIDE_BY_SIDE, layoutDescription())


def layoutDescription() -> str:
    """Two slice views beside each other."""
    views = _VIEW.format(name=BEFORE, label="B", color="#7E7E7E"), _VIEW.format(name=AFTER, label="A", color="#F34A33")
    return f'<layout type="horizontal" split="true">{"".join(views)}</layout>'
