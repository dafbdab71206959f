"""Files enhanced on a Dask cluster whose workers see the same folders: the same work a file as on one computer.

A worker that dies loses nothing: Dask gives its file to another one, and what it had finished is known by the record
beside the result (see :mod:`medgan.records`).
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import medgan
from medgan.batch import Item, Manner, Result, Stopped, attempt
from medgan.job import JobState
from medgan.settings import EnhanceSettings

REACH_S = 10.0
"""How long is waited for the scheduler and for a first worker."""


class ClusterError(RuntimeError):
    """A cluster that can not be used; the text is one sentence for a person."""


def run(items: Sequence[Item], settings: EnhanceSettings, manner: Manner, address: str) -> Iterator[tuple[int, Result]]:
    """The number of an item and its result, as they get ready. Raises :class:`ClusterError`.

    Closing the iterator, or an interruption while it waits, cancels what is left; workers end their children.
    """
    client = _connected(address)
    numbers: dict[Any, int] = {}
    try:
        from distributed import as_completed

        for number, item in enumerate(items):
            name = f"medgan-{manner.run}-{number}"
            future = client.submit(_work, _absolute(item), settings, manner, key=name, pure=False)
            numbers[future] = number
        for future in as_completed(list(numbers), loop=client.loop):
            number = numbers.pop(future)
            yield number, _result(future, items[number])
    finally:
        with contextlib.suppress(Exception):
            client.cancel(list(numbers))
        with contextlib.suppress(Exception):
            client.close()


def _work(item: Item, settings: EnhanceSettings, manner: Manner) -> Result:
    """What a worker does: one file, as everywhere, looking now and then whether it is still wanted."""
    from distributed import get_worker

    worker = get_worker()
    name = worker.get_current_task()

    def watch(state: JobState) -> None:
        task = worker.state.tasks.get(name)
        if task is None or task.state == "cancelled":
            raise Stopped

    try:
        return attempt(item, settings, manner, watch)
    except Stopped:
        return Result(item, error="The run was cancelled.")


def _connected(address: str) -> Any:
    try:
        from distributed import Client
        from distributed.comm import connect
    except ImportError as error:
        raise ClusterError(
            'Dask is not installed, which --dask needs; install it with: pip install "medganslicer[cluster]".'
        ) from error
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # it tells of every worker that goes
    advice = "give the address that 'dask scheduler' prints, for example tcp://host:8786"

    async def knock() -> None:
        comm = await connect(address, timeout=REACH_S)
        await comm.close()

    try:
        asyncio.run(knock())  # first without a client, which complains aloud when it finds nobody
    except ValueError as error:
        raise ClusterError(f"'{address}' is not the address of a Dask scheduler; {advice}.") from error
    except (OSError, asyncio.TimeoutError) as error:
        raise ClusterError(
            f"No Dask scheduler answers at '{address}' within {REACH_S:g} s; start it, or {advice}."
        ) from error
    try:
        client = Client(address, timeout=REACH_S, set_as_default=False)
    except (OSError, asyncio.TimeoutError, ValueError) as error:
        raise ClusterError(f"What answers at '{address}' is no Dask scheduler; {advice}.") from error
    try:
        _check_workers(client, address)
    except BaseException:
        client.close()
        raise
    return client


def _check_workers(client: Any, address: str) -> None:
    try:
        client.wait_for_workers(1, timeout=REACH_S)
    except (OSError, asyncio.TimeoutError) as error:
        raise ClusterError(
            f"The Dask cluster at '{address}' has no workers; start one with 'dask worker {address} --nthreads 1'."
        ) from error
    try:
        versions = client.run(_version)
    except Exception as error:
        raise ClusterError(
            f"The Dask workers at '{address}' can not import medgan ({error}); install it where they run."
        ) from error
    other = sorted({version for version in versions.values() if version != medgan.__version__})
    if other:
        raise ClusterError(
            f"Dask workers at '{address}' have medgan {', '.join(other)}, this is {medgan.__version__}; install the "
            "same version on all."
        )


def _version() -> str:
    return medgan.__version__


def _absolute(item: Item) -> Item:
    """The item with paths that do not depend on where a process was started."""
    paths: dict[str, Any] = {"source": item.source, **item.targets}
    paths["target"] = paths.pop("volume")
    return dataclasses.replace(item, **{name: path.absolute() for name, path in paths.items()})


def _result(future: Any, item: Item) -> Result:
    """A future's result, with the person's own paths in it."""
    from distributed import KilledWorker

    try:
        return dataclasses.replace(future.result(), item=item)
    except KilledWorker:
        return Result(
            item, error="Several Dask workers died while they were at this file; most likely it needs more memory."
        )
    except Exception as error:
        return Result(item, error=f"The Dask cluster gave no result ({type(error).__name__}: {error}).")
