"""Random numbers that are a function of where a training is, so that there is no random state to save."""

from __future__ import annotations

import hashlib
import random

import numpy as np
import torch


def seed_everything(seed: int, step: int, phase: str, rank: int) -> None:
    """Seed the global generators of torch (all devices), NumPy and Python for one phase of one step in one process."""
    digest = hashlib.blake2b(f"{seed} {step} {phase} {rank}".encode(), digest_size=8).digest()
    number = int.from_bytes(digest, "little") >> 1
    torch.manual_seed(number)
    np.random.seed(number % 2**32)
    random.seed(number)
