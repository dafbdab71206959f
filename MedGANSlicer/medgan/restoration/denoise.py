"""Taking away noise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medgan.acquired import Matrix
from medgan.ct_kernel import KERNEL, low_share
from medgan.dim import not_darkened
from medgan.inference import autocast
from medgan.models import ModelCard, ModelError
from medgan.networks import NOISE_CONDITIONED
from medgan.networks.blocks import cropped, padded
from medgan.networks.denoise import shift_averaged
from medgan.noise import CORRELATED, NoiseProfile, noise_profile
from medgan.outside import thick
from medgan.restoration.step import State, Step, Work, noise_in
from medgan.uneven_noise import Evened, evened

BYTES_PER_VOXEL = {"medgan.DenoiseNet": 450}
"""Measured peak memory of a network for each voxel of a tile."""

BYTES_PER_VOXEL_UNKNOWN = 4000

MOST_TIMES = 1.5
"""Correlated noise is told to a network as so many times as strong at the most: it takes away too little of it."""

LEAST_SPREAD = 0.05
"""Noise of a coefficient, as a share of that of all, that a network is told at least."""

HALVINGS_OF_OTHERS = 32
"""A tile of a network that is not ours is filled up to multiples of this: as many voxels as five halvings ask for."""


def prepare(state: State, card: ModelCard, work: Work) -> Step:
    """A step that denoises a volume by the noise that was measured in it."""
    if state.noise.sigma <= 0.0:
        work.tell("There is no noise in this volume: nothing was denoised.")
    elif card.network in BYTES_PER_VOXEL and _hidden(state):
        work.tell(
            "Its finest detail holds next to no noise, as in smoothed volumes and maps: noise can not be told from "
            "anatomy there, and nothing was denoised. Give the noise level if you know it."
        )
    per_voxel = BYTES_PER_VOXEL.get(card.network, BYTES_PER_VOXEL_UNKNOWN)

    def denoised(array: np.ndarray, noise: NoiseProfile, given: State, network: nn.Module, counts: bool) -> np.ndarray:
        """A volume of relative intensities with that noise, denoised; ``counts``: it may be one of counts."""
        # The finest detail, by which uneven noise is told, tells little of correlated noise.
        correlated = noise.plainly_correlated
        times = _times(noise, array) if correlated else 1.0
        known = isinstance(network, NOISE_CONDITIONED)
        evens = known and not noise.around
        even = evened(array, counts, noise.sigma, not correlated) if evens else Evened(array)
        if even.counts or even.field is not None:
            left = _noise_of(even, array, noise, given, work.settings.noise_sigma > 0)
            if left.sigma > 0.0:
                _tell(even, work)
                noise = left
            else:  # a mask, the edges of which were taken for noise
                even = Evened(array)
        del array  # memory: the evened volume is another one
        result = work.tiles(conditioned_on(network, noise, times), even.array, per_voxel, "Denoising:")
        if known and noise.of_magnitudes:
            result = not_darkened(result, even.array, noise.sigma)
        return even.back(result, noise.sigma)

    def apply(given: State, network: nn.Module) -> np.ndarray:
        known = isinstance(network, NOISE_CONDITIONED)
        if given.noise.sigma <= 0.0 or work.settings.strength == 0.0 or (known and _hidden(state)):
            return given.array
        acquired = state.acquired if known else None
        if acquired is None:
            result = denoised(given.normalisation.apply(given.array), given.noise, given, network, given.positive)
            target = given.normalisation.invert(result)
        else:
            ellipse = acquired.matrix.ellipse
            work.tell(_reached(acquired.matrix, given.array.shape, given.noise.of_magnitudes))
            coarse = state.coarse(given.array, given.outside)
            start = coarse
            if ellipse is not None:
                sigma = acquired.noise.sigma * given.normalisation.scale
                start = ellipse.completed(coarse, sigma, work.settings.seed)
            # Only k-space is filled up, and its noise is not that of counts.
            result = denoised(given.normalisation.apply(start), acquired.noise, given, network, counts=False)
            change = given.normalisation.invert(result) - start
            target = state.moved(given.array, change if ellipse is None else ellipse.only(change), given.outside)
        result = given.changed(target, given.array, work.settings.strength)
        return result if given.outside is None else np.where(thick(given.outside), given.array, result)

    return Step(card, {"sigma": state.level}, state.ijk_to_ras, apply, _same, _same, state.noise)


def _times(noise: NoiseProfile, array: np.ndarray) -> float:
    """How many times as strong correlated noise is told to a network; that of a kernel of CT is told as it is, for told
    stronger it would take the brightness of small structures along."""
    kernel, none = KERNEL
    share = float(np.clip((low_share(array) - kernel) / (none - kernel), 0.0, 1.0))
    return 1.0 + share * (min(noise.correlation / CORRELATED, MOST_TIMES) - 1.0)


def _hidden(state: State) -> bool:
    return (state.acquired.noise if state.acquired else state.noise).hidden


def _reached(matrix: Matrix, shape: Sequence[int], of_magnitudes: bool) -> str:
    axes = zip("kji", matrix.shape, shape, strict=True)
    places = [f"{100 * few / side:.0f} % along {axis}" for axis, few, side in axes if few < side]
    if matrix.ellipse is not None:
        places.append("an ellipse of " + " and ".join("kji"[axis] for axis in matrix.ellipse.axes))
    where = ", ".join(places)
    if not of_magnitudes:  # of CT, say, where a kernel ends the noise
        return f"There is noise at a part of the frequencies only ({where}): the volume was denoised there."
    return (
        f"The scanner seems to have acquired a part of k-space only ({where}), beyond which there is no noise: the "
        "volume was denoised there."
    )


def _tell(even: Evened, work: Work) -> None:
    if even.counts:
        work.tell("The noise grows with the brightness, as that of counts does; this was taken into account.")
    if even.field is not None:
        times = float(even.field.max() / even.field.min())
        work.tell(
            f"The noise varies over the volume ({times:.2g} times as strong in one place as in another); this was "
            "taken into account."
        )


def _noise_of(even: Evened, array: np.ndarray, before: NoiseProfile, given: State, told: bool) -> NoiseProfile:
    """The noise of the evened ``array``; for a level that the person ``told``, as much more or less as for that."""
    if even.counts:
        found = noise_profile(even.array).signed()  # where counts are few, their noise does not brighten as magnitudes
    else:  # in the unit of the volume values below 0 show as such
        found = noise_in(given.normalisation.invert(even.array), given.normalisation)
    if not told:
        return found
    if found.hidden:
        return found.scaled_to(before.sigma)
    plain = noise_in(given.normalisation.invert(array), given.normalisation).sigma
    return found.times(before.sigma / plain) if plain > 0.0 else found


def conditioned_on(
    network: nn.Module, profile: NoiseProfile, times: float = 1.0
) -> Callable[[torch.device], Callable[[Tensor], Tensor]]:
    """For a device, the function from a tile (1, 1, D, H, W) to the network's answer of that shape.

    The noise is told as so many ``times`` as strong.
    """

    known = isinstance(network, NOISE_CONDITIONED)

    def make(device: torch.device) -> Callable[[Tensor], Tensor]:
        network.to(device)
        sigma = torch.tensor([times * profile.sigma], dtype=torch.float32, device=device)
        # Some coefficients of doubled voxels are exactly 0; training has seen no such noise.
        least = LEAST_SPREAD * float(np.sqrt(np.mean(np.square(profile.spread[1:]))))
        spread = np.float32(times) * np.maximum(profile.spread, np.float32(least))
        spread[0] = profile.spread[0]  # brightness
        told = torch.from_numpy(spread).to(device)[None]

        def predict(tile: Tensor) -> Tensor:
            whole = tile if known else padded(tile, HALVINGS_OF_OTHERS)
            with autocast(device, on_cpu=known):
                if known:
                    answer: Any = shift_averaged(lambda image: network(image, sigma, told), tile)
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
