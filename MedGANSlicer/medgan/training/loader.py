"""Training batches, made ahead of time by threads, the same ones in the same order however many threads there are.

Sample n of step s is drawn from a generator of its own, seeded by (seed, s, n). So a training that goes on from a
checkpoint sees the samples it would have seen, and two processes see between them what one with the doubled batch sees.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import Protocol

import torch
from torch import Tensor

from medgan.settings import TrainSettings

AHEAD = 2
"""Batches that are ready or in the making for each thread."""

MOST_THREADS = 4

WAKE_S = 0.05
"""How often somebody who waits for a batch is told that he still has to."""


class Samples(Protocol):
    """Where training samples come from."""

    def sample(self, rng: torch.Generator) -> dict[str, Tensor]:
        """One training sample without a batch axis; the same for the same state of the generator."""
        ...

    def validation(self) -> list[dict[str, Tensor]]:
        """Batches from the validation patients, always the same."""
        ...


Draw = Callable[[Mapping[str, Tensor], torch.Generator], dict[str, Tensor]]
"""What adds to a sample everything random that its losses need (``Kind.draw``)."""


def sample_generator(seed: int, step: int, number: int) -> torch.Generator:
    """The generator of sample ``number`` of a step. Neighbouring numbers give unrelated generators."""
    digest = hashlib.blake2b(f"{seed} {step} {number}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)


def collate(rows: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Samples stacked to one batch. Their keys and shapes are the same."""
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


class Loader:
    """Endless micro-batches from ``first_step`` on: ``settings.accumulate`` for each step, on the CPU.

    Process ``rank`` of ``world`` draws samples ``micro * batch * world + rank * batch`` and the following. Use it in a
    ``with`` block: leaving it ends the threads. ``waiting`` is called every now and then while the caller waits for a
    batch, so that it can stop. ``pin``: in memory from which a CUDA GPU copies while it computes. ``waited_s``: seconds
    the caller had to wait so far. What goes wrong while a sample is made is raised where its batch is asked for.
    """

    def __init__(
        self,
        samples: Samples,
        draw: Draw,
        settings: TrainSettings,
        first_step: int = 0,
        rank: int = 0,
        world: int = 1,
        threads: int = 0,
        waiting: Callable[[], None] | None = None,
        pin: bool = False,
    ) -> None:
        self._samples, self._draw, self._settings = samples, draw, settings
        self._rank, self._world = rank, world
        self._threads = threads or max(1, min(MOST_THREADS, torch.get_num_threads()))
        self._next = first_step * settings.accumulate
        self._pin = pin
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="medgan-loader")
        self._coming: deque[Future[dict[str, Tensor]]] = deque()
        self._waiting = waiting
        self.waited_s = 0.0

    def __enter__(self) -> Loader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        return self

    def __next__(self) -> dict[str, Tensor]:
        while len(self._coming) < AHEAD * self._threads:
            self._coming.append(self._pool.submit(self._batch, self._next))
            self._next += 1
        begun = time.perf_counter()
        batch = self._result(self._coming.popleft())
        self.waited_s += time.perf_counter() - begun
        return batch

    def _result(self, future: Future[dict[str, Tensor]]) -> dict[str, Tensor]:
        while self._waiting is not None:
            wait([future], timeout=WAKE_S)
            if future.done():
                break
            self._waiting()
        return future.result()

    def close(self) -> None:
        """End the threads; what they were at is finished and thrown away."""
        for future in self._coming:
            future.cancel()
        self._coming.clear()
        with contextlib.suppress(RuntimeError):  # while the interpreter ends
            self._pool.shutdown(wait=True, cancel_futures=True)

    def _batch(self, number: int) -> dict[str, Tensor]:
        step, micro = divmod(number, self._settings.accumulate)
        size = self._settings.batch
        first = (micro * self._world + self._rank) * size
        batch = collate([self._sample(step, first + place) for place in range(size)])
        return {name: tensor.pin_memory() for name, tensor in batch.items()} if self._pin else batch

    def _sample(self, step: int, number: int) -> dict[str, Tensor]:
        rng = sample_generator(self._settings.seed, step, number)
        with torch.no_grad():
            return self._draw(self._samples.sample(rng), rng)
