"""How good a finished classifier is on the patients that were kept from it: figures with intervals, and confusions."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from medgan.cells import csv_text
from medgan.evaluation import report
from medgan.evaluation.predictions import class_name, evaluate_predictions
from medgan.evaluation.table import png
from medgan.settings import EvaluateSettings
from medgan.training.data_samples import Patches
from medgan.training.figure import write
from medgan.training.kinds.classify import answers

FIGURES = ("accuracy", "recall", "precision", "f1", "auc")

CELL, LETTERS = 64, 16
"""Pixels of a square of the picture; letters of a class's name that it has room for."""


@dataclass
class ClassFigures:
    """``rows``: {"figure", "class" ("" for all), "cases", "value", "low", "high"}; ``matrix``: rows of the truth."""

    classes: list[str]
    rows: list[dict[str, Any]] = field(default_factory=list)
    matrix: list[list[int]] = field(default_factory=list)
    cases: int = 0
    seen: bool = False
    """Of volumes that it was trained on, because none were kept."""
    messages: list[str] = field(default_factory=list)
    """What to know of the figures."""

    def flat(self) -> dict[str, Any]:
        """The figures of the whole with the ends of their 95 % intervals, by name, for the card."""
        found: dict[str, Any] = {}
        for row in self.rows:
            if not row["class"] and row["value"] is not None:
                found[row["figure"]] = float(f"{row['value']:.4g}")
                if row["low"] is not None:
                    found |= {f"{row['figure']}_{end}": float(f"{row[end]:.4g}") for end in ("low", "high")}
        return found

    def csv(self) -> str:
        """The confusion matrix as a table: a row for each true class."""
        rows = [[name, *row] for name, row in zip(self.classes, self.matrix, strict=True)]
        return csv_text(["truth", *(f"found {name}" for name in self.classes)], rows)

    def picture(self) -> bytes:
        """The confusion matrix as a PNG: darker where more of a class were called so."""
        return png(confusion_picture(self.classes, self.matrix) / 255.0)


def class_figures(
    network: nn.Module, samples: Patches, classes: Sequence[str], folder: Path, model: str
) -> ClassFigures:
    """Ask the network, which is called ``model``, about every kept volume.

    Writes predictions.csv (which ``medgan evaluate`` reads) and a report page into the run's ``folder``/evaluation.
    """
    batches = samples.validation()
    device = next(network.parameters()).device
    found = answers(network, [{name: held.to(device) for name, held in batch.items()} for batch in batches]).numpy()
    truth = torch.cat([batch["class"] for batch in batches]).tolist()
    names = [entry.name for entry in samples.checking]
    target = folder / "evaluation"
    target.mkdir(parents=True, exist_ok=True)
    file = target / "predictions.csv"
    with file.open("w", encoding="utf-8", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow(["case", "truth", "prediction", "model", *(f"score {name}" for name in classes)])
        for name, place, row in zip(names, truth, found, strict=True):
            told = [classes[place], classes[int(row.argmax())], model, *(f"{value:.6f}" for value in row)]
            writer.writerow([name, *told])
    evaluation = evaluate_predictions([file], EvaluateSettings())
    report.write(evaluation, target)
    ordered = [evaluation.confusion["classes"].index(class_name(name)) for name in classes]
    matrix = np.array(evaluation.confusion["matrices"][model])[np.ix_(ordered, ordered)]
    rows = [
        {"figure": row["metric"], "class": row.get("label", ""), "cases": row["n"], "value": row["mean"],
         "low": row["low"], "high": row["high"]}
        for row in evaluation.summary if row["metric"] in FIGURES
    ]  # fmt: skip
    told = [message for message in evaluation.messages if "positive class" in message]
    return ClassFigures(list(classes), rows, matrix.tolist(), len(truth), samples.checking is samples.training, told)


def confusion_picture(classes: Sequence[str], matrix: Sequence[Sequence[int]]) -> np.ndarray:
    """(rows, columns, 3) uint8: a row for each true class, a column for each answer."""
    shown = [name[:LETTERS] for name in classes]
    left, top, count = 16 + 8 * max(5, *(len(name) for name in shown)), 44, len(classes)
    width = max(CELL, 12 + 8 * max(len(name) for name in shown))
    sheet = np.full((top + CELL * count + 12, left + width * count + 12, 3), 255, np.uint8)
    ink = (60, 60, 60)
    write(sheet, 6, left, "found", ink)
    write(sheet, 28, 8, "truth", ink)
    for number, name in enumerate(shown):
        write(sheet, 26, left + width * number + 6, name, ink)
        write(sheet, top + CELL * number + CELL // 2 - 5, 8, name, ink)
        total = max(1, sum(matrix[number]))
        for place, value in enumerate(matrix[number]):
            share = value / total
            color = np.rint(255 - share * (255 - np.array((31, 119, 180)))).astype(np.uint8)
            row, column = top + CELL * number, left + width * place
            sheet[row + 1 : row + CELL - 1, column + 1 : column + width - 1] = color
            light = (255, 255, 255) if share > 0.6 else ink
            write(sheet, row + CELL // 2 - 14, column + 8, str(value), light)
            write(sheet, row + CELL // 2 + 4, column + 8, f"{100 * share:.0f} %", light)
    return sheet
