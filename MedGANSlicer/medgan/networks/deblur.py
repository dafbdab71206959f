"""A 3D generator that cleans a volume after its blur was undone: the inverse of a blur is sharp, but noisy.

The noise of the inverse is known from the blur and the noise of the volume: strong at fine detail, weak elsewhere. The
network that denoises takes such a noise profile (transform-domain deblurring: Dabov et al. 2008, "Image restoration
by sparse 3D transform-domain collaborative filtering"). Here it is also told the width of the blur, and trained to
bring back what the cautious part of the inverse has left blurred.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medgan.networks.denoise import DenoiseNet, start_at_zero


class DeblurNet(nn.Module):
    """A sharper volume from a deconvolved one.

    ``forward(image, sigma, spread, blur)``: image (B, 1, D, H, W) of :func:`medgan.deconvolution.inverse`, sigma (B,)
    and spread (B, 64) the noise in it (:func:`medgan.deconvolution.noise_after`), blur (B,) the standard deviation in
    voxels; returns (B, 1, D, H, W) in the unit of the image.
    """

    def __init__(self, channels: int = 32, **size: int) -> None:
        super().__init__()
        self.core = DenoiseNet(channels, **size)
        self.told = nn.Sequential(nn.Linear(2, 32), nn.LeakyReLU(0.1), nn.Linear(32, channels))
        start_at_zero(self.told[2])

    def forward(self, image: Tensor, sigma: Tensor, spread: Tensor, blur: Tensor) -> Tensor:
        told = self.told(torch.stack([blur, torch.log10(sigma.clamp_min(1e-5))], dim=1).to(image))
        return self.core(image, sigma, spread, lambda blocks: told.view(*told.shape, 1, 1, 1))
