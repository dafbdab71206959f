"""What every step of an enhancement is given, and what it gives back."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from medgan.acquired import Matrix, acquired_grid, acquired_matrix, enlarged, on_matrix
from medgan.blur import Blur
from medgan.inference import (
    COPIES_WITH_UNCERTAINTY,
    VOLUME_COPIES,
    ChosenDevice,
    Normalisation,
    planned,
    robust_normalisation,
    run_with_fallback,
)
from medgan.models import ModelCard, ModelError, build_network, load_state
from medgan.noise import NoiseProfile, noise_profile
from medgan.outside import outside
from medgan.progress import Progress, silent
from medgan.settings import EnhanceSettings

if TYPE_CHECKING:
    from medgan.recipes.training import PatchSource


MOST_BELIEVED = 3.0
"""A noise level that the settings name counts for this many times what is found at the most."""

ROUNDING = 1e-6
"""Noise, as a share of the range, that rounding makes of a volume without any."""


@dataclass
class Work:
    """One run: its settings, where it computes, what it has told the person so far, and how far it is."""

    settings: EnhanceSettings
    chosen: ChosenDevice
    messages: list[str] = field(default_factory=list)
    progress: Progress = silent

    def tell(self, sentence: str) -> None:
        """A sentence for the person, once."""
        if sentence not in self.messages:
            self.messages.append(sentence)

    def check(self, shape: Sequence[int], bytes_per_voxel: int, channels: int = 1) -> None:
        """Raise ``MemoryRefused`` when a network over an array of that [k, j, i] shape would not fit into memory. On a
        GPU nothing is refused yet: what does not fit there may fit into the processor's."""
        if self.chosen.device.type == "cpu":
            limit = int(self.settings.memory_limit_gb * 1e9)
            planned(shape, bytes_per_voxel, self.chosen, limit, channels=channels, copies=self._copies())

    def _copies(self) -> int:
        return COPIES_WITH_UNCERTAINTY if self.settings.uncertainty else VOLUME_COPIES

    def tiles(
        self,
        make_predict: Callable[[torch.device], Callable[[Tensor], Tensor]],
        array: np.ndarray,
        bytes_per_voxel: int,
        label: str,
        channels: int = 1,
    ) -> np.ndarray:
        """A network over a whole array in the memory that there is (see :func:`medgan.inference.run_with_fallback`)."""
        limit = int(self.settings.memory_limit_gb * 1e9)
        result, self.chosen, told = run_with_fallback(
            make_predict, array, bytes_per_voxel, self.chosen, limit, self.progress, label, channels,
            copies=self._copies(),
        )  # fmt: skip
        for sentence in told:
            self.tell(sentence)
        return result


@dataclass(frozen=True)
class Acquired:
    """The matrix that was acquired, and the noise there, relative to the normalised volume: to be reckoned with, and as
    it was found."""

    matrix: Matrix
    noise: NoiseProfile
    found: NoiseProfile

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the matrix, [k, j, i]."""
        return self.matrix.shape


@dataclass
class State:
    """The volume between two steps: finite float32 [k, j, i], its grid, its unit, and the noise it was measured with.

    ``noise`` is relative to the normalised volume; its ``sigma`` is 0 where there is none.
    """

    array: np.ndarray
    ijk_to_ras: np.ndarray
    normalisation: Normalisation
    noise: NoiseProfile
    positive: bool
    blur: Blur | None = None
    """As it was measured before an earlier step took the noise away, where one did; on the matrix that was acquired."""

    acquired: Acquired | None = None
    """The coarser matrix that the scanner acquired, where it filled one up."""

    found: NoiseProfile | None = None
    """The noise as it was measured, where ``noise`` is what the settings say."""

    told: float = 0.0
    """The noise that the settings name, in the unit of the volume; 0 for none."""

    outside: np.ndarray | None = None
    """Where the volume was cut out of its surroundings (see :mod:`medgan.outside`), for steps that need to know."""

    @property
    def level(self) -> float:
        """The noise to be reckoned with (see :attr:`medgan.noise.NoiseProfile.level`), in the unit of the volume."""
        return self.told or self.found_level

    @property
    def found_level(self) -> float:
        """The noise as it was measured, in the unit of the volume."""
        return self._found.level * self._share * self.normalisation.scale

    @property
    def _share(self) -> float:
        """Of the noise of a voxel as if all had been acquired, what there is of it."""
        ellipse = self.acquired.matrix.ellipse if self.acquired else None
        return 1.0 if ellipse is None else math.sqrt(ellipse.share)

    @property
    def finest(self) -> float:
        """The noise to be reckoned with in the finest detail, in the unit of the volume; of a level that the settings
        name not more than can be believed."""
        noise = self.acquired.noise if self.acquired else self.noise
        return min(noise.sigma, MOST_BELIEVED * self._found.sigma) * self.normalisation.scale

    @property
    def _found(self) -> NoiseProfile:
        return self.acquired.found if self.acquired else self.found or self.noise

    def level_of(self, result: np.ndarray) -> float:
        """The noise of an array in the unit of the volume, seen as that of the volume was."""
        if self.acquired is not None and result.shape == self.array.shape:
            result = self.coarse(result, self.outside)
            if self.acquired.matrix.ellipse is not None:
                return self.acquired.matrix.level(result)
        return noise_in(result, self.normalisation).level_as(self._found) * self.normalisation.scale

    def on_matrix(self) -> State:
        """The same on the matrix that was acquired, with what is outside filled in; this state where there is none."""
        if self.acquired is None:
            return self
        grid = acquired_grid(self.ijk_to_ras, self.array.shape, self.acquired.shape)
        coarse = self.coarse(self.array, self.outside, fill=True)
        return State(coarse, grid, self.normalisation, self.acquired.noise, self.positive, self.blur)

    def coarse(self, array: np.ndarray, cut: np.ndarray | None, fill: bool = False) -> np.ndarray:
        """An array of the shape and unit of the volume, see :func:`medgan.acquired.on_matrix`."""
        assert self.acquired is not None
        return on_matrix(array, self.acquired.shape, self.positive, cut, fill)

    def moved(self, array: np.ndarray, change: np.ndarray, outside: np.ndarray | None) -> np.ndarray:
        """An array of the shape of the volume with a change that was made on the matrix; but for what is outside."""
        change = enlarged(change, array.shape)
        return array + (change if outside is None else np.where(outside, np.float32(0.0), change))

    def changed(self, target: np.ndarray, start: np.ndarray, strength: float) -> np.ndarray:
        """``start`` moved towards ``target`` (unit of the volume); never below 0 where the volume never is."""
        if self.positive:
            target = np.maximum(target, 0.0)
        if strength == 1.0:
            return target
        return start + np.float32(strength) * (target - start)


@dataclass
class Step:
    """A prepared step: what it will do, in numbers; then :meth:`apply` may be called for any volume of that grid.

    ``noise``: measured in the volume it was prepared on. ``start``: the array of a volume on the grid of the result,
    as it is without a network. ``degrade``: the array of a result as the scanner would have delivered it, on the grid
    of the input.
    """

    card: ModelCard
    details: dict[str, Any]
    ijk_to_ras: np.ndarray
    apply: Callable[[State, nn.Module], np.ndarray]
    start: Callable[[np.ndarray], np.ndarray]
    degrade: Callable[[np.ndarray], np.ndarray]
    noise: NoiseProfile
    patches: Callable[[torch.device], PatchSource] | None = None
    """Training patches made from the volume itself; None where a volume can not teach its own restoration."""
    network: nn.Module | None = None


def measured(array: np.ndarray, ijk_to_ras: np.ndarray, settings: EnhanceSettings) -> State:
    """A finite volume with its intensity range and its noise, which the settings may name.

    Raises ``ValueError`` for a level that is more than the range, or nothing beside it.
    """
    normalisation = robust_normalisation(array)
    told = settings.noise_sigma
    if told > normalisation.scale:
        raise ValueError(
            f"A noise of {told:.3g} is more than the whole intensity range of this volume, {normalisation.scale:.3g}; "
            "give its standard deviation in the unit of the volume, or leave it out to have it estimated."
        )
    relative = told / normalisation.scale
    if 0.0 < relative <= ROUNDING:
        raise ValueError(
            f"A noise of {told:.3g} is nothing beside the intensity range of this volume, {normalisation.scale:.3g}; "
            "give its standard deviation in the unit of the volume, or leave it out to have it estimated."
        )
    found = noise_in(array, normalisation)

    def reckoned(noise: NoiseProfile, share: float = 1.0) -> NoiseProfile:
        return noise.scaled_to(relative / share) if told > 0.0 else noise

    state = State(array, ijk_to_ras, normalisation, reckoned(found), not (array < 0).any(), found=found, told=told)
    matrix = acquired_matrix(array) if found.sigma > 0.0 else None
    if matrix is not None:
        state.outside = outside(array)
        coarse = on_matrix(array, matrix.shape, state.positive, state.outside)
        noise = told_apart(matrix.noise(coarse).in_units_of(normalisation.scale))
        state.acquired = Acquired(matrix, noise, noise)
        state.acquired = Acquired(matrix, reckoned(noise, state._share), noise)
    return state


def noise_in(array: np.ndarray, normalisation: Normalisation) -> NoiseProfile:
    """The noise of a volume for its normalised copy. Measured in its own unit: there values below 0 show as such.

    What rounding alone makes is none.
    """
    return told_apart(noise_profile(array).in_units_of(normalisation.scale))


def told_apart(noise: NoiseProfile) -> NoiseProfile:
    """The noise; none where it is but rounding."""
    return noise if noise.sigma > ROUNDING else NoiseProfile(0.0, np.zeros_like(noise.spread))


def network_of(card: ModelCard, character: float, work: Work) -> nn.Module:
    """The network of a model, its weights between the faithful (0) and the natural ones (1)."""
    return build_network(card, blended_state(card, character, work))


def blended_state(card: ModelCard, character: float, work: Work) -> dict[str, Tensor]:
    """Weights between the faithful (0) and the natural ones (1), by linear interpolation, in float32.

    Deep network interpolation, Wang et al. 2019 (arXiv 1811.10515). A model with one set of weights has no
    character; that is said when somebody asked for one.
    """
    keys = list(card.weights)
    first = {
        name: tensor.float() for name, tensor in load_state(card, "faithful" if "faithful" in keys else keys[0]).items()
    }
    if character == 0.0:
        return first
    if "natural" not in keys:
        if character != EnhanceSettings.character:  # nobody asked for the default
            work.tell(f"The model '{card.name}' has one set of weights; the character has no effect.")
        return first
    second = load_state(card, "natural")
    if second.keys() != first.keys():
        raise ModelError(f"Model '{card.name}': its two sets of weights do not belong to the same network.")
    return {name: torch.lerp(tensor, second[name].float(), character) for name, tensor in first.items()}
