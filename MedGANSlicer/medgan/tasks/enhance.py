"""Enhance one volume: take away noise, blur or thick slices, and say what was changed and whether the scan supports it.

Reads ``inputs["volume"]``; returns, in the unit of the input, the volumes

- ``"volume"``: the result; on a new grid with the same field of view when slices were divided anew,
- ``"difference"``: the result minus the input on the grid of the result (interpolated there when that is new),
- ``"residual"``: the result as the scanner would have seen it minus the input, on the grid of the input (not for
  denoising alone, where it is the difference); what a strength below 1 left as it was is not blurred again, and next to
  what is outside of the scan nothing is compared with an input that was blurred,
- ``"uncertainty"``: how far the model disagrees with itself, when asked for,

and a report of plain JSON values. The order of a chain is noise, blur, resolution.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import ndimage
from torch import nn

import medgan
from medgan.blur import measure_blur
from medgan.guards import consistency, suspicions, uncertainty
from medgan.inference import choose_device, fill_not_finite, set_deterministic
from medgan.lost_slices import filled_between, lost_slices
from medgan.maps import is_map
from medgan.models import ModelCard, ModelError, find_chain
from medgan.noise import NoiseProfile, padding_as_air, sampled_blocks
from medgan.outside import nearest, outside
from medgan.progress import Progress, part, silent
from medgan.recognition.fits import fits, recognised
from medgan.restoration import deblur, denoise, superres
from medgan.restoration.fit import fitted
from medgan.restoration.step import Acquired, State, Step, Work, measured, network_of, noise_in
from medgan.settings import EnhanceSettings
from medgan.settings.enhance import SETTINGS_FOR
from medgan.tasks import Outputs
from medgan.volume import LabelMap, Volume, spacing_of

SHORTEST_SIDE = 4
"""Fewest voxels along an axis that a 3D model can learn anything from."""

UNLIKELY = 3.0
"""A noise that is named is so many times the noise that is found at most, or else a word is due."""

REACH_OF_BLUR = 2.0
"""Standard deviations of a blur within which next to all of it comes from."""

PREPARE = {"noise": denoise.prepare, "blur": deblur.prepare, "resolution": superres.prepare}


def run(inputs: Mapping[str, Volume | LabelMap], settings: EnhanceSettings, progress: Progress = silent) -> Outputs:
    """Enhance ``inputs["volume"]`` as the settings say. The input is not changed.

    The same input, settings and device give the same voxels, unless time decided (``fit_minutes``). Raises
    ``ValueError`` (and its kinds ``ModelError``, ``MemoryRefused``) with one sentence for what can not be done,
    ``Cancelled`` when progress says so.
    """
    begun = time.monotonic()
    progress = _rising(progress)
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
    cards = find_chain(settings.model)
    work = Work(settings, choose_device(settings.device))
    progress(0.01, "Measuring the volume")
    filled, broken = fill_not_finite(volume.array)
    padded, filled = filled, padding_as_air(filled)
    padding = padded != filled  # air to the models, and padding again in the result
    empty = np.zeros(filled.shape, dtype=bool)
    said_of_empty: list[str] = []
    said_of_repeated: list[str] = []
    if is_map(sampled_blocks(filled)):  # what is empty there belongs to it
        work.tell("This looks like a mask or a probability map, not like a scan: models for scans spoil it.")
    else:
        seen = recognised(volume)
        for sentence in (sentence for card in cards for sentence in fits(card, seen)):
            work.tell(sentence)
        filled, empty, said_of_empty, said_of_repeated = _without_lost_slices(filled)
        padding &= ~empty
    state = measured(filled, volume.ijk_to_ras, settings)
    if state.told > UNLIKELY * state.found_level > 0.0:
        times = state.told / state.found_level
        work.tell(
            f"The noise level given, {state.told:.3g}, is {times:.2g} times what is found in the volume, "
            f"{state.found_level:.3g}: look whether detail was taken for noise."
        )
    if state.acquired is None:  # else it was looked for there
        state = dataclasses.replace(state, outside=outside(filled))
    steps, given, result = _restored(state, cards, work, progress)
    grid = steps[-1].ijk_to_ras if steps else volume.ijk_to_ras
    same_grid = result.shape == volume.shape
    unsure = _disagreement(state, result, steps, work, progress) if settings.uncertainty else None
    if broken.any():
        count = int(broken.sum())
        work.tell(
            f"{count} voxels were not finite numbers; the model saw values filled in, "
            + ("and the result keeps them as they were." if same_grid else "and so does the result.")
        )
    for sentence in said_of_empty + (said_of_repeated if state.found_level > 0.0 else []):  # drawn volumes have such
        work.tell(sentence)
    progress(0.93, "Comparing the result with the input")
    start, seen_again = filled, result
    for step in steps:
        start = step.start(start)
    for step, before in zip(reversed(steps), reversed(given), strict=True):
        seen_again = _seen_again(seen_again, before, step, settings.strength)
    if same_grid:
        result = np.where(broken, volume.array, result)
    difference = result - start
    if same_grid:
        difference[broken | empty] = 0.0
    shown = np.where(empty, volume.array, result) if same_grid and empty.any() else result
    if padding.any():
        unseen = nearest(padding, result.shape)
        difference[unseen] = 0.0
        shown = np.where(unseen, padded.min(), shown)
    volumes: dict[str, Volume | LabelMap] = {
        "volume": _on(grid, volume, shown),
        "difference": _on(grid, volume, difference, "float32"),
    }
    residual = seen_again - filled
    del seen_again
    residual[broken | empty | padding | _from_outside(state, steps)] = 0.0
    if [card.restores for card in cards] != ["noise"]:
        volumes["residual"] = volume.like(residual, "float32")
    if unsure is not None:
        volumes["uncertainty"] = _on(grid, volume, unsure, "float32")
    sigma_after = state.level_of(fill_not_finite(result)[0])
    found = suspicions(result, start, residual, unsure, state, grid, steps)
    report = {
        "task": "enhance",
        "model": "+".join(card.name for card in cards),
        "model_version": "+".join(card.version for card in cards),
        "model_sha256": _hashes(cards),
        "settings": settings.to_dict(),
        "seed": settings.seed,
        "package_version": medgan.__version__,
        "device": work.chosen.name,
        "device_reason": work.chosen.reason,
        "seconds": round(time.monotonic() - begun, 2),
        "sigma_before": state.level,
        "sigma_after": sigma_after,
        "sigma_source": "given" if settings.noise_sigma > 0 else "estimated",
        "noise_unit": "intensity unit of the input",
        "mean_absolute_change": float(np.abs(difference).mean()),
        "largest_change": float(np.abs(difference).max()),
        "steps": [{"model": step.card.name, "restores": step.card.restores, **step.details} for step in steps],
        "consistency": consistency(residual, state),
        "suspicions": found,
        "messages": work.messages,
        "synthetic": True,
    }
    progress(1.0, "Done")
    return Outputs(volumes, report)


def _restored(
    state: State, cards: Sequence[ModelCard], work: Work, progress: Progress
) -> tuple[list[Step], list[np.ndarray], np.ndarray]:
    """The prepared steps, the array that each was given, and the array after the last.

    Each is prepared on what the one before it delivered.
    """
    settings, steps, given = work.settings, [], []
    restored = [card.restores for card in cards]
    _tell_of_idle_settings(restored, work)
    if settings.strength > 0.0 and "resolution" in restored:
        superres.check_memory(state, work)
    if "blur" in restored[1:]:  # what takes noise away changes what blur is measured by
        matrix = state.on_matrix()
        state = dataclasses.replace(state, blur=measure_blur(matrix.array, spacing_of(matrix.ijk_to_ras)[::-1]))
    if settings.strength == 0.0:
        finer = any(card.restores == "resolution" for card in cards)
        work.tell("The strength is 0: the result is the input" + (", interpolated." if finer else "."))
    share = 0.9 * (0.4 if settings.uncertainty else 1.0) / len(cards)
    for number, card in enumerate(cards):
        begun = time.monotonic()
        first = 0.03 + number * share
        step = PREPARE[card.restores](state, card, work)
        work.progress = part(progress, first, first + 0.4 * share if settings.fit_minutes else first)
        network = network_of(card, settings.character, work)
        if settings.strength > 0.0 and (settings.fit_minutes or settings.fit_from_scratch):
            network = fitted(network, step, work)
        work.progress = part(progress, first + (0.4 * share if settings.fit_minutes else 0.0), first + share)
        array = step.apply(state, network)
        if not np.isfinite(array).all():
            raise ModelError(f"Model '{card.name}' answered with numbers that are not finite; install it again.")
        step.details["seconds"] = round(time.monotonic() - begun, 2)
        step.network = network
        steps.append(step)
        given.append(state.array)
        if number + 1 < len(cards):
            noise, acquired = noise_in(array, state.normalisation), None
            if card.restores == "noise":
                noise = _left(noise, state.noise)
                acquired = _left_on_matrix(array, state)
            state = State(
                array, step.ijk_to_ras, state.normalisation, noise, state.positive, state.blur, acquired,
                outside=state.outside,
            )  # fmt: skip
        else:
            state = State(array, step.ijk_to_ras, state.normalisation, state.noise, state.positive)
    return steps, given, state.array


def _left(found: NoiseProfile, before: NoiseProfile) -> NoiseProfile:
    """The noise to reckon with after denoising: what is found, but at least half of what there was.

    What a denoiser leaves and takes of the anatomy is no noise that can be measured, and undoing a blur would raise it
    as if it were anatomy.
    """
    least = 0.5
    spread = np.maximum(found.spread, np.float32(least) * before.spread)
    return NoiseProfile(max(found.sigma, least * before.sigma), spread)


def _left_on_matrix(array: np.ndarray, before: State) -> Acquired | None:
    """The same on the matrix that was acquired."""
    if before.acquired is None:
        return None
    found = noise_in(before.coarse(array, before.outside), before.normalisation)
    return dataclasses.replace(before.acquired, noise=_left(found, before.acquired.noise))


def _without_lost_slices(array: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[str], list[str]]:
    """The array with empty slices filled in from their neighbours, where they were (bool), and what is to be said of
    them and of repeated slices."""
    empty, said_of_empty, said_of_repeated = np.zeros(array.shape, dtype=bool), [], []
    for axis, name in enumerate("kji"):
        found = lost_slices(array, (axis,))
        array, numbers = filled_between(array, found)
        np.moveaxis(empty, axis, 0)[numbers] = True
        if numbers:
            said_of_empty.append(
                f"Empty slices along {name} ({_listed(numbers)}) were filled in between their neighbours: do not rely "
                "on what a finer grid shows there."
            )
        if found.repeated:
            said_of_repeated.append(
                f"Slices along {name} repeat the one before ({_listed(found.repeated)}): what was there was not "
                "measured."
            )
    return array, empty, said_of_empty, said_of_repeated


def _listed(numbers: Sequence[int], most: int = 5) -> str:
    return ", ".join(map(str, numbers[:most])) + (", ..." if len(numbers) > most else "")


def _tell_of_idle_settings(restored: Sequence[str], work: Work) -> None:
    """Say which settings that somebody has made belong to no model of the chain."""
    for kind, names in SETTINGS_FOR.items():
        for name in names if kind not in restored else ():
            if getattr(work.settings, name) != getattr(EnhanceSettings, name):
                purpose = {"blur": "deblurring", "resolution": "super-resolution"}[kind]
                work.tell(f"Setting '{name}' is for {purpose} and has no effect here.")


def _from_outside(state: State, steps: Sequence[Step]) -> np.ndarray:
    """Where the input holds what was blurred into it from outside, which is not known (bool), and the outside."""
    if state.outside is None:
        return np.zeros(state.array.shape, dtype=bool)
    width = max(float(step.details.get("blur_sigma", 0.0)) for step in steps)
    reach = math.ceil(REACH_OF_BLUR * width)
    return ndimage.binary_dilation(state.outside, iterations=reach) if reach else state.outside


def _seen_again(result: np.ndarray, given: np.ndarray, step: Step, strength: float) -> np.ndarray:
    """The result of a step as the scanner would have delivered it.

    At a strength below 1 a deblurred result is a share of what the step was given, which is blurred as it is, and a
    share that is to be blurred again. The result of any other step is seen whole.
    """
    kept = np.float32(1.0 - strength)
    if kept == 0.0 or not step.details.get("blur_sigma"):
        return step.degrade(result)
    unchanged = kept * given
    return unchanged + step.degrade(result - unchanged)


def _disagreement(
    state: State, result: np.ndarray, steps: Sequence[Step], work: Work, progress: Progress
) -> np.ndarray:
    """The uncertainty map; 0 where no network was asked."""
    settings = work.settings
    if settings.strength == 0.0:
        return np.zeros_like(result)
    wanted = (settings.character, 0.0, 1.0) if any(map(_has_character, steps)) else (settings.character,)

    def variant(array: np.ndarray, character: float, progress: Progress) -> np.ndarray:
        return _variant(state, array, steps, character, work, progress)

    return uncertainty(variant, state, result, list(dict.fromkeys(wanted)), part(progress, 0.39, 0.93))


def _has_character(step: Step) -> bool:
    """Whether there are other weights to ask; those of a network that was fitted to the volume were not."""
    return "natural" in step.card.weights and "fit" not in step.details


def _variant(
    state: State, array: np.ndarray, steps: Sequence[Step], character: float, work: Work, progress: Progress
) -> np.ndarray:
    """What the chain makes of a mirrored copy of the input, or with weights of another character."""
    cut = None if state.outside is None else outside(array)
    for number, step in enumerate(steps):
        work.progress = part(progress, number / len(steps), (number + 1) / len(steps))
        given = State(array, state.ijk_to_ras, state.normalisation, step.noise, state.positive, outside=cut)
        network: nn.Module | None = step.network
        if character != work.settings.character and _has_character(step):
            network = network_of(step.card, character, work)
        assert network is not None
        array = step.apply(given, network)
    return array


def _rising(progress: Progress) -> Progress:
    """The same, but never less than before: what is done again, as with less memory, takes nothing back."""
    furthest = 0.0

    def inner(fraction: float, message: str = "") -> None:
        nonlocal furthest
        furthest = max(furthest, fraction)
        progress(furthest, message)

    return inner


def _on(grid: np.ndarray, volume: Volume, array: np.ndarray, voxel_type: str | None = None) -> Volume:
    return Volume(np.asarray(array, dtype=np.float32), grid.copy(), dict(volume.meta), voxel_type or volume.voxel_type)


def _hashes(cards: Sequence[ModelCard]) -> dict[str, str]:
    """SHA-256 of each weight file; in a chain by model and weights."""
    before = len(cards) > 1
    return {
        f"{card.name}/{key}" if before else key: weight.sha256 for card in cards for key, weight in card.weights.items()
    }
