"""The child process of a job, with a few small tasks of its own beside the engine's.

``SmallJob`` starts this script in place of ``medgan/job_child.py``; everything else is the real thing: the
folder, the events, the watchdog, the process.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[2] / "MedGANSlicer")

from medgan import job_child
from medgan.job import Job
from medgan.settings import SETTINGS, Settings
from medgan.tasks import TASKS, Outputs
from medgan.volume import VolumeError


class SmallJob(Job):
    child_script = Path(__file__)


@dataclass
class SmallSettings(Settings):
    """One text for whatever the small task takes."""

    text: str = ""


def double(inputs, settings, progress):
    for step in range(5):
        progress(step / 5, f"Step {step}")
    return Outputs(
        {name: volume.like(volume.array * 2) for name, volume in inputs.items()},
        {"text": settings.text, "pid": os.getpid(), "environment": os.environ.get("MEDGAN_TEST", "")},
    )


def says(inputs, settings, progress):
    """Prints its text, from Python and from below it."""
    print(settings.text)
    os.system(f"echo {settings.text} too")
    return Outputs({}, {"pid": os.getpid()})


def echo(inputs, settings, progress):
    return Outputs(dict(inputs))


def patient(inputs, settings, progress):
    """Works for a minute and calls progress often."""
    for step in range(6000):
        progress(step / 6000, "Working")
        time.sleep(0.01)
    return Outputs()


def deaf(inputs, settings, progress):
    """Calls progress once and never again."""
    progress(0.5, "Deaf")
    time.sleep(60)
    return Outputs()


def saving(inputs, settings, progress):
    """Takes longer than usual to stop, because it saves what it has into the file that it was given."""
    try:
        while True:
            progress(0.5, "Saving")
            time.sleep(0.01)
    except BaseException:
        time.sleep(1.5)
        Path(settings.text).write_text("saved")
        raise


def frozen(inputs, settings, progress):
    """Holds the interpreter's lock in C, so that not even the watchdog thread gets a turn."""
    progress(0.5, "Frozen")
    ctypes.PyDLL(None).sleep(60)
    return Outputs()


def parental(inputs, settings, progress):
    """Starts a process of its own and says its number."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    progress(0.5, str(child.pid))
    return patient(inputs, settings, progress)


def raises(inputs, settings, progress):
    kinds = {"value": ValueError, "volume": VolumeError, "memory": MemoryError, "key": KeyError, "exit": SystemExit}
    kind, _, text = settings.text.partition(":")
    if kind == "torch":
        raise type("OutOfMemoryError", (RuntimeError,), {})(text)
    if kind == "import":
        import a_package_that_nobody_has  # noqa: F401
    raise kinds[kind](text)


def dies(inputs, settings, progress):
    progress(0.25, "Dying")
    if settings.text.startswith("signal"):
        print("last words", flush=True)
        os.kill(os.getpid(), getattr(signal, settings.text.partition(":")[2]))
        time.sleep(10)
    print(settings.text.partition(":")[2], flush=True)
    os._exit(int(settings.text.partition(":")[0]))


def register() -> None:
    for function in (double, says, echo, patient, deaf, saving, frozen, parental, raises, dies):
        name = f"small_tasks_{function.__name__}"
        sys.modules[name] = ModuleType(name)
        sys.modules[name].run = function
        TASKS[function.__name__] = name
        SETTINGS[function.__name__] = SmallSettings


if __name__ == "__main__":
    register()
    os._exit(job_child.main(Path(sys.argv[1])))
