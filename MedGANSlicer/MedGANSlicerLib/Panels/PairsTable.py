"""A list of nodes with ticks, and what goes with each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import qt

from MedGANSlicerLib.NodePairs import LABELS, VOLUMES, NodePairs, Pair, nodesOf, toldApart
from MedGANSlicerLib.Panels.LongNames import breakable

_NODE, _PARTNER = 0, 1


@dataclass(frozen=True)
class Offer:
    """What a list shows: the nodes, what could go with one, and what does by all appearances.

    ``partners`` is None when nothing goes with the nodes. ``shown`` gets a node and its name as it is told apart.
    """

    nodes: Sequence
    headings: tuple[str, str]
    partners: Callable | None = None
    guess: Callable[[object, Iterable], object] = lambda node, taken: None
    nothing: str = "-"
    shown: Callable[[object, str], str] = lambda node, name: name


class PairsTable:
    """``table``, ``selector`` and ``label`` are widgets; the choice lies in the parameter node, under ``kept``."""

    def __init__(self, table, selector, label, kept: NodePairs, getParameters) -> None:
        self._table, self._selector, self._label = table, selector, label
        self._kept, self._getParameters = kept, getParameters
        self._offer = Offer((), ("", ""))
        self._rows: list[Pair] = []
        self._names: dict[str, str] = {}
        self._ticked: set[str] = set()
        self._selected = ""
        self._offered: list = []
        self._filling = False
        table.setColumnCount(2)
        table.verticalHeader().setVisible(False)
        table.horizontalHeader().setSectionResizeMode(qt.QHeaderView.Stretch)
        table.verticalHeader().setSectionResizeMode(qt.QHeaderView.ResizeToContents)  # a long name is shown whole
        table.connect("itemChanged(QTableWidgetItem*)", self._changed)
        table.connect("itemSelectionChanged()", self._fillSelector)
        selector.connect("activated(int)", self._choosePartner)

    def show(self, parameters, offer: Offer, visible: bool = True) -> None:
        """List the nodes that are offered, and tick those that are chosen."""
        held = {pair.node.GetID(): pair for pair in self._kept.read(parameters.parameterNode)}
        self._offer, self._rows = offer, []
        self._names = toldApart(nodesOf(parameters.parameterNode.GetScene(), (*VOLUMES, *LABELS)))
        for node in offer.nodes:
            partner = held[node.GetID()].partner if node.GetID() in held else None
            known = offer.partners is not None and partner is not None and partner in offer.partners(node)
            self._rows.append(Pair(node, partner if known else None))
        self._ticked = set(held)
        self._fill(visible)

    def chosen(self) -> list[Pair]:
        """What is ticked, in the order of the list."""
        return [row for row in self._rows if row.node.GetID() in self._ticked]

    def _fill(self, visible: bool) -> None:
        table, current = self._table, self._table.currentRow()
        paired = self._offer.partners is not None
        self._filling = True
        table.setVisible(visible)
        table.setColumnHidden(_PARTNER, not paired)
        table.setHorizontalHeaderLabels(list(self._offer.headings))
        table.setRowCount(len(self._rows))
        for number, row in enumerate(self._rows):
            shown = self._offer.shown(row.node, self._names[row.node.GetID()])
            item = self._item(number, _NODE, qt.Qt.ItemIsUserCheckable)
            item.setText(breakable(shown))
            item.setToolTip(shown)
            item.setCheckState(qt.Qt.Checked if row.node.GetID() in self._ticked else qt.Qt.Unchecked)
            partner = breakable(self._names[row.partner.GetID()]) if row.partner is not None else ""
            self._item(number, _PARTNER).setText(partner)
        if self._rows:  # the selected line goes with its node, where that is still there
            ids = [row.node.GetID() for row in self._rows]
            current = ids.index(self._selected) if self._selected in ids else min(max(current, 0), len(ids) - 1)
            if current != table.currentRow():
                table.selectRow(current)
        self._filling = False
        self._label.setText(self._offer.headings[1])
        for widget in (self._selector, self._label):
            widget.setVisible(visible and paired and bool(self._rows))
        self._fillSelector()

    def _item(self, row: int, column: int, more: int = 0):
        """The item of a cell. It is never replaced: Qt goes on using one whose change it has just told of."""
        item = self._table.item(row, column)
        if item is None:
            item = qt.QTableWidgetItem("")
            item.setFlags(qt.Qt.ItemIsEnabled | qt.Qt.ItemIsSelectable | more)
            self._table.setItem(row, column, item)
        return item

    def _fillSelector(self) -> None:
        """Offer what could go with the node of the selected line."""
        row = self._table.currentRow()
        if self._filling or not 0 <= row < len(self._rows):
            return
        self._selected = self._rows[row].node.GetID()
        if self._offer.partners is None:
            return
        self._offered = [None, *self._offer.partners(self._rows[row].node)]
        self._selector.clear()
        for node in self._offered:
            self._selector.addItem(self._names[node.GetID()] if node is not None else self._offer.nothing)
        self._selector.setCurrentIndex(self._offered.index(self._rows[row].partner))

    def _changed(self, item) -> None:
        """A node was ticked, or not any more."""
        if self._filling or item.column() != _NODE:
            return
        row = self._rows[item.row()]
        if item.checkState() == qt.Qt.Checked:
            self._ticked.add(row.node.GetID())
            if self._offer.partners is not None and row.partner is None:
                taken = [each.partner for each in self.chosen() if each.partner is not None]
                self._rows[item.row()] = Pair(row.node, self._offer.guess(row.node, taken))
        else:
            self._ticked.discard(row.node.GetID())
        self._keep()

    def _choosePartner(self, index: int) -> None:
        row = self._table.currentRow()
        if 0 <= row < len(self._rows) and 0 <= index < len(self._offered):
            self._rows[row] = Pair(self._rows[row].node, self._offered[index])
            self._ticked.add(self._rows[row].node.GetID())
            self._keep()

    def _keep(self) -> None:
        parameters = self._getParameters()
        if parameters is not None:
            self._kept.write(parameters.parameterNode, self.chosen())
