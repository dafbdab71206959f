"""Why a classifier said what it said: the places of its input that spoke for an answer, as a volume of 0 to 1.

- Grad-CAM (Selvaraju et al. 2017, arXiv 1610.02391): what the last maps of features show, weighted by how much the
  answer depends on each. Quick, as coarse as those maps.
- Occlusion (Zeiler and Fergus 2014, arXiv 1311.2901): how much less sure the answer is with a part of the input hidden.
  Slow, and true to the network whatever it is built of.

Both are MONAI's. A map shows what a network looked at, not whether that is right.

Legend for tensor names: B batch, C channels, D H W voxels (k, j, i).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from monai.visualize import GradCAM, OcclusionSensitivity
from torch import Tensor, nn

from medgan.progress import Progress, silent

METHODS = ("grad-cam", "occlusion")

MAPS = "maps"
"""What our own networks call the layer whose maps are looked at."""

PARTS, OVERLAP = 4, 0.25
"""Hidden parts along each axis of the input, about, and how much of them neighbours share."""

SMALLEST_PART = 4
"""Voxels along each side of what is hidden at least."""

AT_ONCE = 4
"""Inputs in a batch."""

Logits = Callable[[Any], Tensor]
"""From the answer of a network, which may have several parts, to (B, classes)."""


def explain(
    network: nn.Module,
    image: Tensor,
    class_index: int,
    method: str = "grad-cam",
    target_layer: str = "",
    progress: Progress = silent,
    logits: Logits | None = None,
) -> np.ndarray:
    """(D, H, W) float32, 0 to 1: where ``image`` (1, C, D, H, W) spoke for the class, on its own grid.

    ``target_layer``: for Grad-CAM the name of the layer whose maps (1, C', d, h, w), or (D, C', h, w) of single slices,
    are looked at; "" takes "maps" where there is one, else the last convolution. All zeros where nothing spoke for the
    class. The network is not changed. Raises ``ValueError`` for what it can not be asked.
    """
    if method not in METHODS:
        raise ValueError(f"There is no way '{method}' to explain an answer; there are: {', '.join(METHODS)}.")
    if image.ndim != 5 or image.shape[0] != 1:
        raise ValueError(f"One image (1, channels, D, H, W) can be explained, not one of shape {tuple(image.shape)}.")
    trained = [part for part in network.modules() if part.training]
    asked = _Asked(network, logits or (lambda answer: answer), progress).eval()
    try:
        with torch.no_grad():
            count = int(asked(image).shape[1])
        if not 0 <= class_index < count:
            raise ValueError(f"There is no class {class_index}; the network knows {count}, counted from 0.")
        if method == "grad-cam":
            found = _grad_cam(asked, image, class_index, target_layer)
        else:
            found = _occlusion(asked, image, class_index)
    finally:
        for part in trained:
            part.training = True
    found = found.detach().float().clamp_min(0.0)
    progress(1.0)
    return np.asarray((found / found.max().clamp_min(1e-12)).cpu().numpy(), dtype=np.float32)


class _Asked(nn.Module):
    """A network that gives logits alone, and tells how often it was asked."""

    def __init__(self, network: nn.Module, logits: Logits, progress: Progress) -> None:
        super().__init__()
        self.network, self._logits, self._progress = network, logits, progress
        self.expected, self._done, self._told = 100, 0, 0.0

    def forward(self, image: Tensor) -> Tensor:
        self._done += len(image)
        self._told = max(self._told, min(0.99, self._done / (self.expected + 2)))
        self._progress(self._told, "Asking why")
        return self._logits(self.network(image))


def last_maps(network: nn.Module) -> str:
    """The name of the layer to look at: "maps", or the last convolution. Raises ``ValueError`` where there is none."""
    names = [name for name, part in network.named_modules() if isinstance(part, (nn.Conv1d, nn.Conv2d, nn.Conv3d))]
    if MAPS in dict(network.named_modules()):
        return MAPS
    if not names:
        raise ValueError("The network has no convolution, so there is nothing to weigh; choose occlusion instead.")
    return names[-1]


def _grad_cam(asked: _Asked, image: Tensor, class_index: int, target_layer: str) -> Tensor:
    layer = target_layer or last_maps(asked.network)
    if layer not in dict(asked.network.named_modules()):
        raise ValueError(f"The network has no layer '{layer}'.")
    shape = image.shape[2:]

    def upsampler(size: Any) -> Callable[[Tensor], Tensor]:
        def on_the_image(found: Tensor) -> Tensor:
            if found.ndim == 4:  # a network that looks at slices one by one: (D, 1, h, w)
                found = found.transpose(0, 1)[None]
            return F.interpolate(found, size=tuple(shape), mode="trilinear", align_corners=False)

        return on_the_image

    handles = [dict(part._forward_hooks) for part in asked.network.modules()]
    learns = [parameter.requires_grad for parameter in asked.parameters()]
    try:
        # The gradient has to reach the layer, whatever the caller froze; recurrent layers of cuDNN refuse to give it.
        asked.requires_grad_(True)
        with torch.enable_grad(), torch.backends.cudnn.flags(enabled=False), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            cam = GradCAM(asked, f"network.{layer}", upsampler=upsampler, postprocessing=lambda found: found)
            found = cam(x=image.detach().clone(), class_idx=class_index)
    finally:
        _without_hooks(asked.network, handles)
        asked.zero_grad(set_to_none=True)
        for parameter, learned in zip(asked.parameters(), learns, strict=True):
            parameter.requires_grad_(learned)
    return torch.as_tensor(found)[0, 0]


def _without_hooks(network: nn.Module, before: list[dict[int, Any]]) -> None:
    """Take away the hooks that MONAI leaves in the network."""
    for part, held in zip(network.modules(), before, strict=True):
        for key in [key for key in part._forward_hooks if key not in held]:
            del part._forward_hooks[key]
        part._backward_hooks.clear()


def _occlusion(asked: _Asked, image: Tensor, class_index: int) -> Tensor:
    """How much the probability of the class falls where a part of the image is hidden."""
    shape = image.shape[2:]
    part = [min(side, max(SMALLEST_PART, math.ceil(side / PARTS))) for side in shape]
    steps = [max(1, int(size * (1.0 - OVERLAP))) for size in part]
    asked.expected = max(100, math.prod(math.ceil(side / step) for side, step in zip(shape, steps, strict=True)))
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PyTorch, about the way in which MONAI indexes
        whole = float(asked(image).softmax(1)[0, class_index])
        seen = OcclusionSensitivity(
            asked, mask_size=part, n_batch=AT_ONCE, verbose=False, mode="mean_img", overlap=OVERLAP,
            activate=lambda answer: answer.softmax(1),
        )  # fmt: skip
        hidden, _ = seen(image)
    return whole - torch.as_tensor(hidden)[0, class_index]
