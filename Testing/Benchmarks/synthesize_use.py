"""The use test: a small segmenter that has only seen made pairs, on the real scans of the held-out patient.

Fluid, grey and white matter of T1 (and T2, FLAIR in full): a 2D U-Net, the same number of steps and the same slices for
each kind of training pair. Truth on the real scan: three Gaussians in T1, T2 and FLAIR together
(``synthesize_real.tissues``), found without any label map; nobody drew it. Kinds of pairs:

- model: volumes made of training label maps,
- mixture: the Gaussian-mixture rendering of the same label maps with the same statistics,
- real: the other patient, with his three Gaussians.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from monai.networks.nets import UNet
from torch import Tensor

SIDE = 192
PATCH = 96
BATCH = 8
CLASSES = 4


def slices(image: np.ndarray, tissues: np.ndarray) -> tuple[Tensor, Tensor]:
    """Axial slices with brain in them: (n, 1, SIDE, SIDE) in 0..1 and (n, SIDE, SIDE)."""
    kept = [k for k in range(len(image)) if (tissues[k] > 0).mean() > 0.05]
    return torch.stack([_square(image[k])[None] for k in kept]), torch.stack([_square(tissues[k]).long() for k in kept])


def _square(plane: np.ndarray) -> Tensor:
    held = torch.from_numpy(np.ascontiguousarray(plane, np.float32))
    for axis in (0, 1):
        side = held.shape[axis]
        start = max(0, (side - SIDE) // 2)
        held = held.narrow(axis, start, min(side, SIDE))
    before = [(SIDE - side) // 2 for side in held.shape]
    return F.pad(held, (before[1], SIDE - held.shape[1] - before[1], before[0], SIDE - held.shape[0] - before[0]))


def taught(pairs: Sequence[tuple[np.ndarray, np.ndarray]], steps: int, seed: int) -> torch.nn.Module:
    """A segmenter after so many steps on the slices of these volumes and their tissues."""
    torch.manual_seed(seed)
    rng = torch.Generator().manual_seed(seed)
    network = UNet(2, 1, CLASSES, channels=(16, 32, 64), strides=(2, 2), num_res_units=1)
    held = [slices(*pair) for pair in pairs]
    images, labels = (torch.cat([each[part] for each in held]) for part in (0, 1))
    optimiser = torch.optim.Adam(network.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=steps)
    for _ in range(steps):
        chosen = torch.randint(len(images), (BATCH,), generator=rng)
        j, i = torch.randint(SIDE - PATCH + 1, (2,), generator=rng).tolist()
        part = (..., slice(j, j + PATCH), slice(i, i + PATCH))
        image, label = _changed(images[chosen][part], rng), labels[chosen][part]
        if torch.rand((), generator=rng) < 0.5:
            image, label = image.flip(-1), label.flip(-1)
        answer = network(image)
        chances = answer.softmax(dim=1)
        wanted = F.one_hot(label, CLASSES).permute(0, 3, 1, 2)
        both = (chances * wanted).sum(dim=(0, 2, 3))
        dice = (2.0 * both / (chances.sum(dim=(0, 2, 3)) + wanted.sum(dim=(0, 2, 3)) + 1.0))[1:].mean()
        loss = F.cross_entropy(answer, label) + 1.0 - dice
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return network.eval()


def _changed(image: Tensor, rng: torch.Generator) -> Tensor:
    """Another brightness, contrast and noise for each slice, the same for every kind of pair."""
    gamma = torch.exp(0.5 * (torch.rand(len(image), 1, 1, 1, generator=rng) - 0.5))
    gain = 0.85 + 0.3 * torch.rand(len(image), 1, 1, 1, generator=rng)
    noise = 0.03 * torch.rand(len(image), 1, 1, 1, generator=rng) * torch.randn(image.shape, generator=rng)
    return torch.where(image > 0, (gain * image.clamp(0.0, 1.0) ** gamma + noise).clamp(0.0, 1.5), 0.0)


@torch.no_grad()
def dice(network: torch.nn.Module, image: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Dice of the three tissues in a whole brain, where the truth says something."""
    images, labels = slices(image, truth)
    answer = torch.cat([network(each).argmax(dim=1) for each in images.split(16)])
    said = labels > 0
    found = {}
    for tissue, name in ((1, "fluid"), (2, "grey"), (3, "white")):
        one, other = (answer == tissue) & said, labels == tissue
        found[name] = float(2 * (one & other).sum() / max(1, int(one.sum() + other.sum())))
    return {**found, "mean": float(np.mean(list(found.values())))}
