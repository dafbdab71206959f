"""An evaluation as one HTML page that needs nothing else: summary, comparisons, plots, pictures, cases, definitions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import medgan
from medgan.evaluation.report_page import page
from medgan.evaluation.report_plots import plot
from medgan.evaluation.report_text import (
    ALL,
    FLOOR,
    NOT_MEASURED,
    Digits,
    best_methods,
    digits,
    escaped,
    extra_columns,
    heading,
    heading_text,
    number,
    p_value,
    verdict,
)
from medgan.evaluation.table import PNG_PREFIX, Evaluation, Picture

TITLES = {
    "images": "Images against their reference",
    "sets": "Sets of images",
    "segmentations": "Segmentations against their reference",
    "classes": "Predicted classes",
    "volumes": "Volumes without a reference",
}

MEANING = {
    "images": "Mean over the cases, and below it its 95 % interval (how: see the notes).",
    "sets": "Mean over random subsets of equal size, and below it the range of 95 % of them.",
    "classes": "The figure over all cases, and below it its 95 % interval (how: see the notes).",
}
"""What stands in the summary; of other kinds the same as of images."""

SHOWN = {"before": "Before", "result": "Result", "reference": "Reference", "difference": "Difference"}
"""The order in which pictures stand, and what they are called."""


def html_report(evaluation: Evaluation, said: str = "") -> str:
    """The page. ``said``: one line below the title, such as the names of the folders."""
    write = digits(evaluation)
    sections = [
        ("notes", "Notes", _notes(evaluation)),
        ("summary", "Summary", _summary(evaluation, write)),
        ("comparisons", "Comparisons", _comparisons(evaluation, write)),
        ("confusion", "Confusion", _confusion(evaluation)),
        ("plots", "Plots", _plots(evaluation, write)),
        ("pictures", "Pictures", _pictures(evaluation)),
        ("cases", "Whole sets" if evaluation.kind == "sets" else "Cases", _cases(evaluation, write)),
        ("metrics", "What the figures mean", _definitions(evaluation)),
        ("settings", "Settings", _settings(evaluation)),
    ]
    sections = [section for section in sections if section[2]]
    title = escaped(TITLES.get(evaluation.kind, "Evaluation"))
    cases = len({str(row["case"]) for row in evaluation.rows})
    methods = [method for method in evaluation.methods if method != FLOOR]
    counted = "" if evaluation.kind == "sets" else f"{_count(cases, 'case')}, "
    counted += f"{_count(len(methods), 'method')}: {', '.join(methods)}"
    head = [f"<header><h1>{title}</h1>", f'<p class="lead">{escaped(counted)}.</p>']
    if said:
        head.append(f'<p class="lead">{escaped(said)}</p>')
    links = "".join(f'<a href="#{name}">{escaped(text)}</a>' for name, text, _ in sections)
    head.append(f"<nav>{links}</nav></header>")
    parts = [f'<section id="{name}"><h2>{escaped(text)}</h2>{content}</section>' for name, text, content in sections]
    foot = f"<footer>MedGANSlicer {escaped(medgan.__version__)}. For research; not for diagnosis.</footer>"
    return page(title, "\n".join([*head, "<main>", *parts, "</main>", foot]))


def _count(count: int, name: str) -> str:
    return f"{count} {name}{'' if count == 1 else 's'}"


def _notes(evaluation: Evaluation) -> str:
    notes = [message for message in evaluation.messages if NOT_MEASURED not in message]
    if failed := len(evaluation.failed):
        notes.insert(0, f"{_count(failed, 'case')} {NOT_MEASURED}; the table of the cases says why.")
    return f"<ul>{''.join(f'<li>{escaped(note)}</li>' for note in notes)}</ul>" if notes else ""


def _summary(evaluation: Evaluation, write: dict[str, Digits]) -> str:
    """A line for each method and label, a column for each metric: the mean, and its interval below."""
    cells: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for row in evaluation.summary:
        cells.setdefault((str(row.get("label", "")), str(row["method"])), {})[row["metric"]] = row
    if not cells:
        return ""
    metrics = [name for name in evaluation.metrics if any(name in held for held in cells.values())]
    labelled = any(label for label, _ in cells)
    columns = [("Method", "text"), *([("Label", "text")] if labelled else []), ("Cases", "number")]
    columns += [(heading(evaluation.metrics[name]), "number") for name in metrics]
    body = []
    labels = list(dict.fromkeys(label for label, _ in cells))
    for (label, method), held in sorted(cells.items(), key=lambda entry: labels.index(entry[0][0])):
        most = max((int(row.get("n") or 0) for row in held.values()), default=0)
        line = [_cell(method, kind="text floor" if method == FLOOR else "text")]
        line += [_cell(label or ALL, kind="text")] if labelled else []
        line.append(_cell(str(most), most))
        for name in metrics:
            row = held.get(name, {})
            mean = number(row.get("mean"))
            below = ""
            if number(row.get("low")) is not None and number(row.get("high")) is not None:
                below = f"<small>{write[name](row['low'])} to {write[name](row['high'])}</small>"
            if row and row.get("n") != most:
                below += f"<small>of {int(row.get('n') or 0)}</small>"
            best = "best" if method in best_methods(evaluation, name, label) else ""
            line.append(_cell(write[name](mean), mean, best, below))
        body.append("<tr>" + "".join(line) + "</tr>")
    hint = MEANING.get(evaluation.kind, MEANING["images"])
    if any("best" in line for line in body):
        hint += " Shaded: the best of them; whether it is truly better, the comparisons say."
    return f'<p class="hint">{hint}</p>{_table("summary-table", columns, body)}'


def _comparisons(evaluation: Evaluation, write: dict[str, Digits]) -> str:
    if not evaluation.comparisons:
        return ""
    labelled = any(row.get("label") not in (None, "") for row in evaluation.comparisons)
    columns = [("Metric", "text"), *([("Label", "text")] if labelled else []), ("A", "text"), ("B", "text")]
    columns += [("Cases", "number"), ("Mean of A − B", "number"), ("p", "number"), ("p, corrected", "number")]
    columns += [("Test", "text"), ("Verdict", "text")]
    body = []
    for row in evaluation.comparisons:
        name = row["metric"]
        shown = [row.get(key) for key in ("difference", "low", "high")]
        own = Digits(shown)
        interval = ""
        if number(shown[1]) is not None and number(shown[2]) is not None:
            interval = f"<small>{own(shown[1])} to {own(shown[2])}</small>"
        info = evaluation.metrics.get(name)
        line = [_cell(heading_text(info) if info else name, kind="text")]
        line += [_cell(row.get("label") or ALL, kind="text")] if labelled else []
        line += [_cell(row["a"], kind="text"), _cell(row["b"], kind="text"), _cell(str(row["n"]), row["n"])]
        line.append(_cell(own(shown[0]), shown[0], below=interval))
        line += [_cell(p_value(row.get(key)), row.get(key)) for key in ("p", "p_corrected")]
        line += [_cell(row.get("test", ""), kind="text"), _cell(verdict(evaluation, row), kind="text")]
        body.append("<tr>" + "".join(line) + "</tr>")
    hint = (
        "The same cases under both methods, with the 95 % interval of the mean difference. p, corrected: for the "
        "number of comparisons made here (Holm); the verdict calls a difference clear where it is below 0.05."
    )
    return f'<p class="hint">{hint}</p>{_table("comparisons-table", columns, body)}'


def _confusion(evaluation: Evaluation) -> str:
    parts = []
    classes = evaluation.confusion.get("classes", [])
    for method, matrix in evaluation.confusion.get("matrices", {}).items():
        columns = [("True class", "text"), *((escaped(name), "number") for name in classes)]
        body = []
        for name, counts in zip(classes, matrix, strict=False):
            cells = [
                _cell(str(count), count, "best" if other == name else "")
                for other, count in zip(classes, counts, strict=False)
            ]
            body.append("<tr>" + _cell(name, kind="text") + "".join(cells) + "</tr>")
        parts.append(f"<h3>{escaped(method)}</h3>" + _table("", columns, body, sortable=False))
    return '<p class="hint">Rows: the truth. Columns: what was predicted.</p>' + "".join(parts) if parts else ""


def _plots(evaluation: Evaluation, write: dict[str, Digits]) -> str:
    drawn = [(name, plot(evaluation, name, write[name])) for name in evaluation.metrics]
    figures = [
        f"<figure><h3>{heading(evaluation.metrics[name])}</h3>{picture}</figure>" for name, picture in drawn if picture
    ]
    hint = (
        "Dots: cases. Diamond and thick line: the figure of the summary and its 95 % interval. Box: the middle half of "
        "the cases and their median, with whiskers to the last case within 1.5 times its length (from 5 cases on)."
    )
    return f'<p class="hint">{hint}</p><div class="plots">{"".join(figures)}</div>' if figures else ""


def _pictures(evaluation: Evaluation) -> str:
    parts = []
    for picture in evaluation.pictures:
        shown = picture.to_dict()["images"]
        order = [*(name for name in SHOWN if name in shown), *(name for name in shown if name not in SHOWN)]
        figures = "".join(_figure(picture, name, shown[name]) for name in order)
        caption = f'<p class="hint">{escaped(picture.caption)}</p>' if picture.caption else ""
        title = escaped(f"{picture.case}, {picture.method}" if picture.method else picture.case)
        parts.append(f'<article class="case"><h3>{title}</h3><div class="row">{figures}</div>{caption}</article>')
    return "".join(parts)


def _figure(picture: Picture, name: str, address: str) -> str:
    assert address.startswith(PNG_PREFIX)
    rows, columns = picture.images[name].shape[:2]
    title = SHOWN.get(name, name)
    said = escaped(f"{title} of {picture.case}")
    return (
        f'<figure><img src="{escaped(address)}" alt="{said}" width="{columns}" height="{rows}">'
        f"<figcaption>{escaped(title)}</figcaption></figure>"
    )


def _cases(evaluation: Evaluation, write: dict[str, Digits]) -> str:
    if not evaluation.rows:
        return ""
    labelled = any(row.get("label") not in (None, "") for row in evaluation.rows)
    metrics = [name for name in evaluation.metrics if any(name in row for row in evaluation.rows)]
    said = extra_columns(evaluation)
    columns = [("Case", "text"), ("Method", "text"), *([("Label", "text")] if labelled else [])]
    columns += [(escaped(name.capitalize()), "text") for name in said]
    columns += [(heading(evaluation.metrics[name]), "number") for name in metrics]
    body = []
    for row in evaluation.rows:
        line = [_cell(row["case"], kind="text"), _cell(row["method"], kind="text")]
        label = row.get("label") or ("" if row.get("error") else ALL)
        line += [_cell(label, kind="text")] if labelled else []
        if row.get("error"):
            line.append(f'<td class="error" colspan="{max(1, len(said) + len(metrics))}">{escaped(row["error"])}</td>')
        else:
            line += [_cell(row.get(name, ""), kind="text") for name in said]
            line += [_cell(write[name](row.get(name)), row.get(name)) for name in metrics]
        body.append("<tr>" + "".join(line) + "</tr>")
    box = '<input id="filter" class="screen" type="search" placeholder="Show rows with …" aria-label="Filter" hidden>'
    return box + _table("cases-table", columns, body)


def _definitions(evaluation: Evaluation) -> str:
    parts = []
    for info in evaluation.metrics.values():
        better = f"{info.better.capitalize()} is better. " if info.better else ""
        parts.append(f"<dt>{heading(info)}</dt><dd>{escaped(better + info.description)}</dd>")
    return f"<dl>{''.join(parts)}</dl>" if parts else ""


def _settings(evaluation: Evaluation) -> str:
    body = [
        f"<tr>{_cell(name.replace('_', ' '), kind='text')}{_cell(_said(value), kind='text')}</tr>"
        for name, value in evaluation.settings.items()
    ]
    return _table("", [("Setting", "text"), ("Value", "text")], body, sortable=False) if body else ""


def _said(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_said, value))
    if isinstance(value, dict):
        return ", ".join(f"{name}: {_said(each)}" for name, each in value.items())
    return "not given" if value in ("", None) else str(value)


def _cell(text: Any, value: Any = None, kind: str = "", below: str = "") -> str:
    """A cell with the value it is sorted by; ``below`` is HTML already."""
    by = text if "text" in kind.split() else number(value)
    if isinstance(value, float) and math.isinf(value):
        by = math.copysign(1e308, value)
    named = f' class="{kind}"' if kind else ""
    return f'<td{named} data-v="{"" if by is None else escaped(by)}">{escaped(text)}{below}</td>'


def _table(name: str, columns: Sequence[tuple[str, str]], body: Sequence[str], sortable: bool = True) -> str:
    """A table whose headings are HTML already."""
    heads = "".join(
        f'<th scope="col" data-kind="{kind}"{" class=text" if kind == "text" else ""}>{text}</th>'
        for text, kind in columns
    )
    named = f' id="{name}"' if name else ""
    marked = ' class="sortable"' if sortable else ""
    return (
        f'<div class="scroll"><table{named}{marked}><thead><tr>{heads}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )
