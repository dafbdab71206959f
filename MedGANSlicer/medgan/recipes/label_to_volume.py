"""Train label-to-volume: ``python -m medgan.recipes.label_to_volume --data DIR --out DIR --minutes 22``.

A generator gets the mean and the spread of the labels of a real volume (medgan.recipes.label_to_volume_data finds the
labels) and noise, and has to give the look of that volume back. Where grains of texture lie can not be known, so no
loss asks for it: the mean of two results with different noise is compared with the volume, the energy of the texture
in octaves and directions is compared locally, and a critic of patches sees result and condition (pix2pix: Isola et al.
2017, arXiv 1611.07004; hinge loss and R1 as in training.losses). Goes on from its checkpoint with the same command,
and writes ``model.pt`` in float16 and ``about.json``, the spectra of the volumes, both for medgan.recipes.bundle.
Volumes named in ``--leave-out`` are never read.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medgan.networks.critics import patch_critic
from medgan.networks.render import RenderNet, mixture
from medgan.precision import training_autocast
from medgan.recipes import files
from medgan.recipes.data import data_folder
from medgan.recipes.label_to_volume_data import Lesson, Lessons, scans, textures
from medgan.recipes.training import left_out
from medgan.settings import Adversarial
from medgan.training.losses import R1_EVERY, critic_loss, generator_loss, logits, r1_penalty

ENERGY_WEIGHT = 0.5
ADVERSARIAL_WEIGHT = 0.05
WARM_SHARE = 0.2
"""Share of the budget before the critic takes part."""

WARM_SHARE_AGAIN = 0.02
"""The same for weights that have met a critic before (``--start``)."""

R1_WEIGHT = 1.0
DECAY = 0.995
LEAST_CONTRAST = 0.02
"""Added to the local unit in what losses compare."""


class Batch:
    """Lessons side by side, each twice, with different noise. All (2 B, C, s, s, s)."""

    def __init__(self, lessons: list[Lesson], device: torch.device) -> None:
        self.image = torch.stack([lesson.image for lesson in lessons]).to(device).repeat(2, 1, 1, 1, 1)
        self.condition = torch.stack([lesson.condition for lesson in lessons]).to(device).repeat(2, 1, 1, 1, 1)
        self.style = torch.stack([lesson.style for lesson in lessons]).to(device).repeat(2, 1)
        self.texture = torch.stack([lesson.texture[n] for n in (0, 1) for lesson in lessons]).to(device)
        self.mixture, unit = mixture(self.condition, self.texture)
        self.unit = unit + LEAST_CONTRAST

    def shown(self, image: Tensor) -> Tensor:
        """(2 B, 3, s, s, s) what the critic sees: an image's distance from the means, and the condition."""
        mean, spread = self.condition.split(1, dim=1)
        return torch.cat([((image - mean) / self.unit).clamp(-6.0, 6.0), mean, spread / self.unit], dim=1)


def mean_error(made: Tensor, batch: Batch) -> Tensor:
    """Squared error of the mean over all noise, in units of the local contrast; unbiased from two results each."""
    off = ((made - batch.image) / batch.unit).clamp(-4.0, 4.0)
    one, other = off.chunk(2)
    return (one * other).mean()


def energies(image: Tensor, unit: Tensor) -> list[Tensor]:
    """Logarithm of the local energy of an image (B, 1, s, s, s) in three octaves, and of its steps along each axis."""
    found = []
    for axis in (2, 3, 4):
        length = image.shape[axis] - 1
        step = (image.narrow(axis, 1, length) - image.narrow(axis, 0, length)) / unit.narrow(axis, 0, length)
        found.append(F.avg_pool3d(step.square(), 8))
    relative = unit
    for _ in range(3):
        small = F.avg_pool3d(image, 2)
        band = (image - F.interpolate(small, scale_factor=2.0, mode="trilinear")) / relative
        found.append(F.avg_pool3d(band.square(), min(8, band.shape[-1] // 2)))
        image, relative = small, F.avg_pool3d(relative, 2)
    return [torch.log(energy + 1e-3) for energy in found]


def energy_error(made: Tensor, batch: Batch) -> Tensor:
    """Mean distance of the logarithms; 0.1 is an energy off by a tenth."""
    pairs = zip(energies(made, batch.unit), energies(batch.image, batch.unit), strict=True)
    return torch.stack([(one - other).abs().mean() for one, other in pairs]).mean()


class Trainer:
    """All that a run has to keep to go on later as if nothing had happened."""

    def __init__(self, options: argparse.Namespace, lessons: Lessons, watched: Lessons | None) -> None:
        self.options, self.lessons, self.device = options, lessons, torch.device(options.device)
        torch.manual_seed(options.seed)
        self.network = RenderNet().to(self.device)
        if options.start:
            self.network.load_state_dict(torch.load(options.start, map_location="cpu", weights_only=True))
        self.average = copy.deepcopy(self.network).eval()
        self.critic = patch_critic(3, 24, 2).to(self.device)
        self.optimiser = torch.optim.AdamW(self.network.parameters(), lr=options.rate, betas=(0.5, 0.95))
        self.critic_optimiser = torch.optim.AdamW(self.critic.parameters(), lr=4e-4, betas=(0.5, 0.95))
        self.generator = torch.Generator().manual_seed(options.seed)
        self.step, self.elapsed = 0, 0.0
        self.warm_share = WARM_SHARE_AGAIN if options.start else WARM_SHARE
        drawing = torch.Generator().manual_seed(12345)
        self.watched = [] if watched is None else [
            Batch(watched.batch(1, drawing), self.device) for _ in range(options.watched)
        ]  # fmt: skip

    def share(self) -> float:
        """Share of the budget that is spent, 0 to 1: the larger of time and steps."""
        by_time = self.elapsed / (60.0 * self.options.minutes) if self.options.minutes else 0.0
        return max(by_time, self.step / self.options.steps if self.options.steps else 0.0)

    def train(self) -> None:
        """Run until the budget is spent, saving every few minutes."""
        saved, sums = time.monotonic(), {}  # type: ignore[var-annotated]
        while self.share() < 1.0:
            begun = time.monotonic()
            for group in self.optimiser.param_groups:
                warm = min(1.0, (self.step + 1) / 50)
                group["lr"] = self.options.rate * warm * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * self.share())))
            batch = Batch(self.lessons.batch(self.options.batch, self.generator), self.device)
            for name, value in self.update(batch).items():
                sums[name] = sums.get(name, 0.0) + value / self.options.log_every
            self.step += 1
            self.elapsed += time.monotonic() - begun
            if self.step % self.options.log_every == 0:
                files.log({"step": self.step, "share": self.share(), "seconds": self.elapsed, **sums}, self.options.out)
                sums = {}
            if time.monotonic() - saved > 60.0 * self.options.save_minutes:
                self.save()
                saved = time.monotonic()
        self.save()

    def update(self, batch: Batch) -> dict[str, float]:
        """One step of the critic, when it takes part, and one of the generator."""
        plays = self.share() >= self.warm_share
        with training_autocast(self.device):
            made = self.network(batch.condition, batch.texture, batch.style).float()
        found = {"mean": mean_error(made, batch), "energy": energy_error(made, batch)}
        loss = found["mean"] + ENERGY_WEIGHT * found["energy"]
        if plays:
            found["critic"] = self.judge(batch, made.detach())
            self.critic.requires_grad_(False)
            found["adversarial"] = generator_loss(Adversarial.HINGE, self.opinion(batch.shown(made)))
            self.critic.requires_grad_(True)
            grown = min(1.0, (self.share() - self.warm_share) / 0.1)
            loss = loss + grown * self.options.adversarial_weight * found["adversarial"]
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        if torch.isfinite(nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)):
            self.optimiser.step()
        with torch.no_grad():
            decay = min(DECAY, (1 + self.step) / (10 + self.step))
            for kept, new in zip(self.average.parameters(), self.network.parameters(), strict=True):
                kept.lerp_(new, 1.0 - decay)
        return {name: float(value.detach()) for name, value in found.items()}

    def opinion(self, shown: Tensor) -> Tensor:
        """What the critic says of its patches, float32."""
        with training_autocast(self.device):
            return logits(self.critic(shown))

    def judge(self, batch: Batch, made: Tensor) -> Tensor:
        """A step of the critic on half of the batch: each volume is there twice."""
        half = len(batch.image) // 2
        real, fake = batch.shown(batch.image)[:half], batch.shown(made)[:half]
        loss = critic_loss(Adversarial.HINGE, self.opinion(real), self.opinion(fake))
        total = loss
        if self.step % R1_EVERY == 0:
            total = loss + R1_EVERY * R1_WEIGHT * r1_penalty(self.critic, real) / real[0, 0].numel()
        self.critic_optimiser.zero_grad(set_to_none=True)
        total.backward()
        nn.utils.clip_grad_norm_(self.critic.parameters(), 1.0)
        self.critic_optimiser.step()
        return loss.detach()

    @torch.no_grad()
    def seen(self) -> dict[str, float]:
        """Errors on volumes that are only watched, of the generator and of the mixture that it started as."""
        found: dict[str, float] = {}
        for batch in self.watched:
            made = {"": self.average(batch.condition, batch.texture, batch.style), "_mixture": batch.mixture}
            for name, image in made.items():
                for key, error in (("mean", mean_error), ("energy", energy_error)):
                    found[key + name] = found.get(key + name, 0.0) + float(error(image, batch)) / len(self.watched)
        return found

    def save(self) -> None:
        state: dict[str, Any] = {
            "network": self.network.state_dict(), "average": self.average.state_dict(),
            "critic": self.critic.state_dict(), "optimiser": self.optimiser.state_dict(),
            "critic_optimiser": self.critic_optimiser.state_dict(), "random": self.generator.get_state(),
            "step": self.step, "elapsed": self.elapsed,
        }  # fmt: skip
        files.save(state, self.options.out / "checkpoint.pt")
        files.save(files.halved(self.average.state_dict()), self.options.out / "model.pt")
        if self.watched:
            files.log({"step": self.step, "watched": json.dumps(self.seen())}, self.options.out)

    def resume(self) -> None:
        """Go on from the checkpoint in the output folder, if there is one."""
        path = self.options.out / "checkpoint.pt"
        if not path.exists():
            return
        state = torch.load(path, map_location=self.device, weights_only=True)
        for name in ("network", "average", "critic", "optimiser", "critic_optimiser"):
            getattr(self, name).load_state_dict(state[name])
        self.generator.set_state(state["random"].cpu())
        self.step, self.elapsed = state["step"], state["elapsed"]
        print(f"going on from step {self.step}", flush=True)


def main(arguments: list[str] | None = None) -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", type=data_folder, required=True, help="folder with manifest.csv")
    options.add_argument("--out", type=Path, required=True, help="folder for label maps, checkpoint, log and weights")
    options.add_argument("--leave-out", default="", help="JSON file or comma-separated stems never to train on")
    options.add_argument("--watch", default="", help="comma-separated stems to measure on but never to train on")
    options.add_argument("--watched", type=int, default=12, help="cubes to measure on")
    options.add_argument("--minutes", type=float, default=22.0, help="time budget; 0: none")
    options.add_argument("--steps", type=int, default=0, help="step budget; 0: none")
    options.add_argument("--batch", type=int, default=2, help="cubes a step, each with two noises")
    options.add_argument("--side", type=int, default=40, help="side of a cube in voxels, a multiple of 8")
    options.add_argument("--rate", type=float, default=1e-3, help="learning rate of the generator")
    options.add_argument("--adversarial-weight", type=float, default=ADVERSARIAL_WEIGHT)
    options.add_argument("--save-minutes", type=float, default=4.0)
    options.add_argument("--log-every", type=int, default=20)
    options.add_argument("--start", type=Path, help="weights (model.pt) to start from instead of random ones")
    options.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options.add_argument("--seed", type=int, default=1)
    chosen = options.parse_args(arguments)
    if not chosen.minutes and not chosen.steps:
        raise SystemExit("Give a budget: --minutes, --steps or both.")
    chosen.out.mkdir(parents=True, exist_ok=True)
    watched = {stem for stem in chosen.watch.split(",") if stem}
    held = scans(chosen.data, left_out(chosen.leave_out) | watched, chosen.out / "scans")
    kept = scans(chosen.data, set(), chosen.out / "scans", watched) if watched else []
    print(f"{len(held)} volumes: " + ", ".join(entry.name for entry in held), flush=True)
    about = json.dumps({"textures": textures(held)}, indent=2) + "\n"
    (chosen.out / "about.json").write_text(about, encoding="utf-8")
    trainer = Trainer(chosen, Lessons(held, chosen.side), Lessons(kept, chosen.side) if kept else None)
    trainer.resume()
    trainer.train()


if __name__ == "__main__":
    main()
