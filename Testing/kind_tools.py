"""Small kinds of training, what they can learn from in seconds, and bundles of what they export."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from medgan.models import ModelCard, read_card, sha256_of
from medgan.networks.critics import FeatureCritic, VolumeCritic, patch_critic
from medgan.settings import TrainKind, TrainSettings
from medgan.training.kinds.autoencoder import Autoencoder
from medgan.training.kinds.base import Exported, Facts, Kind
from medgan.training.kinds.classify import Classify
from medgan.training.kinds.common import Built
from medgan.training.kinds.enhance import Enhance
from medgan.training.kinds.from_noise import FromNoise
from medgan.training.kinds.label_to_volume import LabelToVolume
from medgan.training.kinds.segment import Segment
from medgan.training.kinds.translate import Translate
from medgan.training.kinds.unpaired import Unpaired
from medgan.training.losses import spectrally_normalised

SIDE = 16
LABELS = ({"index": 1, "value": 7, "name": "Shell"}, {"index": 2, "value": 40, "name": "Core"})
FACTS = Facts(labels=LABELS, classes=("dark", "bright"), patch=SIDE)


def settings_for(kind: TrainKind, **more: Any) -> TrainSettings:
    return TrainSettings(kind=kind, patch=SIDE, batch=2, **more)


def small(kind: TrainKind, paired: bool = True, facts: Facts = FACTS, **more: Any) -> Kind:
    """A kind with networks of a few channels; the same at every call."""
    torch.manual_seed(1)
    settings = settings_for(kind, **more)
    if kind is TrainKind.ENHANCE:
        built = Built("medgan.DenoiseNet", {"channels": 4, "deep_channels": 8, "deep_pairs": 1})
        return Enhance(built, _critic(1), settings, facts)
    if kind is TrainKind.TRANSLATE and paired:
        return Translate(_translator(), _critic(2), settings, facts)
    if kind is TrainKind.TRANSLATE:
        critics = torch.nn.ModuleDict({side: _critic(1) for side in ("target", "source")})
        return Unpaired(_translator(), _translator().network, critics, settings, facts)
    if kind is TrainKind.LABEL_TO_VOLUME:
        built = Built("medgan.LabelNet", {"widths": [8, 16], "told": 8, "style": 4})
        return LabelToVolume(built, _critic(3), settings, facts)
    if kind is TrainKind.FROM_NOISE:
        built = Built("medgan.NoiseNet", {"latent": 8, "widths": [32, 16, 8]})
        return FromNoise(built, VolumeCritic(1, [8, 16, 32]), settings, facts)
    if kind is TrainKind.SEGMENT:
        shape = {"spatial_dims": 3, "in_channels": 1, "out_channels": 3, "channels": [8, 16], "strides": [2]}
        return Segment(
            Built("monai.networks.nets.UNet", shape), spectrally_normalised(FeatureCritic(2, [4, 8])), settings, facts
        )
    if kind is TrainKind.CLASSIFY:
        return Classify(Built("medgan.ClassNet", {"classes": 2, "widths": [8, 16]}), settings, facts)
    built = Built("medgan.AutoencoderNet", {"widths": [8, 16], "code": 8})
    return Autoencoder(built, _critic(1), settings, facts)


def _critic(channels: int) -> torch.nn.Module:
    return spectrally_normalised(patch_critic(channels, 8, normalised=False))


def _translator() -> Built:
    return Built("medgan.TranslateNet", {"widths": [8, 16], "deep_pairs": 1})


def ball(rng: torch.Generator, side: int = SIDE) -> tuple[Tensor, Tensor]:
    """(side, side, side) labels of a shell (1) around a core (2) at a random place, and their intensities."""
    grid = torch.stack(torch.meshgrid(*[torch.linspace(-1.0, 1.0, side)] * 3, indexing="ij"))
    centre = 0.6 * (torch.rand(3, generator=rng) - 0.5)
    radius = 0.45 + 0.3 * torch.rand((), generator=rng)
    distance = (grid - centre[:, None, None, None]).square().sum(dim=0).sqrt()
    labels = (distance < radius).long() + (distance < 0.5 * radius).long()
    return labels, torch.tensor([0.05, 0.5, 0.85])[labels]


Sample = Callable[[torch.Generator], dict[str, Tensor]]


def batch_of(kind: Kind, sample: Sample, seed: int, count: int = 2) -> dict[str, Tensor]:
    """A training batch, drawn as the loop does it."""
    rows = []
    for number in range(count):
        rng = torch.Generator().manual_seed(1000 * seed + number)
        rows.append(kind.draw(sample(rng), rng))
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


def validation_of(sample: Sample, batches: int = 3, count: int = 2) -> list[dict[str, Tensor]]:
    """Batches that training does not see, not drawn."""
    rngs = [torch.Generator().manual_seed(987_000 + number) for number in range(batches * count)]
    rows = [sample(rng) for rng in rngs]
    groups = [rows[first : first + count] for first in range(0, len(rows), count)]
    return [{name: torch.stack([row[name] for row in group]) for name in group[0]} for group in groups]


def teach(
    kind: Kind, sample: Sample, steps: int, adversarial: float, rate: float = 2e-3, first: int = 1
) -> tuple[torch.nn.Module, dict[str, float]]:
    """Critic step, generator step, again and again; the averaged generator, and the losses of the last step."""
    average = copy.deepcopy(kind.generator).requires_grad_(False)
    generator = torch.optim.Adam(kind.generator.parameters(), rate, betas=(0.5 if adversarial else 0.9, 0.99))
    critic = torch.optim.Adam(kind.critic.parameters(), rate, betas=(0.5, 0.9)) if kind.critic else None
    said: dict[str, float] = {}
    for step in range(first, first + steps):
        batch = batch_of(kind, sample, step)
        for losses, optimiser, name in _phases(kind, batch, adversarial, generator, critic):
            optimiser.zero_grad()
            losses["loss"].backward()
            torch.nn.utils.clip_grad_norm_(optimiser.param_groups[0]["params"], 1.0)
            optimiser.step()
            said |= {f"{name}_{key}": float(value.detach()) for key, value in losses.items()}
        for kept, new in zip(average.parameters(), kind.generator.parameters(), strict=True):
            kept.data.lerp_(new.data, 0.1)
    return average, said


def _phases(kind, batch, adversarial, generator, critic):
    if adversarial and critic is not None:
        yield kind.critic_loss(batch), critic, "critic"
    yield kind.generator_loss(batch, adversarial), generator, "generator"


def bundle_of(exported: Exported, folder: Path, **more: Any) -> ModelCard:
    """A bundle folder of an export, as training writes it; ``more`` goes over what the export says."""
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    weights = {}
    for key, state in exported.weights.items():
        file = folder / "models" / f"{key}.pt"
        torch.save(state, file)
        weights[key] = {"file": f"models/{file.name}", "sha256": sha256_of(file)}
    ours = {
        "title": folder.name,
        "task": exported.task,
        "network": exported.network,
        "network_arguments": exported.network_arguments,
        "weights": weights,
        "normalise": "range",
        **exported.about,
        **more,
    }
    text = json.dumps({"version": "0.0.1", "medgan": ours})
    (folder / "configs" / "metadata.json").write_text(text, encoding="utf-8")
    return read_card(folder)
