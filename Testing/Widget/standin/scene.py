"""The real MRML scene that the stand-in's Slicer holds."""

from __future__ import annotations

from typing import Any


def new_scene() -> tuple[Any, Any, Any]:
    """What keeps it alive, the scene, and the application logic."""
    from MedGANSlicerLib.HeadlessScene import HeadlessScene

    holder = HeadlessScene()
    return holder, holder.scene, holder._application
