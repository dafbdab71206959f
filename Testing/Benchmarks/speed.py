"""Time and peak memory of MedGAN on whole volumes, and how its denoising compares with BM4D in the same run.

    python Testing/Benchmarks/speed.py --peers-python ENV/bin/python --output results

Measures a 256 x 256 x 180 volume (seconds, peak memory), BM4D on a central crop of it with the seconds scaled by the
number of voxels (``--full`` runs the whole volume: hours), a 512 x 512 x 512 volume under a memory limit, and
super-resolution of 256 x 256 x 40 thick slices to 256 x 256 x 160 (``--only-superres`` measures that alone). Each
measurement is a process of its own on ``--cores`` CPU cores, one after another: run it on a machine that does nothing
else. ``ENV`` is made by ``denoise.py --make-peers-env ENV``. The volumes are a phantom with 5 % Rician noise.

*Seconds* are those of the task itself (with loading the model, without starting Python and importing torch, which
stands beside it as *start*). *Peak memory* is the highest resident size of the whole process, with Python, torch, the
input and the outputs. MB and GB are powers of ten.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent.parent / "MedGANSlicer")]

import peers  # noqa: E402
from report import table  # noqa: E402

from degrading import thicken  # noqa: E402

NOISE_PERCENT = 5.0
RANGE = 1000.0
SIGMA = NOISE_PERCENT / 100.0 * RANGE


def phantom(shape: tuple[int, ...]) -> np.ndarray:
    """A noisy head-like float32 volume [k, j, i]: nested ellipsoids with folded borders, Rician noise of 5 %."""
    generator = np.random.default_rng(0)
    axes = [np.linspace(-1.0, 1.0, size, dtype=np.float32) for size in shape]
    volume = np.empty(shape, dtype=np.float32)
    j, i = np.meshgrid(axes[1], axes[2], indexing="ij")
    for index, k in enumerate(axes[0]):  # slice by slice: a 512^3 volume must not need gigabytes to make
        folds = 0.03 * (np.sin(23 * j + 5 * k) + np.sin(19 * i - 7 * k) + np.sin(17 * k + 3 * i))
        radius = np.sqrt((i / 0.8) ** 2 + (j / 0.9) ** 2 + (k / 0.85) ** 2) + folds
        clean = RANGE * np.select(
            [radius < 0.35, radius < 0.7, radius < 0.85, radius < 0.95], [0.4, 0.75, 0.2, 0.9], 0.0
        )
        noise = SIGMA * generator.standard_normal((2, *clean.shape))
        volume[index] = np.hypot(clean + noise[0], noise[1])
    return volume


def time_medgan(file: Path, model: str, device: str, cores: int, limit_gb: float, ratio: int = 1) -> dict[str, Any]:
    """Run the enhancement in this process and say what it took. The noise level is estimated.

    With a ``ratio`` above 1 the slices are told to be so many voxels thick, and made thin.
    """
    peers.keep_to_cores(cores)
    start = time.perf_counter()
    from medgan.settings import Axis, Device, EnhanceSettings
    from medgan.tasks import enhance
    from medgan.volume import Volume

    array = np.load(file)
    started = time.perf_counter()
    settings = EnhanceSettings(model=model, device=Device(device), memory_limit_gb=limit_gb)
    if ratio > 1:
        settings.axis, settings.ratio = Axis.K, float(ratio)
    outputs = enhance.run({"volume": Volume(array, np.diag([1.0, 1.0, ratio, 1.0]))}, settings, _say)
    seconds = time.perf_counter() - started
    print(file=sys.stderr)
    return {
        "seconds": seconds,
        "start_seconds": started - start,
        "peak_memory_mb": peers.peak_memory_mb(),
        "voxels": int(array.size),
        "size_after": list(reversed(outputs.volumes["volume"].shape)),
        "device": outputs.report["device"],
        "messages": outputs.report["messages"],
    }


def _say(fraction: float, message: str = "") -> None:
    print(f"\r{100 * fraction:5.1f} %  {message:40.40}", end="", file=sys.stderr, flush=True)


def measure(options: argparse.Namespace, folder: Path) -> dict[str, dict[str, Any]]:
    """Every measurement by its name; a missing one was not asked for."""
    found: dict[str, dict[str, Any]] = {}
    if options.thick[0] > 0:
        i, j, k = options.thick
        thin = phantom((k * options.ratio, j, i))
        np.save(folder / "thick.npy", thicken(thin, (0,), options.ratio))
        del thin
        found["superres"] = _in_child(options, folder / "thick.npy", 0.0, options.superres_model, options.ratio)
    if options.only_superres:
        return found
    volume = phantom(tuple(reversed(options.size)))
    np.save(folder / "volume.npy", volume)
    found["medgan"] = _in_child(options, folder / "volume.npy", 0.0, options.model)
    if options.peers_python:
        crop = volume if options.full else volume[tuple(_middle(size, options.bm4d_crop) for size in volume.shape)]
        np.save(folder / "crop.npy", crop)
        command = [options.peers_python, HERE / "peers.py", folder / "crop.npy", "--time-bm4d", SIGMA, options.cores]
        found["bm4d"] = _json_of(command, options.cores)
        found["bm4d"]["scaled_seconds"] = found["bm4d"]["seconds"] * volume.size / crop.size
    del volume
    if options.large[0] > 0:
        np.save(folder / "large.npy", phantom(tuple(reversed(options.large))))
        found["large"] = _in_child(options, folder / "large.npy", options.large_limit, options.model)
    return found


def _middle(size: int, wanted: int) -> slice:
    start = max((size - wanted) // 2, 0)
    return slice(start, min(start + wanted, size))


def _in_child(options: argparse.Namespace, file: Path, limit_gb: float, model: str, ratio: int = 1) -> dict[str, Any]:
    words = [sys.executable, Path(__file__), "--child", file, "--model", model, "--device", options.device]
    words += ["--ratio", ratio]
    return _json_of([*words, "--cores", options.cores, "--large-limit", limit_gb], options.cores)


def _json_of(command: list[Any], cores: int) -> dict[str, Any]:
    """The JSON on the last line of what a command prints. Raises ``CalledProcessError`` when it fails."""
    environment = {**os.environ, **dict.fromkeys(peers.THREADS, str(cores))}
    done = subprocess.run(
        [str(word) for word in command], check=True, stdout=subprocess.PIPE, text=True, env=environment
    )
    return json.loads(done.stdout.splitlines()[-1])


def report(found: dict[str, dict[str, Any]], options: argparse.Namespace) -> str:
    """Measurements and verdicts as Markdown."""
    size, large = (" x ".join(map(str, sides)) for sides in (options.size, options.large))
    body = []
    for name, said in (("medgan", size), ("large", large), ("superres", _thick(options))):
        if name in found:
            one = found[name]
            start = f"{one['start_seconds']:.1f}"
            body.append(["MedGAN", said, one["device"], _seconds(one), start, _memory(one)])
    bm4d = found.get("bm4d")
    if bm4d:
        name = size if options.full else f"{size}, scaled from {bm4d['voxels']} voxels in {bm4d['seconds']:.1f} s"
        body.append(
            ["BM4D", name, f"CPU ({options.cores} threads)", f"{bm4d['scaled_seconds']:.1f}", "", _memory(bm4d)]
        )
    lines = ["# Speed benchmark", "", f"Noise: Rician, {NOISE_PERCENT:g} %. Cores: {options.cores}.", ""]
    lines += table(["method", "volume", "device", "seconds", "start", "peak memory, MB"], body)
    return "\n".join([*lines, "", *table(["asked", "verdict", "numbers"], verdicts(found, options))]) + "\n"


def verdicts(found: dict[str, dict[str, Any]], options: argparse.Namespace) -> list[list[str]]:
    """Rows of what is asked, the verdict and the numbers, for the sizes that were run."""
    ours, bm4d, big, thick = (found.get(name) for name in ("medgan", "bm4d", "large", "superres"))
    asked: list[tuple[str, bool, str]] = []
    if ours:
        asked.append(("under 60 s", ours["seconds"] < 60.0, f"{_seconds(ours)} s"))
        asked.append(("peak memory under 3 GB", ours["peak_memory_mb"] < 3000.0, f"{_memory(ours)} MB"))
    if ours and bm4d:
        ratio = bm4d["scaled_seconds"] / ours["seconds"]
        asked.append(("at least 10 times faster than BM4D", ratio >= 10.0, f"{ratio:.1f} times"))
    if big:
        inside = big["peak_memory_mb"] <= options.large_limit * 1000.0
        asked.append(
            (f"large volume within {options.large_limit:g} GB", inside, f"{_memory(big)} MB, {_seconds(big)} s")
        )
    if thick:
        asked.append((f"{_thick(options)} under 90 s", thick["seconds"] < 90.0, f"{_seconds(thick)} s"))
    return [[name, "PASS" if passed else "FALLS SHORT", numbers] for name, passed, numbers in asked]


def _thick(options: argparse.Namespace) -> str:
    i, j, k = options.thick
    return f"{i} x {j} x {k} to {i} x {j} x {k * options.ratio}"


def _seconds(one: dict[str, Any]) -> str:
    return f"{one['seconds']:.1f}"


def _memory(one: dict[str, Any]) -> str:
    return f"{one['peak_memory_mb']:.0f}"


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Measure time and memory of MedGAN's enhancements.")
    parser.add_argument("--peers-python", type=Path, help="Python of the environment that holds BM4D")
    parser.add_argument("--size", type=int, nargs=3, default=[256, 256, 180], metavar=("I", "J", "K"))
    parser.add_argument(
        "--large", type=int, nargs=3, default=[512, 512, 512], metavar=("I", "J", "K"), help="0 0 0: none"
    )
    parser.add_argument("--large-limit", type=float, default=8.0, help="memory in GB that the large volume may take")
    parser.add_argument("--bm4d-crop", type=int, default=96, help="side of the crop that BM4D is timed on")
    parser.add_argument(
        "--thick",
        type=int,
        nargs=3,
        default=[256, 256, 40],
        metavar=("I", "J", "K"),
        help="slices to refine; 0 0 0: none",
    )
    parser.add_argument("--ratio", type=int, default=4, help="ratio of the super-resolution")
    parser.add_argument("--superres-model", default="superres", help="name of a model or path of a bundle folder")
    parser.add_argument("--only-superres", action="store_true", help="measure super-resolution alone")
    parser.add_argument("--full", action="store_true", help="time BM4D on the whole volume")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--model", default="denoise", help="name of a model or path of a bundle folder")
    parser.add_argument("--device", default="cpu", choices=["auto", "cpu", "cuda", "mps"])
    parser.add_argument("--output", type=Path, help="folder for speed.md and speed.json")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    if options.child:
        one = time_medgan(
            options.child, options.model, options.device, options.cores, options.large_limit, options.ratio
        )
        print(json.dumps(one))
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        found = measure(options, Path(temporary))
    text = report(found, options)
    print(text)
    if options.output:
        options.output.mkdir(parents=True, exist_ok=True)
        (options.output / "speed.md").write_text(text, encoding="utf-8")
        (options.output / "speed.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
