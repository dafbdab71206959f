"""Train the tissue-ct model: ``python -m medgan.recipes.tissue --data DIR --out DIR --minutes 20``.

A small U-Net learns body, bone, air, soft tissue and fat at 3 mm from rule-made targets (medgan.recipes.tissue_targets)
of noise-free CT, while it sees them noisy, blurred and changed (medgan.recipes.tissue_data). Writes ``model.pt``
(state dict, float16) and ``log.jsonl``; medgan.recipes.bundle puts it into the bundle.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from monai.networks.nets import BasicUNet
from torch import Tensor, nn

from medgan.recipes import files
from medgan.recipes.data import data_folder
from medgan.recipes.tissue_data import TissuePatches, load_ct, load_heads
from medgan.recipes.tissue_targets import IGNORE
from medgan.recipes.training import left_out

CLASSES = 5
WINDOW = (-1024.0, 1500.0)
ARGUMENTS: dict[str, Any] = {
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": CLASSES,
    "features": [8, 16, 32, 48, 64, 8],
    "norm": "batch",
}
"""Batch normalisation, whose fixed statistics keep the meaning of Hounsfield units; those of a sample would not."""


def loss_of(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy plus one minus soft Dice; logits (B, C, D, H, W), labels (B, D, H, W), 255 for untold voxels."""
    told = labels != IGNORE
    entropy = F.cross_entropy(logits, labels, ignore_index=IGNORE)
    hot = F.one_hot(labels.where(told, 0), CLASSES).movedim(-1, 1) * told[:, None]
    probability = logits.softmax(1) * told[:, None]
    both = 2 * (probability * hot).sum((0, 2, 3, 4))
    total = (probability + hot).sum((0, 2, 3, 4))
    return entropy + (1 - (both + 50.0) / (total + 50.0)).mean()


def normalised(hounsfield: np.ndarray) -> Tensor:
    low, high = WINDOW
    return torch.from_numpy(((np.clip(hounsfield, low, high) - low) / (high - low)).astype(np.float32))


def train(network: nn.Module, patches: TissuePatches, options: argparse.Namespace) -> None:
    """Adam with a rate that falls along a half cosine over the budget; weights are averaged over the last steps."""
    options.out.mkdir(parents=True, exist_ok=True)
    optimiser = torch.optim.AdamW(network.parameters(), options.rate, weight_decay=1e-4)
    average = {name: value.clone() for name, value in network.state_dict().items()}
    begun, step, recent = time.monotonic(), 0, []
    while True:
        passed = (time.monotonic() - begun) / 60 / options.minutes if options.minutes else 0.0
        share = max(passed, step / options.steps if options.steps else 0.0)
        if share >= 1:
            break
        for group in optimiser.param_groups:
            group["lr"] = options.rate * (0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * share)))
        drawn = [patches.sample(np.random.default_rng((options.seed, step, n))) for n in range(options.batch)]
        image = torch.stack([normalised(hounsfield)[None] for hounsfield, _ in drawn])
        labels = torch.stack([torch.from_numpy(labels.astype(np.int64)) for _, labels in drawn])
        loss = loss_of(network(image), labels)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        step += 1
        recent.append(float(loss.detach()))
        for name, value in network.state_dict().items():
            average[name] = torch.lerp(average[name], value, 0.02) if value.is_floating_point() else value.clone()
        if step % options.log_every == 0:
            entry = {"step": step, "minutes": round((time.monotonic() - begun) / 60, 2), "loss": float(np.mean(recent))}
            files.log(entry, options.out)
            recent = []
            files.save(files.halved(average), options.out / "model.pt")
    files.save(files.halved(average), options.out / "model.pt")


def main(arguments: list[str] | None = None) -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", type=data_folder, required=True, help="folder with manifest.csv")
    options.add_argument("--out", type=Path, required=True, help="folder for log and weights")
    options.add_argument("--leave-out", default="", help="JSON file or comma-separated stems never to train on")
    options.add_argument("--minutes", type=float, default=40.0, help="time budget; 0: none")
    options.add_argument("--steps", type=int, default=0, help="step budget; 0: none")
    options.add_argument("--batch", type=int, default=2)
    options.add_argument("--patch", type=int, default=40, help="side in voxels of 3 mm")
    options.add_argument("--rate", type=float, default=3e-3)
    options.add_argument("--log-every", type=int, default=20)
    options.add_argument("--start", type=Path, help="weights (model.pt) to start from instead of random ones")
    options.add_argument("--seed", type=int, default=1)
    chosen = options.parse_args(arguments)
    if not chosen.minutes and not chosen.steps:
        raise SystemExit("Give a budget: --minutes, --steps or both.")
    torch.manual_seed(chosen.seed)
    never = left_out(chosen.leave_out)
    sources, heads = load_ct(chosen.data, never), load_heads(chosen.data, never)
    print("CT: " + ", ".join(s.name for s in sources) + "; heads: " + ", ".join(h.name for h in heads), flush=True)
    network = BasicUNet(**ARGUMENTS)
    if chosen.start:
        network.load_state_dict(torch.load(chosen.start, map_location="cpu", weights_only=True))
    train(network, TissuePatches(sources, heads, chosen.patch), chosen)


if __name__ == "__main__":
    main()
