"""What several kinds share: networks to begin with, a critic's opinion, and figures for validation."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import monai.networks.nets
import torch
import torch.nn.functional as F
from monai.metrics.regression import PSNRMetric, SSIMMetric
from torch import Tensor, nn

from medgan.bundle import MONAI_PREFIX
from medgan.models import ModelCard, ModelError, build_network, load_state
from medgan.networks import NETWORKS
from medgan.networks.critics import patch_critic
from medgan.settings import Adversarial, TrainSettings
from medgan.training import losses
from medgan.training.starts import network_of, refusal


class Built:
    """A network, and what a bundle says to build it again."""

    def __init__(self, name: str, arguments: dict[str, Any], network: nn.Module | None = None) -> None:
        self.name, self.arguments = name, arguments
        if network is None:
            own = NETWORKS.get(name)
            make = own if own is not None else getattr(monai.networks.nets, name.removeprefix(MONAI_PREFIX))
            network = make(**arguments)
        self.network: nn.Module = network


def started(start: ModelCard | None, settings: TrainSettings, arguments: dict[str, Any]) -> Built:
    """The network of the model to start from, with its weights, or an untrained one. Raises :class:`ModelError`."""
    if start is None:
        return Built(network_of(settings.kind, settings.restores), arguments)
    why = refusal(start, settings.kind, settings.restores)
    if why:
        raise ModelError(why)
    key = "faithful" if "faithful" in start.weights else next(iter(start.weights))
    state = {name: tensor.float() for name, tensor in load_state(start, key).items()}
    return Built(start.network, start.network_arguments, build_network(start, state).train())


def check_channels(built: Built, channels: int, start: ModelCard | None, key: str = "in_channels") -> None:
    """Raise :class:`ModelError` when a model to start from takes another number of channels than the data has.

    ``key``: how its network calls that number, if it calls it at all.
    """
    held = built.arguments.get(key)
    if start is not None and isinstance(held, int) and held != channels:
        raise ModelError(f"Model '{start.name}' takes {held} channels, the data has {channels}; choose another model.")


def tamed(critic: nn.Module, settings: TrainSettings) -> nn.Module:
    """The critic, bounded by spectral normalisation where that is wanted; the Wasserstein loss has its own way."""
    return losses.spectrally_normalised(critic) if _bounded(settings) else critic


def critic_of_patches(channels: int, settings: TrainSettings) -> nn.Module | None:
    """A critic of patches, or None where the settings want none."""
    if not settings.adversarial_weight:
        return None
    return tamed(patch_critic(channels, normalised=not _bounded(settings)), settings)


def _bounded(settings: TrainSettings) -> bool:
    return settings.spectral_norm and settings.loss() is not Adversarial.WASSERSTEIN


@contextlib.contextmanager
def frozen(critic: nn.Module) -> Iterator[nn.Module]:
    """The critic, for judging without being trained."""
    critic.requires_grad_(False)
    try:
        yield critic
    finally:
        critic.requires_grad_(True)


def opinion(critic: nn.Module, adversarial: losses.Adversarial, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """The generator's adversarial term, and the mean distance of the critic's features (arXiv 1711.11585)."""
    with frozen(critic):
        with torch.no_grad():
            wanted = critic(real)
        shown = critic(fake)
    features = [F.l1_loss(a.float(), b.float()) for a, b in zip(shown[:-1], wanted[:-1], strict=True)]
    return adversarial.generator(shown), torch.stack(features).mean()


class Means:
    """Means of several values over samples."""

    def __init__(self) -> None:
        self.sums: dict[str, float] = {}
        self.counts: dict[str, int] = {}

    def add(self, name: str, values: Tensor) -> None:
        values = values.detach().float().reshape(-1)
        values = values[torch.isfinite(values)]
        self.sums[name] = self.sums.get(name, 0.0) + float(values.sum())
        self.counts[name] = self.counts.get(name, 0) + len(values)

    def result(self) -> dict[str, float]:
        return {name: total / self.counts[name] for name, total in self.sums.items() if self.counts[name]}


def psnr(result: Tensor, target: Tensor) -> Tensor:
    """(B,) peak signal-to-noise ratio in dB, for images of 0 to 1."""
    metric: Any = PSNRMetric(max_val=1.0)
    return metric(result.float(), target.float()).reshape(-1).clamp(max=100.0)  # a mean has to stay finite


def ssim(result: Tensor, target: Tensor) -> Tensor:
    """(B,) structural similarity in 3D with a Gaussian window, for images of 0 to 1 with 3 voxels or more."""
    side = min(11, *result.shape[2:])
    side -= 1 - side % 2
    metric: Any = SSIMMetric(3, data_range=1.0, win_size=side, kernel_sigma=1.5 * side / 11)
    return metric(result.float(), target.float()).reshape(-1)


def texture(volume: Tensor) -> Tensor:
    """(B, 24) what a volume (B, C, D, H, W) looks like but not what it shows: quantiles of its intensities and of their
    steps from voxel to voxel."""
    flat = volume.detach().float().flatten(1)
    steps = torch.cat([volume.detach().float().diff(dim=axis).abs().flatten(1) for axis in (2, 3, 4)], dim=1)
    levels = torch.linspace(0.05, 0.95, 12, device=volume.device)
    return torch.cat([_quantiles(flat, levels), 4.0 * _quantiles(steps, levels)], dim=1)


def _quantiles(values: Tensor, levels: Tensor) -> Tensor:
    ordered = values.sort(dim=1).values  # torch.quantile refuses more than 16 million values
    return ordered[:, (levels * (values.shape[1] - 1)).round().long()]


def mmd(one: Tensor, other: Tensor) -> float:
    """Unbiased squared maximum mean discrepancy of two sets of features (n, F), (m, F), n and m at least 2; kernel:
    Gaussian whose width is the median distance (Gretton et al. 2012, JMLR 13:723). May be slightly below 0."""
    both = torch.cat([one, other]).cpu().double()  # Apple GPUs have no float64
    square = torch.cdist(both, both).square()
    apart = square[~torch.eye(len(both), dtype=torch.bool, device=both.device)]
    kernel = torch.exp(-square / apart.median().clamp_min(1e-12))
    n, m = len(one), len(other)
    within = (kernel[:n, :n].sum() - n) / (n * (n - 1)) + (kernel[n:, n:].sum() - m) / (m * (m - 1))
    return float(within - 2.0 * kernel[:n, n:].mean())


def diversity(volumes: Tensor) -> float:
    """One minus the mean structural similarity of pairs of volumes (B, C, D, H, W): 0 when all are the same."""
    count = len(volumes)
    pairs = [(a, b) for a in range(count) for b in range(a)][:24]
    one, other = (volumes[[pair[side] for pair in pairs]] for side in (0, 1))
    return 1.0 - float(ssim(one, other).mean())


def rows(batches: Sequence[Any], key: str, most: int) -> Tensor:
    """The first ``most`` samples of validation batches, at ``key``."""
    return torch.cat([batch[key] for batch in batches])[:most]
