"""Before and after over each other or side by side, and what was changed. The person's own view comes back after."""

from __future__ import annotations

from slicer.i18n import tr as _

from MedGANSlicerLib.ColorTables import divergingColor

SIDE_BY_SIDE = 5311
"""Our layout; numbers from 501 on are free for extensions."""

BEFORE, AFTER = "MedGANBefore", "MedGANAfter"

_VIEW = """
  <item><view class="vtkMRMLSliceNode" singletontag="{name}">
    <property name="orientation" action="default">Axial</property>
    <property name="viewlabel" action="default">{label}</property>
    <property name="viewcolor" action="default">{color}</property>
  </view></item>"""

_FIELDS = ("LinkedControl", "HotLinkedControl", "BackgroundVolumeID", "ForegroundVolumeID", "ForegroundOpacity")


class CompareView:
    """``ui``: the widgets of the Compare section. Shows nothing until :meth:`show` is called."""

    def __init__(self, ui, host) -> None:
        self._ui, self._host = ui, host
        self._nodes: tuple | None = None
        self._layoutBefore: int | None = None
        self._before: dict[str, dict] = {}
        self._ours: dict[str, dict] = {}
        ui.opacitySlider.connect("valueChanged(int)", self._fade)
        ui.differenceCheckBox.connect("toggled(bool)", self._refresh)
        ui.sideBySideCheckBox.connect("toggled(bool)", self._arrange)
        self._showWidgets()

    @property
    def active(self) -> bool:
        return self._nodes is not None

    def show(self, source, result, difference=None) -> None:
        """Compare these volume nodes. The first call remembers what the person's views show."""
        if not self.active:
            self._layoutBefore = self._host.layout()
            self._before = {}
            self._ours = {}
        self._nodes = (source, result, difference)
        self._ui.differenceCheckBox.setEnabled(difference is not None)
        if difference is None:
            self._ui.differenceCheckBox.setChecked(False)
        self._ui.opacitySlider.setValue(100)
        self._refresh()

    def leave(self) -> None:
        """Give the person's layout and slice views back, where they still show what we put there."""
        if not self.active:
            return
        composites = self._host.compositeNodes()
        unlinked = [each for name, each in composites.items() if not self._before.get(name, {}).get("LinkedControl")]
        for composite in unlinked:
            composite.SetLinkedControl(0)
        for name, composite in composites.items():
            for field, value in self._before.get(name, {}).items():
                if _get(composite, field) == self._ours.get(name, {}).get(field):
                    _set(composite, field, _stillThere(composite, field, value))
        if self._host.layout() == SIDE_BY_SIDE and self._layoutBefore is not None:
            self._host.setLayout(self._layoutBefore)
        self._nodes, self._before, self._ours = None, {}, {}
        for box in (self._ui.differenceCheckBox, self._ui.sideBySideCheckBox):
            was = box.blockSignals(True)
            box.setChecked(False)
            box.blockSignals(was)
        self._showWidgets()

    def forget(self, node=None) -> None:
        """A node is leaving the scene (None: the whole scene is): stop comparing if it is one of ours."""
        if self.active and (node is None or node in self._nodes):
            self.leave()

    def _fade(self, value: int) -> None:
        self._refresh()

    def _refresh(self, checked: bool = False) -> None:
        if not self.active:
            return
        source, result, difference = self._nodes
        over = difference if self._ui.differenceCheckBox.checked and difference is not None else result
        side = self._host.layout() == SIDE_BY_SIDE
        composites = self._host.compositeNodes()
        for name, composite in composites.items():
            self._before.setdefault(name, {field: _get(composite, field) for field in _FIELDS})
        links = {name: composite.GetLinkedControl() for name, composite in composites.items()}
        for composite in composites.values():  # a linked view would pass every change on to the others
            composite.SetLinkedControl(0)
        for name, composite in composites.items():
            paired = side and name in (BEFORE, AFTER)
            wanted = {
                "BackgroundVolumeID": source.GetID(),
                "ForegroundVolumeID": over.GetID(),
                "ForegroundOpacity": float(name == AFTER) if paired else self._ui.opacitySlider.value / 100,
                "HotLinkedControl": 1 if paired else composite.GetHotLinkedControl(),
            }
            for field, value in wanted.items():
                _set(composite, field, value)
            self._ours[name] = {**wanted, "LinkedControl": 1 if paired else links[name]}
        for name, composite in composites.items():
            composite.SetLinkedControl(self._ours[name]["LinkedControl"])
        self._showWidgets()

    def _arrange(self, sideBySide: bool) -> None:
        if not self.active:
            return
        if sideBySide:
            registerLayout(self._host)
            self._host.setLayout(SIDE_BY_SIDE)
            self._refresh()
            self._host.fitSlices(BEFORE, AFTER)
        elif self._host.layout() == SIDE_BY_SIDE and self._layoutBefore is not None:
            self._host.setLayout(self._layoutBefore)
            self._refresh()

    def _showWidgets(self) -> None:
        ui = self._ui
        ui.compareSection.setVisible(self.active)
        if not self.active:
            return
        difference = self._nodes[2]
        shown = ui.differenceCheckBox.checked and difference is not None
        ui.legend.setVisible(shown)
        ui.afterLabel.setText(_("Change") if shown else _("After"))
        ui.opacitySlider.setEnabled(not ui.sideBySideCheckBox.checked)
        if shown:
            display = difference.GetDisplayNode()
            ui.legendLow.setText(f"{display.GetWindowLevelMin():.3g}")
            ui.legendHigh.setText(f"+{display.GetWindowLevelMax():.3g}")
            ui.legendBar.setStyleSheet(legendStyle())
            ui.legendUnit.setText(_("Result minus input, in {unit}").format(unit=unitOf(self._nodes[0])))


def registerLayout(host) -> None:
    """Make the layout of :class:`CompareView` known to Slicer."""
    host.addLayout(SIDE_BY_SIDE, layoutDescription())


def layoutDescription() -> str:
    """Two slice views beside each other."""
    views = _VIEW.format(name=BEFORE, label="B", color="#7E7E7E"), _VIEW.format(name=AFTER, label="A", color="#F34A33")
    return f'<layout type="horizontal" split="true">{"".join(views)}</layout>'


def legendStyle() -> str:
    """Style sheet of a bar with the colours of the difference map."""
    stops = []
    for tenth in range(11):
        red, green, blue = (round(255 * part) for part in divergingColor(tenth / 10))
        stops.append(f"stop:{tenth / 10:g} rgb({red},{green},{blue})")
    return f"background: qlineargradient(x1:0, y1:0, x2:1, y2:0, {', '.join(stops)}); border: 1px solid gray;"


def unitOf(node) -> str:
    """The unit of a volume's voxels, as its node knows it."""
    units = node.GetVoxelValueUnits()
    return (units.GetCodeMeaning() if units is not None else "") or _("the unit of the input")


def _get(composite, field: str):
    return getattr(composite, f"Get{field}")()


def _set(composite, field: str, value) -> None:
    getattr(composite, f"Set{field}")(value)


def _stillThere(composite, field: str, value):
    """A volume that was shown before, unless it has left the scene."""
    if field.endswith("VolumeID") and value and composite.GetScene().GetNodeByID(value) is None:
        return None
    return value
