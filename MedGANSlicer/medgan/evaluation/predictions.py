"""The evaluation of classifications: CSV files with one case a line, its truth, its prediction and perhaps scores."""

from __future__ import annotations

import csv
import dataclasses
import io
import itertools
import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from medgan.cells import separator_of
from medgan.evaluation.classes import Predictions, proportion, scored
from medgan.evaluation.statistics import FEWEST_FOR_BOOTSTRAP, add_corrected, bootstrap_of, wilson
from medgan.evaluation.table import Evaluation
from medgan.metrics import infos, measure
from medgan.progress import Progress, part, silent
from medgan.settings import EvaluateSettings

COLUMNS = {
    "case": ("case", "id", "name", "file", "patient", "subject"),
    "truth": ("truth", "label", "target", "reference", "true"),
    "prediction": ("prediction", "predicted", "pred", "class"),
    "method": ("method", "model"),
    "score": ("score", "probability", "prob", "p"),
}
"""What the columns may be called; a score of one class of several is "score <class>" or "score_<class>"."""

THRESHOLD = 0.5
"""Score from which a case without a prediction counts as the positive class."""

PERMUTATIONS = 999

MANY = 20
"""More classes than that may be measurements, if most of them are numbers."""

NEARLY_ALL = 0.8
"""So many classes for each case, all of them whole numbers, are measurements (ages)."""


@dataclasses.dataclass(frozen=True)
class _Line:
    case: str
    truth: str
    prediction: str
    scores: Mapping[str, float]


def evaluate_predictions(files: Sequence[Path], settings: EvaluateSettings, progress: Progress = silent) -> Evaluation:
    """Accuracy, recall, precision, F1 and AUC of each method, of the whole and by class, with the confusion matrix.

    A method is what a column "method" says, else the name of the file, with what tells the file apart where another
    has the same; files that say one method and have no case in common are parts of it. Lines that can not be used are
    rows with their reason. Raises ``ValueError`` for files without the needed columns or any line that can be used.
    """
    evaluation = Evaluation("classes", infos("classes"), settings=settings.to_dict())
    lines: dict[str, dict[str, _Line]] = {}
    for number, file in enumerate(files):
        if os.path.abspath(file) in [os.path.abspath(other) for other in files[:number]]:
            raise ValueError(f"'{file}' is given twice; name each file once.")
        _read(file, lines, files[:number], evaluation)
    if not lines:
        reason = f" {evaluation.rows[0]['error']}" if evaluation.rows else ""
        raise ValueError(f"There is no line with a truth and a prediction in {_names(files)}.{reason}")
    classes = _classes(lines)
    most = max(map(len, lines.values()))
    if _are_measurements(lines, classes, most):
        raise ValueError(
            f"{len(classes)} classes in {most} cases look like measurements, not like classes; give columns "
            "'truth' and 'prediction' with the names of classes."
        )
    alike = [name for name in classes if [other.lower() for other in classes].count(name.lower()) > 1]
    if alike:
        evaluation.tell(f"The classes {_quoted(alike)} differ in upper and lower case only; they count as several.")
    positive = _positive(classes, settings, evaluation)
    tables: dict[str, tuple[list[str], Predictions]] = {}
    for method, held in lines.items():
        tables[method] = list(held), _table(method, held, classes, positive, evaluation)
        for place, case in enumerate(held):
            found = tables[method][1]
            names = {"truth": classes[found.truth[place]], "prediction": classes[found.found[place]]}
            correct = float(found.truth[place] == found.found[place])
            evaluation.rows.append({"case": case, "method": method, **names, "correct": correct})
    evaluation.confusion = {
        "classes": classes,
        "matrices": {method: table.confusion().tolist() for method, (_, table) in tables.items()},
    }
    for number, (method, (_, table)) in enumerate(tables.items()):
        progress(0.7 * number / len(tables), f"Figures of {method}")
        evaluation.summary += _summary(method, table, settings, part(progress, 0.7 * number / len(tables), 0.7))
    progress(0.7, "Comparing methods")
    evaluation.comparisons = _comparisons(tables, settings, evaluation, part(progress, 0.7, 1.0))
    evaluation.tell(
        "Intervals: Wilson's for accuracy and for recall and precision of one class, else percentiles of "
        f"{settings.bootstrap} bootstrap samples of the cases, from {FEWEST_FOR_BOOTSTRAP} cases on. Comparisons: the "
        f"methods' answers swapped at random in each case, {PERMUTATIONS} times; Holm correction over metrics and "
        "pairs of methods."
    )
    progress(1.0, "Done")
    return evaluation


def _names(files: Sequence[Path]) -> str:
    return _quoted([file.name for file in files])


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)


def _read(file: Path, lines: dict[str, dict[str, _Line]], others: Sequence[Path], evaluation: Evaluation) -> None:
    """Add the lines of a file by method and case to those of the others before it."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"'{file}' can not be read as a CSV file of UTF-8 text: {error}.") from error
    reader = csv.DictReader(io.StringIO(text), delimiter=separator_of(text))
    try:
        columns = {str(name).strip().lower(): name for name in reader.fieldnames or ()}
        numbered = [(reader.line_num, row) for row in reader]  # an empty line has no row
    except csv.Error as error:
        raise ValueError(f"'{file}' can not be read as a CSV file: {error}.") from error
    rows = [row for _, row in numbered]
    known = {role: next((columns[name] for name in names if name in columns), None) for role, names in COLUMNS.items()}
    by_class = _columns_of_classes(columns, known, rows)
    ignored = [name for name in columns.values() if _start(name) and name not in by_class.values()]
    unread = f"No class is called like column '{ignored[0]}' of '{file.name}', so it was not read." if ignored else ""
    if unread:
        evaluation.tell(unread)
    if known["truth"] is None or not (known["prediction"] or known["score"] or by_class):
        raise ValueError(
            f"'{file.name}' needs a column 'truth' and a column 'prediction' or 'score'; it has "
            f"{', '.join(columns.values()) or 'no columns'}. {unread}".rstrip()
        )
    table = [{name: (raw.get(column) or "").strip() for name, column in known.items() if column} for raw in rows]
    for number, cells in enumerate(table, 2):
        cells["case"] = cells.get("case") or f"line {number}"
    held: dict[str, set[str]] = {}
    for cells in table:
        held.setdefault(cells.get("method") or file.stem, set()).add(cells["case"])
    names = {method: method for method in held}
    for method in held.keys() & lines.keys():
        if not known["method"] or not held[method].isdisjoint(lines[method]):
            names[method] = _apart(method, file, others)
    for (number, raw), cells in zip(numbered, table, strict=True):
        method, case = names[cells.get("method") or file.stem], cells["case"]
        try:
            scores = {name: _number(raw.get(column)) for name, column in by_class.items()}
            if cells.get("score"):
                scores[""] = _number(cells["score"])
            if not cells["truth"]:
                raise ValueError("it has no truth")
            if case in lines.get(method, {}):
                raise ValueError("its case is there already")
            if not cells.get("prediction") and all(math.isnan(score) for score in scores.values()):
                raise ValueError("it has neither prediction nor score")
        except ValueError as error:
            reason = f"Line {number} of '{file.name}' was left out: {error}."
            evaluation.rows.append({"case": case, "method": method, "error": reason})
            continue
        line = _Line(case, class_name(cells["truth"]), class_name(cells.get("prediction", "")), scores)
        lines.setdefault(method, {})[case] = line


def _start(column: str) -> str:
    """How a column begins that may hold the scores of one class; '' for another."""
    lowered = column.strip().lower()
    return next((start for start in COLUMNS["score"] if lowered.startswith((f"{start} ", f"{start}_"))), "")


def _columns_of_classes(
    columns: Mapping[str, str], known: Mapping[str, str | None], rows: Sequence[Mapping[str, str]]
) -> dict[str, str]:
    """The columns with the scores of single classes, by class.

    That is one of a class that occurs, or that stands beside columns for all of them: "p_value" is none.
    """
    said = [known[role] for role in ("truth", "prediction")]
    occur = {class_name((row.get(column) or "").strip()) for row in rows for column in said if column} - {""}
    found: dict[str, dict[str, str]] = {}
    for name in columns.values():
        if start := _start(name):
            found.setdefault(start, {})[class_name(name.strip()[len(start) + 1 :].strip())] = name
    return {
        name: column
        for group in found.values()
        for name, column in group.items()
        if name in occur or occur <= group.keys()
    }


def _apart(method: str, file: Path, others: Sequence[Path]) -> str:
    """The method with what tells its file from others before it: its name, or the nearest folder that only it is in."""
    known = {part for other in others for part in _parts(other)}
    return f"{next((part for part in reversed(_parts(file)) if part not in known), os.path.abspath(file))}/{method}"


def _parts(file: Path) -> tuple[str, ...]:
    return Path(os.path.abspath(file)).with_suffix("").parts


def class_name(text: str) -> str:
    """What a class is called: 1 where a table of real numbers says 1.0, and true however a program writes it."""
    whole = re.fullmatch(r"([+-]?\d+)\.0*", text)
    return whole[1] if whole else text.lower() if text.lower() in ("true", "false") else text


def _number(cell: str | None) -> float:
    text = (cell or "").strip()
    if not text:
        return float("nan")
    try:
        return float(text.replace(",", "."))
    except ValueError:
        raise ValueError(f"score '{text}' is no number") from None


def _classes(lines: Mapping[str, Mapping[str, _Line]]) -> list[str]:
    """Every class that is named somewhere, numbers in their order."""
    every = [line for held in lines.values() for line in held.values()]
    names = {line.truth for line in every} | {line.prediction for line in every if line.prediction}
    names |= {name for line in every for name in line.scores if name}

    def order(name: str) -> tuple[int, float, str]:
        try:
            return 0, float(name), name
        except ValueError:
            return 1, 0.0, name

    return sorted(names, key=order)


def _are_measurements(lines: Mapping[str, Mapping[str, _Line]], classes: Sequence[str], cases: int) -> bool:
    """Whether what should be classes are numbers that hardly occur twice; what has scores of its own is a class."""
    if len(classes) <= MANY or any(name for held in lines.values() for line in held.values() for name in line.scores):
        return False
    numbers = [name for name in classes if _is_number(name)]
    broken = [name for name in numbers if not name.lstrip("+-").isdigit()]
    often = NEARLY_ALL if 2 * len(broken) <= len(classes) else 0.5
    return 2 * len(numbers) > len(classes) > often * cases


def _is_number(name: str) -> bool:
    try:
        return math.isfinite(_number(name))
    except ValueError:
        return False


def _positive(classes: Sequence[str], settings: EvaluateSettings, evaluation: Evaluation) -> int:
    if len(classes) < 2:
        left_out = next((f" {row['error']}" for row in evaluation.rows if "error" in row), "")
        raise ValueError(f"Every case is '{classes[0]}'; a classification has at least two classes.{left_out}")
    wanted = class_name(settings.positive)
    if wanted and wanted not in classes:
        raise ValueError(f"There is no class '{wanted}'; there are {', '.join(classes)}.")
    place = classes.index(wanted) if wanted else len(classes) - 1
    if len(classes) == 2:
        evaluation.tell(f"The positive class is '{classes[place]}'; recall, precision, F1 and AUC are about it.")
    return place


def _table(
    method: str, held: Mapping[str, _Line], classes: list[str], positive: int, evaluation: Evaluation
) -> Predictions:
    scores = np.full((len(held), len(classes)), np.nan)
    found = np.zeros(len(held), dtype=np.int64)
    for place, line in enumerate(held.values()):
        if "" in line.scores and len(classes) > 2:
            raise ValueError(_one_score(method, classes))
        for name, score in line.scores.items():
            scores[place, classes.index(name) if name else positive] = score
    if len(classes) == 2:  # the score of one class says that of the other
        scores = np.where(np.isnan(scores), 1.0 - scores[:, ::-1], scores)
    _tell_score(method, held, classes, positive, evaluation)
    for place, line in enumerate(held.values()):
        if line.prediction:
            found[place] = classes.index(line.prediction)
        elif "" in line.scores:
            found[place] = positive if line.scores[""] >= THRESHOLD else 1 - positive
            evaluation.tell(f"Cases without a prediction count as positive from a score of {THRESHOLD} on.")
        else:
            if len(classes) > 2 and (~np.isnan(scores[place])).sum() == 1:
                raise ValueError(_one_score(method, classes))
            found[place] = int(np.nanargmax(scores[place]))
            evaluation.tell("Cases without a prediction count as the class with the highest score.")
    truth = np.array([classes.index(line.truth) for line in held.values()])
    table = Predictions(classes, truth, found, scores if not np.isnan(scores).all() else None, positive)
    without = int((~scored(table)).sum())
    if 0 < without < len(held):
        evaluation.tell(f"'{method}' has no score in {without} of {len(held)} cases; its AUC is that of the others.")
    return table


def _tell_score(
    method: str, held: Mapping[str, _Line], classes: list[str], positive: int, evaluation: Evaluation
) -> None:
    """Of which class a score without a name is taken to be that, and what speaks against it."""
    lines = [line for line in held.values() if not math.isnan(line.scores.get("", math.nan))]
    if not lines:
        return
    name, other = classes[positive], classes[1 - positive]
    evaluation.tell(f"A column 'score' is taken as that of '{name}'; set 'positive' if it is that of '{other}'.")
    told = [line for line in lines if line.prediction]
    ranks = stats.rankdata([line.scores[""] for line in told])
    groups = [
        [rank for rank, line in zip(ranks, told, strict=True) if line.prediction == each] for each in (name, other)
    ]
    if all(groups) and np.mean(groups[0]) < np.mean(groups[1]):
        evaluation.tell(
            f"'{method}' predicts '{name}' where its score is low, so the score seems to be that of '{other}' and its "
            "AUC to be upside down."
        )
    if any(not 0 <= line.scores[""] <= 1 and not line.prediction for line in lines):
        evaluation.tell(
            f"'{method}' has scores outside of 0 to 1 and cases without a prediction; {THRESHOLD} may be no threshold "
            "for them."
        )


def _one_score(method: str, classes: Sequence[str]) -> str:
    return f"'{method}' has one score for {len(classes)} classes; give a column 'score <class>' for each."


def _summary(method: str, table: Predictions, settings: EvaluateSettings, progress: Progress) -> list[dict[str, Any]]:
    """Of the whole, and of each class under its name. The mean of an entry is the figure itself."""
    wanted: list[tuple[str, str | None, Predictions]] = [("classes", None, table)]
    wanted += [("one class", name, table.about(place)) for place, name in enumerate(table.classes)]
    entries = []
    for kind, label, cases in wanted:
        drawn = bootstrap_of(
            len(cases.truth),
            lambda places: _with_progress(progress, kind, cases.of(places)),  # noqa: B023
            settings.seed,
            settings.bootstrap,
        )
        named = {"method": method} if label is None else {"method": method, "label": label}
        counted = np.ones(len(cases.truth), bool) if label is None else cases.truth == cases.chosen
        single = label is not None or len(cases.classes) == 2
        about = cases if label is not None else cases.about(cases.positive % len(cases.classes))
        for name, value in measure(kind, cases).items():
            if value is not None:
                low, high, spread = drawn.get(name, (None, None, None))
                share = proportion(name, about) if single or name == "accuracy" else None
                if share is not None:
                    low, high = wilson(*share)
                count = int((counted & scored(cases) if name == "auc" else counted).sum())
                figures = {"n": count, "mean": value, "sd": spread, "median": None, "low": low, "high": high}
                entries.append({**named, "metric": name, **figures})
    return entries


def _with_progress(progress: Progress, kind: str, cases: Predictions) -> dict[str, float | None]:
    progress(0.0)  # raises when it should stop
    return measure(kind, cases)


def _comparisons(
    tables: Mapping[str, tuple[list[str], Predictions]],
    settings: EvaluateSettings,
    evaluation: Evaluation,
    progress: Progress,
) -> list[dict[str, Any]]:
    family: list[dict[str, Any]] = []
    for first, second in itertools.combinations(tables, 2):
        progress(0.0)
        cases = [case for case in tables[first][0] if case in set(tables[second][0])]
        sides = []
        for cases_of, table in (tables[first], tables[second]):
            place = {case: number for number, case in enumerate(cases_of)}
            sides.append(table.of(np.array([place[case] for case in cases], dtype=np.int64)))
        if not cases:
            evaluation.tell(f"'{first}' and '{second}' have no case in common and are not compared.")
            continue
        if (sides[0].truth != sides[1].truth).any():
            evaluation.tell(f"'{first}' and '{second}' disagree on the truth of a case and are not compared.")
            continue
        family += _compared(first, second, *_ranked(sides[0], sides[1]), settings, progress)
    add_corrected(family)
    return family


def _ranked(ours: Predictions, theirs: Predictions) -> tuple[Predictions, Predictions]:
    """The same with ranks instead of scores, so that they can be swapped, and only where both methods have a score."""
    if ours.scores is None or theirs.scores is None:
        return dataclasses.replace(ours, scores=None), dataclasses.replace(theirs, scores=None)
    unknown = np.isnan(ours.scores) | np.isnan(theirs.scores)
    ranks = [
        stats.rankdata(np.where(unknown, np.nan, scores), axis=0, nan_policy="omit")
        for scores in (ours.scores, theirs.scores)
    ]
    return dataclasses.replace(ours, scores=ranks[0]), dataclasses.replace(theirs, scores=ranks[1])


def _compared(
    first: str, second: str, ours: Predictions, theirs: Predictions, settings: EvaluateSettings, progress: Progress
) -> list[dict[str, Any]]:
    """Difference, percentile interval and permutation p of every figure that both methods have."""
    count, with_scores = len(ours.truth), int(scored(ours).sum())

    def differences(one: Predictions, other: Predictions) -> dict[str, float | None]:
        progress(0.0)
        found = measure("classes", one), measure("classes", other)
        pairs = {name: (found[0][name], found[1][name]) for name in found[0]}
        return {name: None if a is None or b is None else a - b for name, (a, b) in pairs.items()}

    drawn = bootstrap_of(
        count, lambda places: differences(ours.of(places), theirs.of(places)), settings.seed, settings.bootstrap
    )
    rng = np.random.default_rng(settings.seed)
    swapped = [differences(*_swap(ours, theirs, rng.random(count) < 0.5)) for _ in range(PERMUTATIONS)]
    entries = []
    for name, seen in differences(ours, theirs).items():
        if seen is None:
            continue
        values = [each[name] for each in swapped]
        extreme = sum(value is not None and abs(value) >= abs(seen) - 1e-12 for value in values)
        low, high, _ = drawn.get(name, (None, None, None))
        of = with_scores if name == "auc" else count
        figures = {"n": of, "difference": seen, "low": low, "high": high, "p": (1 + extreme) / (1 + PERMUTATIONS)}
        entries.append({"a": first, "b": second, "metric": name, **figures, "test": "Permutation of answers"})
    return entries


def _swap(ours: Predictions, theirs: Predictions, where: np.ndarray) -> tuple[Predictions, Predictions]:
    swapped = []
    for one, other in ((ours, theirs), (theirs, ours)):
        scores = None
        if one.scores is not None and other.scores is not None:
            scores = np.where(where[:, None], other.scores, one.scores)
        swapped.append(dataclasses.replace(one, found=np.where(where, other.found, one.found), scores=scores))
    return swapped[0], swapped[1]
