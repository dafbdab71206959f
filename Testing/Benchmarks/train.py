"""Steps a second of our training loop beside MONAI's GanTrainer, and how much of a step is waiting for data.

    pip install pytorch-ignite
    python Testing/Benchmarks/train.py --output results

*Against GanTrainer*: the same untrained networks (MONAI's Generator and PatchDiscriminator), the same volumes in memory
with the same random crops, the same hinge loss and optimisers, one process. The two take turns, ``--rounds`` times, and
the medians are compared: wall time, and CPU time of the process, which on a busy machine is the steadier one. Ours does
what it always does (moving average, clipped gradients, looking for losses that are no numbers, log); the plain
GanTrainer does none of that. Goal: not slower, a ratio of 1 or more.

*Data*: the step of ``medgan train`` on volumes that are written for it, with the defaults of each kind that is named;
the share of the time in which the loop waits for its batches (goal: below 10 %), and the share of the process's CPU
time that making them takes, in threads beside the loop.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.networks.nets import Generator, PatchDiscriminator
from torch import nn

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent.parent / "MedGANSlicer")]

import phantoms  # noqa: E402
from medgan.settings import Adversarial as Form  # noqa: E402
from medgan.settings import TrainSettings  # noqa: E402
from medgan.training.data import prepare  # noqa: E402
from medgan.training.kinds import make_kind  # noqa: E402
from medgan.training.kinds.base import Kind  # noqa: E402
from medgan.training.loop import train  # noqa: E402
from medgan.training.losses import Adversarial, critic_loss, generator_loss, logits  # noqa: E402
from medgan.volume import Volume, write_volume  # noqa: E402

LATENT = 64
RATE, BETAS = 1e-4, (0.5, 0.9)


def networks(edge: int, width: int) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    start = edge // 8
    channels = (4 * width, 2 * width, width, 1)
    generator = Generator((LATENT,), (8 * width, start, start, start), channels, (2, 2, 2, 1), num_res_units=0)
    return generator, PatchDiscriminator(3, width, 1, num_layers_d=2, norm="INSTANCE")


def crop(volumes: list[torch.Tensor], edge: int, rng: torch.Generator | None) -> torch.Tensor:
    """A random cube of a random volume, mirrored at random."""
    volume = volumes[int(torch.randint(len(volumes), (), generator=rng))]
    place = [int(torch.randint(size - edge + 1, (), generator=rng)) for size in volume.shape[1:]]
    cube = volume[:, place[0] : place[0] + edge, place[1] : place[1] + edge, place[2] : place[2] + edge]
    flips = [axis + 1 for axis in range(3) if torch.rand((), generator=rng) < 0.5]
    return cube.flip(flips) if flips else cube.clone()


class FromLatent(Kind):
    """The two networks as a kind of ours."""

    def __init__(self, generator: nn.Module, critic: nn.Module, settings: TrainSettings) -> None:
        super().__init__()
        self.generator, self.critic = generator, critic
        self.adversary = Adversarial(settings)

    def draw(self, sample, rng):
        latents = {name: torch.randn(LATENT, generator=rng) for name in ("latent", "other")}
        return {**sample, **latents}

    def critic_loss(self, batch):
        with torch.no_grad():
            fake = self.generator(batch["latent"])
        return self.adversary.critic(self.critic, batch["image"], fake)

    def generator_loss(self, batch, adversarial):
        return {"loss": self.adversary.generator(self.critic(self.generator(batch["other"])))}

    def validate(self, generator, batches):
        return {"score": 0.0}

    def pictures(self, generator, batch):
        return {}


class Crops(torch.utils.data.Dataset):
    """The same crops for our loop (``sample``) and for a DataLoader."""

    def __init__(self, volumes: list[torch.Tensor], edge: int, count: int = 0) -> None:
        self.volumes, self.edge, self.count = volumes, edge, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> torch.Tensor:
        return crop(self.volumes, self.edge, None)

    def sample(self, rng: torch.Generator) -> dict[str, torch.Tensor]:
        return {"image": crop(self.volumes, self.edge, rng)}

    def validation(self) -> list[dict[str, torch.Tensor]]:
        return []


class Timed:
    """Samples that count the CPU time of making them, with what the kind draws for them."""

    def __init__(self, samples: Any, kind: Kind) -> None:
        self.validation, self._sample, self._draw = samples.validation, samples.sample, kind.draw
        self.seconds: list[float] = []
        kind.draw = lambda sample, rng: sample  # type: ignore[method-assign]

    def sample(self, rng: torch.Generator) -> dict[str, torch.Tensor]:
        begun = time.thread_time()
        with torch.no_grad():
            sample = self._draw(self._sample(rng), rng)
        self.seconds.append(time.thread_time() - begun)
        return sample


class Clock:
    """Wall and CPU seconds of ``steps`` steps after ``warm`` others."""

    def __init__(self, device: str, warm: int, steps: int) -> None:
        self.device, self.warm, self.steps, self.done = device, warm, steps, 0
        self.begun = self.ended = (0.0, 0.0)

    def tick(self) -> None:
        """A step is done."""
        self.done += 1
        if self.done == self.warm:
            self.begun = self._now()
        if self.done == self.warm + self.steps:
            self.ended = self._now()

    def figures(self) -> dict[str, float]:
        (wall, cpu), (wall_end, cpu_end) = self.begun, self.ended
        return {
            "steps_a_second": self.steps / (wall_end - wall),
            "cpu_seconds_a_step": (cpu_end - cpu) / self.steps,
        }

    def _now(self) -> tuple[float, float]:
        if self.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter(), time.process_time()


def time_ours(options: argparse.Namespace, volumes: list[torch.Tensor], steps: int, folder: Path) -> dict[str, float]:
    generator, critic = networks(options.edge, options.width)
    settings = TrainSettings(
        steps=options.warm + steps, minutes=0.0, batch=options.batch, adversarial=Form.HINGE, spectral_norm=False,
        rate=RATE, critic_rate=RATE, validate_every=0, sample_every=0, save_minutes=1000.0,
    )  # fmt: skip
    settings = TrainSettings.from_dict({**settings.to_dict(), "device": options.device, "precision": "float32"})
    clock = Clock(options.device, options.warm, steps)

    def progress(fraction: float, message: str = "") -> None:
        if message and not message.startswith("Step 0 "):  # said between two steps
            clock.tick()

    kind = FromLatent(generator, critic, settings)
    result = train(kind, Crops(volumes, options.edge), settings, folder, progress)
    waits = [row["loading"] for row in result.curves if row.get("step", 0) > options.warm and "loading" in row]
    return {**clock.figures(), "loading": statistics.fmean(waits)}


def time_monai(options: argparse.Namespace, volumes: list[torch.Tensor], steps: int) -> dict[str, float]:
    from ignite.engine import Events
    from monai.engines import GanTrainer

    generator, critic = (network.to(options.device) for network in networks(options.edge, options.width))
    torch.manual_seed(0)
    count = (options.warm + steps) * options.batch
    clock = Clock(options.device, options.warm, steps)
    trainer = GanTrainer(
        device=torch.device(options.device),
        max_epochs=1,
        train_data_loader=torch.utils.data.DataLoader(Crops(volumes, options.edge, count), batch_size=options.batch),
        g_network=generator,
        g_optimizer=torch.optim.AdamW(generator.parameters(), lr=RATE, betas=BETAS, weight_decay=1e-4),
        g_loss_function=lambda fake: generator_loss(Form.HINGE, logits(critic(fake))),
        d_network=critic,
        d_optimizer=torch.optim.AdamW(critic.parameters(), lr=RATE, betas=BETAS, weight_decay=1e-4),
        d_loss_function=lambda fake, real: critic_loss(Form.HINGE, logits(critic(real)), logits(critic(fake.detach()))),
        d_prepare_batch=lambda batch, device, non_blocking, **more: batch.to(device, non_blocking=non_blocking),
        latent_shape=LATENT,
        decollate=False,
        optim_set_to_none=True,
    )
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: clock.tick())
    trainer.run()
    return clock.figures()


def compare(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    volumes = [torch.rand(1, 96, 96, 96, generator=torch.Generator().manual_seed(n)) for n in range(4)]
    ours, theirs = [], []
    for number in range(options.rounds):
        ours.append(time_ours(options, volumes, options.steps, folder / f"round {number}"))
        theirs.append(time_monai(options, volumes, options.steps))
        print(f"round {number + 1}: medgan {ours[-1]}, GanTrainer {theirs[-1]}", flush=True)
    middle = lambda rows, name: statistics.median(row[name] for row in rows)  # noqa: E731
    wall = middle(ours, "steps_a_second"), middle(theirs, "steps_a_second")
    cpu = middle(ours, "cpu_seconds_a_step"), middle(theirs, "cpu_seconds_a_step")
    return {
        "medgan_steps_a_second": wall[0],
        "gantrainer_steps_a_second": wall[1],
        "ratio": wall[0] / wall[1],
        "medgan_cpu_seconds_a_step": cpu[0],
        "gantrainer_cpu_seconds_a_step": cpu[1],
        "cpu_ratio": cpu[1] / cpu[0],
        "rounds": {"medgan": ours, "gantrainer": theirs},
    }


def loading(options: argparse.Namespace, kind: str, folder: Path) -> dict[str, float]:
    """Share of waiting in the steps of ``medgan train`` with the kind's defaults, the first steps left out."""
    data = folder / "data"
    data.mkdir(parents=True)
    for number in range(4):
        shape = (96, 100 + number, 90)
        noisy = phantoms.rician(phantoms.head(shape), sigma=10.0 + number)
        write_volume(Volume(np.rint(noisy), phantoms.geometry(), voxel_type="int16"), data / f"patient{number}.nii.gz")
    plain = {
        "kind": kind, "data": str(data), "out": str(folder / "run"), "name": "benchmark", "minutes": 0.0,
        "steps": options.warm + options.loading_steps, "log_every": 1, "validate_every": 0, "sample_every": 0,
        "save_minutes": 1000.0, "device": options.device,
    }  # fmt: skip
    settings = TrainSettings.from_dict(plain)
    prepared = prepare({}, settings, folder / "run")
    torch.manual_seed(0)
    made = make_kind(settings, prepared.facts)
    made.validate = lambda generator, batches: {"score": 0.0}  # type: ignore[method-assign]
    samples = Timed(prepared.samples, made)
    begun = time.process_time()
    result = train(made, samples, settings, folder / "run")
    took = time.process_time() - begun
    rows = [row for row in result.curves if "loading" in row and row["step"] > options.warm]
    times = [1.0 / row["steps_a_second"] for row in rows]
    waited = sum(row["loading"] * time for row, time in zip(rows, times, strict=True))
    return {
        "loading": waited / sum(times),
        "cpu_share": sum(samples.seconds) / took,
        "cpu_seconds_a_sample": statistics.median(samples.seconds),
        "steps_a_second": len(times) / sum(times),
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--output", type=Path, required=True, help="folder for train.json and train.md")
    options.add_argument("--edge", type=int, default=32, help="edge of the crops in voxels")
    options.add_argument("--width", type=int, default=16, help="channels of the first layers")
    options.add_argument("--batch", type=int, default=4)
    options.add_argument("--steps", type=int, default=60, help="steps that are timed in a round")
    options.add_argument("--warm", type=int, default=10, help="steps before them")
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--threads", type=int, default=1)
    options.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options.add_argument(
        "--kinds", nargs="*", default=["enhance", "autoencoder"], help="kinds that learn from plain volumes"
    )
    options.add_argument("--loading-steps", type=int, default=40)
    chosen = options.parse_args()
    torch.set_num_threads(chosen.threads)
    chosen.output.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {"options": {**vars(chosen), "output": ""}, "torch": torch.__version__}
    with tempfile.TemporaryDirectory() as folder:
        if chosen.rounds:
            found["compare"] = compare(chosen, Path(folder) / "compare")
        found["loading"] = {kind: loading(chosen, kind, Path(folder) / kind) for kind in chosen.kinds}
    (chosen.output / "train.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    text = report(found)
    (chosen.output / "train.md").write_text(text, encoding="utf-8")
    print(text)


def report(found: dict[str, Any]) -> str:
    lines = ["| measured | medgan | GanTrainer | medgan / GanTrainer | goal |", "|---|---|---|---|---|"]
    if "compare" in found:
        c = found["compare"]
        lines += [
            f"| steps a second | {c['medgan_steps_a_second']:.2f} | {c['gantrainer_steps_a_second']:.2f} "
            f"| {c['ratio']:.2f} | 1 or more |",
            f"| CPU seconds a step | {c['medgan_cpu_seconds_a_step']:.4f} | {c['gantrainer_cpu_seconds_a_step']:.4f} "
            f"| {1 / c['cpu_ratio']:.2f} | 1 or less |",
        ]
    for kind, row in found["loading"].items():
        lines.append(f"| waiting for data, {kind} | {100 * row['loading']:.1f} % | | | below 10 % |")
        lines.append(f"| CPU time for data, {kind} | {100 * row['cpu_share']:.1f} % | | | |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
