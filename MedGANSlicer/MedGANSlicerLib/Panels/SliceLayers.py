"""What the slice views show, changed for a while. The person's own comes back after."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

FIELDS = ("LinkedControl", "HotLinkedControl", "BackgroundVolumeID", "ForegroundVolumeID", "ForegroundOpacity")
"""What is remembered of every view."""


class SliceLayers:
    """Changes nothing until :meth:`put` is called.

    One at a time has the views: whoever puts something there has the one before give them back first, so that what
    is remembered is always the person's own.
    """

    _holder: ClassVar[SliceLayers | None] = None

    def __init__(self, host) -> None:
        self._host = host
        self._before: dict[str, dict] = {}
        self._ours: dict[str, dict] = {}

    @property
    def active(self) -> bool:
        return bool(self._before)

    def put(self, wanted: Callable[[str, Any], dict]) -> None:
        """Give every view the fields that ``wanted(name of the view, composite node)`` says.

        The first call remembers what the person's views show, later ones what the person has changed since.
        """
        if SliceLayers._holder not in (None, self):
            SliceLayers._holder.leave()
        SliceLayers._holder = self
        composites = self._host.compositeNodes()
        for name, composite in composites.items():
            before = self._before.setdefault(name, {field: _get(composite, field) for field in FIELDS})
            for field, value in self._ours.get(name, {}).items():
                if _get(composite, field) != value:
                    before[field] = _get(composite, field)
        links = {name: composite.GetLinkedControl() for name, composite in composites.items()}
        for composite in composites.values():  # a linked view would pass every change on to the others
            composite.SetLinkedControl(0)
        for name, composite in composites.items():
            fields = wanted(name, composite)
            for field, value in fields.items():
                _set(composite, field, value)
            self._ours[name] = {"LinkedControl": links[name], **fields}
        for name, composite in composites.items():
            composite.SetLinkedControl(self._ours[name]["LinkedControl"])

    def leave(self) -> None:
        """Give the views back, where they still show what was put there."""
        if SliceLayers._holder is self:
            SliceLayers._holder = None
        if not self.active:
            return
        composites = self._host.compositeNodes()
        unlinked = [each for name, each in composites.items() if not self._before.get(name, {}).get("LinkedControl")]
        for composite in unlinked:
            composite.SetLinkedControl(0)
        for name, composite in composites.items():
            ours = self._ours.get(name, {})
            for field, value in self._before.get(name, {}).items():
                if field in ours and _get(composite, field) == ours[field]:
                    _set(composite, field, _stillThere(composite, field, value))
        self._before, self._ours = {}, {}


def _get(composite, field: str):
    return getattr(composite, f"Get{field}")()


def _set(composite, field: str, value) -> None:
    getattr(composite, f"Set{field}")(value)


def _stillThere(composite, field: str, value):
    """A volume that was shown before, unless it has left the scene."""
    if field.endswith("VolumeID") and value and composite.GetScene().GetNodeByID(value) is None:
        return None
    return value
