"""A training small enough for tests, as a module and as a program: ``python tiny_training.py FOLDER '{"steps": 20}'``.

The kind learns to halve an image (8 x 8 x 8), with a critic; the samples are random. Both stand in for the real ones,
which have their own tests.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import torch
from torch import nn

from medgan.settings import TrainSettings
from medgan.training.kinds.base import Exported, Kind, middle_slice, plain_state
from medgan.training.loop import train
from medgan.training.losses import Adversarial, spectrally_normalised


class HalfKind(Kind):
    """Pairs of an image and its half; the generator is two convolutions with dropout between if asked for."""

    def __init__(self, settings: TrainSettings, dropout: float = 0.0, with_critic: bool = True) -> None:
        super().__init__()
        torch.manual_seed(settings.seed)
        self.generator = nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.Dropout(dropout), nn.Conv3d(4, 1, 1))
        self.critic = (
            nn.Sequential(nn.Conv3d(1, 4, 3, 2), nn.LeakyReLU(0.2), nn.Conv3d(4, 1, 2)) if with_critic else None
        )
        if self.critic is not None and settings.spectral_norm:
            spectrally_normalised(self.critic)
        self.adversary = Adversarial(settings)
        self.begun_from: dict[str, torch.Tensor] = {}

    def draw(self, sample, rng):
        return {**sample, "mix": torch.rand((), generator=rng)}

    def critic_loss(self, batch):
        with torch.no_grad():
            fake = self.generator(batch["input"])
        return self.adversary.critic(self.critic, batch["target"], fake, batch["mix"])

    def generator_loss(self, batch, adversarial):
        result = self.generator(batch["input"])
        error = (result - batch["target"]).square().mean()
        loss = error
        if adversarial and self.critic is not None:
            loss = loss + 0.01 * adversarial * self.adversary.generator(self.critic(result))
        return {"loss": loss, "error": error}

    def adversarial_begins(self, average):
        self.begun_from = plain_state(average)

    def validate(self, generator, batches):
        errors = [float((generator(batch["input"]) - batch["target"]).square().mean()) for batch in batches]
        error = sum(errors) / len(errors)
        return {"error": error, "similarity": -error, "score": -error}

    def pictures(self, generator, batch):
        result = generator(batch["input"])
        names = {"input": batch["input"], "result": result, "target": batch["target"]}
        return {name: middle_slice(tensor[0]) for name, tensor in names.items()}

    def export(self, average):
        return Exported("enhance", "none", {}, {})


class RandomPairs:
    """Random images and their halves; ``seconds``: how long a sample takes."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds

    def sample(self, rng):
        time.sleep(self.seconds)
        image = torch.rand((1, 8, 8, 8), generator=rng)
        return {"input": image, "target": 0.5 * image}

    def validation(self):
        image = torch.rand((2, 1, 8, 8, 8), generator=torch.Generator().manual_seed(1))
        return [{"input": image, "target": 0.5 * image}]


def settings(**changes) -> TrainSettings:
    """Quick ones without an end in time; float32 on the CPU."""
    quick = {
        "steps": 20, "minutes": 0.0, "batch": 2, "device": "cpu", "precision": "float32", "log_every": 1,
        "validate_every": 5, "sample_every": 0, "save_minutes": 1000.0, "rate": 1e-2, "critic_rate": 1e-3, "seed": 3,
    }  # fmt: skip
    return TrainSettings.from_dict({**quick, **changes})


def losses(rows) -> list[dict]:
    """The log without what depends on the clock."""
    clock = ("seconds", "steps_a_second", "loading")
    return [{name: value for name, value in row.items() if name not in clock} for row in rows]


def main(folder: str, changes: str) -> None:
    """Train, print the last step, and in the first process leave the weights in weights.pt."""
    torch.set_num_threads(1)
    chosen = settings(**json.loads(changes))
    samples = RandomPairs(float(os.environ.get("SECONDS_A_SAMPLE", "0")))
    kind = HalfKind(chosen, float(os.environ.get("DROPOUT", "0")))
    result = train(kind, samples, chosen, Path(folder))
    if result.written:
        torch.save(kind.state_dict(), Path(folder) / "weights.pt")
        print(result.steps, result.stopped, flush=True)
    left = [name for name in threads() if "gloo" in name]
    if left:
        sys.exit(f"Threads that may abort the process when Python ends: {left}")


def threads() -> list[str]:
    """Names of those of this process, where the system tells (Linux)."""
    return [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]


if __name__ == "__main__":
    main(*sys.argv[1:])
