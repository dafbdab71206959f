"""Train the denoising generator: ``python -m medgan.recipes.denoise --data DIR --out DIR --minutes 100``.

How it is trained and what the options mean: see medgan.recipes.training.
"""

from __future__ import annotations

from medgan.networks.denoise import DenoiseNet
from medgan.recipes.data import NoisyPatches, Pool
from medgan.recipes.training import parser, run


def main(arguments: list[str] | None = None) -> None:
    patch_help = "side in voxels; 2 more than a multiple of 4 wastes nothing"
    options = parser(__doc__ or "", 34, patch_help).parse_args(arguments)
    run(options, DenoiseNet, lambda sources, maps, device: NoisyPatches(Pool(sources, maps, device), options.patch))


if __name__ == "__main__":
    main()
