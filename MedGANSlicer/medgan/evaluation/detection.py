"""How well a map finds what it is to find: average precision over voxels."""

from __future__ import annotations

import math

import numpy as np


def average_precision(scores: np.ndarray, truth: np.ndarray) -> float:
    """Mean of the precision over the true elements, each at its own score (equal scores count together).

    The area under the curve of precision over recall without interpolation, as scikit-learn defines it. NaN when
    nothing is true.
    """
    scores, truth = scores.ravel(), truth.ravel().astype(bool)
    if not truth.any():
        return math.nan
    order = np.argsort(-scores, kind="stable")
    hits, scores = np.cumsum(truth[order]), scores[order]
    last = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)  # of each run of equal scores
    precision, recall = hits[last] / (last + 1), hits[last] / hits[-1]
    return float((np.diff(np.append(0.0, recall)) * precision).sum())
