"""How far a volume is from what a model can say again: the error of a reconstruction, smoothed."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

SMOOTHING = 2
"""How often 3 x 3 x 3 means are taken: single voxels are noise, an anomaly is larger."""

BRIGHT = 0.05
"""Voxels darker than this, of 0 to 1, are background: their error says nothing, in training as in use."""


def smoothed_error(image: Tensor, reconstruction: Tensor) -> Tensor:
    """(B, 1, D, H, W) smoothed absolute difference of two (B, C, D, H, W), the mean over channels."""
    error = (image.float() - reconstruction.float()).abs().mean(dim=1, keepdim=True)
    for _ in range(SMOOTHING):
        error = F.avg_pool3d(error, 3, stride=1, padding=1, count_include_pad=False)
    return error


def usual_error(error: Tensor, inside: Tensor) -> float:
    """The mean error where ``inside`` is true (everywhere where it never is); above 0."""
    chosen = error[inside] if bool(inside.any()) else error
    return max(float(torch.mean(chosen.cpu().double())), 1e-6)
