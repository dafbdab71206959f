"""What the benchmarks of super-resolution and deblurring share: rows of a case, kept figures, one run of MedGAN."""

from __future__ import annotations

import hashlib
import inspect
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import figures
import numpy as np
from methods import Row

FIGURES = ("psnr", "ssim", "patch_mmd")
"""Figures of ``figures.py`` that every result gets; the benchmarks add "consistency"."""


def measured(result: np.ndarray, clean: np.ndarray, foreground: np.ndarray, data_range: float) -> dict[str, float]:
    """PSNR and SSIM in the foreground and the texture score, as ``figures.py`` defines them."""
    return {name: getattr(figures, name)(result, clean, foreground, data_range) for name in FIGURES}


def consistency_db(again: np.ndarray, given: np.ndarray, foreground: np.ndarray, data_range: float) -> float:
    """How well a result, degraded again, gives the input back: 20 log10(range / root mean square difference), dB.

    Taken over ``foreground``, a mask on the grid of the input.
    """
    return min(figures.psnr(again, given, foreground, data_range), 200.0)


def kept(cache: Path | None, name: str, makers: list[Any], data: list[np.ndarray], make: Callable[[], Any]) -> Any:
    """What ``make`` gives (plain JSON values), kept in ``cache/name.json`` while code and data stay the same.

    ``makers`` are the modules or functions whose source decides, ``data`` the arrays.
    """
    if cache is None:
        return make()
    digest = hashlib.sha256("".join(inspect.getsource(maker) for maker in makers).encode())
    for array in data:
        digest.update(np.ascontiguousarray(array).tobytes())
    store, key = cache / f"{name}.json", digest.hexdigest()
    if store.is_file():
        stored = json.loads(store.read_text(encoding="utf-8"))
        if stored["key"] == key:
            return stored["value"]
    value = make()
    cache.mkdir(parents=True, exist_ok=True)
    store.write_text(json.dumps({"key": key, "value": value}, indent=1), encoding="utf-8")
    return value


def run_medgan(array: np.ndarray, ijk_to_ras: np.ndarray, settings: Any) -> tuple[Any, dict[str, Any], float]:
    """MedGAN's result (a ``Volume``), its report and the seconds it took, loading of the weights included."""
    from medgan.tasks import enhance
    from medgan.volume import Volume

    volume = Volume(array.copy(), ijk_to_ras.copy())
    start = time.perf_counter()
    outputs = enhance.run({"volume": volume}, settings)
    return outputs.volumes["volume"], outputs.report, time.perf_counter() - start


def same_grid(result: Any, reference: np.ndarray, ijk_to_ras: np.ndarray) -> np.ndarray:
    """The voxels of a result that lies exactly where the reference does. Raises ``AssertionError`` when it does not."""
    if result.shape != reference.shape:
        raise AssertionError(f"The result has {result.shape} voxels, the original {reference.shape}.")
    if not np.allclose(result.ijk_to_ras, ijk_to_ras, atol=1e-3):
        raise AssertionError(f"The result lies at\n{result.ijk_to_ras}\nand the original at\n{ijk_to_ras}.")
    return np.asarray(result.array)


def row(case: Any, method: str, title: str, knows: str, found: dict[str, float], **more: Any) -> Row:
    """The row of one method on a case of ``thick_slices.py`` or ``blurring.py``."""
    return Row(case.name, case.volume, case.modality, case.setting, method, title, knows, found, **more)


def medgan_variants(options: Any) -> list[tuple[str, str, dict[str, Any]]]:
    """Key, title and settings of each way MedGAN is run; none with ``--only-anchors``."""
    if options.only_anchors:
        return []
    ways = [(f"medgan_{c:g}", f"MedGAN, character {c:g}", {"character": c}) for c in options.characters]
    if options.fit_minutes:
        fit = {"character": 0.0, "fit_minutes": options.fit_minutes}
        ways.append(("medgan_fit", f"MedGAN, fitted {options.fit_minutes:g} min", fit))
        ways.append(
            ("medgan_scratch", f"fitted {options.fit_minutes:g} min, no weights", {**fit, "fit_from_scratch": True})
        )
    return ways
