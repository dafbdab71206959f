"""How alike two sets are, from one row of features a volume; float64, numpy and scipy only.

Fréchet distance (Heusel et al. 2017), kernel distance KID (Binkowski et al. 2018), MMD (Gretton et al. 2012), precision
and recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.spatial.distance import cdist

KERNELS = 4
"""Gaussian kernels of the RBF-MMD: as wide as the median distance within the reference, 1/2, 1/4 and 1/8 of it."""

SPLITS = 50
"""Random subsets from which spread and floor are taken."""

FEW = 50
"""Fewer volumes than this in a set are said to be few."""


@dataclass(eq=False)
class SetPair:
    """Features (n, D) of the results and (m, D) of the reference.

    ``width`` is the distance that the kernels of the RBF-MMD are as wide as; 0 takes the median of the reference.
    Raises ``ValueError`` for fewer than two rows or different numbers of features.
    """

    result: np.ndarray
    reference: np.ndarray
    neighbours: int = 5
    width: float = 0.0

    def __post_init__(self) -> None:
        self.result, self.reference = (np.asarray(rows, dtype=np.float64) for rows in (self.result, self.reference))
        for rows in (self.result, self.reference):
            if rows.ndim != 2 or len(rows) < 2:
                raise ValueError("A set needs at least two volumes, each with one row of features.")
        if self.result.shape[1] != self.reference.shape[1]:
            raise ValueError(
                f"The results have {self.result.shape[1]} features, the reference has {self.reference.shape[1]}; "
                "take both from one network."
            )


def median_distance(rows: np.ndarray) -> float:
    """Median distance of two different rows."""
    return float(np.median(cdist(rows, rows)[np.triu_indices(len(rows), 1)]))


def frechet(pair: SetPair) -> float:
    """Squared Fréchet distance between Gaussians fitted to the features of both sets (Heusel et al. 2017).

    With few volumes it is mostly bias: read it beside the floor.
    """
    # |m - n|^2 + tr(S + T) - 2 tr((S T)^(1/2)). The last trace is the sum of the singular values of A B^T for any
    # A^T A = S, B^T B = T: exact and stable also with fewer volumes than features, where S T has no inverse.
    roots: list[Any] = []
    for rows in (pair.result, pair.reference):
        centred = (rows - rows.mean(axis=0)) / np.sqrt(len(rows) - 1)
        roots.append(np.linalg.qr(centred, mode="r") if len(rows) > rows.shape[1] else centred)
    shift = pair.result.mean(axis=0) - pair.reference.mean(axis=0)
    shared = np.linalg.svd(roots[0] @ roots[1].T, compute_uv=False).sum()
    return float(max(shift @ shift + np.square(roots[0]).sum() + np.square(roots[1]).sum() - 2.0 * shared, 0.0))


def kid(pair: SetPair) -> float:
    """Unbiased squared MMD of the features with the kernel (x·y / D + 1)³ (Binkowski et al. 2018).

    Around 0, so also below it, for two sets of one kind.
    """
    features = pair.result.shape[1]
    return _unbiased(pair, lambda one, other: (one @ other.T / features + 1.0) ** 3)


def mmd(pair: SetPair) -> float:
    """Unbiased squared MMD of the features with a mean of four Gaussian kernels (Gretton et al. 2012).

    The kernels are as wide as the median distance within the reference, 1/2, 1/4 and 1/8 of it. Around 0, so also
    below it, for two sets of one kind.
    """
    width = pair.width or median_distance(pair.reference)
    if width == 0.0:
        return 0.0 if np.ptp(pair.result, axis=0).max() == 0.0 and (pair.result[0] == pair.reference[0]).all() else 2.0
    widths = [width / 2**number for number in range(KERNELS)]

    def kernel(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        squares = cdist(one, other, "sqeuclidean")
        return np.mean([np.exp(-squares / (2.0 * each**2)) for each in widths], axis=0)

    return _unbiased(pair, kernel)


def _unbiased(pair: SetPair, kernel: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> float:
    within = []
    for rows in (pair.result, pair.reference):
        same = kernel(rows, rows)
        within.append((same.sum() - np.trace(same)) / (len(rows) * (len(rows) - 1)))
    return float(sum(within) - 2.0 * kernel(pair.result, pair.reference).mean())


def precision(pair: SetPair) -> float:
    """Share of the results that lie where the reference is (Kynkäänniemi et al. 2019).

    Neighbourhoods reach to the k-th nearest volume of the same set; k is the setting neighbours.
    """
    return float((cdist(pair.result, pair.reference) < _radii(pair.reference, pair)).any(axis=1).mean())


def recall(pair: SetPair) -> float:
    """Share of the reference that lies where the results are (Kynkäänniemi et al. 2019).

    Neighbourhoods reach to the k-th nearest volume of the same set; k is the setting neighbours.
    """
    return float((cdist(pair.reference, pair.result) < _radii(pair.result, pair)).any(axis=1).mean())


def density(pair: SetPair) -> float:
    """Neighbourhoods of the reference that hold a result, over the number expected; may exceed 1 (Naeem et al. 2020).

    Neighbourhoods reach to the k-th nearest volume of the same set; k is the setting neighbours.
    """
    held = cdist(pair.result, pair.reference) < _radii(pair.reference, pair)
    return float(held.sum(axis=1).mean() / _neighbours(pair.reference, pair))


def coverage(pair: SetPair) -> float:
    """Share of the reference with a result in its neighbourhood (Naeem et al. 2020).

    Neighbourhoods reach to the k-th nearest volume of the same set; k is the setting neighbours.
    """
    return float((cdist(pair.result, pair.reference) < _radii(pair.reference, pair)).any(axis=0).mean())


def _neighbours(rows: np.ndarray, pair: SetPair) -> int:
    return min(pair.neighbours, len(rows) - 1)


def _radii(rows: np.ndarray, pair: SetPair) -> np.ndarray:
    """Distance of each row to its k-th nearest other row."""
    return np.sort(cdist(rows, rows), axis=1)[:, _neighbours(rows, pair)]


def on_subsets(
    pair: SetPair, figure: Callable[[SetPair], float | None], seed: int, largest: int | None = None
) -> tuple[list[float], list[float], int]:
    """A figure on random subsets of equal size: results against reference, reference against reference, and the size.

    All three subsets of a split have ``min(n, m // 2)`` rows, or ``largest`` if that is less, and the two of the
    reference share none, so the bias that comes with few volumes is the same on both sides and the second list is the
    floor of the first. Empty lists where the reference has fewer than four rows.
    """
    rng = np.random.default_rng(seed)
    size = min(len(pair.result), len(pair.reference) // 2, largest or len(pair.result))
    width = pair.width or median_distance(pair.reference)
    values: list[float] = []
    floor: list[float] = []
    for _ in range(SPLITS if size >= 2 else 0):
        order = rng.permutation(len(pair.reference))
        real, other = pair.reference[order[:size]], pair.reference[order[size : 2 * size]]
        ours = pair.result[rng.permutation(len(pair.result))[:size]]
        for held, rows in ((values, ours), (floor, other)):
            value = figure(SetPair(rows, real, pair.neighbours, width))
            if value is not None:
                held.append(value)
    return values, floor, size
