"""A task in the place of recognition that needs no network: what it does is told by the name of the model.

"quick", "own" (one question with classes of a person's own), "unsure" (nothing is known), "endless", "failing".
"""

from __future__ import annotations

import time

import numpy as np
from scene_report import a_report

from medgan.tasks import Outputs

RESEARCH = "For research only; not a diagnosis."


def run(inputs, settings, progress) -> Outputs:
    model, volume = settings.model, inputs["volume"]
    progress(0.3, "Working")
    if model == "failing":
        raise ValueError("Model 'failing' fails; choose another.")
    while model == "endless":
        progress(0.5, "Still working")
        time.sleep(0.02)
    volumes = {}
    if settings.saliency.value != "none":
        volumes["why"] = volume.like(np.linspace(0, 1, volume.array.size).reshape(volume.shape), "float32")
    report = a_report(
        task="recognise", model=model, settings=settings.to_dict(), synthetic=False, device="CPU", seconds=0.5,
        messages=[], research=RESEARCH, warnings=[],
    )  # fmt: skip
    if model == "own":
        classes = {"label": "healthy", "confidence": 0.8, "unknown": False, "scores": {"ill": 0.2, "healthy": 0.8}}
        report |= {"sentence": "healthy (80 %).", "what": {"class": {"title": "Class", **classes}}}
        return Outputs(volumes, report)
    unsure = model == "unsure"
    kinds = {"CT": 0.01, "PET": 0.02, "MR T1": 0.9, "MR T2": 0.04, "MR FLAIR": 0.02, "label map": 0.01}
    report |= {
        "sentence": "This is nothing that the model knows." if unsure else "MR, T1, head, axial slices.",
        "what": {
            "kind": _answer("Kind of scan", kinds, unsure),
            "region": _answer("Region", {"head": 0.99, "chest": 0.005, "abdomen": 0.003, "limb": 0.002}, unsure),
            "plane": _answer("Slices", {"axial": 0.97, "coronal": 0.02, "sagittal": 0.01}, unsure),
        },
        "slices": [{"slice": k, "kind": "MR T1", "region": "head", "confidence": 0.9} for k in range(volume.shape[0])],
        "quality": [
            _finding("noise", "Noise", 7.25, "% of the range", "There is much noise: 7.25 % of the range.", True),
            _finding("blur", "Blur", 0.71, "voxels", "It is as sharp as its voxels allow.", False),
            _finding("missing", "Missing slices", 0, "", "No slice is missing.", False),
        ],
        "advice": []
        if unsure
        else [
            {"task": "enhance", "model": "quick", "sentence": "Denoise it: there is much noise."},
            {"task": "segment", "model": "brain-parts", "sentence": "Segment it with brain-parts: it is an MR head."},
            {"task": "anomaly", "model": "quick", "sentence": "Look for what is unusual."},
        ],
        "warnings": ["Model 'x' was trained on CT."] if unsure else [],
    }
    return Outputs(volumes, report)


def _answer(title: str, scores: dict[str, float], unknown: bool) -> dict:
    label = max(scores, key=scores.get)
    return {
        "label": "unknown" if unknown else label,
        "title": title,
        "confidence": scores[label],
        "unknown": unknown,
        "scores": scores,
    }


def _finding(name: str, title: str, value: float, unit: str, sentence: str, remark: bool) -> dict:
    return {"name": name, "title": title, "value": value, "unit": unit, "sentence": sentence, "remark": remark}
