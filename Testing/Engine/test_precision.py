"""In which number format a device is said to compute fast."""

from __future__ import annotations

import pytest
import torch

from medgan.precision import fast_bfloat16, training_autocast


@pytest.mark.parametrize(("avx512", "amx", "fast"), [(True, False, True), (False, True, True), (False, False, False)])
def test_processor_says_whether_it_has_bfloat16(monkeypatch, avx512, amx, fast):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    cpu, one = torch.device("cpu"), torch.ones(1, 1)
    assert fast_bfloat16(cpu) is fast
    with training_autocast(cpu):
        assert (one @ one).dtype is (torch.bfloat16 if fast else torch.float32)


def test_torch_without_the_question_and_other_devices_are_not_fast(monkeypatch):
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported", raising=False)
    monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported", raising=False)
    assert fast_bfloat16(torch.device("cpu")) is False
    assert fast_bfloat16(torch.device("mps")) is False
