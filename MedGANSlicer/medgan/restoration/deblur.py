"""Taking away blur."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from medgan.blur import Blur, measure_blur
from medgan.deconvolution import Widths, blurred, inverse_for, noise_after, suited
from medgan.inference import autocast
from medgan.models import ModelCard, ModelError
from medgan.networks.deblur import DeblurNet
from medgan.networks.denoise import shift_averaged
from medgan.noise import NoiseProfile
from medgan.outside import filled
from medgan.restoration.step import State, Step, Work
from medgan.settings import EnhanceSettings
from medgan.volume import spacing_of

if TYPE_CHECKING:
    from medgan.recipes.training import PatchSource

BYTES_PER_VOXEL = 450
"""Measured peak memory of the network for each voxel of a tile."""

LEAST, MOST = 0.3, 2.2
"""Blur in voxels between which the network was trained; below the first there is nothing to do."""

LEAST_FOUND = 0.45
"""Blur in voxels below which an estimate is not believed: compressed slices, slices of uneven brightness, metal and
filled-up k-space show up to 0.4 without any; scans blurred by 0.7 voxels at least 0.53."""

PROJECTIONS = 3
"""Steps towards the volumes that, blurred again, are the input within its noise (Landweber 1951)."""

SHORTEST_TO_FIT = 64

CAUTION = 0.92
"""Share of the blur found that is taken away: a little too much costs far more than a little too little."""

LARGEST_SWING, LARGEST_GROWTH = 0.25, 1.5
"""An inverse that goes this share of its peak below the darkest voxel, and spreads the voxels by this factor, is the
inverse of a blur that the volume does not have. So is one that goes as far below as the volume's own peak is high."""


def prepare(state: State, card: ModelCard, work: Work) -> Step:
    """A step that deblurs by the width the settings name or the edges tell.

    What is outside of the scan is filled in for that, and comes back as it was. A volume that was filled up from a
    coarser matrix is deblurred on that matrix: what was never acquired is no blur.
    """
    coarse = state.on_matrix()
    shape, acquired = state.array.shape, coarse.array.shape
    step = _prepared(coarse, card, work, tuple(few / side for side, few in zip(shape, acquired, strict=True)))
    if coarse is state:
        return step
    idle = not step.details["blur_sigma"]

    def apply(given: State, network: nn.Module) -> np.ndarray:
        if idle or work.settings.strength == 0.0:
            return given.array
        before = state.coarse(given.array, given.outside, fill=True)
        after = state.moved(given.array, step.apply(replace(coarse, array=before), network) - before, given.outside)
        return given.changed(after, given.array, 1.0)

    def degrade(array: np.ndarray) -> np.ndarray:
        if idle:
            return array
        before = state.coarse(array, state.outside, fill=True)
        return state.moved(array, step.degrade(before) - before, state.outside)

    return replace(step, ijk_to_ras=state.ijk_to_ras, apply=apply, degrade=degrade, noise=state.noise)


def _prepared(state: State, card: ModelCard, work: Work, voxels: tuple[float, ...]) -> Step:
    """The step for the grid of ``state``; ``voxels``: how long those of the volume are on it along k, j and i."""
    seen = state.blur or measure_blur(state.array, spacing_of(state.ijk_to_ras)[::-1])
    state = replace(state, array=filled(state.array, state.outside))
    asked = work.settings.strength > 0.0
    tell = work.tell if asked else _silent
    width, source = blur_of(seen, work.settings)
    found_shares, unit = seen.shares(), max(voxels)
    shares = found_shares
    if source == "given":
        width *= unit
        shares = tuple(share * length / unit for share, length in zip(shares, voxels, strict=True))
    if seen.cut:
        cut = " and ".join("kji"[axis] for axis in seen.cut)
        tell(f"A part of k-space was left out along {cut}; that is no blur, and nothing was deblurred there.")
    least = LEAST if source == "given" else LEAST_FOUND
    if source == "not measurable":
        tell(
            "The blur can not be measured, because the volume is too small or has no clear edges: set Blur (--blur) to "
            "its width."
        )
    elif width < least and source == "given":
        tell(f"A blur of {width / unit:.2g} voxels is too small to be taken away: nothing was deblurred.")
    elif width < least:
        tell("No blur was found that can be told from none: nothing was deblurred. If there is one, set Blur (--blur).")
    elif width > MOST:
        most = f"at most {MOST / unit:.2g} are taken away"
        tell(f"The blur of {width / unit:.2g} voxels is wider than the model knows; {most}.")
    wanted = min(width, MOST) if asked and width >= least and any(shares) else 0.0
    if wanted:
        _tell_of_axes(seen, found_shares, tell)

    def along(width: float) -> tuple[float, ...]:
        return tuple(width * share for share in shares)

    width = possible_blur(state, wanted, along)
    if width < wanted:
        taken = f"{width / unit:.2g} voxels were taken away" if width else "nothing was deblurred"
        tell(f"The volume is sharper than a blur of {wanted / unit:.2g} voxels would have left it: {taken}.")

    def degrade(array: np.ndarray) -> np.ndarray:
        if not width:
            return array
        return _back(blurred(filled(array, state.outside), along(width)), array, state.outside)

    def apply(given: State, network: nn.Module) -> np.ndarray:
        if width == 0.0 or work.settings.strength == 0.0:
            return given.array
        array = filled(given.array, given.outside)
        normal = given.normalisation.apply(array)
        inverse = suited(inverse_for(normal, along(width), given.noise.sigma), normal, given.noise.sigma)
        predictor = _predictor(network, width, noise_after(inverse, given.noise))
        result = work.tiles(predictor, inverse(normal), BYTES_PER_VOXEL, "Deblurring:")
        darkest = given.normalisation.apply(np.zeros(1, np.float32))[0] if given.positive else -np.inf
        result = projected(result, normal, along(width), given.noise.sigma, darkest)
        result = given.changed(given.normalisation.invert(result), array, work.settings.strength)
        return _back(result, given.array, given.outside)

    found = {"kji"[n]: width * share / voxels[n] for n, share in enumerate(shares) if width * share > 0.0}
    details = {
        "blur_sigma": max(found.values(), default=0.0),
        "blur_source": source,
        "blurred_axes": "".join(found),
        "blur_along": found,
    }
    patches = _patches_of(state, width if min(shares) == 1.0 else 0.0)
    return Step(card, details, state.ijk_to_ras, apply, _same, degrade, state.noise, patches)


def blur_of(seen: Blur, settings: EnhanceSettings) -> tuple[float, str]:
    """Standard deviation in voxels of the blur beyond what a sharp scan shows, and "given", "estimated" or, with 0,
    "not measurable"."""
    if settings.blur_sigma > 0:
        return settings.blur_sigma, "given"
    return (0.0, "not measurable") if math.isnan(seen.width) else (CAUTION * seen.width, "estimated")


def _tell_of_axes(seen: Blur, shares: tuple[float, ...], tell: Callable[[str], None]) -> None:
    across = [axis for axis in range(3) if axis not in (*seen.within, *seen.cut) and not shares[axis]]
    if any(math.isfinite(seen.along[axis]) for axis in across):
        tell("The slices are thick and not blurred into each other: blur was taken away within them only.")
    elif across:
        tell(
            "There are too few slices to tell whether they are blurred into each other: blur was taken away within "
            "them only."
        )
    less = ["kji"[axis] for axis in range(3) if axis not in (*across, *seen.cut) and shares[axis] < 1.0]
    if less:
        tell(f"There is less blur along {' and '.join(less)} than along the other axes, so less was taken away there.")


def _silent(sentence: str) -> None:
    pass


def possible_blur(state: State, width: float, along: Callable[[float], Widths] = float) -> float:
    """The width, or the largest below it that can have been in the volume; 0 for none. ``along``: the widths along the
    axes for such a width.

    A volume that is sharper than such a blur leaves it has an inverse that swings far below its darkest voxel.
    """
    normal = state.normalisation.apply(state.array)
    darkest, peak, spread = min(float(normal.min()), 0.0), max(1.0, float(normal.max())), float(normal.std())
    while width >= LEAST:
        inverse = inverse_for(normal, along(width), state.noise.sigma)
        undone = inverse(normal)
        below = darkest - float(undone.min()) - 5.0 * noise_after(inverse, state.noise).sigma
        swings = below > LARGEST_SWING * max(1.0, float(undone.max()))
        if below < peak and (not swings or float(undone.std()) < LARGEST_GROWTH * spread):
            return width
        width *= 0.85
    return 0.0


def projected(
    result: np.ndarray, blurry: np.ndarray, width: Widths, noise: float, darkest: float = -np.inf
) -> np.ndarray:
    """The result moved until, blurred again, it is the input to within two standard deviations of its noise.

    Nothing is darker than ``darkest``; that is part of what the scan allows, so it is asked for at each step.
    """
    for _ in range(PROJECTIONS):
        result = np.maximum(result, np.float32(darkest))
        excess = blurry - blurred(result, width)
        excess -= np.clip(excess, -2.0 * noise, 2.0 * noise)
        if not excess.any():
            break
        result += blurred(excess, width)
    return result


def _predictor(
    network: nn.Module, width: float, profile: NoiseProfile
) -> Callable[[torch.device], Callable[[Tensor], Tensor]]:
    if not isinstance(network, DeblurNet):
        raise ModelError(
            f"The network {type(network).__name__} does not take a blur; deblurring needs medgan.DeblurNet."
        )

    def make(device: torch.device) -> Callable[[Tensor], Tensor]:
        network.to(device)
        sigma, blur = (torch.tensor([n], dtype=torch.float32, device=device) for n in (profile.sigma, width))
        spread = torch.from_numpy(profile.spread).to(device)[None]

        def predict(tile: Tensor) -> Tensor:
            with autocast(device, on_cpu=True):
                answer = shift_averaged(lambda sharp: network(sharp, sigma, spread, blur), tile)
            return answer.float()

        return predict

    return make


def _patches_of(state: State, width: float) -> Callable[[torch.device], PatchSource] | None:
    """At half its size a volume is twice as sharp: what it loses there when blurred teaches what it lost before."""
    if width == 0.0 or min(state.array.shape) < SHORTEST_TO_FIT:
        return None

    def make(device: torch.device) -> PatchSource:
        from medgan.degradation import thick_slices
        from medgan.recipes.deblur import OwnBlur

        half = torch.from_numpy(state.normalisation.apply(state.array)).to(device)
        for axis in range(3):
            half = thick_slices(half, axis, 2)
        return OwnBlur(half, state.noise.sigma / math.sqrt(8.0), width, state.noise.sigma)

    return make


def _back(result: np.ndarray, array: np.ndarray, outside: np.ndarray | None) -> np.ndarray:
    """The result within, the array outside."""
    return result if outside is None else np.where(outside, array, result)


def _same(array: np.ndarray) -> np.ndarray:
    return array
