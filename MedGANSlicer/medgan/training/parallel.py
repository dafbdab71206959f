"""Training in several processes that ``torchrun`` started, on one computer or on several.

Each process has the whole networks and its own share of the batch; gradients are averaged over the processes (Li et
al. 2020, arXiv 2006.15704), so that N processes do what one with N times the batch would. Only rank 0 reads and writes
files and talks to the person. Without torchrun everything here does nothing.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from medgan.inference import choose_device
from medgan.settings import Device


def is_main() -> bool:
    """Whether this process is the one that reads, writes and talks: rank 0 of torchrun, or the only one."""
    return int(os.environ.get("RANK", "0")) == 0


@dataclass(frozen=True)
class World:
    """The processes of a training: which one this is, how many there are, and the device of this one."""

    rank: int
    size: int
    device: torch.device
    reason: str = ""
    """Why it is this device, where the person wanted another."""

    @property
    def main(self) -> bool:
        return self.rank == 0

    def from_main(self, values: list[float]) -> list[float]:
        """The values of rank 0, for all: every process has to call this at the same place."""
        if self.size == 1:
            return values
        held = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.broadcast(held, 0)
        return [float(value) for value in held.tolist()]

    def object_from_main(self, content: Any) -> Any:
        """Whatever rank 0 has (tensors on the CPU, plain values), for all."""
        if self.size == 1:
            return content
        held = [content if self.main else None]
        dist.broadcast_object_list(held, 0, device=self.device)
        return held[0]

    def mean(self, values: Tensor) -> Tensor:
        """The mean over the processes."""
        if self.size == 1:
            return values
        held = values.clone()
        dist.all_reduce(held)
        return held / self.size

    def any(self, flag: bool) -> bool:
        """Whether it is so in any process."""
        if self.size == 1:
            return flag
        held = torch.tensor(float(flag), device=self.device)
        dist.all_reduce(held, dist.ReduceOp.MAX)
        return bool(held.item())

    def phase(self, network: nn.Module, loss: Callable[..., dict[str, Tensor]]) -> nn.Module:
        """``loss`` as a module whose backward pass averages the gradients of ``network`` over the processes."""
        phase = Phase(network, loss)
        if self.size == 1:
            return phase
        with warnings.catch_warnings():
            # Of broadcast_buffers, for which older versions know no other name.
            warnings.simplefilter("ignore", FutureWarning)
            return DistributedDataParallel(
                phase,
                device_ids=[self.device] if self.device.type == "cuda" else None,
                broadcast_buffers=False,
                find_unused_parameters=True,
            )


class Phase(nn.Module):
    """A loss as a module that owns the network it trains, which is what DistributedDataParallel wraps.

    A loss calls its networks several times and may differentiate through them (R1), which a wrapped network could not.
    """

    def __init__(self, network: nn.Module, loss: Callable[..., dict[str, Tensor]]) -> None:
        super().__init__()
        self.network = network
        self.loss = loss

    def forward(self, *arguments: Any) -> dict[str, Tensor]:
        return self.loss(*arguments)

    @contextlib.contextmanager
    def no_sync(self) -> Iterator[None]:
        """As DistributedDataParallel's: gradients are only summed, not yet averaged over the processes."""
        yield


@contextlib.contextmanager
def joined(wanted: Device) -> Iterator[World]:
    """The world that torchrun has made of this process and its siblings, or a world of one.

    Raises ``ValueError`` in one of several processes that finds GPUs, but its own can not compute.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        chosen = choose_device(wanted)
        yield World(0, 1, chosen.device, chosen.reason)
        return
    number = int(os.environ.get("LOCAL_RANK", "0"))
    chosen = choose_device(wanted, number)
    device = chosen.device
    if device.type == "cuda":
        device = torch.device("cuda", number)
    elif wanted in (Device.AUTO, Device.CUDA) and torch.cuda.is_available():
        # The other processes would wait on their GPUs for one that is on the CPU.
        raise ValueError(
            f"GPU {number}, the one of process {number} of torchrun here, can not be used; start no more processes "
            f"than there are free GPUs, or set the device to cpu. {chosen.reason.partition(';')[0]}."
        )
    elif device.type == "mps":
        device = torch.device("cpu")  # there is no way to average gradients on it
    # Its defaults keep the group that there is when it is imported, which DistributedDataParallel leads to; the group
    # would never end then, and a thread of it that lets go of a tensor while Python ends aborts the process.
    importlib.import_module("torch.distributed.nn.functional")
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield World(dist.get_rank(), size, device, chosen.reason)
    finally:
        gc.collect()  # wrapped networks hold the group
        dist.destroy_process_group()
