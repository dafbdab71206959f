"""The ``medgan`` command and what is common to its parts. Exit codes: 0 done, 1 something failed, 2 wrong usage."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

import medgan
from medgan import (
    anomaly_command,
    console,
    enhance_command,
    evaluate_command,
    labelmap_command,
    models_command,
    recognise_command,
    segment_command,
    synthesize_command,
    train_command,
)

app = typer.Typer(
    help="Generative enhancement of medical volumes. Results are for research, not for diagnosis.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


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


app.command()(enhance_command.enhance)
app.command()(train_command.train)
app.add_typer(models_command.app, name="models")
app.command()(segment_command.segment)
app.command()(synthesize_command.synthesize)
app.command()(anomaly_command.anomaly)
app.command()(recognise_command.recognise)
app.command()(evaluate_command.evaluate)
app.command()(labelmap_command.labelmap)


@app.command()
def info(
    file: Annotated[Path, typer.Argument(metavar="FILE", readable=False, help="A volume file or DICOM folder.")],
    json: console.Json = False,
) -> None:
    """Say what is in a volume: geometry, voxels, noise, and what it looks like."""
    from medgan.describe import describe
    from medgan.frames import has_frames, read_frames
    from medgan.volume import VolumeError, read_volume

    try:
        if has_frames(file):
            frames = read_frames(file)
            said = describe(frames[next(iter(frames))])
            said.update(frames=len(frames), frame_step=frames.step, frame_start=frames.start)
            said["messages"].append("The figures are those of the first frame.")
        else:
            said = describe(read_volume(file))
    except VolumeError as error:
        raise console.failed(str(error), console.FAILED) from error
    if json:
        console.print_json({"file": str(file), **said})
        return
    noise = said["noise_sigma"]
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
        ("Noise", "too few voxels to tell" if noise is None else f"standard deviation about {noise:.3g}"),
    ]
    if "frames" in said:
        unit = " s" if said["format"] == "NIfTI" else ""
        rows.insert(3, ("Frames", f"{said['frames']}, {said['frame_step']:g}{unit} apart"))
    if said["not_finite"]:
        rows.append(("Not finite", f"{said['not_finite']} voxels are NaN or infinity"))
    console.table(rows + [("Note", message) for message in said["messages"]])


@app.command()
def demo(
    context: typer.Context,
    out: Annotated[Path, typer.Option("--out", help="Folder for what the demo writes.")] = Path("medgan-demo"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what an earlier demo wrote.")] = False,
    json: console.Json = False,
) -> None:
    """Load a sample scan into a scene, denoise it, and write the scene and a picture."""
    with console.interruptible(), console.bar() as bar:
        task = bar.add_task("Starting", total=1.0, name="demo")

        def progress(fraction: float, message: str = "") -> None:
            bar.update(task, completed=fraction, description=message or None)

        try:
            said = importlib.import_module("MedGANSlicerLib.Demo").run(out, progress, overwrite=overwrite)
        except ImportError as error:
            missing = (error.name or "MedGANSlicerLib").split(".")[0]
            raise console.failed(
                f"The demo needs the Python package '{missing}', which is not installed; install it with: "
                'pip install "medganslicer[demo]".',
                console.FAILED,
            ) from error
        except (ValueError, RuntimeError, OSError) as error:
            if context.obj:
                raise
            raise console.failed(str(error), console.FAILED) from error
    if json:
        console.print_json(said)
    else:
        console.table([(str(name).replace("_", " "), _shown(value)) for name, value in _flat(said)])


def _write_surfaces(segmentation: Any, folder: Path) -> list[Path]:
    """The closed surfaces of a segmentation, made by Slicer's own converter in a scene without a window."""
    try:
        return importlib.import_module("MedGANSlicerLib.Surfaces").writeSurfaces(segmentation, folder)
    except ImportError as error:
        missing = (error.name or "MedGANSlicerLib").split(".")[0]
        raise console.failed(
            f"Surfaces need the Python package '{missing}', which is not installed; install it with: "
            'pip install "medganslicer[demo]".',
            console.FAILED,
        ) from error


labelmap_command.surfaces_writer = _write_surfaces


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


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def main() -> None:
    """The entry point: no traceback reaches a person unless ``--debug`` is given, at any place."""
    # Python has no stream for what was closed (`>&-`); its number is taken too, so that no file of ours gets it.
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # a file of Windows has not all letters
    arguments = sys.argv[1:]
    debug = "--debug" in arguments
    arguments = ["--debug"] * debug + [argument for argument in arguments if argument != "--debug"]
    earlier = _on_sigterm(_interrupt)  # `kill` cleans up as Ctrl-C does
    try:
        code = app(arguments, standalone_mode=True) or 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else bool(end.code)
        if isinstance(getattr(end.__context__, "__cause__", None), KeyboardInterrupt):  # no command said a word
            console.complain("Interrupted.")
    except KeyboardInterrupt:
        console.complain("Interrupted.")
        code = console.INTERRUPTED
    except BrokenPipeError:
        code = console.FAILED
    except console.OutputError as error:
        console.complain(str(error))
        code = console.FAILED
    except Exception as error:
        if debug:
            raise
        console.complain(f"Unexpected {type(error).__name__}: {error}; run again with --debug to see where.")
        code = console.FAILED
    finally:
        _on_sigterm(earlier)
    try:
        with console.printing():
            sys.stdout.flush()
    except console.OutputError as error:
        console.complain(str(error))
        code = code or console.FAILED
        _silence_broken_pipe()
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
