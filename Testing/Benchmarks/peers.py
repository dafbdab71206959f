"""The reference methods of the denoising benchmark. Runs under the Python of their own environment, not under ours.

    PEERS_PYTHON peers.py FOLDER [--methods a,b] [--cases x,y]

``FOLDER`` holds one folder a case, as ``denoise.py`` writes it: ``noisy.npy``, ``clean.npy``, ``foreground.npy``
(float32 and bool, [k, j, i]) and ``case.json``. Beside them come ``METHOD.npy`` and ``METHOD.json`` (seconds, peak
memory, chosen parameters, package versions). A result is kept while its noisy volume, the method's code and the package
versions are still the same, so a stopped run goes on where it stopped.

How the methods are treated, but for one better than a person with a real scan could:

- every method that takes a noise level gets the true sigma;
- parameters marked *oracle* are chosen for each case from the grid that stands in the method, by the lowest squared
  error to the clean volume in the foreground. The time is that of the chosen setting alone;
- ``bm4d`` is the default profile with the true sigma. ``bm4d_corrected`` is the same plus what the noise model allows
  on top: the Rician bias removed (m*m - sigma*sigma), or the Anscombe transform for counts; nothing for Gaussian noise.
  ``bm4d_estimated`` is the exception: it is told the sigma that MedGAN estimates, and so knows what MedGAN knows.

Each method runs in a process of its own and on one thread, so that time and peak memory are its own.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import inspect
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS")
if __name__ == "__main__":
    os.environ.update(dict.fromkeys(THREADS, "1"))

import numpy as np  # noqa: E402  (the number of threads is read at import)

Result = tuple[np.ndarray, dict[str, Any]]


class Problem:
    """One case: what is to be denoised, and what an oracle may look at."""

    def __init__(self, folder: Path) -> None:
        about = json.loads((folder / "case.json").read_text(encoding="utf-8"))
        self.noisy: np.ndarray = np.load(folder / "noisy.npy")
        self.clean: np.ndarray = np.load(folder / "clean.npy")
        self.foreground: np.ndarray = np.load(folder / "foreground.npy")
        self.noise: str = about["noise"]
        self.sigma: float = about["sigma"]
        self.sigma_estimated: float = about["sigma_estimated"]
        self.data_range: float = about["data_range"]

    def error(self, result: np.ndarray) -> float:
        """Mean squared error in the foreground."""
        return float(np.mean((result[self.foreground].astype(np.float64) - self.clean[self.foreground]) ** 2))

    def best(self, function: Callable[..., np.ndarray], grid: Iterable[dict[str, Any]]) -> Result:
        """The result of the setting with the lowest error, and the settings with their seconds."""
        tried = []
        winner: np.ndarray | None = None
        for parameters in grid:
            start = time.perf_counter()
            result = function(**parameters)
            seconds = time.perf_counter() - start
            tried.append({**parameters, "seconds": seconds, "error": self.error(result)})
            if winner is None or tried[-1]["error"] < min(other["error"] for other in tried[:-1]):
                winner = result
        assert winner is not None
        chosen = min(tried, key=lambda one: one["error"])
        return winner, {"seconds": chosen["seconds"], "parameters": chosen, "tried": tried}


def gaussian(problem: Problem) -> Result:
    """Oracle over the width in voxels."""
    from scipy.ndimage import gaussian_filter

    grid = ({"width": width} for width in (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0, 1.2, 1.5))
    return problem.best(lambda width: gaussian_filter(problem.noisy, width), grid)


def bilateral(problem: Problem) -> Result:
    """SimpleITK. Oracle over the domain width in voxels and the range width in sigmas."""
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(problem.noisy)
    grid = ({"domain": domain, "range": factor} for domain in (0.8, 1.2) for factor in (2.0, 3.5))

    def run(domain: float, range: float) -> np.ndarray:
        return sitk.GetArrayFromImage(sitk.Bilateral(image, domain, range * problem.sigma, 100))

    return problem.best(run, grid)


def curvature_flow(problem: Problem) -> Result:
    """SimpleITK. Oracle over the flow's time; steps of at most 0.0625, the largest stable one in 3D."""
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(problem.noisy)
    steps = ((1, 0.008), (1, 0.016), (1, 0.031), *((count, 0.0625) for count in (1, 2, 3, 5, 8, 12, 18)))
    grid = ({"iterations": count, "step": step} for count, step in steps)

    def run(iterations: int, step: float) -> np.ndarray:
        return sitk.GetArrayFromImage(sitk.CurvatureFlow(image, step, iterations))

    return problem.best(run, grid)


def tv(problem: Problem) -> Result:
    """scikit-image, Chambolle. Oracle over the weight in sigmas (of the volume scaled to range 1)."""
    from skimage.restoration import denoise_tv_chambolle

    scaled = problem.noisy / problem.data_range
    sigma = problem.sigma / problem.data_range
    grid = ({"weight": weight} for weight in (0.15, 0.25, 0.35, 0.5, 0.7, 0.9))

    def run(weight: float) -> np.ndarray:
        return denoise_tv_chambolle(scaled, weight=weight * sigma, eps=1e-5) * problem.data_range

    return problem.best(run, grid)


def nlm(problem: Problem) -> Result:
    """scikit-image, fast mode, true sigma, patch 3, distance 4. Oracle over h in sigmas."""
    from skimage.restoration import denoise_nl_means

    grid = ({"h": factor} for factor in (0.2, 0.35, 0.5, 0.65))

    def run(h: float) -> np.ndarray:
        return denoise_nl_means(
            problem.noisy, patch_size=3, patch_distance=4, h=h * problem.sigma, sigma=problem.sigma, fast_mode=True
        )

    return problem.best(run, grid)


def dipy_nlm(problem: Problem) -> Result:
    """dipy, true sigma, Rician form for Rician noise. Oracle over its two algorithms and the classic one's factor."""
    from dipy.denoise.nlmeans import nlmeans

    # Values of zero and below are background to dipy, so volumes with negative values are lifted for the run.
    lift = max(0.0, 1.0 - float(problem.noisy.min())) if problem.noisy.min() < 0 else 0.0
    lifted = problem.noisy.astype(np.float64) + lift
    choices = (("blockwise", 1.0), ("classic", 0.7), ("classic", 1.0), ("classic", 1.4), ("classic", 2.0))
    grid = ({"method": method, "factor": factor} for method, factor in choices)

    def run(method: str, factor: float) -> np.ndarray:
        sigma = factor * problem.sigma
        rician = problem.noise == "rician"
        options = {"patch_radius": 1, "block_radius": 3, "rician": rician, "num_threads": 1, "method": method}
        return nlmeans(lifted, sigma, **options) - lift

    return problem.best(run, grid)


def bm4d(problem: Problem) -> Result:
    """Default profile on one thread, true sigma."""
    return _bm4d_told(problem, problem.sigma)


def bm4d_estimated(problem: Problem) -> Result:
    """As ``bm4d``, but told the sigma that MedGAN estimates of the noisy volume: what somebody with a scan knows."""
    return _bm4d_told(problem, problem.sigma_estimated)


def _bm4d_told(problem: Problem, sigma: float) -> Result:
    from bm4d import BM4DProfile
    from bm4d import bm4d as run

    profile = BM4DProfile()
    profile.num_threads = 1
    start = time.perf_counter()
    result = run(problem.noisy, sigma_psd=sigma, profile=profile)
    return result, {"seconds": time.perf_counter() - start, "parameters": {"profile": "np", "sigma": sigma}}


def bm4d_corrected(problem: Problem, folder: Path) -> Result:
    """BM4D with what its user could add, knowing the kind of noise. Needs ``bm4d``'s result in the folder."""
    plain = np.load(folder / "bm4d.npy")
    seconds = json.loads((folder / "bm4d.json").read_text(encoding="utf-8"))["seconds"]
    if problem.noise == "rician":
        corrected = np.sqrt(np.maximum(np.square(plain) - problem.sigma**2, 0.0))
        return corrected, {"seconds": seconds, "parameters": {"correction": "sqrt(m^2 - sigma^2)"}}
    if problem.noise == "poisson":
        return _bm4d_anscombe(problem)
    return plain, {"seconds": seconds, "parameters": {"correction": "none"}}


def _bm4d_anscombe(problem: Problem) -> Result:
    from bm4d import BM4DProfile
    from bm4d import bm4d as run

    profile = BM4DProfile()
    profile.num_threads = 1
    start = time.perf_counter()
    scale = float(problem.clean[problem.foreground].mean()) / problem.sigma**2
    root = run(2.0 * np.sqrt(problem.noisy * scale + 0.375), sigma_psd=1.0, profile=profile)
    root = np.maximum(root, 2.0 * np.sqrt(0.375))
    # Closed form of the exact unbiased inverse (Makitalo and Foi, 2011).
    counts = root**2 / 4 + np.sqrt(1.5) / 4 / root - 11 / 8 / root**2 + 5 * np.sqrt(1.5) / 8 / root**3 - 1 / 8
    result = np.maximum(counts, 0.0) / scale
    return result, {"seconds": time.perf_counter() - start, "parameters": {"correction": "Anscombe"}}


METHODS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "bm4d": ("BM4D", "true sigma", ("bm4d",)),
    "bm4d_estimated": ("BM4D", "sigma estimated by MedGAN", ("bm4d",)),
    "bm4d_corrected": ("BM4D, bias corrected", "true sigma and kind of noise", ("bm4d",)),
    "gaussian": ("Gaussian", "oracle", ("scipy",)),
    "curvature_flow": ("SimpleITK curvature flow", "oracle", ("SimpleITK",)),
    "tv": ("scikit-image TV", "oracle", ("scikit-image",)),
    "nlm": ("scikit-image NLM", "true sigma, oracle h", ("scikit-image",)),
    "dipy_nlm": ("dipy NLM", "true sigma, oracle", ("dipy",)),
    "bilateral": ("SimpleITK bilateral", "true sigma, oracle", ("SimpleITK",)),
}
"""Title, what the method is told, and its packages. ``bm4d`` stands before what is made from it."""

BESIDE = {"bm4d": (_bm4d_told,), "bm4d_estimated": (_bm4d_told,), "bm4d_corrected": (_bm4d_anscombe,)}
"""Functions beside its own that decide what a method gives."""


def run_one(folder: Path, method: str) -> None:
    """One method on one case; writes the volume, then its record, so that a record means a whole result."""
    problem = Problem(folder)
    if method == "bm4d_corrected":
        result, record = bm4d_corrected(problem, folder)
    else:
        result, record = globals()[method](problem)
    np.save(folder / f"{method}.npy", np.ascontiguousarray(result, dtype=np.float32))
    record |= {
        "peak_memory_mb": peak_memory_mb(),
        **identity(folder, method),
    }
    (folder / f"{method}.json").write_text(json.dumps(record, indent=1), encoding="utf-8")


def identity(folder: Path, method: str) -> dict[str, Any]:
    """What a result depends on."""
    functions = [globals()[method], *BESIDE.get(method, ())]
    code = "".join(inspect.getsource(function) for function in functions)
    if method == "bm4d_estimated":
        code += repr(json.loads((folder / "case.json").read_text(encoding="utf-8"))["sigma_estimated"])
    return {
        "noisy_sha256": hashlib.sha256((folder / "noisy.npy").read_bytes()).hexdigest(),
        "code_sha256": hashlib.sha256(code.encode()).hexdigest(),
        "versions": {name: _version(name) for name in METHODS[method][2]},
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def is_done(folder: Path, method: str) -> bool:
    """Whether the folder holds what this method would make now."""
    record = folder / f"{method}.json"
    if not record.is_file() or not (folder / f"{method}.npy").is_file():
        return False
    made = json.loads(record.read_text(encoding="utf-8"))
    return all(made.get(name) == value for name, value in identity(folder, method).items())


def peak_memory_mb() -> float:
    """Peak resident memory of this process, in MB (1e6 bytes)."""
    try:  # ru_maxrss starts from the parent's size after fork and exec; the kernel's own figure does not
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return next(float(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def time_bm4d(volume: Path, sigma: float, threads: int) -> dict[str, float]:
    """Seconds and peak memory of BM4D's default profile on a volume, on that many cores."""
    from bm4d import BM4DProfile
    from bm4d import bm4d as run

    keep_to_cores(threads)
    noisy = np.load(volume)
    profile = BM4DProfile()
    profile.num_threads = threads
    start = time.perf_counter()
    run(noisy, sigma_psd=sigma, profile=profile)
    return {"seconds": time.perf_counter() - start, "peak_memory_mb": peak_memory_mb(), "voxels": noisy.size}


def keep_to_cores(count: int) -> None:
    """Let this process use no more than so many CPU cores, where the system can do that."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])


def main() -> int:
    parser = argparse.ArgumentParser(description="Run the reference methods on a folder of cases.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--cases", default="", help="names, with commas; all when empty")
    parser.add_argument("--one", nargs=2, metavar=("CASE", "METHOD"), help="run just this, in this process")
    parser.add_argument("--time-bm4d", nargs=2, metavar=("SIGMA", "THREADS"), help="time BM4D on the .npy file FOLDER")
    arguments = parser.parse_args()
    if arguments.time_bm4d:
        sigma, threads = arguments.time_bm4d
        print(json.dumps(time_bm4d(arguments.folder, float(sigma), int(threads))))
        return 0
    if arguments.one:
        run_one(arguments.folder / arguments.one[0], arguments.one[1])
        return 0
    names = [name for name in arguments.cases.split(",") if name]
    names = names or sorted(path.parent.name for path in arguments.folder.glob("*/case.json"))
    work = [(name, method) for method in arguments.methods.split(",") for name in names]
    work = [one for one in work if not is_done(arguments.folder / one[0], one[1])]
    failed = 0
    for number, (name, method) in enumerate(work, 1):
        print(f"[{number}/{len(work)}] {METHODS[method][0]} on {name}", flush=True)
        command = [sys.executable, __file__, str(arguments.folder), "--one", name, method]
        failed += subprocess.run(command, check=False).returncode != 0
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
