"""How long Slicer's main thread stands still during a run: a heartbeat timer while a real job works.

Prints prepare (voxels out of the scene and into the child's folder), the run, and publish (the result into the
scene) apart. Uses the panel on the stand-in of Testing/Widget.

    python Testing/Benchmarks/responsiveness.py --side 256 --json responsiveness.json
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY / "Testing" / "Widget"), str(REPOSITORY / "Testing"), str(REPOSITORY / "MedGANSlicer")]


def measure(side: int, seconds: float) -> dict[str, float]:
    """Longest standstill of each phase in ms. The run is cancelled after ``seconds``; publish is timed by itself."""
    import numpy as np
    import standin
    from standin.waiting import Heartbeat, wait_until

    import phantoms

    noise = np.random.default_rng(0).normal(0, 40, (side, side, side)).astype(np.float32)
    array = np.rint(np.clip(phantoms.head((side, side, side)) + noise, 0, None)).astype(np.int16)
    with standin.install() as make, tempfile.TemporaryDirectory() as folder:
        import slicer
        import slicer.util

        running = make(Path(folder))
        running.load_module(REPOSITORY / "MedGANSlicer" / "MedGANSlicer.py")
        node = slicer.util.addVolumeFromArray(array, phantoms.awkward_geometry(), "Head")
        slicer.util.setSliceViewerLayers(background=node)
        begun = time.perf_counter()
        widget = running.open_module("MedGANSlicer")
        found = {"open_and_look": time.perf_counter() - begun}
        begun = time.perf_counter()
        widget.ui.applyButton.click()
        found["prepare"] = time.perf_counter() - begun
        end = time.monotonic() + seconds
        with Heartbeat() as heartbeat:
            wait_until(lambda: time.monotonic() > end or not widget.taskPanel.busy, seconds + 10)
        found["run"] = heartbeat.longest_gap
        begun = time.perf_counter()
        widget.ui.applyButton.click()
        found["cancel"] = time.perf_counter() - begun
        wait_until(lambda: not widget.taskPanel.busy, 30)
        found["publish"] = publishing(node, array)
        running.close()
    return {phase: round(1000 * duration, 1) for phase, duration in found.items()}


def publishing(node, array) -> float:
    """Time to put a result and its difference of that size into the scene."""
    import numpy as np

    from medgan.settings import EnhanceSettings
    from medgan.tasks import Outputs
    from MedGANSlicerLib import TaskLogic
    from MedGANSlicerLib.SceneBridge import volumeFromNode

    volume = volumeFromNode(node)
    report = {"model": "denoise", "model_version": "", "model_sha256": {}, "seed": 0, "package_version": ""}
    report["settings"] = EnhanceSettings().to_dict()
    change = np.full(array.shape, 3.0, np.float32)
    outputs = Outputs({"volume": volume.like(volume.array + change), "difference": volume.like(change)}, report)
    begun = time.perf_counter()
    TaskLogic.publish(outputs, node)
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=20.0, help="how long the run is watched; then it is cancelled")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = {"side": options.side, "milliseconds": measure(options.side, options.seconds)}
    print(json.dumps(found, indent=1))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
