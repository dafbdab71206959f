"""The training loop of every restoration model: faithful first, then against a discriminator.

First by squared error to the clean patch (the *faithful* weights), then from those weights against a patch
discriminator (the *natural* weights). Stops when the time or the steps are spent, can be stopped and started again at
any moment with the same command, and writes both weight files in float16. Held-out volumes are
named in ``--leave-out`` (a JSON list or a comma-separated list of file stems); they are never read. Under ``torchrun``
every process draws patches of its own and gradients are averaged: see :mod:`medgan.training.parallel`.

Sources: patch discriminator, Isola et al. 2017 (arXiv 1611.07004); hinge loss, Lim and Ye 2017 (1705.02894); feature
matching, Wang et al. 2018 (1711.11585); averaged weights, Yazici et al. 2019 (1806.04498).
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from monai.losses import PatchAdversarialLoss
from monai.networks.nets import PatchDiscriminator
from torch import Tensor, nn

from medgan.precision import training_autocast
from medgan.recipes import files
from medgan.recipes.data import Source, data_folder, load_label_maps, load_sources
from medgan.settings import Device
from medgan.training.parallel import World, joined

ADVERSARIAL_WEIGHT = 0.01
FEATURE_WEIGHT = 0.1
FREQUENCY_WEIGHT = 0.05

APART = 1_000_003
"""Between the seeds of the processes of ``torchrun``, so that none sees the patches of another."""

WARM_STEPS = 200
"""Steps in which the learning rate rises; fewer where the whole budget is small."""


class Batch(Protocol):
    """What a training step needs of its patches: ``network(*inputs)`` is to become ``clean`` (B, 1, D, H, W).

    ``before``: what one has without a network. ``level`` (B,): how hard the patch is; ``names``: where it comes from.
    """

    clean: Tensor
    level: Tensor
    names: list[str]

    @property
    def before(self) -> Tensor: ...

    @property
    def inputs(self) -> tuple[Any, ...]: ...


class PatchSource(Protocol):
    """An endless source of batches, the same ones for the same generator state."""

    def synthesise(self, count: int, keep: int, seed: int) -> None: ...

    def batch(self, size: int, generator: torch.Generator) -> Batch: ...


class Balance:
    """Weights that let every source count alike: its running mean of squared error over level**1.4."""

    def __init__(self) -> None:
        self.mean: dict[str, float] = {}

    def weigh(self, error_B: Tensor, batch: Batch) -> Tensor:
        """The mean over the batch of each patch's error relative to what its source usually shows."""
        scaled = error_B / batch.level.to(error_B) ** 1.4
        for name, value in zip(batch.names, scaled.detach().tolist(), strict=True):
            self.mean[name] = 0.98 * self.mean.get(name, value) + 0.02 * value
        usual = torch.tensor([self.mean[name] for name in batch.names], device=error_B.device)
        return (scaled / usual.clamp_min(1e-8)).clamp_max(20.0).mean()


def squared_error(result: Tensor, clean: Tensor) -> Tensor:
    """(B,) mean squared error; dark background counts a fifth."""
    weight = torch.where(clean > 0.05, 1.0, 0.2)
    return (weight * (result - clean).square()).sum(dim=(1, 2, 3, 4)) / weight.sum(dim=(1, 2, 3, 4))


def frequency_distance(result: Tensor, clean: Tensor) -> Tensor:
    """Mean distance of the magnitudes of the 3D Fourier transform, orthonormal scaling."""
    one, other = (torch.fft.rfftn(x.float(), dim=(2, 3, 4), norm="ortho").abs() for x in (result, clean))
    return (one - other).abs().mean()


LARGER = {"deep_pairs": 6, "deepest_channels": 64, "deepest_pairs": 2}
"""Arguments of a network of 2 million parameters in place of the 0.9 million of the default."""


def begin_with(weights: dict[str, Tensor], network: nn.Module) -> None:
    """Let a network start from the weights of a smaller one, or, where it has a ``core``, from those of a denoiser.

    What the weights lack starts as the recipe's network does, which changes nothing at first: of a layer with more
    channels, the new ones are told from the old ones but tell the old ones nothing yet (Net2Net, Chen et al. 2016,
    arXiv 1511.05641). Raises ``ValueError`` for weights that the network has no place for.
    """
    inside = "core.profile.0.weight" in network.state_dict() and "core.profile.0.weight" not in weights
    part = network.get_submodule("core") if inside else network
    begun = part.state_dict()
    for name, held in weights.items():
        if name not in begun:
            raise ValueError(f"These weights belong to another network: it has no {name}.")
        begun[name] = widened(held, begun[name], name)
    part.load_state_dict(begun)


def size_of(start: Path | None) -> dict[str, int]:
    """Arguments of a network in which the weights of a file have their place; none without one."""
    weights = torch.load(start, map_location="cpu", weights_only=True) if start is not None else {}
    channels = [len(tensor) for name, tensor in weights.items() if name.endswith("profile.2.bias")]
    size = {"channels": channels[0]} if channels else {}
    return size | (LARGER if any("deepest." in name for name in weights) else {})


def widened(held: Tensor, begun: Tensor, name: str) -> Tensor:
    """``begun`` with ``held`` in its near corner, and nothing from the further inputs to the outputs that it has."""
    if held.ndim != begun.ndim or any(has > may for has, may in zip(held.shape, begun.shape, strict=True)):
        raise ValueError(
            f"These weights belong to another network: its {name} has the shape {tuple(begun.shape)}, "
            f"they have {tuple(held.shape)}."
        )
    grown = begun.clone()
    grown[: held.shape[0]] = 0.0
    grown[tuple(slice(side) for side in held.shape)] = held.to(begun)
    return grown


def average(world: World, network: nn.Module) -> None:
    """Give every process the mean of the gradients of all."""
    gradients = [held.grad for held in network.parameters() if held.grad is not None]
    means = world.mean(torch.cat([gradient.flatten() for gradient in gradients]))
    for gradient, mean in zip(gradients, means.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


class Trainer:
    """All that a training run has to keep to go on later as if nothing had happened."""

    def __init__(self, options: argparse.Namespace, maker: PatchSource, network: nn.Module, world: World) -> None:
        self.options, self.maker, self.world, self.device = options, maker, world, world.device
        device = self.device
        self.seed = options.seed + APART * world.rank
        self.generator = torch.Generator(device).manual_seed(self.seed)
        self.network = network.to(device)
        if options.start is not None:
            held = torch.load(options.start, map_location=device, weights_only=True)
            begin_with(held, self.network)
        self.average = copy.deepcopy(self.network).requires_grad_(False)
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(), lr=options.rate, betas=(0.9, 0.99), weight_decay=1e-4
        )
        self.discriminator = PatchDiscriminator(3, 32, 1, 1, num_layers_d=2, norm="INSTANCE").to(device)
        self.discriminator_optimiser = torch.optim.Adam(self.discriminator.parameters(), lr=2e-4, betas=(0.5, 0.9))
        self.hinge = PatchAdversarialLoss(criterion="hinge", reduction="mean")
        self.balance = Balance()
        self.step, self.elapsed = 0, 0.0
        self.faithful: dict[str, Tensor] | None = None

    def share(self) -> float:
        """Share of the budget that is spent, 0 to 1: the larger of time and steps."""
        by_time = self.elapsed / (60.0 * self.options.minutes) if self.options.minutes else 0.0
        by_steps = self.step / self.options.steps if self.options.steps else 0.0
        return max(by_time, by_steps)

    def train(self) -> None:
        """Run until the budget is spent, saving every few minutes."""
        saved = logged = time.monotonic()
        sums: dict[str, float] = {}
        while self.share() < 1.0:
            begun = time.monotonic()
            kept = self.options.synthetic
            self.maker.synthesise(kept + self.step // 100, kept, self.seed)
            batch = self.maker.batch(self.options.batch, self.generator)
            if self.share() < 1.0 - self.options.adversarial_share:
                losses = self.faithful_step(batch)
            else:
                losses = self.adversarial_step(batch)
            self.step += 1
            (self.elapsed,) = self.world.from_main([self.elapsed + time.monotonic() - begun])
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + value / self.options.log_every
            if self.step % self.options.log_every == 0:
                pace = (time.monotonic() - logged) / self.options.log_every
                self.log({"step": self.step, "share": round(self.share(), 4), "s_a_step": round(pace, 3), **sums})
                sums, logged = {}, time.monotonic()
            if time.monotonic() - saved > 60.0 * self.options.save_minutes:
                self.save()
                saved = time.monotonic()
        self.save()

    def faithful_step(self, batch: Batch) -> dict[str, float]:
        warm = min(
            1.0, (self.step + 1) / (min(WARM_STEPS, self.options.steps // 10 + 1) if self.options.steps else WARM_STEPS)
        )
        done = min(1.0, self.share() / max(1e-6, 1.0 - self.options.adversarial_share))
        for group in self.optimiser.param_groups:
            group["lr"] = self.options.rate * warm * (0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * done)))
        with training_autocast(self.device):
            result = self.network(*batch.inputs)
        loss = self.balance.weigh(squared_error(result.float(), batch.clean), batch)
        self._update(loss, self.optimiser, self.network)
        self._follow(0.999 if self.step > 1000 else 0.98)
        with torch.no_grad():
            error = squared_error(result.float(), batch.clean)
            before = squared_error(batch.before, batch.clean)
            gain = 10.0 * torch.log10(before.clamp_min(1e-12) / error.clamp_min(1e-12))
        return {"loss": float(loss.detach()), "gain_db": float(gain.mean())}

    def adversarial_step(self, batch: Batch) -> dict[str, float]:
        if self.faithful is None:
            self.faithful = copy.deepcopy(self.average.state_dict())
            self.network.load_state_dict(self.faithful)
        for group in self.optimiser.param_groups:
            group["lr"] = 1e-4
        with training_autocast(self.device):
            result = self.network(*batch.inputs)
        result = result.float()
        # Discriminator: real clean patches against results.
        self.discriminator.requires_grad_(True)
        real, fake = self.discriminator(batch.clean)[-1], self.discriminator(result.detach())[-1]
        judged = 0.5 * (
            self.hinge(real, True, for_discriminator=True) + self.hinge(fake, False, for_discriminator=True)
        )
        self._update(judged, self.discriminator_optimiser, self.discriminator)
        # Generator: the error, the discriminator's opinion and its features, and the spectrum.
        self.discriminator.requires_grad_(False)
        error = self.balance.weigh(squared_error(result, batch.clean), batch)
        with torch.no_grad():
            wanted = self.discriminator(batch.clean)
        shown = self.discriminator(result)
        opinion = self.hinge(shown[-1], True, for_discriminator=False)
        features = torch.stack([F.l1_loss(a, b) for a, b in zip(shown[:-1], wanted[:-1], strict=True)]).mean()
        spectrum = frequency_distance(result, batch.clean)
        weight = self.options.adversarial_weight
        loss = 0.3 * error + weight * (opinion + 10.0 * FEATURE_WEIGHT * features) + FREQUENCY_WEIGHT * spectrum / 0.01
        self._update(loss, self.optimiser, self.network)
        self._follow(0.995)
        right = 0.5 * float((real > 0).float().mean() + (fake < 0).float().mean())
        values = {
            "error": error,
            "generator": opinion,
            "discriminator": judged,
            "features": features,
            "spectrum": spectrum,
        }
        return {"right": right, **{name: float(value.detach()) for name, value in values.items()}}

    def _update(self, loss: Tensor, optimiser: torch.optim.Optimizer, network: nn.Module) -> None:
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        if self.world.size > 1:
            average(self.world, network)
        norm = nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        if torch.isfinite(norm):
            optimiser.step()

    @torch.no_grad()
    def _follow(self, decay: float) -> None:
        for kept, new in zip(self.average.parameters(), self.network.parameters(), strict=True):
            kept.lerp_(new, 1.0 - decay)

    def log(self, entry: dict[str, Any]) -> None:
        if self.world.main:
            files.log(entry, self.options.out)

    def save(self) -> None:
        """Checkpoint under a temporary name, then the name it keeps; beside it the weights in float16."""
        if not self.world.main:
            return
        state = {
            "network": self.network.state_dict(), "average": self.average.state_dict(), "faithful": self.faithful,
            "optimiser": self.optimiser.state_dict(), "discriminator": self.discriminator.state_dict(),
            "discriminator_optimiser": self.discriminator_optimiser.state_dict(), "balance": self.balance.mean,
            "random": self.generator.get_state().cpu(), "step": self.step, "elapsed": self.elapsed,
        }  # fmt: skip
        files.save(state, self.options.out / "checkpoint.pt")
        half = files.halved(self.average.state_dict())
        if self.faithful is None:
            files.save(half, self.options.out / "model.pt")
        else:
            files.save(files.halved(self.faithful), self.options.out / "model.pt")
            files.save(half, self.options.out / "model_natural.pt")

    def resume(self) -> None:
        """Go on from the checkpoint in the output folder, if there is one."""
        path = self.options.out / "checkpoint.pt"
        if not path.exists():
            return
        state = torch.load(path, map_location=self.device, weights_only=True)
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.discriminator.load_state_dict(state["discriminator"])
        self.discriminator_optimiser.load_state_dict(state["discriminator_optimiser"])
        self.balance.mean = state["balance"]
        self.step, self.elapsed, self.faithful = state["step"], state["elapsed"], state["faithful"]
        if self.world.main:
            self.generator.set_state(state["random"].cpu())
            print(f"going on from step {self.step}", flush=True)
        else:
            self.generator.manual_seed(self.seed + self.step)


def parser(description: str, patch: int, patch_help: str, rate: float = 1e-3) -> argparse.ArgumentParser:
    """The options that every recipe has."""
    options = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", type=data_folder, required=True, help="folder with manifest.csv")
    options.add_argument("--out", type=Path, required=True, help="folder for checkpoint, log and weights")
    options.add_argument("--leave-out", default="", help="JSON file or comma-separated stems never to train on")
    options.add_argument("--minutes", type=float, default=60.0, help="time budget; 0: none")
    options.add_argument("--steps", type=int, default=0, help="step budget; 0: none")
    options.add_argument("--batch", type=int, default=4)
    options.add_argument("--patch", type=int, default=patch, help=patch_help)
    options.add_argument("--rate", type=float, default=rate, help="learning rate of the generator")
    options.add_argument("--adversarial-share", type=float, default=0.2, help="last share of the budget, adversarial")
    options.add_argument("--adversarial-weight", type=float, default=ADVERSARIAL_WEIGHT)
    options.add_argument("--synthetic", type=int, default=12, help="synthesised volumes kept at a time")
    options.add_argument("--save-minutes", type=float, default=5.0)
    options.add_argument("--log-every", type=int, default=50)
    options.add_argument("--start", type=Path, help="weights (model.pt) to start from instead of random ones")
    options.add_argument(
        "--larger",
        action="store_true",
        help="deeper at coarse detail: 2 million parameters in place of 0.9 (2.5 with --channels 64); also by --start",
    )
    options.add_argument("--channels", type=int, default=0, help="features at half resolution; 0: as in --start")
    options.add_argument(
        "--device", type=Device, default=Device.AUTO, metavar=f"{{{','.join(one.value for one in Device)}}}"
    )
    options.add_argument("--seed", type=int, default=1)
    return options


def left_out(text: str) -> set[str]:
    """File stems of a comma-separated list, or of all the lists of objects with a ``file`` in a JSON file."""
    if not text.endswith(".json"):
        return {stem for stem in text.split(",") if stem}
    lists = [rows for rows in json.loads(Path(text).read_text(encoding="utf-8")).values() if isinstance(rows, list)]
    return {Path(row["file"]).name.removesuffix(".nii.gz") for rows in lists for row in rows}


def run(
    options: argparse.Namespace,
    make_network: Callable[..., nn.Module],
    make_patches: Callable[[list[Source], list[np.ndarray], torch.device], PatchSource],
) -> None:
    """Train as the options say, going on from the checkpoint in the output folder if there is one."""
    if not options.minutes and not options.steps:
        raise SystemExit("Give a budget: --minutes, --steps or both.")
    options.out.mkdir(parents=True, exist_ok=True)
    with joined(options.device) as world:
        manifest = options.data / "manifest.csv"
        never = left_out(options.leave_out)
        sources = load_sources(manifest, never)
        if world.main:
            print(f"{len(sources)} volumes: " + ", ".join(source.name for source in sources), flush=True)
        torch.manual_seed(options.seed)
        size = size_of(options.start) | (LARGER if options.larger else {})
        if options.channels:
            size["channels"] = options.channels
        if world.main:
            (options.out / "arguments.json").write_text(json.dumps(size), encoding="utf-8")
        patches = make_patches(sources, load_label_maps(manifest, never), world.device)
        trainer = Trainer(options, patches, make_network(**size), world)
        trainer.resume()
        trainer.train()
