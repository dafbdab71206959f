"""How long a short job takes when it starts a child of its own, and when a child of the job before waits for it.

    python Testing/Benchmarks/waiting.py

Denoises 48^3 voxels, each way in turn (medians of ``--times`` runs), and says how much memory a waiting child holds
(Linux). What is saved for every further file, frame of a sequence and preview is the difference.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "MedGANSlicer"))

from medgan import waiting
from medgan.job import Job, JobStatus
from medgan.settings import EnhanceSettings
from medgan.volume import Volume


def main() -> int:
    parser = argparse.ArgumentParser(description="Time jobs whose child starts, and jobs whose child has waited.")
    parser.add_argument("--times", type=int, default=5, help="runs of each")
    times = parser.parse_args().times
    alone = [_seconds(stay_s=0.0)[0] for _ in range(times)]
    _seconds(stay_s=60.0)
    further = [_seconds(stay_s=60.0) for _ in range(times)]
    waiting.end_all()
    print(
        f"own child: {statistics.median(alone):.2f} s; waiting child: {statistics.median(s for s, _ in further):.2f} s"
    )
    print(f"a waiting child holds {further[-1][1]} MB" if further[-1][1] else "the memory of a child is not known here")
    return 0


def _seconds(stay_s: float) -> tuple[float, int]:
    """Seconds of a whole job, and MB that its child holds afterwards (0: not known)."""
    generator = np.random.default_rng(0)
    array = np.zeros((48, 48, 48), np.float32)
    array[12:36, 12:36, 12:36] = 500.0
    volume = Volume(array + generator.normal(0.0, 20.0, array.shape).astype(np.float32), np.eye(4))
    begun = time.perf_counter()
    with Job("enhance", {"volume": volume}, EnhanceSettings(), stay_s=stay_s) as job:
        job.start()
        state = job.wait()
        if state.status is not JobStatus.DONE:
            raise SystemExit(state.error)
        job.outputs()
        seconds = time.perf_counter() - begun
        return seconds, _held(int((job.folder / "pid").read_text()))


def _held(process: int) -> int:
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((round(int(line.split()[1]) * 1024 / 1e6) for line in lines if line.startswith("VmRSS")), 0)


if __name__ == "__main__":
    sys.exit(main())
