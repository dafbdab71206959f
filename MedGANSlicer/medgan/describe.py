"""What a volume is, in words and numbers a person can check: geometry, voxels, noise, and what it looks like."""

from __future__ import annotations

from typing import Any

import numpy as np

from medgan.acquired import noise_level
from medgan.noise import in_hounsfield_units, intensity_range, padding_as_air
from medgan.volume import Volume


def describe(volume: Volume) -> dict[str, Any]:
    """Plain JSON values that describe ``volume``; sizes and spacings are along i, j, k."""
    matrix, array = volume.ijk_to_ras, volume.array
    axes = matrix[:3, :3] / np.linalg.norm(matrix[:3, :3], axis=0)
    finite = np.isfinite(array)
    known = array[finite]
    filled = array if finite.all() else np.where(finite, array, np.median(known))
    return {
        "format": volume.meta.get("format", ""),
        "size_voxels": list(reversed(volume.shape)),
        "spacing_mm": [_six_digits(step) for step in volume.spacing_mm],
        "extent_mm": [_six_digits(n * step) for n, step in zip(reversed(volume.shape), volume.spacing_mm, strict=True)],
        "axes": axis_code(axes),
        "oblique_degrees": round(_angle_to_body(axes), 2),
        "handedness": "right" if np.linalg.det(axes) > 0 else "left",
        "ijk_to_ras": matrix.tolist(),
        "voxel_type": volume.voxel_type,
        "minimum": float(known.min()),
        "maximum": float(known.max()),
        "mean": float(known.mean(dtype=np.float64)),
        "not_finite": int(array.size - known.size),
        "noise_sigma": noise_level(padding_as_air(filled).astype(np.float32)),
        "looks_like": looks_like(known, volume.voxel_type),
        "messages": list(volume.meta.get("messages", [])),
    }


def axis_code(axes: np.ndarray) -> str:
    """Where i, j and k point, nearest body direction each: "LPS" is left, posterior, superior."""
    code = ""
    for column in axes.T:
        main = int(np.abs(column).argmax())
        code += ("RAS" if column[main] > 0 else "LPI")[main]
    return code


def looks_like(voxels: np.ndarray, voxel_type: str) -> str:
    """A guess from the intensities alone; says so when they tell nothing."""
    sample = padding_as_air(voxels.ravel()[:: max(1, voxels.size // 500_000)])
    low, high = float(sample.min()), float(sample.max())
    if low == high:
        return "constant: every voxel has the same value"
    values = np.unique(sample)
    if voxel_type not in ("float32", "float64") and len(values) <= 64 and low >= 0 and (values == 0).any():
        return f"label map or mask with {len(values)} values"
    if in_hounsfield_units(sample):
        return "CT in Hounsfield units"
    dark, bright = intensity_range(sample)
    if low >= -0.02 * (bright - dark):
        background = float((sample < 0.05 * bright).mean())
        return "MR or PET magnitude, with air around it" if background > 0.1 else "MR or PET magnitude"
    return "not clear: it has negative values, but not the range of CT"


def _six_digits(length_mm: float) -> float:
    """Rounded as far as float32 headers are exact, however small the voxels are."""
    return float(f"{length_mm:.6g}")


def _angle_to_body(axes: np.ndarray) -> float:
    """Largest angle in degrees between an axis of the volume and the body direction nearest to it."""
    return float(np.degrees(np.arccos(np.clip(np.abs(axes).max(axis=0), 0, 1))).max())
