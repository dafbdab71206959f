"""Which places of a volume spoke for an answer: the saliency of the slices, brought back onto the volume's grid."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from medgan import saliency
from medgan.networks.recognise import SIDE, RecogniseNet
from medgan.progress import Progress
from medgan.recognition import slices as cutting
from medgan.recognition.look import Head, Look
from medgan.volume import Volume


def target_of(heads: Sequence[Head], wanted: str, seen: Look) -> tuple[Head, int]:
    """The question and the place of the answer that is to be explained; the first question's own answer when none is
    named. Raises ``ValueError`` for a name that no answer has."""
    if not wanted:
        scores = list(seen.what[heads[0].name]["scores"].values())
        return heads[0], int(np.argmax(scores))
    for head in heads:
        for place, name in enumerate(head.answers):
            if name.lower() == wanted.strip().lower():
                return head, place
    known = ", ".join(name for head in heads for name in head.answers)
    raise ValueError(f"Setting 'target' names no answer of the model: '{wanted}'; its answers are {known}.")


def why(
    network: nn.Module, heads: Sequence[Head], volume: Volume, seen: Look, method: str, wanted: str, progress: Progress
) -> tuple[Volume, str]:
    """The map of what spoke for an answer, 0 to 1 on the volume's grid, and the answer's name.

    Raises ``ValueError`` when nothing was seen or no answer has that name.
    """
    if not seen.places:
        raise ValueError("There is nothing in the volume that could be explained: it is constant or too small.")
    assert isinstance(network, RecogniseNet)
    head, place = target_of(heads, wanted, seen)
    straight = seen.straight
    shown = cutting.stack(straight, straight.axis, seen.places)[None, None].to(next(network.parameters()).device)
    number = network.first(head.name) + place
    found = saliency.explain(network, shown, number, method, target_layer="maps", progress=progress)
    rows, columns = cutting.frame(straight, straight.axis)
    steps = [step for n, step in enumerate(straight.spacing_mm) if n != straight.axis]
    height, width = rows.stop - rows.start, columns.stop - columns.start
    size = cutting.fitted_size(height, width, steps)
    up, left = ((SIDE - length) // 2 for length in size)
    small = torch.from_numpy(np.ascontiguousarray(found, dtype=np.float32))[:, up : up + size[0], left : left + size[1]]
    full = F.interpolate(small[:, None], size=(height, width), mode="bilinear", align_corners=False)[:, 0].numpy()
    length = straight.array.shape[straight.axis]
    others = [side for n, side in enumerate(straight.array.shape) if n != straight.axis]
    array = np.zeros((length, *others), np.float32)
    box = straight.box[straight.axis]
    for n in range(box.start, box.stop):  # between the slices that were seen, in proportion
        after = int(np.searchsorted(seen.places, n))
        if after in (0, len(seen.places)):
            array[n, rows, columns] = full[min(after, len(seen.places) - 1)]
            continue
        first, last = seen.places[after - 1], seen.places[after]
        share = (n - first) / (last - first)
        array[n, rows, columns] = (1 - share) * full[after - 1] + share * full[after]
    back = straight.back(np.moveaxis(array, 0, straight.axis))
    return volume.like(np.clip(back, 0.0, 1.0), "float32"), head.answers[place]
