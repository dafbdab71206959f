"""What is bone, air, fat and soft tissue on a CT, by rules: the targets that the tissue-ct model is trained on.

Rules on smoothed Hounsfield units, not drawings by a person: they hold for scans without metal and without bright
contrast agent at the working spacing of 3 mm. Arrays are [k, j, i] in RAS order.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

OUTSIDE, SOFT, FAT, BONE, AIR = range(5)
IGNORE = 255
SPACING_MM = 3.0

AIR_BELOW, FAT_BELOW, BONE_ABOVE = -400.0, -30.0, 180.0
"""Hounsfield units that part the tissues of a noise-free CT."""


def tissue_targets(hounsfield: np.ndarray, all_inside: bool = False) -> np.ndarray:
    """Label of every voxel (uint8) of a smooth CT of 3 mm voxels.

    ``all_inside``: the volume is cut out of a body and no voxel of it lies outside.
    """
    body = np.ones(hounsfield.shape, bool) if all_inside else body_mask(hounsfield)
    air = body & (hounsfield < AIR_BELOW)
    fat = body & (hounsfield < FAT_BELOW) & ~air
    # Where air meets soft tissue, a voxel holds some of both and looks like fat.
    rim = fat & ~ndimage.binary_opening(fat, _ball(1)) & ndimage.binary_dilation(air | ~body, _ball(1))
    labels = np.full(hounsfield.shape, OUTSIDE, np.uint8)
    labels[body] = SOFT
    labels[fat & ~rim] = FAT
    labels[bone_mask(hounsfield, body)] = BONE
    labels[air] = AIR
    return labels


def body_mask(hounsfield: np.ndarray) -> np.ndarray:
    """The patient with the air in him, without table and clothes: thick parts of what is denser than air."""
    dense = hounsfield > AIR_BELOW
    thick = ndimage.binary_opening(dense, _ball(3))
    pieces, count = ndimage.label(thick)
    if count == 0:
        return thick
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    large = np.flatnonzero(sizes >= 0.05 * sizes.max())
    body = ndimage.binary_dilation(np.isin(pieces, large), _ball(1), iterations=2) & dense
    body = ndimage.binary_fill_holes(body)
    for plane in body:  # lungs that are cut off at the first or last slice are open there
        plane[:] = ndimage.binary_fill_holes(plane)
    return body


def bone_mask(hounsfield: np.ndarray, body: np.ndarray) -> np.ndarray:
    """Cortical bone, and the marrow that it encloses in a slice."""
    hard = body & (hounsfield > BONE_ABOVE)
    pieces, _ = ndimage.label(hard, np.ones((3, 3, 3)))
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    hard = sizes[pieces] >= 6
    closed = ndimage.binary_closing(np.pad(hard, 2), _ball(1))[2:-2, 2:-2, 2:-2]
    for plane in closed:
        plane[:] = ndimage.binary_fill_holes(plane)
    return closed & body & (hounsfield > -200.0)


def _ball(radius: int) -> np.ndarray:
    place = np.indices((2 * radius + 1,) * 3) - radius
    return (place**2).sum(axis=0) <= (radius + 0.3) ** 2
