"""``medgan enhance``: from the options of the command line to results, and what is said about them."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import medgan
from medgan import console
from medgan.settings import Axis, Device, EnhanceSettings, SliceProfile

if TYPE_CHECKING:
    from medgan.batch import Item, Manner, Result

SUSPICIONS_SHOWN = 3
REPORT_EVERY_S = 5.0


def enhance(
    context: typer.Context,
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="IN... [OUT]", readable=False, help="Files, folders or lists (.csv), or one file and its result."
        ),
    ],
    out: Annotated[Path | None, typer.Option("--out", help="Folder for the results of several files.")] = None,
    model: Annotated[
        str, typer.Option(help="Name of a model ('medgan models'), a bundle folder, or several joined by '+'.")
    ] = EnhanceSettings.model,
    strength: Annotated[
        float, typer.Option(help="0 returns the input, 1 is the full result.")
    ] = EnhanceSettings.strength,
    character: Annotated[
        float, typer.Option(help="0: most faithful, 1: most natural texture.")
    ] = EnhanceSettings.character,
    noise: Annotated[
        float, typer.Option(help="Standard deviation of the noise; 0 estimates it.")
    ] = EnhanceSettings.noise_sigma,
    axis: Annotated[
        Axis, typer.Option(help="Super-resolution: the coarse axis; auto takes the coarsest.")
    ] = EnhanceSettings.axis,
    ratio: Annotated[
        float, typer.Option(help="Super-resolution: 1.2 to 8; 0 makes the voxels isotropic.")
    ] = EnhanceSettings.ratio,
    slice_profile: Annotated[
        SliceProfile, typer.Option(help="Super-resolution: how a slice averages.")
    ] = EnhanceSettings.slice_profile,
    slice_gap: Annotated[
        float, typer.Option(help="Super-resolution: mm between slices that were not measured.")
    ] = EnhanceSettings.slice_gap_mm,
    blur: Annotated[
        float, typer.Option(help="Deblurring: standard deviation in voxels along each axis; 0 estimates it.")
    ] = EnhanceSettings.blur_sigma,
    fit: Annotated[bool, typer.Option("--fit", help="Fit the model to each volume first, for 2 minutes.")] = False,
    fit_minutes: Annotated[
        float, typer.Option(help="Fit for this many minutes; 0: no fit.")
    ] = EnhanceSettings.fit_minutes,
    from_scratch: Annotated[
        bool, typer.Option("--from-scratch", help="Fit an untrained network instead; needs several minutes.")
    ] = EnhanceSettings.fit_from_scratch,
    device: Annotated[Device, typer.Option(help="Where the network runs.")] = EnhanceSettings.device,
    difference: Annotated[
        Path | None, typer.Option(help="Also write result minus input: a file, with --out a folder.")
    ] = None,
    residual: Annotated[
        Path | None, typer.Option(help="Also write what the result can not explain of the input: file or folder.")
    ] = None,
    uncertainty: Annotated[
        Path | None, typer.Option(help="Also write how unsure the model is at each voxel: file or folder.")
    ] = None,
    frames: Annotated[str, typer.Option(help="Only these frames of a 4D file, as in 0:10.")] = "",
    memory: Annotated[
        float, typer.Option(help="Most memory to use in GB; 0 reads what is free.")
    ] = EnhanceSettings.memory_limit_gb,
    seed: Annotated[int, typer.Option(help="The same seed gives the same voxels.")] = EnhanceSettings.seed,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results that exist.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Skip what an earlier run has finished.")] = False,
    jobs: Annotated[int, typer.Option(min=1, help="Files at a time; they share the cores or the GPUs.")] = 1,
    dask: Annotated[str, typer.Option(help="Compute on the Dask cluster at this address (tcp://host:port).")] = "",
    report: Annotated[Path | None, typer.Option(help="Write a table of all files, as .csv or .json.")] = None,
    json: console.Json = False,
) -> None:
    """Enhance one volume (IN OUT), or several files, folders and lists (IN... --out FOLDER).

    A list is a .csv with a column 'input', and if you like 'output' and any option's name. The frames of a 4D
    file are enhanced one by one and written as 4D.
    """
    from medgan import batch, batch_report, models, plan, worklist

    try:
        if report is not None and report.suffix.lower() not in batch_report.ENDINGS:
            raise plan.UsageError(f"'{report}' is not the name of a report; end it with .csv or .json.")
        if dask and jobs > 1:
            raise plan.UsageError("--jobs is for this computer; with --dask the cluster's workers decide.")
        minutes = fit_minutes or (worklist.FIT_MINUTES if fit or from_scratch else 0.0)
        settings = EnhanceSettings(
            plan.resolved_model(model), strength, character, noise, device, memory, seed, axis, ratio, slice_profile,
            slice_gap, blur, uncertainty is not None, minutes, from_scratch,
        )  # fmt: skip
        items = plan.plan(paths, plan.Places(out, difference, residual, uncertainty), frames)
        ignored = [name for path in paths if path.suffix.lower() == ".csv" for name in worklist.unknown_columns(path)]
    except ValueError as error:
        raise console.failed(_with_options(str(error)), console.USAGE) from error
    if ignored:
        names = ", ".join(f"'{name}'" for name in dict.fromkeys(ignored))
        console.note(f"Ignored: column{'s' * (len(set(ignored)) > 1)} {names}, which is no setting of a file.")
    try:
        for card in models.find_chain(settings.model):
            models.verify(card)
    except models.ModelError as error:
        raise console.failed(str(error), console.FAILED) from error
    try:
        if report is not None:
            _check_report(report, [*paths, *(item.source for item in items)], overwrite)
            if out is not None and report.parent == out:
                out.mkdir(parents=True, exist_ok=True)
            batch_report.write(report, batch_report.rows(items, [None] * len(items)))
    except OSError as error:
        raise console.failed(f"Report '{report}' can not be written: {error.strerror}.", console.FAILED) from error
    items = plan.checked(items, settings)
    manner = batch.Manner(overwrite, resume, uuid.uuid4().hex)
    results: list[Result | None] = [None] * len(items)
    with _ended_in_words(results), _reported(report, items, results) as save:
        _run(items, results, _runner(items, settings, manner, jobs, dask), save, json, settings.device)
    done = [result for result in results if result is not None]
    failed = console.failures(done, _with_options, context.obj)
    if json:
        document = {"version": medgan.__version__, "failed": failed}
        console.print_json({**document, "files": [result.to_dict() for result in done]})
    if failed:
        raise typer.Exit(console.FAILED)


def _check_report(report: Path, inputs: Iterable[Path], overwrite: bool) -> None:
    """Refuse a report that would be written over an input, or over a file that is no report of an earlier run."""
    from medgan import batch_report

    if report.exists() and any(path.exists() and path.samefile(report) for path in inputs):
        raise console.failed(f"'{report}' is an input; give the report another name.", console.USAGE)
    if report.exists() and not overwrite and not batch_report.is_report(report):
        raise console.failed(
            f"'{report}' exists already and is no report; add --overwrite to replace it.", console.FAILED
        )


Runner = Callable[[Callable[[int, Any], None]], Iterator[tuple[int, "Result"]]]
"""From a watcher of numbered files to their numbered results, as they get ready."""


def _runner(items: list[Item], settings: EnhanceSettings, manner: Manner, jobs: int, dask: str) -> Runner:
    if dask:
        from medgan import cluster

        return lambda watch: cluster.run(items, settings, manner, dask)
    from medgan import local_runs

    return lambda watch: local_runs.run(items, settings, manner, jobs, watch)


def _run(
    items: list[Item],
    results: list[Result | None],
    runner: Runner,
    save: Callable[[], None],
    quiet: bool,
    asked: Device,
) -> None:
    """Fill ``results``, one for each item in order, and say each as it comes; one that fails does not stop the rest."""
    with console.bar() as bar:
        several = len(items) > 1
        whole = bar.add_task("", total=len(items), name=f"{len(items)} files", visible=several)
        lines = {} if several else {0: bar.add_task("Reading", total=1.0, name=items[0].source.name)}

        def watch(number: int, state: Any) -> None:
            if number not in lines:
                name = f"[{number + 1}/{len(items)}] {items[number].source.name}"
                lines[number] = bar.add_task("Reading", total=1.0, name=name)
            bar.update(lines[number], completed=state.fraction, description=state.message)

        with contextlib.closing(runner(watch)) as ready:  # type: ignore[type-var]
            for number, result in ready:
                results[number] = result
                bar.advance(whole)
                if number in lines:
                    bar.remove_task(lines.pop(number))
                if not quiet and not result.error:
                    _say(result, asked)
                save()


def _say(result: Result, asked: Device) -> None:
    """The notes on one file, and the line of its result."""
    name, report = result.item.source.name, result.report
    files = " and ".join(console.shown_path(path) for path in result.item.targets.values())
    if result.skipped:
        console.say(f"{name} -> {files}  (done before)")
        return
    why_elsewhere = report["device_reason"] if asked is not Device.AUTO else ""
    suspicions = [suspicion["sentence"] for suspicion in report.get("suspicions", [])]
    more = len(suspicions) - SUSPICIONS_SHOWN
    notes = [why_elsewhere, *result.messages, *suspicions[:SUSPICIONS_SHOWN]]
    notes.append(f"and {more} more such places; --json names them all." if more > 0 else "")
    for message in filter(None, notes):
        console.note(f"{name}: {_with_options(message)}")
    said = [f"{len(report['frames'])} frames"] if "frames" in report else []
    if "new_grid" in report:
        size = " x ".join(str(length) for length in report["new_grid"]["size_voxels"])
        spacing = " x ".join(f"{step:.4g}" for step in report["new_grid"]["spacing_mm"])
        said.append(f"now {size} voxels of {spacing} mm")
    given = report.get("sigma_source") == "given"
    before, after = f"{report['sigma_before']:.3g}", f"{report['sigma_after']:.3g}"
    said.append(f"noise set to {before}, measured after: {after}" if given else f"noise {before} -> {after}")
    said += [f"{report['seconds']:.1f} s", report["device"]]
    console.say(f"{name} -> {files}  ({', '.join(said)})")


def _with_options(sentence: str) -> str:
    from medgan.worklist import OPTIONS

    return console.with_options(sentence, EnhanceSettings, OPTIONS)


@contextlib.contextmanager
def _ended_in_words(results: list[Result | None]) -> Iterator[None]:
    """An interruption, or a cluster that can not be used, ends the command with a sentence."""
    from medgan.cluster import ClusterError

    try:
        yield
    except ClusterError as error:
        raise console.failed(str(error), console.FAILED) from error
    except KeyboardInterrupt:
        done = sum(result is not None and not result.error for result in results)
        sentence = "Interrupted; nothing was written for the file at hand."
        if len(results) > 1:
            sentence = f"Interrupted; {done} of {len(results)} files are done, nothing was written for the others."
        raise console.failed(sentence, console.INTERRUPTED) from None


@contextlib.contextmanager
def _reported(path: Path | None, items: list[Item], results: list[Result | None]) -> Iterator[Callable[[], None]]:
    """A function that writes the report now and then; at the end, be it an interruption, it is written for good."""
    from medgan import batch_report

    saved_at = time.monotonic()

    def save() -> None:
        nonlocal saved_at
        if path is not None and time.monotonic() - saved_at > REPORT_EVERY_S:
            with contextlib.suppress(OSError):  # the last time will tell
                batch_report.write(path, batch_report.rows(items, results))
            saved_at = time.monotonic()

    try:
        yield save
    finally:
        if path is not None:
            try:
                batch_report.write(path, batch_report.rows(items, results))
            except OSError as error:
                console.complain(f"Report '{path}' can not be written: {error.strerror}.")
