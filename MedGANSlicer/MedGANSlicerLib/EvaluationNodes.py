"""An evaluation as nodes: tables of its figures and a chart for each metric, in one folder of the hierarchy."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from medgan.evaluation.report_text import heading_text
from medgan.evaluation.table import NOT_METRICS, Evaluation, MetricInfo
from MedGANSlicerLib.PlotNodes import addBars
from MedGANSlicerLib.SceneEdits import removeNode, removeOnFailure, subjectHierarchy
from MedGANSlicerLib.TableNodes import Column, addTable, folderItem, putInFolder

EVALUATION = "MedGAN.Evaluation"
"""Attribute of every node of an evaluation: its kind."""

TITLES = {
    "case": "Case",
    "method": "Result",
    "label": "Label",
    "error": "Not measured because",
    "metric": "Metric",
    "unit": "Unit",
    "n": "Cases",
    "mean": "Mean",
    "sd": "SD",
    "median": "Median",
    "low": "95 % from",
    "high": "95 % to",
    "a": "Result",
    "b": "Compared with",
    "difference": "Difference",
    "p": "p",
    "p_corrected": "p corrected",
    "test": "Test",
}


@dataclass
class EvaluationNodes:
    """``figures`` has a row for each case, method and label. ``charts`` by metric; what was not made is None."""

    figures: Any
    summary: Any = None
    comparisons: Any = None
    charts: dict[str, Any] = field(default_factory=dict)
    others: list = field(default_factory=list)

    def all(self) -> list:
        tables = [node for node in (self.figures, self.summary, self.comparisons) if node is not None]
        return [*tables, *self.charts.values(), *self.others]


def publishEvaluation(scene, evaluation: Evaluation, hidden: Collection[str] = ()):
    """New nodes that show an evaluation without the metrics in ``hidden``. After a failure the scene is as it was."""
    from medgan.evaluation.conclusions import without  # needs SciPy, which Slicer may not have when it starts

    evaluation = without(evaluation, hidden)
    shown = {key: info for key, info in evaluation.metrics.items() if _has(evaluation, key)}
    name = "Evaluation"
    attributes = {EVALUATION: evaluation.kind}
    with removeOnFailure(scene):
        nodes = EvaluationNodes(_figures(scene, evaluation, shown, name, attributes))
        nodes.summary = _summary(scene, evaluation, shown, f"{name} summary", attributes)
        nodes.comparisons = _comparisons(scene, evaluation, shown, f"{name} comparisons", attributes)
        for key, info in shown.items():
            made = _chart(scene, evaluation, key, info, f"{name} {info.title}")
            if made:
                nodes.charts[key] = made[0]
                nodes.others += made[1:]
        for node in nodes.all():
            node.SetAttribute(EVALUATION, evaluation.kind)
        putInFolder(scene, folderItem(scene, name), *nodes.all())
    return nodes


def removeEvaluation(scene, nodes: EvaluationNodes) -> None:
    """Take the nodes of an evaluation out of the scene, with their folder if nothing else is in it."""
    hierarchy = subjectHierarchy(scene)
    item = hierarchy.GetItemByDataNode(nodes.figures) if hierarchy is not None else 0
    folder = hierarchy.GetItemParent(item) if item else 0
    for node in nodes.all():
        if scene.IsNodePresent(node):
            removeNode(scene, node)
    if folder and folder != hierarchy.GetSceneItemID() and hierarchy.GetNumberOfItemChildren(folder) == 0:
        hierarchy.RemoveItem(folder, False, False)


def grouped(evaluation: Evaluation, metric: str) -> tuple[list[str], dict[str, list[float]]]:
    """The bars of a metric: a group for each case and label that every method was measured in, a bar a method."""
    rows = [row for row in evaluation.rows if isinstance(row.get(metric), int | float)]
    methods = list(dict.fromkeys(str(row["method"]) for row in rows))
    severalCases = len({row.get("case") for row in rows}) > 1
    held: dict[tuple, dict[str, float]] = {}
    for row in rows:
        held.setdefault((row.get("case"), row.get("label")), {})[str(row["method"])] = float(row[metric])
    whole = {key: values for key, values in held.items() if len(values) == len(methods)}
    names = [_groupName(case, label, severalCases) for case, label in whole]
    return names, {method: [values[method] for values in whole.values()] for method in methods}


def _groupName(case: Any, label: Any, severalCases: bool) -> str:
    parts = [str(case)] if case and (severalCases or label in (None, "")) else []
    if label not in (None, ""):
        parts.append(str(label))
    return " · ".join(parts) or "all"


def _has(evaluation: Evaluation, metric: str) -> bool:
    return any(row.get(metric) is not None for row in (*evaluation.rows, *_summarised(evaluation, metric)))


def _summarised(evaluation: Evaluation, metric: str) -> list[dict[str, Any]]:
    return [{metric: entry.get("mean")} for entry in evaluation.summary if entry.get("metric") == metric]


def _figures(scene, evaluation: Evaluation, shown: dict[str, MetricInfo], name: str, attributes):
    about = [
        key for key in ("case", "method", "label") if any(row.get(key) not in (None, "") for row in evaluation.rows)
    ]
    more = [key for key in dict.fromkeys(key for row in evaluation.rows for key in row) if _isMore(key, evaluation)]
    metrics = [key for key in shown if any(row.get(key) is not None for row in evaluation.rows)]
    failed = ["error"] if any(row.get("error") for row in evaluation.rows) else []
    columns = {key: Column(TITLES.get(key, key)) for key in (*about, *more)}
    columns |= {key: Column(heading_text(shown[key]), shown[key].unit, shown[key].description) for key in metrics}
    columns |= {key: Column(TITLES[key]) for key in failed}
    return addTable(scene, name, evaluation.rows, columns, attributes)


def _isMore(key: str, evaluation: Evaluation) -> bool:
    return key not in NOT_METRICS and key not in evaluation.metrics


def _summary(scene, evaluation: Evaluation, shown: dict[str, MetricInfo], name: str, attributes):
    rows = [
        {**entry, "metric": shown[entry["metric"]].title, "unit": shown[entry["metric"]].unit}
        for entry in evaluation.summary
        if entry["metric"] in shown
    ]
    return _listed(scene, name, rows, ("method", "label", "metric", "unit", *_STATISTICS), attributes)


def _comparisons(scene, evaluation: Evaluation, shown: dict[str, MetricInfo], name: str, attributes):
    rows = [
        {**entry, "metric": heading_text(shown[entry["metric"]])}
        for entry in evaluation.comparisons
        if entry["metric"] in shown
    ]
    names = ("metric", "label", "a", "b", "n", "difference", "low", "high", "p", "p_corrected", "test")
    return _listed(scene, name, rows, names, attributes)


_STATISTICS = ("n", "mean", "sd", "median", "low", "high")


def _listed(scene, name: str, rows: Sequence[dict[str, Any]], keys: Sequence[str], attributes):
    """A table of the keys that any row has a value for; None without rows."""
    if not rows:
        return None
    used = [key for key in keys if any(row.get(key) not in (None, "") for row in rows)]
    return addTable(scene, name, rows, {key: Column(TITLES[key]) for key in used}, attributes)


def _chart(scene, evaluation: Evaluation, metric: str, info: MetricInfo, name: str) -> list:
    groups, values = grouped(evaluation, metric)
    alike = len({number for numbers in values.values() for number in numbers}) <= 1
    if not groups or (alike and not info.better):  # as the data range is
        return []
    better = {"higher": " (more is better)", "lower": " (less is better)"}.get(info.better, "")
    unit = f" [{info.unit}]" if info.unit else ""
    return addBars(scene, name, groups, values, f"{info.title}{unit}{better}")
