"""Figures of a classification, from the truth, the predictions and the scores of the cases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(eq=False)
class Predictions:
    """Truth and prediction of n cases as places in ``classes``, and scores (n, classes), NaN where a case has none.

    ``positive`` is the place of the positive class where there are two. ``chosen`` is the class that the figures of a
    single class are about.
    """

    classes: Sequence[str]
    truth: np.ndarray
    found: np.ndarray
    scores: np.ndarray | None = None
    positive: int = -1
    chosen: int = 0

    def of(self, places: np.ndarray) -> Predictions:
        """The cases at these places, which may repeat."""
        scores = None if self.scores is None else self.scores[places]
        return Predictions(self.classes, self.truth[places], self.found[places], scores, self.positive, self.chosen)

    def about(self, chosen: int) -> Predictions:
        """The same, for the figures of one class."""
        return Predictions(self.classes, self.truth, self.found, self.scores, self.positive, chosen)

    def confusion(self) -> np.ndarray:
        """(classes, classes) number of cases: rows are the truth, columns the prediction."""
        count = len(self.classes)
        return np.bincount(self.truth * count + self.found, minlength=count**2).reshape(count, count)


def proportion(name: str, cases: Predictions) -> tuple[int, int] | None:
    """The cases that a figure is a share of, and of how many; None for figures that are none, or of no case.

    Of one class: the chosen one.
    """
    right, found, true = _counts(cases)
    if name == "accuracy":
        return int((cases.truth == cases.found).sum()), len(cases.truth)
    total = {"recall": true, "precision": found}.get(name, 0)
    return (right, total) if total else None


def scored(cases: Predictions) -> np.ndarray:
    """Whether each case has a score."""
    return np.zeros(len(cases.truth), bool) if cases.scores is None else ~np.isnan(cases.scores).all(axis=1)


def accuracy(cases: Predictions) -> float | None:
    """Share of the cases whose prediction is the truth."""
    return float((cases.truth == cases.found).mean()) if len(cases.truth) else None


def recall(cases: Predictions) -> float | None:
    """Found among the true.

    Of the positive class where there are two classes, else the mean over the classes (macro).
    """
    return _joined(cases, class_recall)


def precision(cases: Predictions) -> float | None:
    """True among the found.

    Of the positive class where there are two classes, else the mean over the classes (macro).
    """
    return _joined(cases, class_precision)


def f1(cases: Predictions) -> float | None:
    """2 right / (found + true).

    Of the positive class where there are two classes, else the mean over the classes (macro).
    """
    return _joined(cases, class_f1)


def auc(cases: Predictions) -> float | None:
    """Area under the ROC curve, each class against the rest, over the cases with a score; not defined without scores.

    Of the positive class where there are two classes, else the mean over the classes (macro).
    """
    return _joined(cases, class_auc)


def _joined(cases: Predictions, figure: Any) -> float | None:
    """Of the positive class where there are two, else the mean over the classes that occur in truth or prediction."""
    if len(cases.classes) == 2:
        return figure(cases.about(cases.positive % 2))
    occur = np.union1d(cases.truth, cases.found)
    values = [value for place in occur if (value := figure(cases.about(int(place)))) is not None]
    return float(np.mean(values)) if values else None


def class_recall(cases: Predictions) -> float | None:
    """Found among the true; 0 for a class that was only predicted, not defined for one that does not occur."""
    right, found, true = _counts(cases)
    return right / true if true else 0.0 if found else None


def class_precision(cases: Predictions) -> float | None:
    """True among the found; 0 for a class that was never predicted, not defined for one that does not occur."""
    right, found, true = _counts(cases)
    return right / found if found else 0.0 if true else None


def class_f1(cases: Predictions) -> float | None:
    """Harmonic mean of precision and recall; not defined for a class that does not occur."""
    right, found, true = _counts(cases)
    return 2.0 * right / (found + true) if found + true else None


def _counts(cases: Predictions) -> tuple[int, int, int]:
    """Right, found and true cases of the chosen class."""
    found, true = cases.found == cases.chosen, cases.truth == cases.chosen
    return int((found & true).sum()), int(found.sum()), int(true.sum())


def class_auc(cases: Predictions) -> float | None:
    """Chance that a case of the class scores above one of the others, ties counting half (Mann and Whitney 1947).

    Not defined without scores, or unless both kinds of cases occur.
    """
    if cases.scores is None:
        return None
    scores = cases.scores[:, cases.chosen]
    known = ~np.isnan(scores)
    true = cases.truth[known] == cases.chosen
    positives, negatives = int(true.sum()), int((~true).sum())
    if not positives or not negatives:
        return None
    order = np.sort(scores[known])
    below, upto = (np.searchsorted(order, scores[known], side) for side in ("left", "right"))
    ranks = (below + upto + 1) / 2.0
    return float((ranks[true].sum() - positives * (positives + 1) / 2.0) / (positives * negatives))
