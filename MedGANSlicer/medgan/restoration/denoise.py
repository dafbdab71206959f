"""Taking away noise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medgan.inference import autocast
from medgan.models import ModelCard, ModelError
from medgan.networks import NOISE_CONDITIONED
from medgan.networks.blocks import cropped, padded
from medgan.networks.denoise import shift_averaged
from medgan.noise import NoiseProfile
from medgan.restoration.step import State, Step, Work

BYTES_PER_VOXEL = {"medgan.DenoiseNet": 450}
"""Measured peak memory of a network for each voxel of a tile."""

BYTES_PER_VOXEL_UNKNOWN = 4000

HALVINGS_OF_OTHERS = 32
"""A tile of a network that is not ours is filled up to multiples of this: as many voxels as five halvings ask for."""


def prepare(state: State, card: ModelCard, work: Work) -> Step:
    """A step that denoises a volume by the noise that was measured in it."""
    if state.noise.sigma <= 0.0:
        work.tell("There is no noise in this volume: nothing was denoised.")

    def apply(given: State, network: nn.Module) -> np.ndarray:
        if given.noise.sigma <= 0.0 or work.settings.strength == 0.0:
            return given.array
        per_voxel = BYTES_PER_VOXEL.get(card.network, BYTES_PER_VOXEL_UNKNOWN)
        normal = given.normalisation.apply(given.array)
        result = work.tiles(conditioned_on(network, given.noise), normal, per_voxel, "Denoising:")
        return given.changed(given.normalisation.invert(result), given.array, work.settings.strength)

    return Step(card, {"sigma": state.sigma}, state.ijk_to_ras, apply, _same, _same, state.noise)


def conditioned_on(network: nn.Module, profile: NoiseProfile) -> Callable[[torch.device], Callable[[Tensor], Tensor]]:
    """For a device, the function from a tile (1, 1, D, H, W) to the network's answer of that shape."""

    known = isinstance(network, NOISE_CONDITIONED)

    def make(device: torch.device) -> Callable[[Tensor], Tensor]:
        network.to(device)
        sigma = torch.tensor([profile.sigma], dtype=torch.float32, device=device)
        spread = torch.from_numpy(profile.spread).to(device)[None]

        def predict(tile: Tensor) -> Tensor:
            whole = tile if known else padded(tile, HALVINGS_OF_OTHERS)
            with autocast(device, on_cpu=known):
                if known:
                    answer: Any = shift_averaged(lambda image: network(image, sigma, spread), tile)
                else:
                    answer = network(whole)
            if answer.shape != whole.shape:
                raise ModelError(
                    f"The model answers a tile of shape {tuple(whole.shape)} with {tuple(answer.shape)}; "
                    "choose one that maps one channel to one channel of the same size."
                )
            return cropped(answer, tile).float()

        return predict

    return make


def _same(array: np.ndarray) -> np.ndarray:
    return array
