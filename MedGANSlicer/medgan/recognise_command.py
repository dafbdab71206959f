"""``medgan recognise``: from the options of the command line to what volumes are, one by one or as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

import medgan
from medgan import console
from medgan.cells import csv_text
from medgan.settings import Device, RecogniseSettings, Saliency
from medgan.volume import FORMATS, Volume, VolumeError, file_format, read_volume

OPTIONS = {"memory_limit_gb": "memory"}
"""Options that are called otherwise than their settings."""


class Method(Enum):
    """How a map of reasons is found where one is asked for."""

    GRAD_CAM = Saliency.GRAD_CAM.value
    OCCLUSION = Saliency.OCCLUSION.value


@dataclass
class Result:
    """What became of one file."""

    source: Path
    report: dict[str, Any] = field(default_factory=dict)
    why: Volume | None = None
    error: str = ""
    details: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "input": str(self.source),
            "status": "failed" if self.error else "done",
            "error": self.error or None,
            "report": self.report,
        }


def recognise(
    context: typer.Context,
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="IN...", readable=False, help="Volume files, folders of them, DICOM folders."),
    ],
    table: Annotated[Path | None, typer.Option("--csv", help="Also write one line per file: a .csv file.")] = None,
    saliency: Annotated[
        Path | None, typer.Option(help="Also write which places spoke for the answer (0 to 1): a volume file.")
    ] = None,
    method: Annotated[
        Method, typer.Option(help="With --saliency: how it is found; occlusion takes longer.")
    ] = Method.GRAD_CAM,
    target: Annotated[
        str, typer.Option(help='With --saliency: the answer to explain, as in "MR FLAIR".')
    ] = RecogniseSettings.target,
    model: Annotated[
        str, typer.Option(help="Name of a model ('medgan models') or a bundle folder.")
    ] = RecogniseSettings.model,
    device: Annotated[Device, typer.Option(help="Where the network runs.")] = RecogniseSettings.device,
    memory: Annotated[
        float, typer.Option(help="Most memory to use in GB; 0 reads what is free.")
    ] = RecogniseSettings.memory_limit_gb,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results that exist.")] = False,
    json: console.Json = False,
) -> None:
    """Say what volumes are: kind of scan, part of the body, plane of the slices; and how good they are.

    With a model of your own ('medgan train classify') its classes. For research, not for diagnosis.
    """
    from medgan import models, plan
    from medgan.staging import write_text
    from medgan.synthesis import files

    try:
        use = Saliency.NONE if saliency is None else Saliency(method.value)
        settings = RecogniseSettings(plan.resolved_model(model), use, target, device, memory)
        sources = [file for path in paths for file in plan.volume_files(path, only_results=True)]
        _check_usage(sources, table, saliency)
    except ValueError as error:
        raise console.failed(_with_options(str(error)), console.USAGE) from error
    try:
        models.verify(models.find(settings.model))
        if saliency is not None:
            files.check_targets([saliency], sources, overwrite)
        if table is not None:
            plan.check_tables([table], sources, None, overwrite)
    except (ValueError, files.FileFailed) as error:
        raise console.failed(str(error), console.FAILED) from error
    results = []
    with console.interruptible(), console.bar() as bar:
        line = bar.add_task("Reading", total=float(len(sources)), name="")
        for number, source in enumerate(sources):
            bar.update(line, completed=number, name=source.name)
            results.append(_attempt(source, settings))
            if not json:
                _say(results[-1], len(sources) == 1, context.obj)
    failed = sum(bool(result.error) for result in results)
    try:
        if saliency is not None and results[0].why is not None:
            report = results[0].report
            said = files.description(report, settings.to_dict(), sources, content=f"why {report.get('explained', '')}")
            files.write_marked({saliency: results[0].why}, {saliency: said | {"synthetic": False}})
        if table is not None:
            write_text(table_text(results), table)
    except VolumeError as error:
        console.complain(str(error))
        failed += 1
    if json:
        console.print_json(
            {"version": medgan.__version__, "failed": failed, "files": [result.to_dict() for result in results]}
        )
    if failed:
        raise typer.Exit(console.FAILED)


def table_text(results: Sequence[Result]) -> str:
    """CSV with one line per file: answers with their confidence, figures of the quality, warnings; or the error."""
    rows = []
    for result in results:
        row: dict[str, Any] = {"file": str(result.source)}
        for head, found in result.report.get("what", {}).items():
            row |= {head: found["label"], f"{head}_confidence": found["confidence"]}
        for seen in result.report.get("quality", ()):
            unit = f" ({seen['unit']})" if seen.get("unit") else ""
            value = seen["value"]
            row[f"{seen['name']}{unit}"] = float(f"{value:.4g}") if isinstance(value, float) else value
        row["warnings"] = " ".join(result.report.get("warnings", ()))
        row["error"] = result.error
        rows.append(row)
    last = ("warnings", "error")
    columns = list(dict.fromkeys(name for row in rows for name in row if name not in last)) + list(last)
    return csv_text(columns, [[row.get(name) for name in columns] for row in rows])


def _check_usage(sources: Sequence[Path], table: Path | None, saliency: Path | None) -> None:
    """Raise ``plan.UsageError`` for names that can not be meant so."""
    from medgan.plan import UsageError

    if table is not None and table.suffix.lower() != ".csv":
        raise UsageError(f"'{table}' is not the name of a table; end it with .csv.")
    if saliency is not None:
        if not file_format(saliency):
            raise UsageError(f"'{saliency}' is not the name of a volume file; end it with one of {', '.join(FORMATS)}.")
        if len(sources) > 1:
            raise UsageError("--saliency goes with one volume; give one file.")


def _attempt(source: Path, settings: RecogniseSettings) -> Result:
    """What becomes of one file, be it a failure. In this process: the network is small, and a child takes longer to
    start than it to run."""
    from medgan.batch import as_failure
    from medgan.frames import has_frames, read_frames
    from medgan.tasks import task

    try:
        notes = []
        if has_frames(source):
            frames = read_frames(source)
            volume = frames[next(iter(frames))]
            notes.append(f"The file holds {len(frames)} frames; the first one was looked at.")
        else:
            volume = read_volume(source)
        notes += volume.meta.get("messages", [])
        outputs = task("recognise")({"volume": volume}, settings, lambda fraction, message="": None)
        outputs.report["messages"] = notes + outputs.report["messages"]
        why = outputs.volumes.get("why")
        return Result(source, outputs.report, why if isinstance(why, Volume) else None)
    except Exception as error:
        failed = as_failure(error, source.name)
        return Result(source, error=str(failed), details=failed.details)


def _say(result: Result, alone: bool, debug: bool) -> None:
    from medgan.recognition.words import percent

    name, report = result.source.name, result.report
    if result.error:
        console.complain(_with_options(result.error) if alone else f"{name}: {_with_options(result.error)}")
        if debug and result.details:
            console.note(result.details)
        return
    for message in report["messages"]:
        console.note(f"{name}: {message}")
    for warning in report["warnings"]:
        console.complain(f"{name}: {warning}")
    if not alone:
        console.say(f"{name}: {report['sentence']}")
        return
    console.say(report["sentence"])
    rows = []
    for found in report["what"].values():
        likely = sorted(found["scores"].items(), key=lambda pair: -pair[1])[:3]
        rows.append((found["title"], ", ".join(f"{label} {percent(score)}" for label, score in likely)))
    rows += [(seen["title"], seen["sentence"]) for seen in report["quality"]]
    rows += [("Advice", held["sentence"]) for held in report["advice"]]
    console.table(rows)
    console.note(report["research"])


def _with_options(sentence: str) -> str:
    return console.with_options(sentence, RecogniseSettings, OPTIONS)
