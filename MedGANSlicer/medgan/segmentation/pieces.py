"""Connected pieces of a segmentation: those that can not be part of a structure go to the next best label."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from medgan.segmentation.description import Part

ROUNDS = 3
"""What a piece is given to may fall apart into pieces itself; after so many rounds it is left as it is."""

_NEIGHBOURS = np.ones((3, 3, 3), bool)


def filled(probabilities: np.ndarray, index: int) -> int:
    """Background that labels enclose in a plane of the first axis becomes label ``index``; how many voxels did.

    Changes ``probabilities`` (L, D, H, W): a lung is as dark as the air outside, but it is not outside.
    """
    body = probabilities.argmax(axis=0) > 0
    holes = np.zeros_like(body)
    for plane, hole in zip(body, holes, strict=True):
        hole[:] = ndimage.binary_fill_holes(plane) & ~plane
    probabilities[:, holes] = 0.0
    probabilities[index, holes] = 1.0
    return int(holes.sum())


def cleaned(probabilities: np.ndarray, parts: Sequence[Part], smallest_voxels: float) -> tuple[np.ndarray, int]:
    """Labels (index into ``parts`` + 1, 0 is background) after clean-up, and how many voxels changed their label.

    A part with ``one_piece`` keeps its largest piece (26 neighbours), any other keeps those of at least
    ``smallest_voxels`` and its largest. In ``probabilities`` (L, D, H, W) the rejected label becomes 0 in its pieces,
    so that what is interpolated from them does not bring it back.
    """
    labels = probabilities.argmax(axis=0).astype(np.uint8 if len(parts) < 255 else np.uint16)
    changed = np.zeros(labels.shape, bool)
    for _ in range(ROUNDS):
        rejected = False
        for index, (part, box) in enumerate(zip(parts, _boxes(labels, len(parts)), strict=True), 1):
            if box is None:
                continue
            pieces, count = ndimage.label(labels[box] == index, _NEIGHBOURS)
            if count < 2:
                continue
            sizes = np.bincount(pieces.ravel())
            sizes[0] = 0
            keep = np.zeros(len(sizes), bool) if part.one_piece else sizes >= smallest_voxels
            keep[[0, int(sizes.argmax())]] = True
            stray = ~keep[pieces]
            if not stray.any():
                continue
            rejected = True
            changed[box] |= stray
            inside = (slice(None), *box)
            probabilities[index][box][stray] = 0.0
            labels[box][stray] = probabilities[inside][:, stray].argmax(axis=0)
        if not rejected:
            break
    if changed.any():
        total = probabilities[:, changed].sum(axis=0)
        probabilities[:, changed] /= np.where(total > 0, total, 1.0)
    return labels, int(changed.sum())


def _boxes(labels: np.ndarray, count: int) -> list[tuple[slice, slice, slice] | None]:
    """The smallest box around each of the labels 1 to ``count``; None for one that does not occur."""
    return ndimage.find_objects(labels.astype(np.int32, copy=False), count)
