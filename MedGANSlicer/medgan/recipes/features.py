"""Train the feature network: ``python -m medgan.recipes.features --data DIR --out DIR --minutes 20``.

Crops of real volumes and of images made from label maps are blurred, sliced thickly and made noisy. From its 128
features alone the network has to tell, each by one linear layer: the kind of image (contrast and part of the body),
how strong noise, blur and slices are and along which axis, and, where a label map is known, what the crop holds. So
the features can leave out neither anatomy nor quality.

Stops when the time or the steps are spent, goes on from its checkpoint with the same command, and writes
``model.pt`` in float16. Volumes named in ``--leave-out`` are never read.
"""

from __future__ import annotations

import argparse
import itertools
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medgan.degradation import NoiseKind, choose, gaussian_blur, image_from_labels, kind_of, pick, uniform
from medgan.networks.features import FEATURES, FeatureNet
from medgan.recipes import files
from medgan.recipes.data import (
    SYNTHETIC_SIDE,
    Source,
    add_noise,
    cut,
    data_folder,
    load_label_maps,
    load_sources,
    read_manifest,
)
from medgan.recipes.training import left_out

SIDE = 32
"""Side of a crop in voxels."""

SHARES = {"MR": 0.4, "CT": 0.25, "PET": 0.1, "synthetic": 0.25}
"""How often a crop comes from each kind of volume."""

NOISE = {"MR": NoiseKind.RICIAN, "CT": NoiseKind.GAUSSIAN, "PET": NoiseKind.POISSON, "synthetic": NoiseKind.RICIAN}
LOWEST_NOISE, HIGHEST_NOISE = 0.003, 0.15
RATIOS = (1.5, 2.0, 3.0, 4.0, 6.0)
ORDERS = tuple(itertools.permutations(range(3)))

TISSUES: dict[str, tuple[int, ...]] = {
    "white matter": (2, 41, 7, 46),
    "cortex": (3, 42),
    "cerebellum": (8, 47),
    "deep grey matter": (10, 11, 12, 13, 17, 18, 26, 28, 49, 50, 51, 52, 53, 54, 58, 60),
    "fluid": (4, 5, 14, 15, 24, 43, 44),
    "brain stem": (16,),
}
"""FreeSurfer codes of the parts whose shares in a crop are asked for; then background and all the rest."""


@dataclass
class Crop:
    """One training crop (s, s, s) with what the network has to tell; -1 and NaN where it is not known."""

    image: Tensor
    group: int
    noise: float
    blur: float
    slices: float
    axis: int
    tissues: Tensor


def group_of(modality: str) -> str:
    """Contrast and part of the body, from the modality column of the manifest."""
    text, kind = modality.upper(), kind_of(modality)
    contrast = next((name for name in ("FLAIR", "T2", "T1") if name in text), "") if kind == "MR" else ""
    part = next((name for name in ("chest", "torso", "abdomen", "extremity") if name.upper() in text), "head")
    return " ".join(filter(None, (kind, contrast, part)))


class Crops:
    """Endless crops, the same ones for the same generator state."""

    def __init__(self, sources: list[Source], groups: dict[str, str], maps: list[np.ndarray]) -> None:
        self.names = sorted({*groups.values(), "synthetic"})
        self.group = {source.name: groups[source.name.removesuffix(" averaged")] for source in sources}
        self.by_kind = {kind: [source for source in sources if source.kind == kind] for kind in SHARES}
        self.maps, self.synthesised = maps, 0
        self.held: list[tuple[Tensor, Tensor]] = []

    def synthesise(self, count: int, keep: int, seed: int) -> None:
        """Have the synthesised volumes ``count - keep`` to ``count - 1`` at hand; each follows from its number."""
        for number in range(max(self.synthesised, count - keep), count if self.maps else 0):
            generator = torch.Generator().manual_seed(seed * 1_000_003 + number)
            labels = self.maps[pick(len(self.maps), generator)]
            start = [pick(max(1, side - SYNTHETIC_SIDE), generator) for side in labels.shape]
            box = tuple(slice(first, first + SYNTHETIC_SIDE) for first in start)
            part = torch.from_numpy(labels[box].astype(np.int64))
            self.held.append((image_from_labels(part, generator), part))
            self.synthesised = number + 1
        del self.held[:-keep]

    def crop(self, generator: torch.Generator) -> Crop:
        """One crop with random contrast, degradations and order of axes."""
        kinds = [kind for kind in SHARES if self.by_kind[kind] or (kind == "synthetic" and self.held)]
        kind = choose([(kind, SHARES[kind]) for kind in kinds], generator)
        tissues, own = torch.full((len(TISSUES) + 2,), math.nan), 0.0
        if kind == "synthetic":
            image, labels = self.held[pick(len(self.held), generator)]
            start = [pick(max(1, side - SIDE + 1), generator) for side in image.shape]
            box = tuple(slice(first, first + SIDE) for first in start)
            clean, group, tissues = image[box], "synthetic", shares(labels[box])
        else:
            source = self.by_kind[kind][pick(len(self.by_kind[kind]), generator)]
            clean, group, own = cut(source.array, [SIDE] * 3, generator), self.group[source.name], source.sigma
        gain = uniform(0.8, 1.2, generator)
        clean = gain * clean.clamp(0.0, 1.5) ** math.exp(uniform(-0.15, 0.15, generator))
        image, added, blur, slices, axis = degraded(clean, NOISE[kind], generator)
        order = pick(len(ORDERS), generator)
        noise = math.log(max(math.hypot(added, gain * own), LOWEST_NOISE) / LOWEST_NOISE)
        axis = ORDERS[order].index(axis) if axis < 3 else 3
        return Crop(image.permute(ORDERS[order]), self.names.index(group), noise, blur, slices, axis, tissues)


def degraded(clean: Tensor, kind: NoiseKind, generator: torch.Generator) -> tuple[Tensor, float, float, float, int]:
    """A crop as a worse scan would show it; sigma of the noise, sigma of the blur in voxels, log2 of the ratio of thick
    slices, and their axis (3: none)."""
    image, added, blur, slices, axis = clean, 0.0, 0.0, 0.0, 3
    if uniform(0, 1, generator) < 0.5:
        blur = uniform(0.3, 2.5, generator)
        image = gaussian_blur(image, [blur] * 3)
    if uniform(0, 1, generator) < 0.4:
        axis, ratio = pick(3, generator), RATIOS[pick(len(RATIOS), generator)]
        image, slices = resliced(image, axis, ratio), math.log2(ratio)
    if uniform(0, 1, generator) < 0.75:
        added = math.exp(uniform(math.log(LOWEST_NOISE), math.log(HIGHEST_NOISE), generator))
        image = add_noise(image, kind, added, generator)[0]
    return image, added, blur, slices, axis


def resliced(image: Tensor, axis: int, ratio: float) -> Tensor:
    """Thick slices along an axis, interpolated to the old grid."""
    size = list(image.shape)
    size[axis] = max(1, round(size[axis] / ratio))
    thick = F.interpolate(image[None, None], size=size, mode="area")
    return F.interpolate(thick, size=tuple(image.shape), mode="trilinear", align_corners=False)[0, 0]


def shares(labels: Tensor) -> Tensor:
    """Share of the crop that is background, each of ``TISSUES``, and anything else."""
    found = [torch.isin(labels, torch.tensor(codes)).float().mean() for codes in TISSUES.values()]
    background = (labels == 0).float().mean()
    return torch.stack([background, *found, 1.0 - background - sum(found)])


class Pretext(nn.Module):
    """The feature network and one linear layer for each question."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.features = FeatureNet()
        sizes = {"group": groups, "levels": 3, "axis": 4, "tissues": len(TISSUES) + 2}
        self.heads = nn.ModuleDict({name: nn.Linear(FEATURES, size) for name, size in sizes.items()})

    def losses(self, crops: list[Crop]) -> dict[str, Tensor]:
        """What is still wrong in the answers, by question."""
        features = self.features(torch.stack([crop.image for crop in crops])[:, None])
        said = {name: head(features) for name, head in self.heads.items()}
        levels = torch.tensor([[crop.noise, crop.blur, crop.slices] for crop in crops])
        off = F.smooth_l1_loss(said["levels"], levels, reduction="none", beta=0.25).mean(dim=0)
        found = {"noise": off[0], "blur": off[1], "slices": off[2]}
        for name in ("group", "axis"):
            right = torch.tensor([getattr(crop, name) for crop in crops])
            found[name] = F.cross_entropy(said[name], right)
        tissues = torch.stack([crop.tissues for crop in crops])
        known = ~tissues[:, 0].isnan()
        if bool(known.any()):
            found["tissues"] = F.cross_entropy(said["tissues"][known], tissues[known])
        return found


WEIGHTS = {"group": 0.5, "noise": 1.0, "blur": 1.0, "slices": 1.0, "axis": 0.3, "tissues": 0.4}


class Trainer:
    """All that a run has to keep to go on later as if nothing had happened."""

    def __init__(self, options: argparse.Namespace, crops: Crops) -> None:
        self.options, self.crops = options, crops
        torch.manual_seed(options.seed)
        self.network = Pretext(len(crops.names))
        self.optimiser = torch.optim.AdamW(self.network.parameters(), lr=options.rate, weight_decay=1e-3)
        self.generator = torch.Generator().manual_seed(options.seed)
        self.step, self.elapsed = 0, 0.0

    def share(self) -> float:
        """Share of the budget that is spent, 0 to 1: the larger of time and steps."""
        by_time = self.elapsed / (60.0 * self.options.minutes) if self.options.minutes else 0.0
        return max(by_time, self.step / self.options.steps if self.options.steps else 0.0)

    def train(self) -> None:
        """Run until the budget is spent, saving every few minutes; then fix the unit of the features and save."""
        saved, sums = time.monotonic(), {}  # type: ignore[var-annotated]
        while self.share() < 1.0:
            begun = time.monotonic()
            keep = self.options.synthetic
            self.crops.synthesise(keep + self.step // 40, keep, self.options.seed)
            batch = [self.crops.crop(self.generator) for _ in range(self.options.batch)]
            warm = min(1.0, (self.step + 1) / 100)
            for group in self.optimiser.param_groups:
                group["lr"] = self.options.rate * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * self.share())))
            losses = self.network.losses(batch)
            self.optimiser.zero_grad(set_to_none=True)
            sum((WEIGHTS[name] * loss for name, loss in losses.items()), torch.zeros(())).backward()
            nn.utils.clip_grad_norm_(self.network.parameters(), 2.0)
            self.optimiser.step()
            self.step += 1
            self.elapsed += time.monotonic() - begun
            for name, loss in losses.items():
                sums[name] = sums.get(name, 0.0) + float(loss.detach()) / self.options.log_every
            if self.step % self.options.log_every == 0:
                self.log({"step": self.step, "share": self.share(), "seconds": self.elapsed, **sums})
                sums = {}
            if time.monotonic() - saved > 60.0 * self.options.save_minutes:
                self.save()
                saved = time.monotonic()
        self.save()
        write_weights(self.network.features, self.crops, self.options)

    def log(self, entry: dict[str, Any]) -> None:
        files.log(entry, self.options.out)

    def save(self) -> None:
        state = {"network": self.network.state_dict(), "optimiser": self.optimiser.state_dict(), "step": self.step}
        state |= {"elapsed": self.elapsed, "random": self.generator.get_state()}
        files.save(state, self.options.out / "checkpoint.pt")

    def resume(self) -> None:
        """Go on from the checkpoint in the output folder, if there is one."""
        path = self.options.out / "checkpoint.pt"
        if not path.exists():
            return
        state = torch.load(path, map_location="cpu", weights_only=True)
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.generator.set_state(state["random"])
        self.step, self.elapsed = state["step"], state["elapsed"]
        print(f"going on from step {self.step}", flush=True)


@torch.no_grad()
def write_weights(network: FeatureNet, crops: Crops, options: argparse.Namespace) -> None:
    """``model.pt`` in float16, its features brought to mean 0 and standard deviation 1 over degraded crops."""
    generator = torch.Generator().manual_seed(options.seed + 1)
    network.eval()
    network.shift.zero_()
    network.scale.fill_(1.0)
    batches = [torch.stack([crops.crop(generator).image for _ in range(32)])[:, None] for _ in range(options.unit)]
    found = torch.cat([network(batch) for batch in batches])
    network.shift.copy_(found.mean(dim=0))
    network.scale.copy_(found.std(dim=0).clamp_min(1e-3))
    files.save(files.halved(network.state_dict()), options.out / "model.pt")


def main(arguments: list[str] | None = None) -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", type=data_folder, required=True, help="folder with manifest.csv")
    options.add_argument("--out", type=Path, required=True, help="folder for checkpoint, log and weights")
    options.add_argument("--leave-out", default="", help="JSON file or comma-separated stems never to train on")
    options.add_argument("--minutes", type=float, default=20.0, help="time budget; 0: none")
    options.add_argument("--steps", type=int, default=0, help="step budget; 0: none")
    options.add_argument("--batch", type=int, default=12)
    options.add_argument("--rate", type=float, default=2e-3, help="learning rate")
    options.add_argument("--synthetic", type=int, default=8, help="synthesised volumes kept at a time")
    options.add_argument("--unit", type=int, default=12, help="batches of 32 crops that fix the unit of the features")
    options.add_argument("--save-minutes", type=float, default=4.0)
    options.add_argument("--log-every", type=int, default=20)
    options.add_argument("--seed", type=int, default=1)
    chosen = options.parse_args(arguments)
    if not chosen.minutes and not chosen.steps:
        raise SystemExit("Give a budget: --minutes, --steps or both.")
    chosen.out.mkdir(parents=True, exist_ok=True)
    manifest = chosen.data / "manifest.csv"
    never = left_out(chosen.leave_out)
    sources = load_sources(manifest, never)
    groups = {
        Path(row["file"]).name.removesuffix(".nii.gz"): group_of(row["modality"]) for row in read_manifest(manifest)
    }
    groups = {source.name: groups[source.name] for source in sources if source.name in groups}
    crops = Crops(sources, groups, load_label_maps(manifest, never))
    print(f"{len(sources)} volumes in the groups {', '.join(crops.names)}", flush=True)
    trainer = Trainer(chosen, crops)
    trainer.resume()
    trainer.train()


if __name__ == "__main__":
    main()
