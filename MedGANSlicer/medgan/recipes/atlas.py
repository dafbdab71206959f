"""Make the atlas of the network that names the parts of a head, and add it to its weights:
``python -m medgan.recipes.atlas --data DIR --out DIR --weights model.pt``.

The whole-head label maps of the data folder and their mirror images are averaged; then, several times, every one is
bent onto the average, and averaged again: what all have in common becomes sharp (Guimond et al., Comput Vis Image
Underst 77:192, 2000). Nothing is random. Every round is kept in ``atlas.pt``; the same command goes on after the last.
Writes the weights with the atlas to ``model.pt`` in the folder. Label maps named in ``--leave-out`` are never read.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from medgan.generation import at_places
from medgan.networks.atlas import ROUNDS, Atlas, at, bend_onto
from medgan.networks.parts import VIEW
from medgan.parts import STRUCTURES
from medgan.recipes import files
from medgan.recipes.data import data_folder
from medgan.recipes.parts import LEFT_OUT, Codes, Head, load_heads

AROUND = (0, len(STRUCTURES) - 3, len(STRUCTURES) - 2, len(STRUCTURES) - 1)
"""Background, CSF, skull and other tissue: one class of the atlas, the first."""


def view_of(head: Head, codes: Codes) -> Tensor:
    """(C, d, h, w) shares of the classes in voxels of 2 mm, the brain in the middle."""
    structure, _side = codes.of(head.codes.long())
    axes = [torch.arange(2 * n, dtype=torch.float32) - (2 * n - 1) / 2 for n in VIEW]
    places = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1) + torch.tensor(head.middle)
    index = at_places(structure, places).round().long()
    shares = F.one_hot(index, len(STRUCTURES)).permute(3, 0, 1, 2).to(torch.uint8)
    around = shares[list(AROUND)].sum(0, keepdim=True)
    inside = shares[1 : len(STRUCTURES) - 3]
    return torch.cat([F.avg_pool3d(each[None, None].float(), 2)[0] for each in torch.cat([around, inside])])


def averaged(views: list[Tensor], onto: Tensor, extent_mm: tuple[float, ...], rounds: tuple[int, ...]) -> Tensor:
    """The mean of all views and their mirror images, each bent onto ``onto`` first; its halves are alike."""
    total = torch.zeros_like(onto)
    coarse = F.avg_pool3d(onto[None], 2)[0]
    for view in views:
        moving = view.float()
        bend = bend_onto(F.avg_pool3d(moving[None], 2)[0], coarse, extent_mm, rounds=rounds)
        total += at(moving, bend.places(onto.shape[1:]))
    return (total + total.flip(3)) / (2 * len(views))


def main(arguments: list[str] | None = None) -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", type=data_folder, required=True, help="folder with manifest.csv")
    options.add_argument("--out", type=Path, required=True, help="folder for atlas and weights")
    options.add_argument("--weights", type=Path, required=True, help="weights of medgan.recipes.parts")
    options.add_argument("--leave-out", default=LEFT_OUT, help="comma-separated stems never to read")
    options.add_argument("--rounds", type=int, default=2, help="how often all are bent onto their average")
    held = options.parse_args(arguments)
    held.out.mkdir(parents=True, exist_ok=True)
    atlas = Atlas(len(STRUCTURES) - 3, VIEW, 2.0)
    kept = held.out / "atlas.pt"
    state: dict[str, Any] = torch.load(kept, map_location="cpu", weights_only=True) if kept.exists() else {"round": 0}
    if state["round"] < held.rounds:
        heads = load_heads(held.data / "manifest.csv", left_out={stem for stem in held.leave_out.split(",") if stem})
        if not heads:
            raise SystemExit(f"{held.data / 'manifest.csv'} names no whole-head label map that is not left out.")
        codes = Codes(torch.device("cpu"))
        views = [view_of(head, codes).half() for head in heads]
        average = state.get("average", torch.stack(views).float().mean(0)).float()
        average = (average + average.flip(3)) / 2
        for number in range(int(state["round"]), held.rounds):
            begun = time.monotonic()
            rounds = (ROUNDS[0], ROUNDS[1], 0) if number == 0 else ROUNDS  # a blurred mean bears broad bending only
            average = averaged(views, average, atlas.extent_mm, rounds)
            files.save({"round": number + 1, "average": average.half()}, kept)
            sharp = float(average.square().sum(0).mean())
            files.log({"round": number + 1, "sharpness": sharp, "seconds": time.monotonic() - begun}, held.out)
        state = {"average": average}
    atlas.hold(state["average"].float())
    weights = torch.load(held.weights, map_location="cpu", weights_only=True)
    files.save(files.halved({**weights, "atlas.left": atlas.left}), held.out / "model.pt")


if __name__ == "__main__":
    main()
