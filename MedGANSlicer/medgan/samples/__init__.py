"""The scan that comes with MedGAN, for the demo, the tests and the Sample Data module."""

from __future__ import annotations

from pathlib import Path

SAMPLE_NAME = "BrainT1"


def sample_path() -> Path:
    """T1-weighted brain after a stroke, 124 x 160 x 140 voxels of 1 mm, never used in training.

    MIT licence, (c) 2020 Chris Rorden; see LICENSE-BrainT1.txt beside it.
    """
    return Path(__file__).parent / f"{SAMPLE_NAME}.nii.gz"
