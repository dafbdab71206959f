"""``medgan evaluate``: from the options of the command line to figures, and what is said about them."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from medgan import console
from medgan.settings import EvaluateSettings, Figures, PairedTest
from medgan.volume import VolumeError

if TYPE_CHECKING:
    from medgan.evaluation.table import Evaluation

OPTIONS = {"tolerance_mm": "tolerance"}
"""Options that are called otherwise than their settings."""

ERRORS_SHOWN = 10


def evaluate(
    context: typer.Context,
    results: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="RESULT...", readable=False, help="Files, or folders: one a method. Predicted classes: .csv files."
        ),
    ] = None,
    reference: Annotated[
        Path | None, typer.Option("--reference", help="The truth: a file, or a folder with the same file names.")
    ] = None,
    mask: Annotated[Path | None, typer.Option(help="Measure images inside it: a file or a folder.")] = None,
    before: Annotated[
        Path | None, typer.Option(help="What the results were made of, shown beside them: a file or a folder.")
    ] = None,
    segments: Annotated[
        Path | None, typer.Option(help="Label map in which SNR and CNR are measured: a file or a folder.")
    ] = None,
    figures: Annotated[
        Figures, typer.Option(help="What is measured; auto: chosen by the files.")
    ] = EvaluateSettings.figures,
    metrics: Annotated[str, typer.Option(help="Only these, as in psnr,ssim; 'list' names them all.")] = "",
    resample: Annotated[
        bool, typer.Option("--resample", help="Bring results onto the grid of their reference where it differs.")
    ] = EvaluateSettings.resample,
    data_range: Annotated[
        float, typer.Option(help="Images: intensity range; 0 takes that of each reference.")
    ] = EvaluateSettings.data_range,
    tolerance: Annotated[
        float, typer.Option(help="Segmentations: mm within which surfaces agree.")
    ] = EvaluateSettings.tolerance_mm,
    by_name: Annotated[
        bool, typer.Option("--by-name", help="Segmentations: match labels by name.")
    ] = EvaluateSettings.by_name,
    contrast_to: Annotated[
        str, typer.Option(help="No reference: the reference segment for CNR.")
    ] = EvaluateSettings.contrast_to,
    neighbours: Annotated[
        int, typer.Option(help="Sets: nearest neighbours for precision and recall.")
    ] = EvaluateSettings.neighbours,
    positive: Annotated[str, typer.Option(help="Classes: the positive one of two.")] = EvaluateSettings.positive,
    test: Annotated[PairedTest, typer.Option(help="How two methods are compared.")] = EvaluateSettings.test,
    bootstrap: Annotated[int, typer.Option(help="Resamples for the intervals.")] = EvaluateSettings.bootstrap,
    pictures: Annotated[int, typer.Option(help="Cases with pictures in the report.")] = EvaluateSettings.pictures,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for the report: CSV, JSON and HTML.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a report that is there.")] = False,
    seed: Annotated[int, typer.Option(help="The same seed gives the same figures.")] = EvaluateSettings.seed,
    json: console.Json = False,
) -> None:
    """Measure results: images or segmentations against a reference, sets of images, predicted classes, or without one.

    Folders are methods, and their files are matched with the reference by name. With several methods, each pair of
    them is compared on the same cases.
    """
    if metrics == "list":
        _list_metrics(json)
        return
    results = results or []
    try:
        settings = EvaluateSettings(
            figures, data_range, resample, tolerance, by_name, contrast_to, neighbours, positive, bootstrap, test,
            pictures, seed,
        )  # fmt: skip
        wanted = _wanted(metrics)
        _check_paths(results, {"reference": reference, "mask": mask, "before": before, "segments": segments})
        if reference is None and not _are_predictions(results) and figures not in (Figures.AUTO, Figures.VOLUMES):
            raise ValueError(f"{figures.label()} need a reference; give its file or folder with --reference.")
        _check_out(out, overwrite)
    except VolumeError as error:
        raise console.failed(str(error), console.FAILED) from error
    except ValueError as error:
        raise console.failed(_with_options(str(error)), console.USAGE) from error
    extras = {"mask": mask, "before": before, "segments": segments}
    with console.interruptible(), console.bar() as bar:
        line = bar.add_task("Reading", total=1.0, name="evaluate")

        def progress(fraction: float, message: str = "") -> None:
            bar.update(line, completed=fraction, description=message or None)

        try:
            evaluation = _evaluated(results, reference, settings, extras, progress)
            evaluation = _only(evaluation, wanted)
            files = _written(evaluation, out, f"Reference: {reference.name}" if reference else "")
        except (ValueError, OSError) as error:
            if context.obj and not isinstance(error, VolumeError):
                raise
            raise console.failed(_with_options(str(error)), console.FAILED) from error
    if json:
        from medgan.evaluation.report import document

        console.print_json({**document(evaluation), "files": {name: str(path) for name, path in files.items()}})
    else:
        _say(evaluation, files)
    if evaluation.failed:
        _complain(evaluation)
        raise typer.Exit(console.FAILED)


def _evaluated(
    results: Sequence[Path], reference: Path | None, settings: EvaluateSettings, extras: dict[str, Any], progress: Any
) -> Evaluation:
    if _are_predictions(results):
        from medgan.evaluation.predictions import evaluate_predictions

        return evaluate_predictions(results, settings, progress)
    from medgan.evaluation.many import evaluate_files

    return evaluate_files(results, reference, settings, **extras, progress=progress)


def _are_predictions(results: Sequence[Path]) -> bool:
    return all(path.suffix.lower() == ".csv" for path in results)


def _check_paths(results: Sequence[Path], others: dict[str, Path | None]) -> None:
    """Raise ``ValueError`` for what is not there and for what does not go together."""
    if not results:
        raise ValueError("Say what to measure: 'medgan evaluate RESULT... --reference TRUTH', files or folders.")
    tables = [path for path in results if path.suffix.lower() == ".csv"]
    if tables and len(tables) < len(results):
        raise ValueError(f"'{tables[0]}' holds predictions and can not be measured with volumes; give one kind.")
    given = [name for name, path in others.items() if path is not None]
    if tables and given:
        raise ValueError(f"--{given[0]} is for volumes; a CSV of predictions holds its truth in a column 'truth'.")
    for path in [*results, *(path for path in others.values() if path is not None)]:
        if not path.exists():
            raise VolumeError(f"There is no file or folder '{path}'; give one that exists.")


def _check_out(out: Path | None, overwrite: bool) -> None:
    from medgan.evaluation.report import FILES

    if out is None:
        return
    if out.exists() and not out.is_dir():
        raise ValueError(f"'{out}' is a file; --out takes a folder.")
    there = [name for name in FILES if (out / name).exists()]
    if there and not overwrite:
        raise VolumeError(f"'{out / there[0]}' exists; name another folder, or replace the report with --overwrite.")


def _wanted(text: str) -> list[str]:
    """The names of metrics in a list with commas. Raises ``ValueError`` for one that there is not."""
    from medgan.metrics import METRICS, infos

    names = [name.strip().lower() for name in text.split(",") if name.strip()]
    known = list(infos(*METRICS))
    for name in names:
        if name not in known:
            raise ValueError(f"There is no metric '{name}'; there are {', '.join(known)}.")
    return names


def _only(evaluation: Evaluation, wanted: Sequence[str]) -> Evaluation:
    """The evaluation with these metrics alone, in this order. Raises ``ValueError`` when it has none of them."""
    from medgan.evaluation.conclusions import without

    if not wanted:
        return evaluation
    chosen = [name for name in wanted if name in evaluation.metrics]
    if not chosen:
        raise ValueError(
            f"None of the metrics asked for belongs to this evaluation; it has {', '.join(evaluation.metrics)}."
        )
    for name in wanted:
        if name not in chosen:
            evaluation.tell(f"'{name}' is no metric of this evaluation and was left out.")
    kept = without(evaluation, set(evaluation.metrics) - set(chosen))
    return dataclasses.replace(kept, metrics={name: evaluation.metrics[name] for name in chosen})


def _written(evaluation: Evaluation, out: Path | None, said: str) -> dict[str, Path]:
    from medgan.evaluation import report

    if out is None:
        return {}
    try:
        return report.write(evaluation, out, said)
    except OSError as error:
        raise ValueError(f"The report in '{out}' can not be written: {error.strerror}.") from error


def _say(evaluation: Evaluation, files: dict[str, Path]) -> None:
    """The summary as lines, and where the report is."""
    from medgan.evaluation.report_text import NOT_MEASURED, digits, heading_text, number

    for message in evaluation.messages:
        if NOT_MEASURED not in message:  # said below, with the reasons
            console.note(_with_options(message))
    write = digits(evaluation)
    rows = []
    for row in evaluation.rows if evaluation.kind == "sets" else ():  # the figures of whole sets stand there
        for name, info in evaluation.metrics.items():
            if number(row.get(name)) is not None:
                rows.append((str(row["method"]), heading_text(info), write[name](row[name]), str(row["case"])))
    for row in evaluation.summary:
        name = row["metric"]
        about = " · ".join(str(part) for part in (row["method"], row.get("label", "")) if part not in ("", None))
        text = f"{write[name](row.get('mean'))}"
        if number(row.get("low")) is not None and number(row.get("high")) is not None:
            text += f"  [{write[name](row['low'])} to {write[name](row['high'])}]"
        rows.append((about, heading_text(evaluation.metrics[name]), text, str(row["n"])))
    spread = "range" if evaluation.kind == "sets" else "interval"
    table = Table("Method", "Figure", f"Mean [95 % {spread}]", "Cases", box=None, pad_edge=False)
    for cells in rows:
        table.add_row(*map(escape, cells))
    console.out().print(table)
    if "report.html" in files:
        console.say(f"Report: {console.shown_path(files['report.html'])}")


def _complain(evaluation: Evaluation) -> None:
    from medgan.evaluation.report_text import NOT_MEASURED

    failed = evaluation.failed
    console.complain(f"{len(failed)} case{'s' * (len(failed) > 1)} {NOT_MEASURED}:")
    for row in failed[:ERRORS_SHOWN]:
        console.complain(f"  {row['method']}, {row['case']}: {_with_options(row['error'])}")
    if len(failed) > ERRORS_SHOWN:
        console.complain(f"  and {len(failed) - ERRORS_SHOWN} more; --json names them all.")


def _list_metrics(json: bool) -> None:
    from medgan.metrics import METRICS, infos

    if json:
        console.print_json({kind: {name: dataclasses.asdict(i) for name, i in infos(kind).items()} for kind in METRICS})
        return
    for kind in METRICS:
        console.say(kind)
        console.table([(f"  {name}", info.title) for name, info in infos(kind).items()])


def _with_options(sentence: str) -> str:
    """The sentence with the settings it names called as they are on the command line."""
    sentence = console.with_options(sentence, EvaluateSettings, OPTIONS)
    sentence = sentence.replace("allow resampling", "give --resample")
    return re.sub(r"figures:? '?(images|sets|segmentations|volumes)'?", r"--figures \1", sentence)
