"""Before and after over each other or side by side, and what was changed. The person's own view comes back after."""

from __future__ import annotations

from collections.abc import Sequence

import slicer

from MedGANSlicerLib.JobRun import NodeState, stateOf, whatChanged
from MedGANSlicerLib.Panels.LongNames import breakable
from MedGANSlicerLib.Panels.MapLayers import MapLayers
from MedGANSlicerLib.Panels.NodeWatch import NodeWatch
from MedGANSlicerLib.Panels.PlacesList import PlacesList
from MedGANSlicerLib.Panels.SliceLayers import SliceLayers
from MedGANSlicerLib.ResultNodes import ResultNodes
from MedGANSlicerLib.SequenceBrowsers import browserOf

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
        self._summary = ""
        self._read: NodeState | None = None
        self._away = False
        self._watch = NodeWatch(self._say)
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

    def show(
        self,
        source,
        nodes: ResultNodes,
        sentences: Sequence[str] = (),
        summary: str = "",
        read: NodeState | None = None,
    ) -> None:
        """Compare a volume node with its result. The first call remembers what the person's views show.

        ``sentences``: what is to be checked, for a scene that can not hold the places as points. ``summary``: a few
        words about the result. ``read``: what the source was when it was read, if that was not just now.
        """
        if not self.active:
            self._layoutBefore = self._host.layout()
        self._source, self._nodes, self._summary = source, nodes, summary
        self._read, self._away = read or stateOf(source), False
        self._watch.watch(source, nodes.volume)
        self._say()
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
        self._watch.watch()
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

    def _say(self) -> None:
        """What the result is called, what was said of it, and whether the source is still what it was made from."""
        said = f"{self._nodes.volume.GetName()}: {self._summary}"
        self._ui.resultLabel.setText(breakable(f"{said} {self._whatChanged()}".strip()))

    def _whatChanged(self) -> str:
        """One sentence if the source shows something else than it did; "" where the result goes along with it."""
        browser = browserOf(self._source)
        if browser is not None and browser is browserOf(self._nodes.volume):
            return ""
        now = stateOf(self._source)
        if self._away and now.frame == self._read.frame:  # the frame is back, as a new copy
            self._read = now
        self._away = now.frame != self._read.frame
        return whatChanged(self._source, self._read)

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
