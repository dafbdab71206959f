"""Fit the shape model of ``brain-from-noise``: ``python -m medgan.recipes.shapes --data DATA --out DIR``.

Every training label map is turned and shifted onto the template (six numbers), and a velocity is fitted whose flow
carries the template to it: mean square difference of smoothed tissues, and smoothness. The velocities' mean and
principal components, a few of the label maps as bases, and the folds of all of them on the template are written as
``model.pt`` with ``arguments.json``. A map that was fitted is kept, so that a run which is started again goes on with
the next. About 15 minutes of one core. ``--components BUNDLE`` takes mean, components and bases of a model that was
fitted to these maps before, and looks for the maps among the components only: about 3 minutes.
"""

from __future__ import annotations

import argparse
import json
import lzma
import math
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from medgan.generation import at_places, tissue_of
from medgan.models import build_network, find, load_state
from medgan.networks.shapes import FLOW_STEP_MM, LEVELS, ShapeNet, centres, flow, level_at, sampled, slabs
from medgan.recipes import files
from medgan.recipes.data import data_folder, read_manifest
from medgan.segmentation.grid import Grid, resampled, working_grid
from medgan.volume import read_label_map

SIZE_MM = (208, 224, 176)
"""The box of the model: superior, anterior, right."""

ABOVE = 16
"""How much higher than the middle of the box the middle of the brain lies, in mm."""

KNOTS = (32, 34, 27)
TEMPLATE = "synthseg_01"
BASES = ("synthseg_01", "synthseg_06", "synthseg_11")
HELD_OUT = ("synthseg_17", "synthseg_18", "synthseg_19", "synthseg_20")

STAGES = ((5.0, 90), (3.0, 30))
"""Voxels of a stage in mm, and its steps."""

SMOOTHNESS = 3e-4

REGIONS, BEND_MM = (2, 3, 2), 5.0
"""Knots of the fields of regions with the folds of one head, and the size of further random bending."""

SEARCH_MM, SEARCH_STEPS = 6.0, 60
"""Voxels and steps of the search among the components of a model that was fitted before."""

CALM = 8
"""Passes of smoothing away from the brain."""

_PARTS = ((4, 43, 5, 44), (10, 49), (11, 50), (12, 51, 13, 52), (17, 53, 18, 54), (16,), (7, 46), (8, 47), (14, 15))
"""Structures that are fitted besides the tissues."""


def groups_of(codes: np.ndarray) -> np.ndarray:
    """The group of each code: one for each part, and one for each tissue of what is left; 0 is air."""
    tissues = ("white", "grey", "fluid", "cortical", "muscle", "skin", "soft", "eye")
    place = {code: number for number, part in enumerate(_PARTS, 1) for code in part}
    other = {name: number for number, name in enumerate(tissues, len(_PARTS) + 1)}
    return np.array([place.get(int(c), other.get(tissue_of(int(c)), other["soft"]) if c else 0) for c in codes])


def upright(path: Path) -> np.ndarray:
    """A label map with axes along the patient's, the middle of its brain where the model has it."""
    labels = read_label_map(path)
    source = Grid(labels.shape, labels.ijk_to_ras)
    grid = working_grid(source, None, "RAS")
    array = resampled(labels.array.astype(np.float32), source, grid).astype(np.int16)
    brain = np.nonzero((array > 0) & (array < 500) & (array != 24))
    middle = [round(float(axis.mean())) for axis in brain]
    result = np.zeros(SIZE_MM, np.int16)
    into, taken = [], []
    for side, own, centre, up in zip(SIZE_MM, array.shape, middle, (ABOVE, 0, 0), strict=True):
        shift = side // 2 + up - centre
        low, high = max(0, shift), min(side, own + shift)
        into.append(slice(low, high))
        taken.append(slice(low - shift, high - shift))
    result[tuple(into)] = array[tuple(taken)]
    return result


def coarser(step_mm: float) -> tuple[int, int, int]:
    """The shape of a grid over the box with about this step."""
    k, j, i = (round(side / step_mm) for side in SIZE_MM)
    return k, j, i


def soft(labels: np.ndarray, step_mm: float) -> Tensor:
    """(G, d, h, w) share of every group in the voxels of a coarser grid."""
    codes, index = np.unique(labels, return_inverse=True)
    groups = torch.from_numpy(groups_of(codes)[index].reshape(labels.shape))
    shape = coarser(step_mm)
    count = len(_PARTS) + 9
    return torch.stack([F.adaptive_avg_pool3d((groups == n).float()[None, None], shape)[0, 0] for n in range(count)])


def seen(labels: np.ndarray, step_mm: float) -> Tensor:
    """(d, h, w) 1 where a map tells something: within the box of what is no background."""
    mask = np.zeros(SIZE_MM, np.float32)
    mask[tuple(slice(int(w.min()), int(w.max()) + 1) for w in np.nonzero(labels))] = 1.0
    shape = coarser(step_mm)
    return F.adaptive_avg_pool3d(torch.from_numpy(mask)[None, None], shape)[0, 0]


def turned(labels: np.ndarray, template: Tensor, step_mm: float = 6.0, steps: int = 60) -> np.ndarray:
    """A map turned and shifted so that it lies on the soft template of ``step_mm``."""
    own = soft(labels, step_mm)
    pose = torch.zeros(6, requires_grad=True)
    optimiser = torch.optim.Adam([pose], lr=0.02)
    middle = torch.tensor([side / 2 for side in SIZE_MM]).view(3, 1, 1, 1)
    places = centres(own.shape[1:], SIZE_MM) - middle

    def posed(at: Tensor) -> Tensor:
        turn = torch.linalg.matrix_exp(
            torch.stack([torch.stack([pose[0] * 0, -pose[2], pose[1]]),
                         torch.stack([pose[2], pose[0] * 0, -pose[0]]),
                         torch.stack([-pose[1], pose[0], pose[0] * 0])])
        )  # fmt: skip
        return torch.einsum("ab,bdhw->adhw", turn, at) + middle + 50.0 * pose[3:].view(3, 1, 1, 1)

    brain = slice(1, len(_PARTS) + 4)
    for _ in range(steps):
        loss = (sampled(own[brain], posed(places), SIZE_MM) - template[brain]).square().sum(dim=0).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        fine = posed(centres(SIZE_MM, SIZE_MM) - middle).permute(1, 2, 3, 0)
        return at_places(torch.from_numpy(labels), fine).round().numpy().astype(np.int16)


def fitted(
    labels: np.ndarray, templates: Sequence[Tensor], stages: Sequence[tuple[float, int]]
) -> tuple[Tensor, float]:
    """The velocity (3, d, h, w) whose flow carries the template to a map, and the share of the difference left."""
    velocity = torch.zeros(3, *KNOTS, requires_grad=True)
    optimiser = torch.optim.Adam([velocity], lr=0.5)
    first, last = 0.0, 0.0
    for (step_mm, steps), template in zip(stages, templates, strict=True):
        own, mask = soft(labels, step_mm), seen(labels, step_mm)
        places = centres(own.shape[1:], SIZE_MM)
        for number in range(steps):
            for group in optimiser.param_groups:
                group["lr"] = 0.5 * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * number / steps)))
            moved = flow(smoothed(velocity), own.shape[1:], SIZE_MM)
            off = (sampled(template, places + moved, SIZE_MM) - own).square().sum(dim=0)
            loss = (mask * off).sum() / mask.sum()
            first, last = first or float(loss.detach()), float(loss.detach())
            bends = [velocity.diff(n=2, dim=axis).square().mean() for axis in (1, 2, 3)]
            optimiser.zero_grad()
            (loss + SMOOTHNESS * torch.stack(bends).sum()).backward()
            optimiser.step()
    return smoothed(velocity.detach()), last / first


def smoothed(velocity: Tensor) -> Tensor:
    """A velocity after one pass over 27 knots."""
    return F.avg_pool3d(F.pad(velocity[None], [1] * 6, mode="replicate"), 3, 1)[0]


def calmed(velocity: Tensor, template: np.ndarray) -> Tensor:
    """A velocity that is much smoother away from the brain: necks and the ends of scans would fold otherwise."""
    brain = torch.from_numpy(((template > 0) & (template < 500)).astype(np.float32))[None, None]
    near = F.max_pool3d(F.adaptive_avg_pool3d(brain, KNOTS), 3, 1, 1)[0]
    calm = velocity
    near = smoothed(smoothed(near))
    for _ in range(CALM):
        calm = smoothed(calm)
    return near * velocity + (1.0 - near) * calm


def among(labels: np.ndarray, template: Tensor, network: ShapeNet) -> tuple[Tensor, float]:
    """The same as :func:`fitted` among the components of a model; ``template``: soft, of ``SEARCH_MM``."""
    weights = torch.zeros(network.components, requires_grad=True)
    optimiser = torch.optim.Adam([weights], lr=0.15)
    own, mask = soft(labels, SEARCH_MM), seen(labels, SEARCH_MM)
    places = centres(own.shape[1:], SIZE_MM)
    first, last = 0.0, 0.0
    for number in range(SEARCH_STEPS):
        for group in optimiser.param_groups:
            group["lr"] = 0.15 * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * number / SEARCH_STEPS)))
        moved = flow(network.velocity(weights), own.shape[1:], SIZE_MM)
        loss = (mask * (sampled(template, places + moved, SIZE_MM) - own).square().sum(dim=0)).sum() / mask.sum()
        first, last = first or float(loss.detach()), float(loss.detach())
        optimiser.zero_grad()
        (loss + 1e-4 * weights.square().sum()).backward()
        optimiser.step()
    return network.velocity(weights.detach()), last / first


def folds_of(labels: np.ndarray, velocity: Tensor) -> np.ndarray:
    """uint8 levels of the folds of a map, carried back to the template along the velocity that leads to it."""
    coarse = [max(8, round(side / FLOW_STEP_MM)) for side in SIZE_MM]
    back = flow(-velocity, coarse, SIZE_MM)
    table = np.zeros(int(max(labels.max(), *LEVELS)) + 1, np.uint8)
    table[list(LEVELS)] = list(LEVELS.values())
    levels, result = torch.from_numpy(table[labels])[None], np.zeros(SIZE_MM, np.uint8)
    for slab, places in slabs(SIZE_MM, SIZE_MM):
        found = (places + sampled(back, places, SIZE_MM)).flatten(1)
        heads = torch.zeros(found.shape[1], dtype=torch.long)
        result[slab] = level_at(levels, heads, found).round().numpy().reshape(places.shape[1:])
    return result


def packed(array: np.ndarray) -> Tensor:
    """(n,) uint8 a volume compressed."""
    return torch.from_numpy(np.frombuffer(lzma.compress(array.astype(np.uint8).tobytes(), preset=9), np.uint8).copy())


def with_folds(
    state: dict[str, Tensor], arguments: dict[str, object], folds: Sequence[np.ndarray]
) -> tuple[dict[str, Tensor], dict[str, object]]:
    """State and arguments of a :class:`ShapeNet` with the folds of these heads (levels on the template)."""
    kept = {name: held for name, held in state.items() if not name.startswith("folds")}
    held = {f"folds{number}": packed(levels) for number, levels in enumerate(folds)}
    made = {"folds": [len(each) for each in held.values()], "regions": list(REGIONS), "bend_mm": BEND_MM}
    return {**kept, **held}, {**arguments, **made}


def model_of(
    velocities: dict[str, Tensor], bases: dict[str, np.ndarray]
) -> tuple[dict[str, Tensor], dict[str, object]]:
    """The state and the arguments of a :class:`ShapeNet` without folds."""
    stack = torch.stack(list(velocities.values()))
    mean, count = stack.mean(dim=0), len(stack)
    _, strengths, modes = torch.linalg.svd((stack - mean).flatten(1), full_matrices=False)
    modes, spread = modes[: count - 1].view(count - 1, *mean.shape), strengths[: count - 1] / math.sqrt(count - 1)
    largest = modes.flatten(1).abs().amax(dim=1)
    whole = (modes / largest.view(-1, 1, 1, 1, 1) * 127).round().to(torch.int8)
    scales = spread * largest / 127
    codes = np.unique(np.concatenate([np.unique(base) for base in bases.values()]))
    held = {f"base{n}": packed(np.searchsorted(codes, base)) for n, base in enumerate(bases.values())}
    own = [((velocities[name] - mean) * modes).flatten(1).sum(dim=1) / spread for name in bases]
    state = {"mean": mean.half(), "modes": whole, "scales": scales, "own": torch.stack(own)}
    state["codes"] = torch.from_numpy(codes.astype(np.int16))
    state |= held
    size, knots = list(next(iter(bases.values())).shape), list(mean.shape[1:])
    arguments = {"size_mm": size, "knots": knots, "components": count - 1}
    return state, {**arguments, "packed": [len(each) for each in held.values()], "codes": len(codes)}


def opened(bundle: Path) -> ShapeNet:
    """The model of a bundle. Raises ``ValueError`` for one with another box or other knots."""
    card = find(bundle)
    network = build_network(card, load_state(card, "faithful"))
    if not isinstance(network, ShapeNet) or network.size_mm != SIZE_MM or network.mean.shape[1:] != KNOTS:
        raise ValueError(f"The model in {bundle} is none of shapes on the same knots.")
    return network.float()


def main(arguments: list[str] | None = None) -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", type=data_folder, required=True, help="folder with manifest.csv")
    options.add_argument("--out", type=Path, required=True, help="folder for fitted velocities, log and weights")
    options.add_argument("--quick", action="store_true", help="few steps, to see whether it runs")
    options.add_argument("--components", type=Path, help="bundle whose components are taken instead of fitted anew")
    options.add_argument("--maps", type=int, default=0, help="fit the first maps only; 0: all")
    chosen = options.parse_args(arguments)
    chosen.out.mkdir(parents=True, exist_ok=True)
    rows = [row for row in read_manifest(chosen.data / "manifest.csv")
            if row["modality"].startswith("label map (FreeSurfer")]  # fmt: skip
    paths = {Path(row["file"]).name.removesuffix(".nii.gz"): chosen.data / row["file"] for row in rows}
    paths = {name: path for name, path in paths.items() if name not in HELD_OUT}
    paths = dict(list(paths.items())[: chosen.maps or None])
    stages = tuple((step, 2 if chosen.quick else steps) for step, steps in STAGES)
    template = upright(paths[TEMPLATE])
    templates, rough = [soft(template, step) for step, _ in stages], soft(template, 6.0)
    before = None if chosen.components is None else opened(chosen.components)
    velocities, bases, folds = {}, {}, []
    for name, path in paths.items():
        begun, kept = time.monotonic(), chosen.out / f"{name}.pt"
        if not kept.exists():
            labels, velocity, left = template, torch.zeros(3, *KNOTS), 0.0
            if name != TEMPLATE:
                labels = turned(upright(path), rough, steps=2 if chosen.quick else 60)
                velocity, left = among(labels, rough, before) if before else fitted(labels, templates, stages)
            files.save({"velocity": velocity, "labels": torch.from_numpy(labels)}, kept)
            said = {"map": name, "left": left, "farthest_mm": float(velocity.norm(dim=0).max())}
            files.log({**said, "seconds": time.monotonic() - begun}, chosen.out)
        held = torch.load(kept, map_location="cpu", weights_only=True)
        velocities[name] = held["velocity"] if before else calmed(held["velocity"], template)
        folds.append(folds_of(held["labels"].numpy(), velocities[name]))
        if name in BASES:
            bases[name] = held["labels"].numpy()
    if chosen.components is None:
        state, made = model_of(velocities, bases)
    else:
        card = find(chosen.components)
        state, made = load_state(card, "faithful"), dict(card.network_arguments)
    state, made = with_folds(state, made, folds)
    files.save(state, chosen.out / "model.pt")
    (chosen.out / "arguments.json").write_text(json.dumps(made) + "\n", encoding="utf-8")
    network = ShapeNet(**made)  # type: ignore[arg-type]
    network.load_state_dict(state)
    files.log({"bytes": (chosen.out / "model.pt").stat().st_size, "components": network.components}, chosen.out)


if __name__ == "__main__":
    main()
