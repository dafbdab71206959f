"""How a place in the patient is said. Imports nothing, so that the scene can say it before anything is installed."""

from __future__ import annotations

from collections.abc import Sequence


def place_text(ras_mm: Sequence[float]) -> str:
    """A point in mm as Slicer writes it: "R 3, A 4, S 5 mm"."""
    right, anterior, superior = ras_mm
    return (
        f"{'R' if right >= 0 else 'L'} {abs(right):.0f}, {'A' if anterior >= 0 else 'P'} {abs(anterior):.0f}, "
        f"{'S' if superior >= 0 else 'I'} {abs(superior):.0f} mm"
    )
