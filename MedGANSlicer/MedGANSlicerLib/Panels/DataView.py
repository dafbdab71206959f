"""A table or a chart in the person's views for a while; their own layout comes back after."""

from __future__ import annotations


class DataView:
    """Shows nothing until :meth:`show` is called."""

    def __init__(self, host) -> None:
        self._host = host
        self._layoutBefore: int | None = None
        self._ours: int | None = None

    def show(self, table=None, chart=None) -> None:
        """Show a table node, a chart node, or both, beside what is shown now."""
        before = self._host.layout()
        if before is None:  # no main window
            return
        if self._ours is None or before != self._ours:
            self._layoutBefore = before
        self._host.showData(table, chart)
        self._ours = self._host.layout()

    def leave(self) -> None:
        """Give the person's layout back, unless they have chosen another meanwhile."""
        if self._ours is not None and self._layoutBefore is not None and self._host.layout() == self._ours:
            self._host.setLayout(self._layoutBefore)
        self._layoutBefore = self._ours = None
