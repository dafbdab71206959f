"""A small CNN that looks at slices one by one, and a recurrent network (GRU) that reads them in their order.

It answers for every slice and for the whole volume. Several questions ("heads") share the network; the last answer of
each head is "none of these". Legend: B batch, S slices, C channels, H W pixels.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIDE = 64
"""Side in pixels of the slices that the network was trained on."""

CUES = 4
"""Numbers about the whole volume that the network may be told besides its slices (recognition.slices.cues)."""


class RecogniseNet(nn.Module):
    """heads: answers of each question, without "none of these". width: channels of the first layer; hidden: of the GRU.

    ``forward`` (B, 1, S, H, W) gives the logits of the whole volume (B, all answers of all heads); ``answers`` gives
    them by head, with those of each slice.
    """

    def __init__(self, heads: Mapping[str, int], width: int = 16, hidden: int = 48) -> None:
        super().__init__()
        self.sizes = {name: int(count) + 1 for name, count in heads.items()}
        widths = (width, 2 * width, 4 * width, 6 * width)
        layers: list[nn.Module] = [nn.Conv2d(1, width, 5, stride=2, padding=2), nn.SiLU()]
        for before, after in itertools.pairwise(widths):
            layers += [
                nn.Conv2d(before, after, 3, stride=2, padding=1),
                nn.GroupNorm(4, after),
                nn.SiLU(),
                _Pair(after),
            ]
        self.look = nn.Sequential(*layers)
        self.maps = nn.Identity()
        """What the slices look like, (B, C, S, h, w): the place to ask why (Grad-CAM)."""
        self.shrink = nn.Sequential(nn.Linear(2 * widths[-1], 2 * hidden), nn.SiLU())
        self.tell = nn.Linear(CUES, 2 * hidden)
        self.read = nn.GRU(2 * hidden, hidden, batch_first=True, bidirectional=True)
        total = sum(self.sizes.values())
        self.of_slice = nn.Linear(4 * hidden, total)
        self.of_volume = nn.Linear(8 * hidden, total)
        self.drop = nn.Dropout(0.2)

    def forward(self, slices: Tensor, cues: Tensor | None = None) -> Tensor:
        return self._logits(slices, cues)[0]

    def answers(self, slices: Tensor, cues: Tensor | None = None) -> dict[str, tuple[Tensor, Tensor]]:
        """For each head the logits of the volume (B, answers) and of its slices (B, S, answers)."""
        volume, each = self._logits(slices, cues)
        sizes = list(self.sizes.values())
        parts = zip(volume.split(sizes, dim=-1), each.split(sizes, dim=-1), strict=True)
        return dict(zip(self.sizes, parts, strict=True))

    def first(self, head: str) -> int:
        """The place of a head's first answer among all answers."""
        return sum(size for name, size in list(self.sizes.items())[: list(self.sizes).index(head)])

    def _logits(self, slices: Tensor, cues: Tensor | None) -> tuple[Tensor, Tensor]:
        batch, _, count = slices.shape[:3]
        seen = self.look(slices.transpose(1, 2).flatten(0, 1))
        maps = self.maps(seen.unflatten(0, (batch, count)).transpose(1, 2))
        features = torch.cat([maps.mean(dim=(-2, -1)), maps.amax(dim=(-2, -1))], dim=1).transpose(1, 2)
        features = self.shrink(features)
        if cues is not None:
            features = features + self.tell(cues)[:, None]
        read, _ = self.read(features)
        both = self.drop(torch.cat([read, features], dim=-1))
        whole = torch.cat([both.mean(dim=1), both.amax(dim=1)], dim=-1)
        return self.of_volume(whole), self.of_slice(both)


class _Pair(nn.Module):
    """A convolution whose result is added to its input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.GroupNorm(4, width))

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(x + self.layer(x))
