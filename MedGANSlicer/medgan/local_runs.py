"""Several pieces of work at a time on this computer: each in a child process, spread over its GPUs or its cores."""

from __future__ import annotations

import dataclasses
import importlib.util
import math
import os
import queue
import re
import runpy
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from medgan import processes
from medgan.batch import Item, Manner, Result, Stopped, attempt
from medgan.job import JobState
from medgan.memory import free_memory_bytes
from medgan.settings import Device, EnhanceSettings, SynthesizeSettings

Made = TypeVar("Made")
Chosen = TypeVar("Chosen", EnhanceSettings, SynthesizeSettings)


def run(
    items: Sequence[Item],
    settings: EnhanceSettings,
    manner: Manner,
    jobs: int,
    watch: Callable[[int, JobState], None],
) -> Iterator[tuple[int, Result]]:
    """The number of an item and its result, as they get ready. ``watch`` is called from other threads.

    Closing the iterator, or an interruption while it waits, ends all children; what they were at is not written.
    """
    shared, environments = shares(max(1, min(jobs, len(items))), settings)

    def work(number: int, environment: dict[str, str], watched: Callable[[JobState], None]) -> Result:
        item = items[number]
        result = attempt(item, shared, manner, watched, environment)
        if len(environments) > 1 and "memory_limit_gb" not in dict(item.changes):
            result.error = about_share(result.error)
        return result

    return spread(len(items), environments, work, watch)


def spread(
    count: int,
    environments: Sequence[dict[str, str]],
    work: Callable[[int, dict[str, str], Callable[[JobState], None]], Made],
    watch: Callable[[int, JobState], None],
) -> Iterator[tuple[int, Made]]:
    """The numbers below ``count`` and what ``work`` makes of each, as they get ready; one at a time an environment.

    ``work`` gets a number, its environment and a function to call with the state of its job, through which what it is
    at is ended; it must raise nothing of its own. Closing the iterator ends what is being worked on.
    """
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    ready: queue.SimpleQueue[tuple[int, Made]] = queue.SimpleQueue()
    stopping = threading.Event()
    for number in range(count):
        waiting.put(number)

    def serve(environment: dict[str, str]) -> None:
        while not stopping.is_set():
            try:
                number = waiting.get_nowait()
            except queue.Empty:
                return

            def watched(state: JobState, number: int = number) -> None:
                if stopping.is_set():
                    raise Stopped
                watch(number, state)

            try:
                ready.put((number, work(number, environment, watched)))
            except Stopped:
                return

    threads = [threading.Thread(target=serve, args=(environment,), daemon=True) for environment in environments]
    try:
        for thread in threads:
            thread.start()
        for _ in range(count):
            yield _next(ready)
    finally:
        with processes.uninterrupted():  # the folders of jobs are removed in the threads
            stopping.set()
            for thread in threads:
                if thread.ident is not None:
                    thread.join()


def shares(jobs: int, settings: Chosen) -> tuple[Chosen, list[dict[str, str]]]:
    """What each of ``jobs`` children at a time may use: settings with a memory limit, and environment variables."""
    if jobs == 1:
        return settings, [{}]
    gpus = visible_gpus() if settings.device in (Device.AUTO, Device.CUDA) and torch_knows_gpus() else []
    limit_gb = settings.memory_limit_gb / jobs
    if not limit_gb and not gpus:
        limit_gb = free_memory_bytes() / 1e9 / jobs
    elif not limit_gb and jobs > len(gpus):  # of a GPU that several share, each its part
        limit_gb = min(free_gpu_bytes(gpu) for gpu in gpus) / 1e9 / math.ceil(jobs / len(gpus))
    threads = str(max(1, _cores() // jobs))
    environments = [{"OMP_NUM_THREADS": threads} for _ in range(jobs)]
    for number, environment in enumerate(environments):
        if gpus:
            environment["CUDA_VISIBLE_DEVICES"] = gpus[number % len(gpus)]
    return dataclasses.replace(settings, memory_limit_gb=limit_gb), environments


def about_share(refusal: str) -> str:
    """The refusal of a child that has too little memory, in the words of its share: fewer jobs help it."""
    share = r" and the share of each job is \1 GB; use fewer --jobs "
    return re.sub(r" and the limit is (\S+) GB; raise it ", share, refusal)


def torch_knows_gpus() -> bool:
    """Whether PyTorch was built for GPUs that ``CUDA_VISIBLE_DEVICES`` names; a build for the CPU leaves them idle."""
    found = importlib.util.find_spec("torch")  # its own import takes seconds
    version = Path(found.origin).with_name("version.py") if found and found.origin else None
    if version is None or not version.is_file():
        return False
    built = runpy.run_path(str(version))
    return bool(built.get("cuda") or built.get("hip"))


def visible_gpus() -> list[str]:
    """The CUDA GPUs a child could see, as ``CUDA_VISIBLE_DEVICES`` names them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [part.strip() for part in named.split(",") if part.strip() and not part.strip().startswith("-")]
    listed = _nvidia_smi("-L").splitlines()
    return [str(number) for number, _ in enumerate(line for line in listed if line.startswith("GPU "))]


def free_gpu_bytes(gpu: str) -> int:
    """Free memory of a GPU that ``CUDA_VISIBLE_DEVICES`` names so; 0 where ``nvidia-smi`` does not know it."""
    told = _nvidia_smi("--query-gpu=memory.free", "--format=csv,noheader,nounits", "-i", gpu).strip()
    return int(told) << 20 if told.isdigit() else 0


def _nvidia_smi(*arguments: str) -> str:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ""
    try:
        return subprocess.run([tool, *arguments], capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


def _cores() -> int:
    """Cores this process may use, or as many threads as it was told to."""
    told = os.environ.get("OMP_NUM_THREADS", "")
    if told.isdigit() and int(told) > 0:
        return int(told)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _next(ready: queue.SimpleQueue[tuple[int, Made]]) -> tuple[int, Made]:
    while True:
        try:
            return ready.get(timeout=0.2)  # so that Windows, too, lets Ctrl-C through
        except queue.Empty:
            continue
