"""Runs the methods of the denoising benchmark on one case each: the peers in their environment, MedGAN in this one."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
import os
import subprocess
import sys
import time
import venv
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import figures
import numpy as np
import peers
from cases import Case

from medgan.noise import noise_profile

HERE = Path(__file__).parent
REQUIREMENTS = HERE / "peers-requirements.txt"


@dataclass
class Row:
    """What one method gave on one case. ``figures`` as ``figures.all_figures`` names them."""

    case: str
    volume: str
    modality: str
    setting: str
    method: str
    title: str
    knows: str
    figures: dict[str, float]
    seconds: float = 0.0
    peak_memory_mb: float | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    sigma: float = 0.0
    sigma_estimated: float | None = None
    sigma_original: float | None = None
    """What the same estimate finds in the original, before noise was added."""

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def make_peers_environment(folder: Path) -> Path:
    """The Python of a virtual environment in ``folder`` that holds the peers; made when it is not there."""
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not python.exists():
        venv.create(folder, with_pip=True)
    command = [str(python), "-m", "pip", "install", "--quiet", "-r", str(REQUIREMENTS)]
    subprocess.run(command, check=True)
    return python


def write_case(case: Case, cache: Path) -> Path:
    """The folder of a case in the cache, with what ``peers.py`` reads."""
    folder = cache / case.name
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("noisy", "clean", "foreground"):
        np.save(folder / f"{name}.npy", getattr(case, name))
    about = {name: getattr(case, name) for name in ("name", "noise", "sigma", "data_range", "setting")}
    about["sigma_estimated"] = noise_profile(case.noisy).sigma
    (folder / "case.json").write_text(json.dumps(about, indent=1), encoding="utf-8")
    return folder


def run_peers(python: Path, cache: Path, names: list[str], methods: list[str]) -> None:
    """Run the peers on the cases that are in the cache; what is there already stays. Shows their progress."""
    command = [
        str(python),
        str(HERE / "peers.py"),
        str(cache),
        "--methods",
        ",".join(methods),
        "--cases",
        ",".join(names),
    ]
    code = subprocess.run(command, check=False, stdout=sys.stderr).returncode
    if code:
        print("Some reference methods failed (see above); their cells stay empty.", file=sys.stderr)


def peer_rows(case: Case, folder: Path, methods: list[str]) -> list[Row]:
    """The rows of the peers' results in the folder of a case. Figures are kept beside them, as they take seconds."""
    rows = []
    for method in methods:
        record_file, result_file = folder / f"{method}.json", folder / f"{method}.npy"
        if not (record_file.is_file() and result_file.is_file()):
            continue
        record = json.loads(record_file.read_text(encoding="utf-8"))
        if record["noisy_sha256"] != hashlib.sha256((folder / "noisy.npy").read_bytes()).hexdigest():
            continue
        title, knows, _ = peers.METHODS[method]
        told = {name: record[name] for name in ("seconds", "peak_memory_mb", "parameters")}
        known = _known_figures(case, result_file)
        rows.append(
            Row(
                case.name,
                case.volume,
                case.modality,
                case.setting,
                method,
                title,
                knows,
                known,
                sigma=case.sigma,
                **told,
            )
        )
    return rows


def _known_figures(case: Case, result_file: Path) -> dict[str, float]:
    key = hashlib.sha256(inspect.getsource(figures).encode() + result_file.read_bytes()).hexdigest()
    store = result_file.with_suffix(".figures.json")
    if store.is_file():
        stored = json.loads(store.read_text(encoding="utf-8"))
        if stored["key"] == key:
            return stored["figures"]
    measured = figures.all_figures(np.load(result_file), case.clean, case.foreground, case.data_range)
    store.write_text(json.dumps({"key": key, "figures": measured}, indent=1), encoding="utf-8")
    return measured


def noisy_row(case: Case, folder: Path) -> Row:
    """What doing nothing gives."""
    known = _known_figures(case, folder / "noisy.npy")
    return Row(case.name, case.volume, case.modality, case.setting, "noisy", "noisy", "", known, sigma=case.sigma)


def medgan_row(case: Case, model: str, character: float, device: str) -> Row:
    """MedGAN's enhancement at full strength; it estimates the noise level itself."""
    from medgan.settings import Device, EnhanceSettings
    from medgan.tasks import enhance
    from medgan.volume import Volume

    settings = EnhanceSettings(model=model, character=character, device=Device(device))
    volume = Volume(case.noisy.copy(), case.ijk_to_ras)
    start = time.perf_counter()
    outputs = enhance.run({"volume": volume}, settings)
    seconds = time.perf_counter() - start
    result = np.asarray(outputs.volumes["volume"].array)
    return Row(
        case.name,
        case.volume,
        case.modality,
        case.setting,
        f"medgan_{character:g}",
        f"MedGAN, character {character:g}",
        "estimates sigma",
        figures.all_figures(result, case.clean, case.foreground, case.data_range),
        sigma=case.sigma,
        seconds=seconds,
        parameters={name: outputs.report[name] for name in ("model_version", "model_sha256", "device")},
        sigma_estimated=float(outputs.report["sigma_before"]),
        sigma_original=noise_profile(case.clean).sigma,
    )
