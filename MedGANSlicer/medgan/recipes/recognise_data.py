"""Training examples of recognition: real scans and a changing few made ones, from which views are taken."""

from __future__ import annotations

import torch
from torch import Tensor

from medgan.degradation import choose, gaussian_blur, normal, pick, uniform
from medgan.recipes import recognise_made as made
from medgan.recipes.recognise_scans import Example, answer
from medgan.recipes.recognise_views import View, view_of
from medgan.recognition.slices import same_neighbours

SHARES = {"CT": 0.2, "PET": 0.12, "MR T1": 0.15, "MR T2": 0.14, "MR FLAIR": 0.12, "MR": 0.03, "label map": 0.1,
          "": 0.11}  # fmt: skip
"""How often each kind is shown; "MR": a contrast without a name; "": no scan at all."""

MADE = 0.35
"""Share of the examples of a kind that are made ones."""


class Examples:
    """Real scans and a changing few made ones, to take views of."""

    def __init__(self, real: list[Example], heads: list[Tensor]) -> None:
        self.real = {kind: [e for e in real if _is(e, kind)] for kind in SHARES}
        if not heads:
            raise ValueError("Heads are made from the label maps called synthseg_*, and there is none; add some.")
        self.heads = heads
        self.held: dict[str, list[Example]] = {kind: [] for kind in SHARES}

    def make(self, number: int, seed: int, keep: int = 48) -> None:
        """Make example ``number``, which follows from its number and the seed alone; the last ``keep`` are kept."""
        generator = torch.Generator().manual_seed(seed * 1_000_003 + number)
        kind = list(SHARES)[number % len(SHARES)]
        self.held[kind].append(self._made(kind, generator))
        del self.held[kind][: -max(1, keep // len(SHARES))]

    def view(self, generator: torch.Generator) -> View:
        """A random view of a random example."""
        kind = choose(list(SHARES.items()), generator)
        real, made_ones = self.real[kind], self.held[kind]
        use_made = made_ones and (not real or uniform(0, 1, generator) < MADE)
        pool = made_ones if use_made else real
        if not pool:
            return self.view(generator)
        if not use_made:  # each part of the body as often as the others: few of the real T1 are heads
            parts: dict[int, list[Example]] = {}
            for example in pool:
                parts.setdefault(int(example.region.mean(dim=0).argmax()), []).append(example)
            pool = list(parts.values())[pick(len(parts), generator)]
        return view_of(pool[pick(len(pool), generator)], generator)

    def _made(self, kind: str, generator: torch.Generator) -> Example:
        if kind == "":
            scans = [example.array for examples in self.real.values() for example in examples if not example.labels]
            array = made.no_scan(generator, scans)
            scale, shift = choose([((1, 0), 1), ((1000, 0), 1), ((1000, -500), 1), ((255, 0), 1)], generator)
            return _example(array * scale + shift, "no scan", "", "", plane=False)
        if kind == "label map":
            if uniform(0, 1, generator) < 0.4:
                return _example(made.some_labels(generator), "labels", kind, "", labels=True, plane=False)
            part = choose([("chest", 1), ("abdomen", 1), ("limb", 1)], generator)
            labels, chest = made.simple_body(part, generator)
            return _with_regions(_example(labels, "labels", kind, part, labels=True), part, chest)
        use = uniform(0, 1, generator)
        if kind in ("MR", "MR FLAIR") or use < (0.65 if kind == "MR T1" else 0.45):
            labels = self.heads[pick(len(self.heads), generator)]
            return _example(made.head(labels.long(), kind, generator), "head", kind, "head")
        real = [example for example in self.real["CT"] if kind != "CT"]
        if real and use < 0.75:
            source = real[pick(len(real), generator)]
            noise = uniform(0.0, 0.08, generator)
            image = torch.from_numpy(made.another_contrast(source.array.numpy(), kind, generator))
            if kind == "PET":
                image = gaussian_blur(image, [uniform(2, 5, generator) / (step / source.spacing_mm[2])
                                              for step in source.spacing_mm])  # fmt: skip
            image = (image + noise * normal(image, generator)).abs()
            return Example(image, source.spacing_mm, source.box, "other contrast", answer("kind", kind), source.region,
                           made=True)  # fmt: skip
        part = choose([("chest", 1), ("abdomen", 2), ("limb", 1)], generator)
        image, _, chest = made.body(part, kind, generator)
        return _with_regions(_example(image, "body", kind, part), part, chest)


def _is(example: Example, kind: str) -> bool:
    return bool(torch.equal(example.kind, answer("kind", kind)))


def _example(array: Tensor, name: str, kind: str, region: str, labels: bool = False, plane: bool = True) -> Example:
    spacing = (
        (2.0, 2.0, 2.0) if name == "head" else (96.0 / array.shape[0], 88.0 / array.shape[1], 88.0 / array.shape[2])
    )
    box = tuple(slice(0, side) for side in array.shape)
    flat = same_neighbours(array.numpy())
    regions = answer("region", region).expand(array.shape[0], -1)
    return Example(array.float(), spacing, box, name, answer("kind", kind), regions, kind == "CT", labels, plane,  # type: ignore[arg-type]
                   flat, True)  # fmt: skip


def _with_regions(example: Example, part: str, chest: Tensor) -> Example:
    if part != "limb":
        example.region = chest[:, None] * answer("region", "chest") + (1 - chest[:, None]) * answer("region", "abdomen")
    return example
