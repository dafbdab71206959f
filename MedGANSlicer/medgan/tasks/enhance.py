"""Enhance one volume: estimate its noise, run the model over it, and say what was changed.

Reads ``inputs["volume"]``; returns the volumes ``"volume"`` (enhanced, on the same grid) and ``"difference"``
(enhanced minus input, float32), both in the unit of the input, and a report of plain JSON values.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import medgan
from medgan.inference import (
    Normalisation,
    autocast,
    choose_device,
    fill_not_finite,
    robust_normalisation,
    run_with_fallback,
    set_deterministic,
)
from medgan.models import ModelCard, ModelError, build_network, find, load_state
from medgan.networks import NOISE_CONDITIONED
from medgan.noise import NoiseProfile, noise_profile
from medgan.progress import Progress, part, silent
from medgan.settings import EnhanceSettings
from medgan.tasks import Outputs
from medgan.volume import LabelMap, Volume

SHORTEST_SIDE = 4
"""Fewest voxels along an axis that a 3D model can learn anything from."""

BYTES_PER_VOXEL = {"medgan.DenoiseNet": 360}
"""Measured peak memory of a network for each voxel of a tile (float32)."""

BYTES_PER_VOXEL_UNKNOWN = 4000


def run(inputs: Mapping[str, Volume | LabelMap], settings: EnhanceSettings, progress: Progress = silent) -> Outputs:
    """Enhance ``inputs["volume"]`` as the settings say. The input is not changed.

    The same input, settings and device give the same voxels. Raises ``ValueError`` (and its kinds ``ModelError``,
    ``MemoryRefused``) with one sentence for what can not be done, ``Cancelled`` when progress says so.
    """
    begun = time.monotonic()
    settings.check()
    volume = inputs.get("volume")
    if not isinstance(volume, Volume):
        raise ValueError("Enhancement needs one scalar volume, given as 'volume'.")
    if min(volume.shape) < SHORTEST_SIDE:
        raise ValueError(
            f"The model '{settings.model}' works in 3D and needs {SHORTEST_SIDE} voxels along every axis; "
            f"this volume has {' x '.join(str(n) for n in reversed(volume.shape))}."
        )
    progress(0.0, "Loading the model")
    set_deterministic(settings.seed)
    card = find(settings.model)
    chosen = choose_device(settings.device)
    messages: list[str] = []
    state = blended_state(card, settings.character, messages)
    network = build_network(card, state)
    progress(0.01, "Measuring the noise")
    filled, broken = fill_not_finite(volume.array)
    if broken.any():
        messages.append(
            f"{int(broken.sum())} voxels were not finite numbers; the model saw values filled in from their "
            "neighbours, and the result keeps them as they were."
        )
    normalisation = robust_normalisation(filled)
    normal = normalisation.apply(filled)
    measured = noise_profile(normal)
    given = settings.noise_sigma > 0
    profile = measured.scaled_to(settings.noise_sigma / normalisation.scale) if given else measured
    enhanced = volume.array
    if settings.strength == 0.0:
        messages.append("The strength is 0: the result is the input.")
    elif profile.sigma <= 0.0:
        messages.append("There is no noise in this volume: the result is the input.")
    else:
        with_profile = conditioned_on(network, profile)
        per_voxel = BYTES_PER_VOXEL.get(card.network, BYTES_PER_VOXEL_UNKNOWN)
        limit = int(settings.memory_limit_gb * 1e9)
        steps = part(progress, 0.03, 0.95)
        result, chosen, told = run_with_fallback(with_profile, normal, per_voxel, chosen, limit, steps, "Denoising:")
        messages += told
        enhanced = _applied(volume.array, result, normalisation, settings.strength, broken)
    progress(0.96, "Measuring what was changed")
    difference = enhanced - volume.array
    difference[broken] = 0.0
    after = noise_profile(normalisation.apply(fill_not_finite(enhanced)[0]))
    report = {
        "task": "enhance",
        "model": card.name,
        "model_version": card.version,
        "model_sha256": {key: weight.sha256 for key, weight in card.weights.items()},
        "settings": settings.to_dict(),
        "seed": settings.seed,
        "package_version": medgan.__version__,
        "device": chosen.name,
        "device_reason": chosen.reason,
        "seconds": round(time.monotonic() - begun, 2),
        "sigma_before": profile.sigma * normalisation.scale,
        "sigma_after": after.sigma * normalisation.scale,
        "sigma_source": "given" if given else "estimated",
        "noise_unit": "intensity unit of the input",
        "mean_absolute_change": float(np.abs(difference).mean()),
        "largest_change": float(np.abs(difference).max()),
        "messages": messages,
        "synthetic": True,
    }
    progress(1.0, "Done")
    return Outputs({"volume": volume.like(enhanced), "difference": volume.like(difference, "float32")}, report)


def blended_state(card: ModelCard, character: float, messages: list[str]) -> dict[str, Tensor]:
    """Weights between the faithful (0) and the natural ones (1), by linear interpolation, in float32.

    Deep network interpolation, Wang et al. 2019 (arXiv 1811.10515). A model with one set of weights has no
    character; that is said when another than 0 is asked for.
    """
    keys = list(card.weights)
    first = {
        name: tensor.float() for name, tensor in load_state(card, "faithful" if "faithful" in keys else keys[0]).items()
    }
    if character == 0.0:
        return first
    if "natural" not in keys:
        messages.append(f"The model '{card.name}' has one set of weights; the character has no effect.")
        return first
    second = load_state(card, "natural")
    if second.keys() != first.keys():
        raise ModelError(f"Model '{card.name}': its two sets of weights do not belong to the same network.")
    return {name: torch.lerp(tensor, second[name].float(), character) for name, tensor in first.items()}


def conditioned_on(network: nn.Module, profile: NoiseProfile) -> Callable[[torch.device], Callable[[Tensor], Tensor]]:
    """For a device, the function from a tile (1, 1, D, H, W) to the network's answer of that shape."""

    def make(device: torch.device) -> Callable[[Tensor], Tensor]:
        network.to(device)
        sigma = torch.tensor([profile.sigma], dtype=torch.float32, device=device)
        spread = torch.from_numpy(profile.spread).to(device)[None]

        def predict(tile: Tensor) -> Tensor:
            with autocast(device):
                if isinstance(network, NOISE_CONDITIONED):
                    answer: Any = network.shift_averaged(tile, sigma, spread)
                else:
                    answer = network(tile)
            if answer.shape != tile.shape:
                raise ModelError(
                    f"The model answers a tile of shape {tuple(tile.shape)} with {tuple(answer.shape)}; "
                    "choose one that maps one channel to one channel of the same size."
                )
            return answer.float()

        return predict

    return make


def _applied(
    original: np.ndarray, result: np.ndarray, normalisation: Normalisation, strength: float, broken: np.ndarray
) -> np.ndarray:
    """The input moved towards the result by ``strength``; never below 0 where the input never is."""
    target = normalisation.invert(result)
    if not (original < 0).any():
        np.maximum(target, 0.0, out=target)
    enhanced = target if strength == 1.0 else original + np.float32(strength) * (target - original)
    enhanced[broken] = original[broken]
    return enhanced
