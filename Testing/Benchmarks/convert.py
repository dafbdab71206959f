"""A segmentation of many segments to a label map: ours against the call of 3D Slicer's own logic, in one run.

    python Testing/Benchmarks/convert.py [--size 512] [--segments 100] [--repeat 3]

Each conversion runs in a process of its own on the same segmentation; reported are the median time, the most memory
beyond what the segmentation itself took, and whether the label map holds exactly the values that the segments have.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "MedGANSlicer"))

WAYS = ("MedGAN", "Slicer")


def blocks(size: int, segments: int) -> tuple[np.ndarray, list[int]]:
    """A cube full of boxes with arbitrary label values, one a segment, as evenly spread as they fit."""
    values = sorted(int(value) for value in np.random.default_rng(0).choice(30000, segments, replace=False) + 1)
    array = np.zeros((size, size, size), np.int16)
    across = int(np.ceil(segments ** (1 / 3)))
    step = size // across
    for number, value in enumerate(values):
        k, rest = divmod(number, across * across)
        j, i = divmod(rest, across)
        box = tuple(slice(at * step + 1, (at + 1) * step - 1) for at in (k, j, i))
        array[box] = value
    return array, values


def measure(way: str, size: int, segments: int, repeat: int) -> dict[str, float | bool]:
    """Seconds and memory of one way, in this process."""
    import slicer
    from vtk.util.numpy_support import vtk_to_numpy

    from medgan.labels import segmentation_of
    from medgan.volume import LabelMap
    from MedGANSlicerLib.Conversion import toLabelMaps
    from MedGANSlicerLib.HeadlessScene import HeadlessScene
    from MedGANSlicerLib.SceneEdits import removeNode
    from MedGANSlicerLib.SegmentationBridge import publishSegmentation

    array, values = blocks(size, segments)
    matrix = np.array([[0.5, 0, 0, -60], [0, 0.48, -0.2, 10], [0, 0.14, 0.7, 5], [0, 0, 0, 1.0]])
    with HeadlessScene() as headless:
        scene = headless.scene
        node = publishSegmentation(scene, segmentation_of([LabelMap(array, matrix)])[0], "Parts")
        ids = list(node.GetSegmentation().GetSegmentIDs())
        colors = scene.AddNewNodeByClass("vtkMRMLColorTableNode")
        colors.SetTypeToUser()
        colors.SetNumberOfColors(max(values) + 1)
        for value in values:
            colors.SetColor(value, f"label {value}", 1, 0, 0, 1)
        seconds, busy, most, exact = [], [], 0.0, True
        for _ in range(repeat):
            resident = Resident()
            start, start_busy = time.perf_counter(), time.process_time()
            if way == "MedGAN":
                (result,) = toLabelMaps(node).nodes
            else:
                result = scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode")
                mode = slicer.vtkSegmentation.EXTENT_REFERENCE_GEOMETRY
                logic = slicer.vtkSlicerSegmentationsModuleLogic
                if not logic.ExportSegmentsToLabelmapNode(node, ids, result, None, mode, colors):
                    raise RuntimeError("Slicer's logic could not convert the segments.")
            seconds.append(time.perf_counter() - start)
            busy.append(time.process_time() - start_busy)
            most = max(most, resident.stop())
            image = result.GetImageData()
            made = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(image.GetDimensions()[::-1])
            exact = exact and made.shape == array.shape and bool(np.array_equal(made, array))
            del made, image
            removeNode(scene, result)
        cpu = float(np.median(busy))
        return {"seconds": float(np.median(seconds)), "cpu_seconds": cpu, "memory_mb": most, "exact": exact}


class Resident:
    """The most memory this process takes from now until :meth:`stop`, beyond what it takes now."""

    def __init__(self) -> None:
        self._start = self._most = _resident_mb()
        self._go = True
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> float:
        self._go = False
        self._thread.join()
        return max(self._most, _resident_mb()) - self._start

    def _watch(self) -> None:
        while self._go:
            self._most = max(self._most, _resident_mb())
            time.sleep(0.01)


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--segments", type=int, default=100)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        print(json.dumps(measure(options.way, options.size, options.segments, options.repeat)))
        return
    print(f"{options.size}^3 voxels, {options.segments} segments, median of {options.repeat}")
    for way in WAYS:
        command = [sys.executable, __file__, "--way", way]
        for name in ("size", "segments", "repeat"):
            command += [f"--{name}", str(getattr(options, name))]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        said = json.loads(done.stdout.strip().splitlines()[-1])
        exact = "exact" if said["exact"] else "NOT the same voxels"
        times = f"{said['seconds']:8.2f} s ({said['cpu_seconds']:.2f} s of CPU)"
        print(f"{way:8s} {times}   {said['memory_mb']:8.0f} MB   {exact}")


if __name__ == "__main__":
    main()
