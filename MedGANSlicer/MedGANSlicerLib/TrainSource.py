"""Where the volumes of a training come from."""

from __future__ import annotations

from enum import Enum

from slicer.i18n import tr as _


class TrainSource(Enum):
    SCENE = "scene"
    FOLDER = "folder"

    def label(self) -> str:
        return _("Volumes of the scene") if self is TrainSource.SCENE else _("Folder or list")
