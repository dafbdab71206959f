"""Which way the axes of a volume run, as three letters. Imports without SciPy and torch."""

from __future__ import annotations

import numpy as np

_DIRECTIONS = {
    "R": (1.0, 0.0, 0.0),
    "L": (-1.0, 0.0, 0.0),
    "A": (0.0, 1.0, 0.0),
    "P": (0.0, -1.0, 0.0),
    "S": (0.0, 0.0, 1.0),
    "I": (0.0, 0.0, -1.0),
}


def axes_of(orientation: str) -> np.ndarray:
    """3 x 3 with the direction of the voxel axes i, j, k as columns, from three letters such as "RAS".

    A letter names the side towards which its axis runs. Raises ``ValueError`` for letters that are no directions.
    """
    columns = [_DIRECTIONS.get(letter) for letter in orientation.upper()]
    if len(columns) == 3 and None not in columns:
        axes = np.array(columns).T
        if abs(np.linalg.det(axes)) > 0.5:
            return axes
    raise ValueError(f"'{orientation}' is no orientation; give three letters such as RAS, one for each axis.")
