"""The demo: a sample scan into a real scene, denoised in a child process, saved as a scene and as a picture."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from medgan.job import JobStatus
from medgan.progress import Cancelled, Progress, part, silent
from medgan.settings import Device, EnhanceSettings
from MedGANSlicerLib import TaskLogic
from MedGANSlicerLib.HeadlessScene import HeadlessScene
from MedGANSlicerLib.ResultNodes import ResultNodes

SCENE_NAME, PICTURE_NAME = "medgan-demo.mrb", "medgan-demo.png"
_FIGURES = ("model", "sigma_before", "sigma_after", "noise_unit", "mean_absolute_change", "largest_change")
_FIGURES += ("seconds", "device", "device_reason", "seed", "messages")
_ROWS = (("Axial", "Axial", 1.0), ("Axial, enlarged", "Axial", 2.5), ("Sagittal", "Sagittal", 1.0))
_ROWS += (("Coronal", "Coronal", 1.0),)
_PICTURE_SIZE = 460
_POLL_S = 0.05


def run(
    folder: Path,
    progress: Progress = silent,
    *,
    strength: float = 1.0,
    character: float | None = None,
    device: str | Device = Device.AUTO,
    seed: int = 0,
    model: str | None = None,
    sample: Path | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Denoise the shipped sample (or the volume file ``sample``); write a scene and a picture into ``folder``.

    Returns ``{"figures": {...}, "paths": {"scene": ..., "picture": ...}}``, plain JSON values: the noise before
    and after in the unit of the input, the changes, seconds, model, version, device and messages.
    Options that are None keep the default of ``EnhanceSettings``. Raises ``Cancelled`` when progress says so,
    ``ValueError`` for impossible options and for files that exist unless ``overwrite`` is said, ``OSError`` for files
    and ``RuntimeError`` when the job fails.
    """
    chosen = {"strength": strength, "character": character, "device": Device(device), "seed": seed, "model": model}
    settings = EnhanceSettings(**{name: value for name, value in chosen.items() if value is not None})
    folder = Path(folder)
    paths = {"scene": folder / SCENE_NAME, "picture": folder / PICTURE_NAME}
    for path in paths.values():
        if path.exists() and not overwrite:
            raise ValueError(f"'{path}' exists already; add --overwrite to replace it.")
    folder.mkdir(parents=True, exist_ok=True)
    with HeadlessScene() as headless:
        progress(0.0, "Loading the sample")
        source = headless.loadVolume(sample or _shippedSample())
        _fixWindow(source)
        nodes, report = _denoise(source, settings, part(progress, 0.02, 0.92))
        result, difference = nodes.volume, nodes.difference
        progress(0.93, "Saving the scene")
        headless.show(source, result)
        headless.saveScene(paths["scene"])
        progress(0.96, "Drawing the picture")
        _draw(headless, source, result, difference, report, paths["picture"])
        figures = {
            "volume": source.GetName(),
            "size": list(source.GetImageData().GetDimensions()),
            "spacing_mm": [round(step, 4) for step in source.GetSpacing()],
            "version": report["model_version"],
            **{name: report[name] for name in _FIGURES},
        }
    progress(1.0, "Done")
    return {"figures": figures, "paths": {name: str(path) for name, path in paths.items()}}


def _shippedSample() -> Path:
    from medgan.samples import sample_path

    return Path(sample_path())


def _denoise(source, settings: EnhanceSettings, progress: Progress) -> tuple[ResultNodes, dict[str, Any]]:
    """The nodes of the result, and the report; made in a child process."""
    run = TaskLogic.start(source, settings)
    try:
        while (state := run.poll()).status is JobStatus.RUNNING:
            progress(state.fraction, state.message)
            time.sleep(_POLL_S)
        if state.status is JobStatus.CANCELLED:
            raise Cancelled
        if state.status is JobStatus.FAILED:
            raise RuntimeError(state.error)
        return run.publish(), run.report
    finally:
        run.close()


def _fixWindow(node) -> None:
    """Show the volume from its darkest to nearly its brightest tissue; the result is then shown in the same way."""
    array = TaskLogic.volumeFromNode(node).array
    low, high = np.percentile(array[np.isfinite(array)], (0.5, 99.5))
    node.GetDisplayNode().AutoWindowLevelOff()
    node.GetDisplayNode().SetWindowLevelMinMax(float(low), float(high if high > low else low + 1))


def _draw(headless: HeadlessScene, source, result, difference, report: dict[str, Any], path: Path) -> None:
    """Before, after and difference side by side, as Slicer's own slice views show them, with a colour bar."""
    # A figure without pyplot is drawn by Agg; the desktop's default would open a window, which locks up Slicer.
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize
    from matplotlib.figure import Figure

    nodes = (source, result, difference)
    rows = [(title, _pictures(headless, nodes, plane, zoom)) for title, plane, zoom in _ROWS]
    titles = (
        f"Before: noise {report['sigma_before']:.3g}",
        f"After: noise {report['sigma_after']:.3g}",
        "Difference: after - before",
    )
    left, right, top, gap, side = 50, 140, 100, 8, _PICTURE_SIZE
    width = left + 3 * side + 2 * gap + right
    height = top + sum(pictures[0].shape[0] + gap for _, pictures in rows)
    figure = Figure(figsize=(width / 100, height / 100), dpi=100, facecolor="black")

    def axes_at(x: float, y: float, wide: float, high: float):
        """Axes at pixels from the upper left corner, so that every pixel of a picture is one of the figure."""
        return figure.add_axes((x / width, 1 - (y + high) / height, wide / width, high / height))

    y = top
    for title, pictures in rows:
        high = pictures[0].shape[0]
        for column, picture in enumerate(pictures):
            axes = axes_at(left + column * (side + gap), y, side, high)
            axes.imshow(picture, interpolation="nearest", aspect="auto")
            axes.set_xticks([])
            axes.set_yticks([])
            if y == top:
                axes.set_title(titles[column], color="white", fontsize=18, pad=8)
            if column == 0:
                axes.set_ylabel(title, color="white", fontsize=14)
        y += high + gap
    display = difference.GetDisplayNode()
    norm = Normalize(display.GetWindowLevelMin(), display.GetWindowLevelMax())
    bar_axes = axes_at(width - right + 14, top, 24, y - gap - top)
    bar = figure.colorbar(ScalarMappable(norm, ListedColormap(_colorsOf(display))), cax=bar_axes)
    bar.ax.tick_params(colors="white", labelsize=13)
    bar.set_label(f"after - before, {report['noise_unit']}", color="white", fontsize=14)
    what = f"{source.GetName()}: {report['model']} {report['model_version']}"
    how = f"strength {report['settings']['strength']:g}, {report['seconds']:.0f} s on {report['device']}"
    notice = "made by a network, for research only"
    figure.text(0.5, 1 - 28 / height, f"{what}, {how}; {notice}", color="white", fontsize=15, ha="center", va="center")
    figure.savefig(path, facecolor="black")


def _pictures(headless: HeadlessScene, nodes: tuple, plane: str, zoom: float) -> list[np.ndarray]:
    """The middle slice of each node, enlarged, without the empty rows above and below the volume."""
    size = round(_PICTURE_SIZE * zoom)
    first = (size - _PICTURE_SIZE) // 2
    crop = slice(first, first + _PICTURE_SIZE)
    pictures = [headless.sliceImage(node, plane, size)[crop, crop] for node in nodes]
    filled = np.flatnonzero(pictures[-1].any(axis=(1, 2)))  # a difference is white where nothing was changed
    return [picture[filled[0] : filled[-1] + 1] for picture in pictures] if filled.size else pictures


def _colorsOf(display) -> np.ndarray:
    """Colour table of a display node, one row of red, green, blue, alpha (0..1) a step."""
    table = display.GetColorNode().GetLookupTable()
    return np.array([table.GetTableValue(row) for row in range(table.GetNumberOfTableValues())])
