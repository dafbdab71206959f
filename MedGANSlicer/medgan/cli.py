"""The ``medgan`` command: enhance, models, info, demo. Exit codes: 0 done, 1 something failed, 2 wrong usage."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

import medgan
from medgan import console
from medgan.settings import Device, EnhanceSettings

FAILED, USAGE, INTERRUPTED = 1, 2, 130

app = typer.Typer(
    help="Generative enhancement of medical volumes. Results are for research, not for diagnosis.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]


def _version(asked: bool) -> None:
    if asked:
        console.say(f"medgan {medgan.__version__}")
        raise typer.Exit


@app.callback()
def common(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    context.obj = debug


@app.command()
def enhance(
    context: typer.Context,
    paths: Annotated[
        list[Path], typer.Argument(metavar="IN... [OUT]", help="Files or folders, or one file and its result.")
    ],
    out: Annotated[Path | None, typer.Option("--out", help="Folder for the results of several files.")] = None,
    model: Annotated[str, typer.Option(help="Name of a model ('medgan models') or a bundle folder.")] = "denoise",
    strength: Annotated[float, typer.Option(help="0 returns the input, 1 is the full result.")] = 1.0,
    character: Annotated[float, typer.Option(help="0: most faithful, 1: most natural texture.")] = 0.2,
    noise: Annotated[float, typer.Option(help="Standard deviation of the noise; 0 estimates it.")] = 0.0,
    device: Annotated[Device, typer.Option(help="Where the network runs.")] = Device.AUTO,
    difference: Annotated[
        Path | None, typer.Option(help="Also write result minus input: a file, with --out a folder.")
    ] = None,
    memory: Annotated[float, typer.Option(help="Most memory to use in GB; 0 reads what is free.")] = 0.0,
    seed: Annotated[int, typer.Option(help="The same seed gives the same voxels.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results that exist.")] = False,
    json: Json = False,
) -> None:
    """Enhance one volume (IN OUT), or several files and folders (IN... --out FOLDER)."""
    from medgan import batch, models

    try:
        items = batch.plan(paths, out, difference)
        named = str(Path(model).resolve()) if os.sep in model or "/" in model else model
        settings = EnhanceSettings(named, strength, character, noise, device, memory, seed)
    except ValueError as error:
        raise _failed(_with_options(str(error)), USAGE) from error
    try:
        models.verify(models.find(settings.model))
    except models.ModelError as error:
        raise _failed(str(error), FAILED) from error
    with _interruptible():
        results = _enhance_all(items, settings, overwrite, json, context.obj)
    failed = [result for result in results if result.error]
    if len(items) > 1 and failed:
        console.complain(f"{len(failed)} of {len(items)} files failed:")
    for result in failed:
        console.complain(f"  {result.item.source}: {result.error}" if len(items) > 1 else result.error)
        if context.obj and result.details:
            console.note(result.details)
    if json:
        document = {"version": medgan.__version__, "failed": len(failed)}
        console.print_json({**document, "files": [result.to_dict() for result in results]})
    if failed:
        raise typer.Exit(FAILED)


def _enhance_all(items: list[Any], settings: EnhanceSettings, overwrite: bool, quiet: bool, debug: bool) -> list[Any]:
    """A result for each item, in order; one that fails does not stop the rest."""
    from medgan.batch import FileFailed, Result, enhance_file

    results = []
    for number, item in enumerate(items, 1):
        count = f"[{number}/{len(items)}] " if len(items) > 1 else ""
        with console.bar() as bar:
            try:
                result = enhance_file(item, settings, overwrite, _shown_on(bar, count + item.source.name))
            except FileFailed as error:
                result = Result(item, error=str(error), details=error.details)
            except MemoryError:
                result = Result(item, error=f"'{item.source.name}' does not fit into memory.")
            except Exception as error:
                if debug:
                    raise
                result = Result(
                    item, error=f"Unexpected {type(error).__name__}: {error}", details=traceback.format_exc()
                )
        results.append(result)
        if not quiet and not result.error:
            why_elsewhere = result.report["device_reason"] if settings.device is not Device.AUTO else ""
            for message in filter(None, [why_elsewhere, *result.messages]):
                console.note(f"{item.source.name}: {message}")
            console.say(_summary(result))
    return results


def _shown_on(bar: Any, name: str) -> Callable[[Any], None]:
    """A watcher of a job's states that draws them on a progress bar."""
    task = bar.add_task("Reading", total=1.0, name=name)

    def watch(state: Any) -> None:
        bar.update(task, completed=state.fraction, description=state.message)

    return watch


def _summary(result: Any) -> str:
    report, item = result.report, result.item
    files = console.shown_path(item.target)
    if item.difference is not None:
        files += f" and {console.shown_path(item.difference)}"
    return (
        f"{item.source.name} -> {files}  (noise {report['sigma_before']:.3g} -> {report['sigma_after']:.3g}, "
        f"{report['seconds']:.1f} s, {report['device']})"
    )


@app.command("models")
def list_models(json: Json = False) -> None:
    """List the models, and the model folders that can not be used."""
    from dataclasses import asdict

    from medgan import models

    cards, broken = list(models.catalogue().values()), models.problems()
    if json:
        unusable = [{"folder": str(folder), "problem": problem} for folder, problem in broken.items()]
        console.print_json({"models": [asdict(card) for card in cards], "unusable": unusable})
        return
    if cards:
        console.models_table(cards)
    else:
        console.say("There are no models.")
    for problem in broken.values():
        console.note(f"Not usable: {problem}")


@app.command()
def info(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A volume file or DICOM folder.")], json: Json = False
) -> None:
    """Say what is in a volume: geometry, voxels, noise, and what it looks like."""
    from medgan.describe import describe
    from medgan.volume import VolumeError, read_volume

    try:
        said = describe(read_volume(file))
    except VolumeError as error:
        raise _failed(str(error), FAILED) from error
    if json:
        console.print_json({"file": str(file), **said})
        return
    turned = f", up to {said['oblique_degrees']:g} degrees oblique" if said["oblique_degrees"] > 0.1 else ""
    rows = [
        ("File", f"{file} ({said['format']})"),
        ("Looks like", said["looks_like"]),
        ("Size", " x ".join(str(n) for n in said["size_voxels"]) + " voxels"),
        ("Spacing", " x ".join(f"{step:g}" for step in said["spacing_mm"]) + " mm"),
        ("Extent", " x ".join(f"{length:g}" for length in said["extent_mm"]) + " mm"),
        ("Axes", f"{said['axes']} ({said['handedness']}-handed{turned})"),
        ("Voxel type", said["voxel_type"]),
        ("Intensity", f"{said['minimum']:g} to {said['maximum']:g}, mean {said['mean']:.4g}"),
        ("Noise", f"standard deviation about {said['noise_sigma']:.3g}"),
    ]
    if said["not_finite"]:
        rows.append(("Not finite", f"{said['not_finite']} voxels are NaN or infinity"))
    console.table(rows + [("Note", message) for message in said["messages"]])


@app.command()
def demo(
    context: typer.Context,
    out: Annotated[Path, typer.Option("--out", help="Folder for what the demo writes.")] = Path("medgan-demo"),
    json: Json = False,
) -> None:
    """Load a sample scan into a scene, denoise it, and write the scene and a picture."""
    with _interruptible(), console.bar() as bar:
        task = bar.add_task("Starting", total=1.0, name="demo")

        def progress(fraction: float, message: str = "") -> None:
            bar.update(task, completed=fraction, description=message or None)

        try:
            said = importlib.import_module("MedGANSlicerLib.Demo").run(out, progress)
        except ImportError as error:
            missing = (error.name or "MedGANSlicerLib").split(".")[0]
            raise _failed(
                f"The demo needs the Python package '{missing}', which is not installed; install it with: "
                'pip install "medganslicer[demo]".',
                FAILED,
            ) from error
        except (ValueError, RuntimeError, OSError) as error:
            if context.obj:
                raise
            raise _failed(str(error), FAILED) from error
    if json:
        console.print_json(said)
    else:
        console.table([(str(name).replace("_", " "), _shown(value)) for name, value in _flat(said)])


def _flat(said: dict[str, Any]) -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for name, value in said.items():
        rows += _flat(value) if isinstance(value, dict) else [(name, value)]
    return [(name, value) for name, value in rows if value not in ("", [], None)]


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Path):
        return console.shown_path(value)
    if isinstance(value, (list, tuple)):
        between = " x " if all(isinstance(part, (int, float)) for part in value) else " "
        return between.join(map(_shown, value))
    return str(value)


def _with_options(sentence: str) -> str:
    """The sentence with the settings it names called as they are on the command line."""
    for setting, option in (("noise_sigma", "noise"), ("memory_limit_gb", "memory")):
        sentence = sentence.replace(f"Setting '{setting}'", f"Setting '{option}'")
    return sentence


def _failed(sentence: str, code: int) -> typer.Exit:
    console.complain(sentence)
    return typer.Exit(code)


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C ends the command with a sentence and the code that shells expect; jobs clean up on the way."""
    try:
        yield
    except KeyboardInterrupt:
        raise _failed("Interrupted; nothing was written for the file at hand.", INTERRUPTED) from None


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def main() -> None:
    """The entry point: no traceback reaches a person unless ``--debug`` is given, at any place."""
    arguments = sys.argv[1:]
    debug = "--debug" in arguments
    arguments = ["--debug"] * debug + [argument for argument in arguments if argument != "--debug"]
    earlier = _on_sigterm(_interrupt)  # `kill` cleans up as Ctrl-C does
    try:
        code = app(arguments, standalone_mode=True) or 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else bool(end.code)
    except KeyboardInterrupt:
        code = INTERRUPTED
    except BrokenPipeError:
        code = FAILED
    except Exception as error:
        if debug:
            raise
        console.complain(f"Unexpected {type(error).__name__}: {error}; run again with --debug to see where.")
        code = FAILED
    finally:
        _on_sigterm(earlier)
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        _silence_broken_pipe()
    sys.exit(code)


def _on_sigterm(handler: Any) -> Any:
    """Set the handler and return the one before; does nothing where signals can not be set."""
    with contextlib.suppress(ValueError, OSError, TypeError):
        return signal.signal(signal.SIGTERM, handler)
    return None


def _silence_broken_pipe() -> None:
    """The interpreter flushes stdout once more at its end and would complain of a reader that has gone."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
