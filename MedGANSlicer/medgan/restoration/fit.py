"""Fitting a network to the one volume it is going to restore, with patches of that volume (zero-shot learning).

Source: "Zero-shot" super-resolution, Shocher, Cohen, Irani 2018 (arXiv 1712.06087).
"""

from __future__ import annotations

import copy
import time

import torch
from torch import Tensor, nn

from medgan.inference import MemoryRefused, cpu_device, is_out_of_memory
from medgan.models import build_network
from medgan.restoration.step import Step, Work

RATE, RATE_FROM_SCRATCH = 1e-4, 1e-3
BATCH = 4
CHECKED_BATCHES = 6
"""Batches, never learned from, on which the fit has to be better than what it started from; fewer if time is short."""

WHY_NOT = {
    "noise": "a volume can not teach how to clean itself",
    "blur": "the volume is too small, has thick slices, or has no blur",
    "resolution": "the volume has no axis that is sharper and long enough to teach it",
}
"""Why there are no patches to fit a model with, by what it restores."""


def fitted(network: nn.Module, step: Step, work: Work) -> nn.Module:
    """The network after ``fit_minutes`` on the volume's own patches, or as it was where that did not help.

    From random weights with ``fit_from_scratch``. What the fit reached is said. Patches and their order follow from
    the seed; how many are seen is a matter of time. What a GPU has no memory for, the CPU does; raises
    :class:`medgan.inference.MemoryRefused` where that has too little as well.
    """
    settings, name = work.settings, step.card.name
    if step.patches is None:
        instead = "; its own weights were used" if settings.fit_from_scratch else ""
        work.tell(f"'{name}' was not fitted: {WHY_NOT[step.card.restores]}{instead}.")
        return network
    if settings.fit_from_scratch and not settings.fit_minutes:
        raise ValueError("A fit from scratch needs time; set Time (--fit-minutes).")
    places = [work.chosen] if work.chosen.device.type == "cpu" else [work.chosen, cpu_device()]
    for place in places[:-1]:
        try:
            return _learned(network, step, work, place.device)
        except (MemoryError, RuntimeError) as error:
            lacks = isinstance(error, NotImplementedError)
            if not (lacks or is_out_of_memory(error)):
                raise
        if place.device.type == "cuda":
            torch.cuda.empty_cache()
        why = "lacks an operation that fitting needs" if lacks else "has too little memory to fit"
        work.tell(f"{place.name} {why} '{name}' to this volume; the CPU did.")
    try:
        return _learned(network, step, work, places[-1].device)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
    raise MemoryRefused(f"Memory ran out while '{name}' was fitted to this volume; close other programs or do not fit.")


def _learned(network: nn.Module, step: Step, work: Work, device: torch.device) -> nn.Module:
    """A copy of the network after it has learned from the volume's patches on a device."""
    assert step.patches is not None
    settings, name = work.settings, step.card.name
    torch.manual_seed(settings.seed)
    network = build_network(step.card, None) if settings.fit_from_scratch else copy.deepcopy(network)
    network = network.to(device).train()
    patches = step.patches(device)
    generator = torch.Generator(device).manual_seed(settings.seed)
    begun, budget = time.monotonic(), 60.0 * settings.fit_minutes
    work.progress(0.0, f"Fitting '{name}' to this volume")
    checked = [patches.batch(BATCH, generator)]
    looking = time.monotonic()
    _error(network, checked)
    look = time.monotonic() - looking
    count = max(2, min(CHECKED_BATCHES, int(0.1 * budget / max(look, 1e-6))))
    checked += [patches.batch(BATCH, generator) for _ in range(count - 1)]
    before = _error(network, checked)
    look *= 1.5 * count  # how long the last one, which belongs to the budget, may take
    learning = max(budget - look, 0.3 * budget)
    best, start = before, copy.deepcopy(network.state_dict())
    kept = start
    optimiser = torch.optim.Adam(network.parameters(), lr=RATE_FROM_SCRATCH if settings.fit_from_scratch else RATE)
    looked, count = time.monotonic(), 0
    while (spent := time.monotonic() - begun) < learning or count == 0:
        work.progress(min(1.0, spent / budget), f"Fitting '{name}' to this volume: {count} steps")
        batch = patches.batch(BATCH, generator)
        loss = (network(*batch.inputs).float() - batch.clean).square().mean()
        loss = loss / _plain(batch).clamp_min(1e-12)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        if torch.isfinite(nn.utils.clip_grad_norm_(network.parameters(), 1.0)):
            optimiser.step()
        count += 1
        if time.monotonic() - looked > max(budget / 6, 3.0 * look):
            looked = time.monotonic()
            error = _error(network, checked)
            if error < best:
                best, kept = error, copy.deepcopy(network.state_dict())
    error = _error(network, checked)
    if error < best:
        best, kept = error, network.state_dict()
    network.load_state_dict(kept)
    gain = 10.0 * torch.log10(torch.tensor(before / max(best, 1e-12))).item()
    if kept is start:
        used = "without any training" if settings.fit_from_scratch else "as it is"
        work.tell(f"Fitting '{name}' to this volume did not make it better ({count} steps); it was used {used}.")
    else:
        work.tell(f"'{name}' was fitted to this volume: {gain:.2f} dB better on slices of its own ({count} steps).")
    step.details["fit"] = {"steps": count, "gain_db": round(gain, 3), "from_scratch": settings.fit_from_scratch}
    return network.eval()


@torch.no_grad()
def _error(network: nn.Module, batches: list) -> float:  # type: ignore[type-arg]
    """Mean over the batches of the squared error relative to that of interpolation."""
    network.eval()
    total = 0.0
    for batch in batches:
        error = (network(*batch.inputs).float() - batch.clean).square().mean()
        total += float(error / _plain(batch).clamp_min(1e-12))
    network.train()
    return total / len(batches)


def _plain(batch) -> Tensor:  # type: ignore[no-untyped-def]
    return (batch.before - batch.clean).square().mean()
