"""Normalising, planning memory and going through a volume tile by tile."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import phantoms
from medgan import inference, memory
from medgan.inference import (
    OVERLAP,
    ChosenDevice,
    MemoryRefused,
    choose_device,
    cpu_device,
    fill_not_finite,
    plan_tiles,
    robust_normalisation,
    run_tiled,
    run_with_fallback,
)
from medgan.memory import free_memory_bytes
from medgan.progress import Cancelled, silent
from medgan.settings import Device


@pytest.mark.parametrize(
    "array",
    [
        phantoms.head() - 1024,
        phantoms.head() * 60,
        phantoms.head() * 1e-6 - 3e-4,
        np.full((8, 8, 8), 42.0, np.float32),
        np.zeros((8, 8, 8), np.float32),
    ],
    ids=["HU", "16 bit", "tiny and negative", "constant", "zeros"],
)
def test_normalisation_is_inverted_exactly(array):
    normalisation = robust_normalisation(array)
    normal = normalisation.apply(array)
    assert np.isfinite(normal).all()
    scale = max(float(np.abs(array).max()), 1e-30)
    assert np.abs(normalisation.invert(normal) - array).max() <= 1e-6 * scale


def test_not_finite_voxels_are_filled_from_their_neighbours_and_counted():
    ramp = np.broadcast_to(np.arange(12, dtype=np.float32), (12, 12, 12)).copy()
    damaged = ramp.copy()
    damaged[3, 4, 5], damaged[0, 0, 0], damaged[6, 6, 6] = np.nan, np.inf, -np.inf
    filled, broken = fill_not_finite(damaged)
    assert int(broken.sum()) == 3
    assert filled[3, 4, 5] == pytest.approx(5.0)
    assert np.isfinite(filled).all()
    assert np.array_equal(filled[~broken], ramp[~broken])
    damaged[4:7, 1:11, 1:11] = np.nan
    with pytest.raises(ValueError, match=r"302 of 1728 voxels are not finite"):
        fill_not_finite(damaged)
    with pytest.raises(ValueError, match=r"27 of 27 voxels are not finite"):
        fill_not_finite(np.full((3, 3, 3), np.nan, np.float32))


def test_an_outside_of_nan_becomes_dark_and_a_hole_within_is_filled_from_its_neighbours():
    head = phantoms.head((24, 24, 24))
    outside = head < 100
    outside[12, 12, 12] = False
    marked = np.where(outside, np.nan, head).astype(np.float32)
    marked[12, 12, 12] = np.nan
    assert np.isnan(marked).mean() > 0.1
    filled, broken = fill_not_finite(marked)
    assert np.array_equal(broken, np.isnan(marked))
    assert (filled[outside] == np.nanmin(marked)).all()
    near = [marked[11, 12, 12], marked[13, 12, 12], marked[12, 11, 12], marked[12, 13, 12], marked[12, 12, 11]]
    assert filled[12, 12, 12] == pytest.approx(np.mean([*near, marked[12, 12, 13]]), rel=1e-5)
    assert np.array_equal(filled[~broken], marked[~broken])


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(*[st.integers(4, 300)] * 3),
    limit=st.integers(64_000, 5_000_000),
)
def test_tiles_cover_the_volume_within_the_limit(shape, limit):
    plan = plan_tiles(shape, 400, free=1 << 40, in_ram=True, most_voxels=limit)
    assert plan.voxels <= limit or plan.tile == shape
    for side, part, share in zip(shape, plan.tile, plan.overlap, strict=True):
        step = int(part * (1 - share))
        count = 1 if share == 0 else math.ceil((side - part) / step) + 1
        assert part + (count - 1) * step >= side
        if count > 1:
            assert part - step >= OVERLAP - 1


def test_a_volume_that_cannot_fit_is_refused_with_numbers():
    with pytest.raises(MemoryRefused, match=r"512 x 512 x 512 voxels needs at least \d+\.\d\d GB .* 0\.50 GB are free"):
        plan_tiles((512, 512, 512), 400, free=500_000_000, in_ram=True)


def test_volume_that_only_the_gpu_could_hold_is_refused_with_the_numbers_of_the_processor():
    """What is gathered from the tiles lies in the processor's memory."""
    plan_tiles((512, 512, 512), 400, free=1 << 40, in_ram=False, free_beside=8 << 30)
    with pytest.raises(MemoryRefused, match=r"needs at least 6\.\d+ GB of memory and 4\.29 GB are free"):
        plan_tiles((512, 512, 512), 400, free=1 << 40, in_ram=False, free_beside=4 << 30)


def test_room_that_is_lacking_is_told_in_numbers_that_are_not_zero():
    with pytest.raises(MemoryRefused, match=r"needs at least 0\.00125 GB of memory and 0\.0001 GB may be used"):
        inference.check_room(1_000_000, 100_000, "It")


def test_volume_and_tiles_share_the_memory_of_an_apple_gpu(monkeypatch):
    monkeypatch.setattr(inference, "free_memory_bytes", lambda: 8_000_000_000)
    apple = ChosenDevice(torch.device("mps"), "Apple GPU")
    plan, free = inference.planned((300, 300, 300), 2000, apple, 0)
    tile_bytes = 2000 * math.prod(plan.tile)
    assert tile_bytes + plan.volume_bytes <= free
    assert tile_bytes > 100_000_000
    with pytest.raises(MemoryRefused, match=r"needs at least 6\.\d+ GB of memory and the limit is 6 GB"):
        inference.planned((512, 512, 512), 2000, apple, 6_000_000_000)


def test_tiled_identity_is_the_input_for_an_odd_volume():
    array = np.random.default_rng(0).normal(size=(45, 61, 53)).astype(np.float32)
    plan = plan_tiles(array.shape, 400, free=1 << 40, in_ram=True, most_voxels=70_000)
    assert plan.tile != array.shape
    shares: list[float] = []
    result = run_tiled(torch.clone, array, plan, torch.device("cpu"), lambda f, m="": shares.append(f))
    assert np.abs(result - array).max() < 1e-5
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert len(shares) > 2


def test_cancel_between_tiles_stops_the_run():
    def cancel(fraction: float, message: str = "") -> None:
        if fraction > 0:
            raise Cancelled

    array = np.zeros((60, 60, 60), np.float32)
    plan = plan_tiles(array.shape, 400, 1 << 40, True, most_voxels=70_000)
    with pytest.raises(Cancelled):
        run_tiled(torch.clone, array, plan, torch.device("cpu"), cancel)


class Memory:
    """Stands in for a device with room for tiles of so many voxels: a true lack of memory would end the test run."""

    def __init__(self, voxels: int) -> None:
        self.voxels = voxels
        self.devices: list[str] = []

    def predict(self, device: torch.device):
        def run(tile: torch.Tensor) -> torch.Tensor:
            self.devices.append(str(device))
            if tile.numel() > self.voxels:
                raise torch.OutOfMemoryError("out of memory")
            return tile * 2

        return run


def test_out_of_memory_is_met_with_smaller_tiles():
    array = np.random.default_rng(1).normal(size=(60, 50, 40)).astype(np.float32)
    memory = Memory(voxels=70_000)
    result, chosen, told = run_with_fallback(memory.predict, array, 400, cpu_device(), 0, silent)
    assert np.abs(result - 2 * array).max() < 1e-4
    assert any("smaller ones were used" in sentence for sentence in told)
    assert chosen.device.type == "cpu"


def test_out_of_memory_at_the_smallest_tile_is_refused_with_numbers():
    with pytest.raises(MemoryRefused, match=r"ran out even with tiles of \d+ voxels"):
        run_with_fallback(Memory(voxels=10).predict, np.zeros((40, 40, 40), np.float32), 400, cpu_device(), 0, silent)


def test_a_device_that_lacks_an_operation_hands_over_to_the_cpu():
    def make(device: torch.device):
        def run(tile: torch.Tensor) -> torch.Tensor:
            if device.type != "cpu":
                raise NotImplementedError("no such operation here")
            return tile * 2

        return run

    other = ChosenDevice(torch.device("meta"), "small GPU")
    result, chosen, told = run_with_fallback(make, np.ones((36, 36, 36), np.float32), 400, other, 0, silent)
    assert chosen.device.type == "cpu"
    assert np.array_equal(result, np.full((36, 36, 36), 2.0, np.float32))
    assert told == ["small GPU lacks an operation that the model needs; the CPU was used."]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), "small GPU ran out of memory; the CPU was used."),
        (NotImplementedError("no kernel"), "small GPU lacks an operation that the model needs; the CPU was used."),
    ],
)
def test_what_a_gpu_can_not_do_the_processor_does(error, said):
    small = ChosenDevice(torch.device("meta"), "small GPU")

    def work(device):
        if device.type != "cpu":
            raise error
        return "done"

    made, chosen, told = inference.run_or_on_cpu(work, small)
    assert (made, chosen.device.type, told) == ("done", "cpu", [said])
    assert inference.run_or_on_cpu(work, chosen)[2] == []

    def broken(device):
        raise RuntimeError("a defect")

    with pytest.raises(RuntimeError, match="a defect"):
        inference.run_or_on_cpu(broken, small)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without an NVIDIA GPU")
def test_a_missing_gpu_is_said():
    chosen = choose_device(Device.CUDA)
    assert chosen.device.type == "cpu"
    assert chosen.reason == "There is no NVIDIA GPU that this PyTorch can use; the CPU is used."
    assert choose_device(Device.CPU).reason == ""


def test_gpu_that_can_not_compute_is_left_for_the_cpu(monkeypatch):
    """As with a driver that sees a GPU which this build of PyTorch has no kernels for."""
    if torch.cuda.is_available():
        pytest.skip("this GPU computes")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for wanted in (Device.AUTO, Device.CUDA):
        chosen = choose_device(wanted)
        assert chosen.device.type == "cpu"
        assert "The NVIDIA GPU can not compute now (" in chosen.reason


@pytest.mark.parametrize("value", [1e-6, -3e-7, 5.0, 4e12])
def test_constant_stays_what_it_is_whatever_its_size(value):
    array = np.full((6, 6, 6), value, np.float32)
    normalisation = robust_normalisation(array)
    off = normalisation.invert(normalisation.apply(array) + np.float32(1e-5))
    assert np.abs(off / array - 1).max() < 1e-4


def test_cached_files_of_a_container_are_memory_that_is_free(tmp_path):
    (tmp_path / "memory.max").write_text("8000\n")
    (tmp_path / "memory.current").write_text("7000\n")
    nowhere = tmp_path / "nothing"
    assert memory._control_group_room(tmp_path, nowhere) == 1000
    (tmp_path / "memory.stat").write_text("anon 900\ninactive_file 5500\nactive_file 300\n")
    assert memory._control_group_room(tmp_path, nowhere) == 6500
    (tmp_path / "memory.max").write_text("max\n")
    assert memory._control_group_room(tmp_path, nowhere) == 1 << 62
    old = tmp_path / "memory"
    old.mkdir()
    (tmp_path / "memory.current").unlink()
    for name, text in (("limit_in_bytes", "900"), ("usage_in_bytes", "800"), ("stat", "total_inactive_file 50\n")):
        (old / f"memory.{name}").write_text(text)
    assert memory._control_group_room(tmp_path, nowhere) == 150


@pytest.mark.parametrize("line", ["0::/slurm/job_7/step", "4:cpu,memory:/slurm/job_7/step"])
def test_the_limit_of_a_job_counts_though_it_is_not_that_of_the_root(tmp_path, line):
    membership = tmp_path / "cgroup"
    membership.write_text(f"1:name=systemd:/\n{line}\n")
    first, limit, usage = ("memory", "limit_in_bytes", "usage_in_bytes") if "memory" in line else ("", "max", "current")
    job = tmp_path / first / "slurm" / "job_7"
    (job / "step").mkdir(parents=True)
    for folder, numbers in ((job / "step", (5000, 10)), (job, (900, 600)), (tmp_path / first, (10**9, 10**6))):
        for name, number in zip((limit, usage), numbers, strict=True):
            (folder / f"memory.{name}").write_text(f"{number}\n")
    assert memory._control_group_room(tmp_path, membership) == 300


@given(free=st.integers(3, 400), other=st.integers(3, 400), on_cpu=st.booleans())
def test_a_little_more_or_less_free_memory_gives_the_same_tiles(free, other, on_cpu):
    shape, unit = (200, 220, 180), 148**3 * 400 / 0.8 / 100
    room = shape[0] * shape[1] * shape[2] * 4 * inference.VOLUME_COPIES / 0.8 if on_cpu else 0
    one, two = (plan_tiles(shape, 400, int(room + (n + 0.5) * unit), on_cpu) for n in (free, other))
    rungs = [math.floor(math.log2((n + 0.5) / 100)) for n in (free, other)]
    if rungs[0] == rungs[1] or (on_cpu and min(rungs) >= 0):
        assert one.tile == two.tile
    assert one.voxels <= 148**3 * 2.0 ** max(rungs[0], math.log2(40**3 / 148**3))


def test_free_memory_is_a_plausible_number():
    assert 50_000_000 < free_memory_bytes() < 1 << 45


def test_only_networks_made_for_it_are_rounded_on_a_fast_processor(monkeypatch):
    cpu, one = torch.device("cpu"), torch.ones(1, 1)
    full, half = torch.float32, torch.bfloat16
    for fast, asked, format in ((True, True, half), (True, False, full), (False, True, full)):
        monkeypatch.setattr(inference, "fast_bfloat16", lambda device, fast=fast: fast)
        with inference.autocast(cpu, on_cpu=asked):
            assert (one @ one).dtype is format


@pytest.mark.parametrize("fast", [True, False])
def test_gpu_that_only_imitates_bfloat16_computes_in_float32(monkeypatch, fast):
    def supported(including_emulation: bool = True) -> bool:
        return fast or including_emulation

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    with inference.autocast(torch.device("cuda")):
        assert torch.is_autocast_enabled("cuda") is fast


def test_convolutions_of_a_run_are_not_rounded():
    torch.backends.cudnn.allow_tf32 = True
    inference.set_deterministic(0)
    assert not torch.backends.cudnn.allow_tf32
