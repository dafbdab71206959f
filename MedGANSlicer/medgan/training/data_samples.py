"""Training samples cut from cached volumes, the same ones for the same state of the generator they are drawn with.

Shapes: C channels, D H W voxels (k, j, i); volumes are turned to RAS, so W runs from left to right, except for
enhancement, whose patches are turned and mirrored in all ways.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from medgan.degradation import pick
from medgan.generation import Ranges, at_places, random_places, rendered
from medgan.settings import Restores, TrainKind, TrainSettings
from medgan.training.data_cache import ONE, Entry
from medgan.training.data_cases import WHOLE
from medgan.training.data_classes import one_sided
from medgan.training.data_labels import Sides

VALIDATION = 12
"""About how many patches the validation looks at."""

FOREGROUND, ENOUGH = 0.08, 0.3
"""A patch should have this share of voxels above that intensity; the third try is taken as it is."""

FINEST = 1.35
"""An axis counts as finely sampled up to this multiple of the smallest voxel side."""


@dataclass(frozen=True)
class Manner:
    """How samples are made of a cache. ``values``: label values in rising order from 0; ``indices``: their classes."""

    side: int
    values: np.ndarray
    indices: np.ndarray
    sides: Sides
    paired: bool
    made: bool
    """Images are made from the label maps."""


class Patches:
    """The samples of a training; validation patches are cut from other patients, at fixed places."""

    def __init__(self, folder: Path, entries: Sequence[Entry], settings: TrainSettings, manner: Manner) -> None:
        self.folder, self.settings, self.manner = folder, settings, manner
        self.training = [entry for entry in entries if not entry.validation]
        self.checking = [entry for entry in entries if entry.validation] or self.training
        self.classes = sorted({entry.group for entry in entries if entry.group})
        self._arrays: dict[str, np.ndarray] = {}

    def sample(self, rng: torch.Generator) -> dict[str, Tensor]:
        """One training sample without a batch axis (see the table of keys in medgan.training.data)."""
        return self._sample(self.training, rng, vary=True)

    def validation(self) -> list[dict[str, Tensor]]:
        """Batches of patches from the validation patients, always the same."""
        if not self.manner.paired and self.settings.kind is TrainKind.TRANSLATE:
            patches = self._unpaired_validation()
        else:
            patches = self._validation_by_volume()
        size = min(4, self.settings.batch)
        groups = [patches[first : first + size] for first in range(0, len(patches), size)]
        return [{name: torch.stack([patch[name] for patch in group]) for name in group[0]} for group in groups]

    # --- one sample ---------------------------------------------------------------------------------------------------

    def _sample(self, entries: Sequence[Entry], rng: torch.Generator, vary: bool) -> dict[str, Tensor]:
        kind = self.settings.kind
        if kind is TrainKind.TRANSLATE and not self.manner.paired:
            return self._two_patches(entries, rng, vary)
        if kind is TrainKind.CLASSIFY:  # every class equally often, however many volumes it has
            group = self.classes[pick(len(self.classes), rng)] if vary else entries[0].group
            entries = [entry for entry in entries if entry.group == group]
        entry = entries[pick(len(entries), rng)]
        if self.manner.made:
            return self._made(entry, rng, vary)
        patch = self._cut(entry, [role for role in entry.files if role != "places"], rng)
        if kind is TrainKind.CLASSIFY:
            image = self._mirrored(patch, rng) if vary else patch
            return {**image, "class": torch.tensor(self.classes.index(entry.group))}
        if entry.noise:
            noise = torch.tensor(entry.noise)
            patch |= {"sigma": noise[0], "spread": noise[1:]}
        if kind is TrainKind.ENHANCE:
            return self._turned(entry, patch, rng) if vary or self._slices() else patch
        return self._mirrored(patch, rng) if vary else patch

    def _two_patches(self, entries: Sequence[Entry], rng: torch.Generator, vary: bool) -> dict[str, Tensor]:
        result: dict[str, Tensor] = {}
        for role in ("source", "target"):
            fitting = [entry for entry in entries if role in entry.files]
            entry = fitting[pick(len(fitting), rng)]
            patch = self._cut(entry, [role], rng)
            result |= self._mirrored(patch, rng) if vary else patch
        return result

    def _validation_by_volume(self) -> list[dict[str, Tensor]]:
        count = max(1, round(VALIDATION / len(self.checking)))
        patches = []
        for place, entry in enumerate(self.checking):
            for number in range(1 if self._whole() else count):
                rng = torch.Generator().manual_seed(self.settings.seed * 1_000_003 + 7919 * place + number)
                patches.append(self._sample([entry], rng, vary=False))
        return patches

    def _unpaired_validation(self) -> list[dict[str, Tensor]]:
        rngs = [torch.Generator().manual_seed(self.settings.seed * 1_000_003 + n) for n in range(VALIDATION)]
        return [self._two_patches(self.checking, rng, vary=False) for rng in rngs]

    def _cut(self, entry: Entry, roles: Sequence[str], rng: torch.Generator) -> dict[str, Tensor]:
        """The same box of several roles; short axes are filled up: by reflection for enhancement, else with nothing."""
        for _ in range(1 if self._whole() else 3):
            start = self._start(entry, rng)
            patch = {role: self._box(entry, role, start, self.manner.side) for role in roles}
            image = patch.get("image", patch.get("target", patch.get("source")))
            if image is None or "labels" in roles or float((image > FOREGROUND).float().mean()) > ENOUGH:
                break
        return patch

    def _start(self, entry: Entry, rng: torch.Generator) -> list[int]:
        """The first voxel of a box: anywhere, or half of the time around a voxel of a random label."""
        side = self.manner.side
        room = [max(0, length - side) for length in entry.shape]
        if "places" in entry.files and pick(2, rng):
            places = self._array(entry.files["places"])
            if len(places):
                values = np.unique(places[:, 0])
                chosen = places[places[:, 0] == values[pick(len(values), rng)]]
                place = chosen[pick(len(chosen), rng)][1:]
                # Anywhere in the box but its outermost sixth.
                inside = [side // 6 + pick(max(1, side - side // 3), rng) for _ in range(3)]
                return [min(max(0, int(p) - i), r) for p, i, r in zip(place, inside, room, strict=True)]
        return [pick(free + 1, rng) for free in room]

    def _box(self, entry: Entry, role: str, start: Sequence[int], side: int) -> Tensor:
        array = self._array(entry.files[role])
        box = tuple(slice(first, first + side) for first in start)
        part = np.array(array[box] if role == "labels" else array[(slice(None), *box)])
        if role == "labels":
            indices = self._indices(part)
            return _filled(indices[None].float(), side, "constant")[0].long() if min(part.shape) < side else indices
        image = torch.from_numpy(part.astype(np.float32) / np.float32(ONE))
        if min(image.shape[1:]) == side:
            return image
        return _filled(image, side, "reflect" if self.settings.kind is TrainKind.ENHANCE else "constant")

    def _made(self, entry: Entry, rng: torch.Generator, vary: bool) -> dict[str, Tensor]:
        """An image made from a part of a label map that was bent, and its labels."""
        side = self.manner.side
        around = side + 2 * (side // 4)
        start = [max(0, first - side // 4) for first in self._start(entry, rng)]
        values = np.array(self._array(entry.files["labels"])[tuple(slice(first, first + around) for first in start)])
        # The places of the values in the list of all: values themselves may be too large for float32.
        known = torch.from_numpy(np.searchsorted(self.manner.values, values))
        middle = [(length - 1) / 2 for length in known.shape]
        ranges = replace(Ranges(), shift_mm=0.0)
        places, mirrored = random_places((side,) * 3, middle, 1.0, rng, ranges)
        found = torch.from_numpy(self.manner.values)[at_places(known, places).round().long()]
        swapped = mirrored and vary and self.settings.flips and self.manner.sides.may_mirror
        if mirrored and not swapped:
            found = found.flip(2)
        image = rendered(found, 1.0, rng)
        indices = self._indices(found.numpy())
        if swapped:
            indices = torch.from_numpy(self.manner.sides.swap)[indices]
        return {"image": image[None], "labels": indices}

    def _indices(self, values: np.ndarray) -> Tensor:
        """Label values as the indices of their classes."""
        return torch.from_numpy(self.manner.indices[np.searchsorted(self.manner.values, values)])

    def _turned(self, entry: Entry, patch: dict[str, Tensor], rng: torch.Generator) -> dict[str, Tensor]:
        """In any orientation; to learn what thick slices hide, with a finely sampled axis in front."""
        order = torch.randperm(3, generator=rng).tolist()
        if self._slices():
            spacing = entry.spacing_mm[::-1]
            fine = [axis for axis in range(3) if spacing[axis] <= FINEST * min(spacing)]
            first = fine[pick(len(fine), rng)]
            order = [first, *(axis for axis in order if axis != first)]
        mirror = [axis for axis in range(3) if pick(2, rng)] if self.settings.flips else []
        if not self.settings.flips and not self._slices():
            order = [0, 1, 2]
        axes = [0, *(axis + 1 for axis in order)]
        turned = dict(patch)
        for role in ("input", "target"):
            if role in patch:
                turned[role] = patch[role].permute(axes).flip([axis + 1 for axis in mirror]).contiguous()
        if "spread" in patch:
            turned["spread"] = patch["spread"].view(4, 4, 4).permute(order).reshape(-1)
        return turned

    def _mirrored(self, patch: dict[str, Tensor], rng: torch.Generator) -> dict[str, Tensor]:
        """Left and right exchanged half of the time, where the labels have no sides or their sides are known."""
        sides = self.manner.sides
        sided = ("labels" in patch and not sides.may_mirror) or one_sided(self.classes)
        if not self.settings.flips or sided or not pick(2, rng):
            return patch
        result = {name: box.flip(-1).contiguous() for name, box in patch.items()}
        if "labels" in result:
            result["labels"] = torch.from_numpy(sides.swap)[result["labels"]]
        return result

    def _slices(self) -> bool:
        return self.settings.kind is TrainKind.ENHANCE and self.settings.restores is Restores.RESOLUTION

    def _whole(self) -> bool:
        return self.settings.kind in WHOLE

    def _array(self, file: str) -> np.ndarray:
        if file not in self._arrays:
            self._arrays[file] = np.load(self.folder / file, mmap_mode="r", allow_pickle=False)
        return self._arrays[file]


def _filled(box: Tensor, side: int, mode: str) -> Tensor:
    """(C, D, H, W) filled up at its ends to cubes of that side."""
    missing = [side - length for length in box.shape[1:]]
    if mode == "reflect" and any(lack >= length for lack, length in zip(missing, box.shape[1:], strict=True)):
        mode = "replicate"
    pads = [n for lack in reversed(missing) for n in (0, lack)]
    return F.pad(box[None], pads, mode=mode)[0]
