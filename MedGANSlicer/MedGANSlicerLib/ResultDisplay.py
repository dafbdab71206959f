"""How results are shown: as their source, as a signed change, or as an uncertainty."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from MedGANSlicerLib.ColorTables import differenceColors, uncertaintyColors
from MedGANSlicerLib.SceneEdits import oneModification

LEAST_SHARE = 0.2
"""Below it a heat map from 0 to 1 says next to nothing."""

MapDisplay = Callable[[object, object, Sequence[np.ndarray]], None]
"""``show(scene, display, arrays)`` gives a display node colours and a window that fits all of the arrays."""

SHARE_SHOWN = 99.5
"""Percentile of a map's values that its window reaches to: a few large ones do not set it."""


def showAs(display, source) -> None:
    """Window, level, colours, thresholds and interpolation of another display node; None leaves the defaults."""
    if source is None or not source.IsA("vtkMRMLScalarVolumeDisplayNode"):
        return
    with oneModification(display):
        display.SetAndObserveColorNodeID(source.GetColorNodeID())
        display.SetInvertDisplayScalarRange(source.GetInvertDisplayScalarRange())
        display.SetInterpolate(source.GetInterpolate())
        display.AutoWindowLevelOff()
        display.SetWindowLevel(source.GetWindow(), source.GetLevel())
        display.SetAutoThreshold(source.GetAutoThreshold())
        display.SetThreshold(source.GetLowerThreshold(), source.GetUpperThreshold())
        display.SetApplyThreshold(source.GetApplyThreshold())


def showAsDifference(scene, display, arrays: Sequence[np.ndarray]) -> None:
    """Blue below zero, white at 0 and red above, in a window symmetric about zero."""
    reach = max(map(reachOf, arrays))
    _show(display, differenceColors(scene), -reach, reach)


def showAsUncertainty(scene, display, arrays: Sequence[np.ndarray]) -> None:
    """Black where the model agrees with itself, over red to yellow where it does not."""
    _show(display, uncertaintyColors(scene), 0.0, max(map(reachOf, arrays)))


def showAsShare(scene, display, arrays: Sequence[np.ndarray]) -> None:
    """A heat map from 0 to 1, black over red to yellow; what is next to nothing is left out."""
    _show(display, uncertaintyColors(scene), 0.0, 1.0)
    showFrom(display, LEAST_SHARE)


def showFrom(display, lowest: float) -> None:
    """Leave out the values below ``lowest``, so that what lies under them is seen."""
    with oneModification(display):
        display.AutoThresholdOff()
        display.SetThreshold(lowest, np.finfo(np.float32).max)
        display.SetApplyThreshold(True)


def reachOf(array: np.ndarray) -> float:
    """Largest size of a value that a map's window shows; above 0 also for a map of nothing."""
    sizes = np.abs(array.ravel()[:: max(1, array.size // 1_000_000)])
    sizes = sizes[np.isfinite(sizes)]
    if not sizes.size:
        return 1.0
    return float(np.percentile(sizes, SHARE_SHOWN)) or float(sizes.max()) or 1.0


def _show(display, colors, low: float, high: float) -> None:
    with oneModification(display):
        display.SetAndObserveColorNodeID(colors.GetID())
        display.AutoWindowLevelOff()
        display.SetWindowLevelMinMax(low, high)
        display.SetApplyThreshold(False)
