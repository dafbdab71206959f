"""In which type the voxels of a result are stored in the scene."""

from __future__ import annotations

import numpy as np

from medgan.voxel_types import stored_as


def storedLike(array: np.ndarray, source: np.ndarray | None) -> np.ndarray:
    """A result ``array`` (float32 [k, j, i]) in the voxel type of ``source`` where that fits, as files hold it.

    See :func:`medgan.voxel_types.stored_as`. ``source`` None keeps float32.
    """
    if source is None:
        return array
    # Slicer shows 64-bit integers but can not write them to any file.
    kind = "float64" if source.dtype.kind in "iu" and source.dtype.itemsize == 8 else source.dtype.name
    return stored_as(array, kind, source)
