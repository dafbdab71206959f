"""The plane that a head is most symmetric about, and the head as seen in that mirror. Imports without torch."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage, optimize

SEARCH_MM = 4.0
"""Voxels on which the plane is looked for."""

MOST_DEGREES, MOST_MM = 25.0, 30.0
"""How far from upright and from the middle of the brain the plane may lie."""


@dataclass(frozen=True)
class Plane:
    """Points p (k, j, i in voxels) with ``normal`` . p = ``offset``; the normal has length 1."""

    normal: tuple[float, float, float]
    offset: float


def reflected(array: np.ndarray, plane: Plane) -> np.ndarray:
    """Float32 array whose voxels show what lies on the other side of the plane; the nearest voxel's value outside.
    Voxels are as long along all axes."""
    normal = np.array(plane.normal)
    matrix = np.eye(3) - 2.0 * np.outer(normal, normal)
    shift = 2.0 * plane.offset * normal
    return np.asarray(
        ndimage.affine_transform(array.astype(np.float32, copy=False), matrix, shift, order=1, mode="nearest")
    )


def symmetry_plane(array: np.ndarray, inside: np.ndarray, spacing_mm: float) -> Plane:
    """The plane, about across the last axis, in which what is inside (bool) looks most like itself.

    array: [k, j, i] with axes near S, A, R and voxels of ``spacing_mm`` along all of them. Without anything inside, the
    middle of the array.
    """
    upright = Plane((0.0, 0.0, 1.0), (array.shape[2] - 1) / 2)
    if int(inside.sum()) < 100:
        return upright
    step = max(1, round(SEARCH_MM / spacing_mm))
    soft = ndimage.gaussian_filter(np.where(inside, array, 0.0).astype(np.float32), 0.6 * step)[::step, ::step, ::step]
    weight = ndimage.gaussian_filter(inside.astype(np.float32), 0.6 * step)[::step, ::step, ::step]
    soft = soft - float((soft * weight).sum() / weight.sum()) * weight
    middle = np.array(ndimage.center_of_mass(weight))

    def plane_of(place: np.ndarray) -> Plane:
        tilt, turn, shift = place
        normal = np.array([math.sin(tilt), math.sin(turn), 1.0])
        normal /= np.linalg.norm(normal)
        return Plane(tuple(normal), float(normal @ middle + shift))

    def unlikeness(place: np.ndarray) -> float:
        return float(np.square(soft - reflected(soft, plane_of(place))).sum())

    reach = math.radians(MOST_DEGREES), math.radians(MOST_DEGREES), MOST_MM / (spacing_mm * step)
    starts = [np.array([0.0, turn, 0.0]) for turn in np.radians([-12.0, 0.0, 12.0])]
    best = min(starts, key=unlikeness)
    found = optimize.minimize(
        unlikeness,
        best,
        method="Powell",
        bounds=[(-side, side) for side in reach],
        options={"xtol": 2e-3, "ftol": 1e-4, "maxfev": 250},
    )
    plane = plane_of(found.x if unlikeness(found.x) < unlikeness(np.zeros(3)) else np.zeros(3))
    return Plane(plane.normal, step * plane.offset)
