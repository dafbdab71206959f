"""Train the network that names the parts of a head: ``python -m medgan.recipes.parts --data DIR --out DIR``.

No scan is needed: scans are made on the fly from the label maps of the data folder, with random shapes, contrasts
and slice thicknesses, more than half of them with wider or narrower ventricles (medgan.generation). In the last share
of the training a critic that sees scan and answer is played against (SegAN: Xue et al., Neuroinformatics 16:383,
2018: features of the critic, at several scales, of the answer and of the truth are to agree). Seeded; can be stopped
and started again at any moment with the same command.
Label maps named in ``--leave-out`` are only looked at to check. ``python -m medgan.recipes.atlas`` adds the atlas to
the weights.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from medgan.degradation import uniform
from medgan.generation import (
    Ranges,
    at_places,
    mirrored_codes,
    random_places,
    random_swelling,
    rendered,
    swollen,
)
from medgan.networks.parts import VIEW, PartsNet, split
from medgan.parts import STRUCTURES, classes_of_codes
from medgan.precision import training_autocast
from medgan.recipes import files
from medgan.recipes.data import data_folder, read_manifest
from medgan.volume import read_volume

LEFT_OUT = "synthseg_17,synthseg_18,synthseg_19,synthseg_20"

SWOLLEN_SHARE = 0.6
"""Few of the heads have large ventricles; so many lessons get ventricles that are wider or narrower than theirs."""

BRAIN = [code for code, (index, _side) in classes_of_codes().items() if 0 < index < len(STRUCTURES) - 3]


@dataclass
class Head:
    """FreeSurfer codes (D, H, W) with the axes S, A, R, and the voxel in the middle of the brain."""

    codes: Tensor
    middle: tuple[float, float, float]
    name: str


@dataclass
class Lesson:
    """A scan (1, 1, D, H, W) and what it shows: structure (D, H, W) and side (0 left, 1 right, -1 neither)."""

    image: Tensor
    structure: Tensor
    side: Tensor


class Codes:
    """FreeSurfer codes as structures and sides. Codes that are not known count as background."""

    def __init__(self, device: torch.device) -> None:
        self.structure = torch.zeros(4096, dtype=torch.long, device=device)
        self.side = torch.full((4096,), -1, dtype=torch.long, device=device)
        for code, (index, side) in classes_of_codes().items():
            self.structure[code], self.side[code] = index, side

    def of(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        return self.structure[codes], self.side[codes]


def load_heads(manifest: Path, wanted: set[str] | None = None, left_out: set[str] | None = None) -> list[Head]:
    """The whole-head label maps of a data folder: those that are wanted, or all that are not left out."""
    heads = []
    for row in read_manifest(manifest):
        name = Path(row["file"]).name.removesuffix(".nii.gz")
        if not row["modality"].startswith("label map (FreeSurfer"):
            continue
        if name in (left_out or ()) or (wanted is not None and name not in wanted):
            continue
        volume = read_volume(manifest.parent / row["file"])
        codes = in_ras_order(volume.array, volume.ijk_to_ras).astype(np.int16)
        box = tuple(slice(int(where.min()), int(where.max()) + 1) for where in np.nonzero(codes))
        codes = np.ascontiguousarray(codes[box])
        middle = tuple(float(np.ptp(where) / 2 + where.min()) for where in np.nonzero(np.isin(codes, BRAIN)))
        heads.append(Head(torch.from_numpy(codes), middle, name))  # type: ignore[arg-type]
    return heads


def in_ras_order(array: np.ndarray, ijk_to_ras: np.ndarray) -> np.ndarray:
    """A view of an array [k, j, i] with the axes S, A, R: turned by right angles and mirrored, nothing interpolated."""
    direction = ijk_to_ras[:3, :3] / np.linalg.norm(ijk_to_ras[:3, :3], axis=0)
    axis_of = [int(np.argmax(np.abs(direction[row]))) for row in range(3)]  # voxel axis along R, A, S
    turned = array.transpose([2 - axis_of[row] for row in (2, 1, 0)])
    flips = tuple(slice(None, None, -1 if direction[row, axis_of[row]] < 0 else 1) for row in (2, 1, 0))
    return turned[flips]


def lesson(
    head: Head, shape: Sequence[int], step: float, codes: Codes, generator: torch.Generator, ranges: Ranges
) -> Lesson:
    """A random scan of a randomly bent head, sometimes without skull."""
    places, mirrored = random_places(shape, head.middle, step, generator, ranges)
    codes_there = head.codes.to(generator.device)
    found = at_places(codes_there, places).round().long()
    if uniform(0.0, 1.0, generator) < ranges.swollen_share:
        swelling, reach_mm = random_swelling(generator), uniform(5.0, 10.0, generator)
        found = at_places(codes_there, swollen(places, found, swelling, reach_mm, step)).round().long()
    if mirrored:
        found = mirrored_codes(found)
    if uniform(0.0, 1.0, generator) < ranges.stripped_share:
        found = torch.where(found >= 500, 0, found)
        if uniform(0.0, 1.0, generator) < 0.5:
            found = torch.where(found == 24, 0, found)
    image = rendered(found, step, generator, ranges)
    structure, side = codes.of(found)
    return Lesson(image[None, None], structure, side)


def dice_and_entropy(answer: Tensor, structure: Tensor, side: Tensor) -> tuple[Tensor, Tensor]:
    """Loss of an answer (1, S + 1, D, H, W), and the soft Dice (S,) of each structure (NaN where there is none)."""
    structures, sides = split(answer)
    flat = structures[0].flatten(1)
    target = structure.flatten()
    log_p = F.log_softmax(flat, 0)
    p = log_p.exp()
    hit = p.gather(0, target[None])[0]
    count = torch.bincount(target, minlength=len(flat)).to(p)
    inside = torch.zeros_like(count).index_add(0, target, hit)
    dice = 2.0 * inside / (p.sum(1) + count).clamp_min(1.0)
    present = count > 0
    entropy = -log_p.gather(0, target[None])[0].mean()
    lateral = side.flatten() >= 0
    wrong_side = F.binary_cross_entropy_with_logits(sides.flatten()[lateral], side.flatten()[lateral].to(p))
    wrong_side = wrong_side if bool(lateral.any()) else sides.sum() * 0.0
    loss = (1.0 - dice[present]).mean() + entropy + 0.5 * wrong_side
    return loss, torch.where(present, dice.detach(), torch.nan)


class Critic(nn.Module):
    """Features of a scan and an answer (B, 1 + S, D, H, W) at three scales."""

    def __init__(self, structures: int) -> None:
        super().__init__()
        sides = (structures + 1, 16, 32, 64)
        self.layers = nn.ModuleList(
            spectral_norm(nn.Conv3d(one, other, 4, stride=2, padding=1)) for one, other in itertools.pairwise(sides)
        )

    def forward(self, image: Tensor, answer: Tensor) -> list[Tensor]:
        x, found = torch.cat([image, answer], 1), []
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.2)
            found.append(x)
        return found


def distance(one: list[Tensor], other: list[Tensor]) -> Tensor:
    """Mean absolute difference of features, all scales alike."""
    return torch.stack([F.l1_loss(a, b) for a, b in zip(one, other, strict=True)]).mean()


class Trainer:
    """All that a run has to keep to go on later as if nothing had happened."""

    def __init__(self, options: argparse.Namespace, heads: list[Head], checks: list[Head]) -> None:
        self.options, self.heads, self.checks = options, heads, checks
        self.device = torch.device(options.device)
        self.codes = Codes(self.device)
        self.ranges = Ranges(swollen_share=SWOLLEN_SHARE)
        torch.manual_seed(options.seed)
        self.network = PartsNet([structure.lateral for structure in STRUCTURES]).to(self.device)
        if options.start:
            held = torch.load(options.start, map_location=self.device, weights_only=True)
            missing, strange = self.network.load_state_dict({n: t.float() for n, t in held.items()}, strict=False)
            if strange or set(missing) - {"atlas.left"}:
                raise SystemExit(f"{options.start} does not hold weights of this network.")
        self.average = copy.deepcopy(self.network).requires_grad_(False)
        self.critic = Critic(len(STRUCTURES)).to(self.device)
        self.optimiser = torch.optim.AdamW(self.network.rough.parameters(), options.rate, weight_decay=1e-4)
        self.critic_optimiser = torch.optim.Adam(self.critic.parameters(), 4e-4, betas=(0.5, 0.9))
        self.generator = torch.Generator(self.device).manual_seed(options.seed)
        self.step, self.elapsed = 0, 0.0

    def train(self) -> None:
        saved = time.monotonic()
        sums: list[dict[str, float]] = []
        while (share := self.share()) < 1.0:
            begun = time.monotonic()
            sums.append(self.learn(share))
            self.step += 1
            self.elapsed += time.monotonic() - begun
            if self.step % self.options.log_every == 0:
                names = sorted({name for entry in sums for name in entry})
                mean = {name: float(np.nanmean([entry.get(name, np.nan) for entry in sums])) for name in names}
                self.log({"step": self.step, "share": share, **mean})
                sums = []
            if time.monotonic() - saved > 60.0 * self.options.save_minutes:
                self.save()
                self.log({"step": self.step, "held_out_dice": self.check()})
                saved = time.monotonic()
        self.save()

    def share(self) -> float:
        """Share of the budget that is spent, 0 to 1: the larger of time and steps; 1 where there is none."""
        minutes, steps = self.options.minutes, self.options.steps
        by_time = self.elapsed / (60.0 * minutes) if minutes else 0.0
        by_steps = self.step / steps if steps else 0.0
        return max(by_time, by_steps) if minutes or steps else 1.0

    def head(self) -> Head:
        return self.heads[int(torch.randint(len(self.heads), (), generator=self.generator, device=self.device))]

    def learn(self, share: float) -> dict[str, float]:
        """One step on one random scan of a random head; what is to be logged."""
        self._rate(share)
        held = lesson(self.head(), VIEW, 2.0, self.codes, self.generator, self.ranges)
        with training_autocast(self.device):
            answer = self.network.rough(held.image)
        answer = answer.float()
        loss, dice = dice_and_entropy(answer, held.structure, held.side)
        values = {"loss": float(loss.detach()), "dice": float(torch.nanmean(dice[1:]))}
        against = self.options.critic_weight > 0 and share >= 1.0 - self.options.critic_share
        if against:
            critic, optimiser = self.critic, self.critic_optimiser
            truth = F.one_hot(held.structure, len(STRUCTURES)).permute(3, 0, 1, 2)[None].to(answer)
            said = torch.softmax(split(answer).structures, 1)
            critic.requires_grad_(True)
            apart = distance(critic(held.image, said.detach()), critic(held.image, truth))
            optimiser.zero_grad(set_to_none=True)
            (-apart).backward()
            optimiser.step()
            critic.requires_grad_(False)
            with torch.no_grad():
                wanted = critic(held.image, truth)
            # In units of what the critic sees at all, so that its scale does not matter.
            size = torch.stack([feature.abs().mean() for feature in wanted]).mean()
            near = distance(critic(held.image, said), wanted) / size.clamp_min(1e-6)
            loss = loss + self.options.critic_weight * near
            values |= {"critic": float(apart.detach()), "near": float(near.detach())}
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        if torch.isfinite(norm):
            self.optimiser.step()
        decay = min(0.998, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for kept, new in zip(self.average.parameters(), self.network.parameters(), strict=True):
                kept.lerp_(new, 1.0 - decay)
        return values

    def _rate(self, share: float) -> None:
        warm = min(1.0, (self.step + 1) / 50)
        for group in self.optimiser.param_groups:
            group["lr"] = self.options.rate * warm * (0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * min(1.0, share))))

    @torch.no_grad()
    def check(self) -> float:
        """Mean Dice of the structures of the brain over fixed scans of the left-out heads, without the atlas."""
        found = []
        for number, head in enumerate(self.checks):
            generator = torch.Generator(self.device).manual_seed(1000 + number)
            held = lesson(head, VIEW, 2.0, self.codes, generator, self.ranges)
            answer = self.average.rough(held.image)
            best = split(answer).structures[0].argmax(0)
            for index in range(1, len(STRUCTURES) - 3):
                one, other = best == index, held.structure == index
                if bool(other.any()):
                    found.append(2.0 * float((one & other).sum()) / float(one.sum() + other.sum()))
        return float(np.mean(found)) if found else math.nan

    def log(self, entry: dict[str, Any]) -> None:
        files.log(entry, self.options.out)

    def save(self) -> None:
        """Checkpoint under a temporary name, then the name it keeps; beside it the averaged weights in float16."""
        state = {
            "network": self.network.state_dict(), "average": self.average.state_dict(),
            "critic": self.critic.state_dict(), "random": self.generator.get_state().cpu(), "step": self.step,
            "optimiser": self.optimiser.state_dict(), "critic_optimiser": self.critic_optimiser.state_dict(),
            "elapsed": self.elapsed,
        }  # fmt: skip
        files.save(state, self.options.out / "checkpoint.pt")
        files.save(files.halved(self.average.state_dict()), self.options.out / "model.pt")

    def resume(self) -> None:
        path = self.options.out / "checkpoint.pt"
        if not path.exists():
            return
        state = torch.load(path, map_location=self.device, weights_only=True)
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.critic.load_state_dict(state["critic"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.critic_optimiser.load_state_dict(state["critic_optimiser"])
        self.generator.set_state(state["random"].cpu())
        self.step, self.elapsed = state["step"], state["elapsed"]
        print(f"going on from step {self.step}", flush=True)


def main(arguments: list[str] | None = None) -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", type=data_folder, required=True, help="folder with manifest.csv")
    options.add_argument("--out", type=Path, required=True, help="folder for checkpoint, log and weights")
    options.add_argument("--leave-out", default=LEFT_OUT, help="comma-separated stems never to train on")
    options.add_argument("--minutes", type=float, default=90.0, help="time budget; 0: none")
    options.add_argument("--steps", type=int, default=0, help="step budget; 0: none")
    options.add_argument("--rate", type=float, default=2e-3)
    options.add_argument("--critic-weight", type=float, default=0.1, help="0: no adversarial term")
    options.add_argument("--critic-share", type=float, default=0.3, help="last share, against the critic")
    options.add_argument("--save-minutes", type=float, default=5.0)
    options.add_argument("--log-every", type=int, default=25)
    options.add_argument("--start", type=Path, help="weights (model.pt) to start from")
    options.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options.add_argument("--seed", type=int, default=1)
    held = options.parse_args(arguments)
    held.out.mkdir(parents=True, exist_ok=True)
    left_out = {stem for stem in held.leave_out.split(",") if stem}
    manifest = held.data / "manifest.csv"
    heads = load_heads(manifest, left_out=left_out)
    if not heads:
        raise SystemExit(f"{manifest} names no whole-head label map that is not left out.")
    print(f"{len(heads)} label maps: " + ", ".join(head.name for head in heads), flush=True)
    trainer = Trainer(held, heads, load_heads(manifest, wanted=left_out))
    trainer.resume()
    trainer.train()


if __name__ == "__main__":
    main()
