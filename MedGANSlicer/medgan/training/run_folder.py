"""The folder of a run: its log, its sample images and its checkpoint, written by the first process only."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from medgan import exchange
from medgan.training import alarms, checkpoint
from medgan.training.journal import Journal
from medgan.training.parallel import World
from medgan.training.result import TrainingStopped


class RunFolder:
    """Made if need be. In the other processes of torchrun nothing is read or written.

    A disk that is full or can not be written to raises :class:`TrainingStopped` with what to do.
    """

    def __init__(
        self, folder: Path, world: World, tensorboard: bool = False, data: Mapping[str, Any] | None = None
    ) -> None:
        self.path, self._world, self._data = folder, world, data
        self.messages: list[str] = []
        """Sentences for the person."""
        self.step = 0
        self.saved_step: int | None = None
        """Step of the checkpoint; None where there is none yet."""
        self._journal: Journal | None = None
        if world.main:
            with self._writing():
                folder.mkdir(parents=True, exist_ok=True)
                self._journal = Journal(folder, tensorboard)
            self.messages += self._journal.told

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The objects of the log."""
        return self._journal.rows if self._journal is not None else []

    def write(self, row: Mapping[str, Any]) -> None:
        """Append an object to the log."""
        self.step = row["step"]
        if self._journal is not None:
            with self._writing():
                self._journal.add(row)

    @property
    def data_changed(self) -> bool:
        """Whether the training has had other data before."""
        return bool(self._data and self._data["changed"])

    def write_data(self) -> None:
        """Into ``data.json`` that the training has had its data."""
        if self._journal is not None and self._data is not None:
            with self._writing():
                exchange.write_json(self._data, self.path / "data.json")

    def write_pictures(self, step: int, pictures: Mapping[str, np.ndarray]) -> None:
        """Sample images, and where they are into the log; none is fine."""
        if self._journal is not None and pictures:
            with self._writing():
                self._journal.add_pictures(step, pictures)

    def tell(self, alarm: alarms.Alarm) -> None:
        """An alarm into the log and to the person."""
        self.messages.append(f"Step {alarm.step}: {alarm.advice}")
        self.write(alarm.row())

    def tell_alarms(self) -> None:
        """Every alarm that the log gives reason for by now."""
        for alarm in alarms.check(self.rows):
            self.tell(alarm)

    def save(self, state: dict[str, Any]) -> None:
        """Make ``state`` the checkpoint."""
        self.step = state["step"]
        if self._journal is not None:
            with self._writing():
                checkpoint.write(state, self.path)
        self.saved_step = self.step

    def read(self) -> dict[str, Any] | None:
        """The checkpoint, the same in all processes; None where there is none. The log then ends at its step."""
        state = None
        if self._journal is not None:
            state, told = checkpoint.read(self.path)
            self.messages += told
            with self._writing():
                self._journal.go_back(state["step"] if state else 0)
        state = self._world.object_from_main(state)
        self.step, self.saved_step = (state["step"], state["step"]) if state else (0, None)
        return state

    def close(self) -> None:
        if self._journal is not None:
            self._journal.close()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            free = ""
            with contextlib.suppress(OSError):
                free = f", {shutil.disk_usage(self.path).free / 1e9:.2g} GB are free"
            kept = "Make room and start it again."
            if self.saved_step is not None:
                kept = (
                    f"The checkpoint of step {self.saved_step} is whole. Make room and start it again in the same "
                    "folder: it goes on from there."
                )
            raise TrainingStopped(
                f"Folder {self.path} can not be written ({error.strerror or error}{free}), so the training stopped at "
                f"step {self.step}. {kept}"
            ) from error
