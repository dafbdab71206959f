"""Lines of a table that a person reads: texts in columns, tool tips, and the height that they need."""

from __future__ import annotations

from collections.abc import Sequence

import qt


def prepare(table, headings: Sequence[str], *wide: int) -> None:
    """Columns with these headings; the columns ``wide`` share the room that the others leave."""
    table.setColumnCount(len(headings))
    table.setHorizontalHeaderLabels(list(headings))
    table.verticalHeader().setVisible(False)
    table.verticalHeader().setDefaultSectionSize(table.fontMetrics().lineSpacing() + 8)
    for column in range(len(headings)):
        kind = qt.QHeaderView.Stretch if column in wide else qt.QHeaderView.ResizeToContents
        table.horizontalHeader().setSectionResizeMode(column, kind)


def fill(table, rows: Sequence[Sequence[str]], tips: Sequence[str] = (), editable: Sequence[int] = ()) -> None:
    """One line for each row of texts; ``tips`` are their tool tips, ``editable`` the columns that can be changed."""
    table.setRowCount(len(rows))
    for number, texts in enumerate(rows):
        for column, text in enumerate(texts):
            item = table.item(number, column)
            if item is None:
                item = qt.QTableWidgetItem("")
                more = qt.Qt.ItemIsEditable if column in editable else 0
                item.setFlags(qt.Qt.ItemIsEnabled | qt.Qt.ItemIsSelectable | more)
                table.setItem(number, column, item)
            item.setText(text)
            item.setToolTip(tips[number] if number < len(tips) else text)
