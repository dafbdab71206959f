"""A training without a network: it writes the files that a training writes, and its budget says how it behaves."""

from __future__ import annotations

import json
import os
import time
import uuid
from hashlib import sha256
from pathlib import Path

import numpy as np

from medgan.progress import Cancelled
from medgan.tasks import Outputs
from medgan.training import claim
from medgan.training.journal import Journal

EVERY = 10


def run(inputs, settings, progress) -> Outputs:
    """Ends after ``settings.steps`` (0: never) of a millisecond each; saves when it is stopped, and goes on from there.

    A model called "waiting" waits at step 100 until there is a file ``go`` in the folder. No model can be written while
    there is a file ``full``. The folder gets ``inputs.json``: name, shape and kind of every input.
    """
    folder = Path(settings.out)
    folder.mkdir(parents=True, exist_ok=True)
    told = {name: [list(each.array.shape), type(each).__name__] for name, each in inputs.items()}
    (folder / "inputs.json").write_text(json.dumps({"inputs": told, "settings": settings.to_dict()}))
    if settings.name == "failing":
        raise ValueError("No two volumes are left to train on.")
    run_name = claim.earlier(folder).get("run") or uuid.uuid4().hex
    (folder / "settings.json").write_text(json.dumps({**settings.to_dict(), "run": run_name}))
    checkpoint = folder / "checkpoint.pt"
    step = int(checkpoint.read_text()) if checkpoint.exists() else 0
    journal = Journal(folder)
    journal.go_back(step)
    try:
        while settings.steps == 0 or step < settings.steps:
            step += 1
            time.sleep(0.001)
            if step % EVERY == 0:
                _tell(journal, step)
            while step == 100 and settings.name == "waiting" and not (folder / "go").exists():
                time.sleep(0.01)
                progress(0.1, "Waiting")
            progress(min(0.9, step / max(settings.steps, 1000)), f"Step {step}")
    except Cancelled:
        checkpoint.write_text(str(step))
        raise
    checkpoint.write_text(str(step))
    name = settings.name
    if (folder / "full").exists():
        raise ValueError("The model can not be written.")
    _write_bundle(Path(os.environ["MEDGAN_MODELS"]) / name, settings, run_name, step)
    return Outputs(report={"name": name, "done": "Yes: it has hardly risen.", "messages": []})


def _tell(journal: Journal, step: int) -> None:
    row = {"step": step, "seconds": step / 100, "generator_loss": 1 / step, "critic_loss": 0.5, "steps_a_second": 100.0}
    if step % 50 == 0:
        row |= {"val_psnr": 30 - 100 / step, "val_score": 30 - 100 / step}
    journal.add(row)
    if step % 100 == 0:
        ramp = np.linspace(0, 1, 24).reshape(1, -1).repeat(24, axis=0)
        journal.add_pictures(step, {"input": ramp, "made": ramp.T, "target": ramp**2})
    if step == 200:
        journal.add({"step": step, "alarm": "critic too strong", "advice": "The critic is too sure: lower its rate."})


def _write_bundle(folder: Path, settings, run_name: str, steps: int) -> None:
    (folder / "configs").mkdir(parents=True, exist_ok=True)
    (folder / "models").mkdir(exist_ok=True)
    (folder / "models" / "model.pt").write_bytes(b"weights")
    weights = {"faithful": {"file": "models/model.pt", "sha256": sha256(b"weights").hexdigest()}}
    ours = {"title": f"My {settings.name}", "task": "enhance", "modality": "MR", "network": "medgan.DenoiseNet"}
    ours |= {"run": run_name, "training": {"steps": steps}}
    metadata = {"version": "0.0.1", "medgan": {**ours, "restores": settings.restores.value, "weights": weights}}
    (folder / "configs" / "metadata.json").write_text(json.dumps(metadata))
