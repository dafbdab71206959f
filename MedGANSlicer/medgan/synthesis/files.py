"""Made volumes as files: computed in a child process, written whole or not at all, each marked by a JSON file."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from medgan.batch import FileFailed
from medgan.job import Job, JobError, JobState
from medgan.settings import Settings
from medgan.staging import complete, text_writer
from medgan.targets import are_apart, check_new, check_not_read, place_of
from medgan.tasks import Outputs
from medgan.volume import LabelMap, Volume, stem_of
from medgan.waiting import BETWEEN_FILES_S
from medgan.writing import check_target, write

SAID = ("task", "model", "model_version", "model_sha256", "package_version", "device", "source", "unit", "usual_error")
"""What of a report stands beside every file that was made."""


def computed(
    task: str,
    inputs: Mapping[str, Volume | LabelMap],
    settings: Settings,
    watch: Callable[[JobState], None],
    keep: Sequence[str] = (),
) -> Outputs:
    """The outputs of a task in a child process; ``watch`` gets its state as it goes. Raises :class:`FileFailed`."""
    try:
        with Job(task, inputs, settings, keep=tuple(keep), stay_s=BETWEEN_FILES_S) as job:
            job.complete(watch)
            return job.outputs()
    except JobError as error:
        raise FileFailed(str(error), error.details) from error


def sidecar_of(path: Path) -> Path:
    """Where the description of a volume file lies."""
    return path.with_name(stem_of(path) + ".json")


def check_targets(targets: Sequence[Path], inputs: Sequence[Path], overwrite: bool, makes_folder: bool = False) -> None:
    """Refuse before the work what could not be written after it. Raises :class:`FileFailed` or ``VolumeError``."""
    if not are_apart(targets):
        raise FileFailed("Two results would become the same file; name them differently.")
    if len({place_of(sidecar_of(target)) for target in targets}) < len(targets):
        raise FileFailed(
            f"Two results would share the description '{sidecar_of(targets[0]).name}'; name them differently, not only "
            "by their endings."
        )
    for target in targets:
        check_target(target, makes_folder)
        check_not_read(target, inputs)
        for file in () if overwrite else (target, sidecar_of(target)):
            check_new(file)


def write_marked(
    volumes: Mapping[Path, Volume | LabelMap], said: Mapping[Path, Mapping[str, Any]], make_folders: bool = False
) -> None:
    """Write volumes, each with its description beside it: all or none. Raises ``VolumeError``."""
    writers: dict[Path, Callable[[Path], object]] = {}
    for path, volume in volumes.items():
        writers[path] = functools.partial(write, volume)
        writers[sidecar_of(path)] = text_writer(json_text(said[path]))
    complete(writers, make_folders)


def description(report: Mapping[str, Any], settings: Mapping[str, Any], inputs: Sequence[Path], **more: Any) -> dict:  # type: ignore[type-arg]
    """What stands beside a file: how to make it again, and that no scanner made it."""
    chosen = {name: report[name] for name in SAID if name in report}
    return {
        "synthetic": True,
        **chosen,
        "settings": dict(settings),
        "inputs": [path.name for path in inputs],
        **more,
        "messages": list(report.get("messages", ())),
    }


def json_text(held: Mapping[str, Any]) -> str:
    """As it stands in a file."""
    return json.dumps(held, indent=2, ensure_ascii=False) + "\n"
