"""Fixtures for the tests of the engine."""

from __future__ import annotations

import importlib

import pytest

from command_line import run


@pytest.fixture
def call():
    """The command within this process."""
    return run


@pytest.fixture
def a_full_gpu(monkeypatch):
    """A function: from now on a module of the engine chooses a GPU that has room for no network."""
    import torch

    from medgan.inference import ChosenDevice

    usual = torch.nn.Module.to

    def to(network, place, *more):
        if torch.device(place).type == "cuda":
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return usual(network, place, *more)

    monkeypatch.setattr(torch.nn.Module, "to", to)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (8_000_000_000, 8_000_000_000))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: False)

    def chosen_by(module: str) -> None:
        gpu = ChosenDevice(torch.device("cuda"), "full GPU")
        monkeypatch.setattr(importlib.import_module(module), "choose_device", lambda wanted: gpu)

    return chosen_by
