"""The child process of a :class:`medgan.job.Job`: ``job_child.py FOLDER`` runs the task in that folder.

A job may ask it to stay. It then waits, for a limited time, at its standard input for the folder of its next job.
"""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    # The folder of this script would make every engine module a top-level one; its parent makes `medgan` found.
    _here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [os.path.dirname(_here), *(entry for entry in sys.path if os.path.abspath(entry or ".") != _here)]
    # MONAI imports these where they are installed, which takes a second and more; no task needs them.
    for _unused in ("matplotlib", "skimage"):
        sys.modules[_unused] = None  # type: ignore[assignment]

import contextlib
import ctypes
import errno
import faulthandler
import gc
import json
import math
import shutil
import signal
import tempfile
import threading
import time
import traceback
from pathlib import Path
from typing import Any

from medgan import exchange, processes
from medgan.memory import OUT_OF_MEMORY
from medgan.progress import Cancelled, part
from medgan.tasks import Outputs
from medgan.volume import LabelMap, Volume
from medgan.waiting import own_variables

CHECK_S = 0.05
"""How often the cancel file is looked for and progress is written."""

PATIENCE_S = 0.6
"""How long a task may take to call progress after a cancel before the process ends, unless the job says otherwise."""


class Events:
    """The child's side of the job folder: writes events, and is the progress call of the task."""

    def __init__(self, folder: Path) -> None:
        self.cancel_file = folder / "cancel"
        self._file = (folder / "events.jsonl").open("a", encoding="utf-8")
        self._lock = threading.Lock()
        self._checked_at = self._written_at = -math.inf
        self._message = ""
        self.where = ""
        """What messages and errors begin with: the input at hand, when there are several runs."""

    def write(self, event: str, **fields: Any) -> None:
        with self._lock:
            self._file.write(json.dumps({"event": event, **fields}) + "\n")
            self._file.flush()

    def close(self) -> None:
        with self._lock:
            self._file.close()

    def __call__(self, fraction: float, message: str = "") -> None:
        now = time.monotonic()
        if now - self._checked_at >= CHECK_S:
            self._checked_at = now
            if self.cancel_file.exists():
                raise Cancelled
        message = message and f"{self.where}{message}"
        if now - self._written_at >= CHECK_S or message not in ("", self._message):
            self._written_at, self._message = now, message or self._message
            share = min(max(float(fraction), 0.0), 1.0) if math.isfinite(fraction) else 0.0
            self.write("progress", fraction=share, message=message)


def main(folder: Path) -> int:
    """Run the job in ``folder``, and while jobs succeed and ask for it those that follow; the exit code is 0 when all
    are done."""
    faulthandler.enable()
    while True:
        over = threading.Event()
        try:
            stay_s = _one(folder, over)
        finally:
            over.set()
        if stay_s is None:
            return 1
        following = _following(stay_s) if stay_s else None
        if following is None:
            return 0
        folder = following
        _write_log_to(folder / "log.txt")


def _one(folder: Path, over: threading.Event) -> float | None:
    """Run one job: None when it failed, else how many seconds to wait for the next. ``over`` ends its watchdog."""
    (folder / "pid").write_text(str(os.getpid()), encoding="utf-8")
    job = exchange.read_json(folder / "job.json")
    events = Events(folder)
    watched = (folder, events, job["parent_pid"], job.get("patience_s", PATIENCE_S), over)
    threading.Thread(target=_watch, args=watched, daemon=True).start()
    try:
        events(0.0, "Starting")
        _take_over(job)
        _run(job, folder, events)
        events(1.0)
    except Cancelled:
        events.write("cancelled")
        return None
    except BaseException as error:
        events.write("failed", error=events.where + sentence(error), details=traceback.format_exc())
        return None
    stay_s = float(job.get("stay_s", 0.0)) if sys.stdin is not None else 0.0
    if not stay_s:
        events.write("done")
        return 0.0
    _free_memory()
    _write_log_to(Path(os.devnull))  # the parent removes the folder; Windows needs all its files closed for that
    over.set()
    events.write("done", waits=True)
    events.close()
    return stay_s


def _take_over(job: dict[str, Any]) -> None:
    """The environment variables of our own as they are for this job."""
    if "environment" in job:
        for name in own_variables(os.environ):
            del os.environ[name]
        os.environ.update(job["environment"])


def _following(stay_s: float) -> Path | None:
    """The folder of the next job, or None when the parent wants no more. After ``stay_s`` seconds the process ends."""
    too_late = threading.Timer(stay_s, os._exit, [0])
    too_late.daemon = True
    too_late.start()
    line = sys.stdin.buffer.readline()
    too_late.cancel()
    return Path(json.loads(line)) if line else None


def _write_log_to(file: Path) -> None:
    """Have all that this process prints, in Python or not, go there."""
    sys.stdout.flush()
    sys.stderr.flush()
    with file.open("ab") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)


def _free_memory() -> None:
    """Give back what the job has held, on a GPU too."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    with contextlib.suppress(OSError, AttributeError, TypeError):  # only the C library of GNU has it
        ctypes.CDLL(None).malloc_trim(0)


def _run(job: dict[str, Any], folder: Path, events: Events) -> None:
    from medgan.settings import SETTINGS
    from medgan.tasks import task

    run = task(job["task"])
    settings = SETTINGS[job["task"]].from_dict(job["settings"])
    keep = job.get("keep")
    if not job.get("each"):
        outputs = run(exchange.load(job["inputs"], folder / "inputs"), settings, events)
        volumes = exchange.save(_kept(outputs, keep), folder / "outputs")
        exchange.write_json({"volumes": volumes, "report": outputs.report}, folder / "result.json")
        return
    described: dict[str, Any] = {}
    reports: dict[str, Any] = {}
    for number, (name, volume) in enumerate(exchange.load_each(job["inputs"], folder / "inputs")):
        events.where = f"{name[:1].upper()}{name[1:]}: "
        share = part(events, number / len(job["inputs"]), (number + 1) / len(job["inputs"]))
        outputs = run({job["each"]: volume}, settings, share)
        saved = exchange.save(_kept(outputs, keep), folder / "outputs" / str(number))
        described |= {f"{name}/{one}": {**entry, "file": f"{number}/{entry['file']}"} for one, entry in saved.items()}
        reports[name] = outputs.report
    exchange.write_json({"volumes": described, "report": {"runs": reports}}, folder / "result.json")


def _kept(outputs: Outputs, keep: list[str] | None) -> dict[str, Volume | LabelMap]:
    return {name: volume for name, volume in outputs.volumes.items() if not keep or name in keep}


def sentence(error: BaseException) -> str:
    """One sentence for the person, from an exception of a task."""
    text = " ".join(str(error).split())
    short = text if len(text) <= 300 else text[:297] + "..."
    if _is_memory(error, text):
        if isinstance(error, MemoryError) and text.endswith("."):
            return text  # refused by the engine, with numbers
        return (
            "The task ran out of memory; close other programs, set a lower memory limit or use a smaller volume"
            f"{f' ({short})' if short else ''}."
        )
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"Python package '{error.name.split('.')[0]}' is not installed; install it and run the task again."
    if isinstance(error, OSError) and (error.errno == errno.ENOSPC or " requested and " in text):
        return f"The temporary folder '{tempfile.gettempdir()}' is full; make room or choose another."
    if isinstance(error, ValueError) and text:
        return short if text.endswith((".", "!", "?")) else f"{short}."
    return f"The task failed: {type(error).__name__}{f': {short}' if short else ''}{'' if short.endswith('.') else '.'}"


def _is_memory(error: BaseException, text: str) -> bool:
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"  # torch's, without importing torch
        or (isinstance(error, RuntimeError) and any(words in text.lower() for words in OUT_OF_MEMORY))
    )


def _watch(folder: Path, events: Events, parent_pid: int, patience_s: float, over: threading.Event) -> None:
    """End this process when it does not stop after a cancel, or when nobody waits for it any more."""
    first_parent, asked_at = os.getppid(), math.inf
    while not over.wait(CHECK_S):
        now = time.monotonic()
        if asked_at is math.inf and events.cancel_file.exists():
            asked_at = now
        if now - asked_at > patience_s:
            events.write("cancelled")
            os._exit(1)
        # Behind a launcher the direct parent is not the one that asked; either may vanish.
        if os.getppid() != first_parent or not processes.alive(parent_pid):
            shutil.rmtree(folder, ignore_errors=True)
            if not processes.WINDOWS and os.getpgrp() in (os.getpid(), first_parent):
                os.killpg(os.getpgrp(), signal.SIGKILL)
            os._exit(1)


if __name__ == "__main__":
    code = main(Path(sys.argv[1]))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # torch takes its time to go, and everything is written
