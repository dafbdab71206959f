"""The voxels of one training case, checked; what makes a case useless is said in one sentence."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np

from medgan.grids import grid_difference
from medgan.inference import fill_not_finite
from medgan.labelfiles import read_map
from medgan.labeltable import whole_numbers
from medgan.noise import in_hounsfield_units, padding_as_air
from medgan.training.data_cases import CALLED, Case
from medgan.training.data_files import DataError, Found
from medgan.volume import Label, LabelMap, Volume, read_volume

SHORTEST_SIDE = 4
"""Fewest voxels along an axis that a 3D network can learn anything from."""

MOST_LABELS = 512
"""Different values beyond which a label map is taken for an image."""

FEW_LABELS, LEAST_AGREEMENT = 16, 0.4
"""With more labels than this, at least that share of neighbouring voxels has the same one; in images it is less."""


@dataclass
class Voxels:
    """One role of a case: channels as float32 [k, j, i] (labels: one integer array), and where they lie."""

    arrays: list[np.ndarray]
    matrix: np.ndarray
    source: str = ""
    modality: str = ""


@dataclass
class Loaded:
    """A case that can be used. ``digest``: SHA-256 of all voxels and grids; ``labels``: value to name and colour."""

    case: Case
    roles: dict[str, Voxels]
    digest: str
    labels: dict[int, Label] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)


def load(case: Case, paired: bool) -> Loaded:
    """Read and check a case. Raises ``ValueError`` (its kinds ``DataError`` and ``VolumeError``) for a useless one."""
    digest = hashlib.sha256()
    loaded = Loaded(case, {}, "")
    for role, channels in case.volumes.items():
        if role == "labels":
            loaded.roles[role] = _labels(channels[0], loaded, digest)
        else:
            loaded.roles[role] = _image(channels, role, loaded, digest)
    if paired and len(loaded.roles) > 1:
        _check_same_grid(loaded)
    loaded.digest = digest.hexdigest()
    return loaded


def _labels(found: Found, loaded: Loaded, digest: hashlib._Hash) -> Voxels:
    volume = found.volume
    if found.path is not None:
        volume, said = read_map(found.path)
        loaded.messages += [f"{found.shown}: {sentence}" for sentence in said]
    if isinstance(volume, Volume):
        volume = LabelMap(whole_numbers(volume.array, f"'{found.shown}'"), volume.ijk_to_ras)
    assert volume is not None
    array = volume.array
    _check_size(array, found)
    values = np.unique(array)
    if values[0] < 0:
        raise DataError(f"'{found.shown}' has the label {values[0]}; labels are 0 (background) and above.")
    if len(values) > MOST_LABELS or (len(values) > FEW_LABELS and _agreement(array) < LEAST_AGREEMENT):
        raise DataError(f"'{found.shown}' has {len(values)} different values; it looks like an image, not a label map.")
    if len(values) == 1:
        raise DataError(f"'{found.shown}' holds the value {values[0]} only; a label map needs labels and background.")
    if values[-1] > np.iinfo(np.int32).max:
        raise DataError(f"'{found.shown}' has the label {values[-1]}; labels go up to {np.iinfo(np.int32).max}.")
    loaded.labels.update({int(value): volume.labels[int(value)] for value in values if int(value) in volume.labels})
    array = array.astype(np.int16 if values[-1] <= np.iinfo(np.int16).max else np.int32)
    _feed(digest, array, volume.ijk_to_ras)
    return Voxels([array], volume.ijk_to_ras, found.shown)


def _agreement(labels: np.ndarray) -> float:
    """Share of the voxels besides the background that have the same label as the next one along i."""
    inside = labels[:, :, :-1] > 0
    return float((labels[:, :, 1:] == labels[:, :, :-1])[inside].mean()) if inside.any() else 1.0


def _image(channels: list[Found], role: str, loaded: Loaded, digest: hashlib._Hash) -> Voxels:
    arrays: list[np.ndarray] = []
    matrix, kinds = np.eye(4), set()
    for number, found in enumerate(channels):
        volume = found.volume if found.path is None else read_volume(found.path)
        if isinstance(volume, LabelMap):
            raise DataError(f"'{found.shown}' is a label map; an image is needed as {CALLED[role]}.")
        assert volume is not None
        _check_size(volume.array, found)
        array, broken = fill_not_finite(volume.array)
        if broken.any():
            loaded.messages.append(f"{found.shown}: {int(broken.sum())} voxels are NaN or infinity; they were filled.")
        array = padding_as_air(array)
        if float(array.min()) == float(array.max()):
            raise DataError(f"'{found.shown}' is constant: every voxel is {float(array.flat[0]):g}.")
        if number and (different := grid_difference(arrays[0].shape, matrix, array.shape, volume.ijk_to_ras)):
            raise DataError(f"Its channels lie on different grids: {different}.")
        kinds.add("CT" if in_hounsfield_units(array) else "")
        matrix = matrix if number else volume.ijk_to_ras
        arrays.append(array)
        _feed(digest, array, volume.ijk_to_ras)
        loaded.messages += [f"{found.shown}: {said}" for said in volume.meta.get("messages", [])]
    return Voxels(arrays, matrix, channels[0].shown, kinds.pop() if len(kinds) == 1 else "")


def _check_size(array: np.ndarray, found: Found) -> None:
    if min(array.shape) < SHORTEST_SIDE:
        shown = " x ".join(str(side) for side in reversed(array.shape))
        raise DataError(f"'{found.shown}' has {shown} voxels; at least {SHORTEST_SIDE} are needed along every axis.")


def _check_same_grid(loaded: Loaded) -> None:
    (role, one), (other_role, other) = loaded.roles.items()
    different = grid_difference(one.arrays[0].shape, one.matrix, other.arrays[0].shape, other.matrix)
    if different:
        raise DataError(
            f"Its {CALLED[role]} and its {CALLED[other_role]} lie on different grids: {different}; resample one to the "
            "other."
        )


def _feed(digest: hashlib._Hash, array: np.ndarray, matrix: np.ndarray) -> None:
    digest.update(str((array.shape, array.dtype.str)).encode())
    digest.update(np.ascontiguousarray(array).data)
    digest.update(np.round(matrix, 6).astype("<f8").tobytes())
