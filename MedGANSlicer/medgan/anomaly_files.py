"""Maps of anomalies as files: which file becomes what, each computed in a child process, and the tables of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medgan import plan
from medgan.batch import as_failure
from medgan.cells import csv_text
from medgan.job import JobState
from medgan.segmentation.files import source_name
from medgan.settings import AnomalySettings
from medgan.synthesis import files
from medgan.volume import LabelMap, Volume, file_format, read_volume
from medgan.writing import marked

REGION_COLUMNS = ("file", "number", "score", "largest", "volume_ml", "right_mm", "anterior_mm", "superior_mm",
                  "box_i_mm", "box_j_mm", "box_k_mm")  # fmt: skip
SCAN_COLUMNS = ("file", "status", "regions", "volume_ml", "largest", "mean", "share_above", "threshold", "unit",
                "model", "error")  # fmt: skip
SHOWN = ("mean", "largest", "threshold", "share_above", "regions", "usual_error_source", "brain_ml", "research")
"""What of the report stands beside a map, besides what stands beside every made file."""


@dataclass(frozen=True)
class Item:
    """One scan (its channels), its map, and its restored copy if that is wanted."""

    sources: tuple[Path, ...]
    target: Path
    reconstruction: Path | None = None
    makes_folder: bool = False

    @property
    def source(self) -> Path:
        return self.sources[0]

    @property
    def targets(self) -> dict[str, Path]:
        wanted = {"anomaly": self.target}
        return wanted | ({"reconstruction": self.reconstruction} if self.reconstruction else {})


@dataclass
class Result:
    """What became of one scan."""

    item: Item
    report: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    details: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        written = {} if self.error else {name: str(path) for name, path in self.item.targets.items()}
        return {
            "inputs": [str(path) for path in self.item.sources],
            "files": written,
            "status": "failed" if self.error else "done",
            "error": self.error or None,
            "report": self.report,
        }


def planned(paths: Sequence[Path], out: Path | None, reconstruction: Path | None) -> list[Item]:
    """Items of ``IN... OUT`` (the channels of one scan) or of ``IN... --out FOLDER``. Raises ``plan.UsageError``."""
    if out is None:
        if len(paths) < 2:
            raise plan.UsageError("Say where to write: 'medgan anomaly IN OUT' for one scan, or '--out FOLDER'.")
        for path in (paths[-1], *([reconstruction] if reconstruction else [])):
            if not file_format(path):
                raise plan.UsageError(f"'{path}' is not the name of a volume file; end it with .nii.gz or .nrrd.")
        return [Item(tuple(paths[:-1]), paths[-1], reconstruction)]
    plan.check_out(out)
    if reconstruction is not None and file_format(reconstruction):
        raise plan.UsageError("With --out, --reconstruction takes a folder too, because each file gets its own.")
    items, owners = [], dict[Path, Path]()
    for source in (file for path in paths for file in plan.volume_files(path, only_results=True)):
        stem, ending = source_name(source), file_format(source) or ".nii.gz"
        restored = None if reconstruction is None else reconstruction / f"{stem}_reconstruction{ending}"
        items.append(Item((source,), out / f"{stem}_anomaly{ending}", restored, makes_folder=True))
        other = owners.setdefault(items[-1].target, source)
        if other != source:
            raise plan.UsageError(
                f"{other} and {source} would both become '{items[-1].target}'; map them in separate runs."
            )
    return items


def attempt(item: Item, settings: AnomalySettings, overwrite: bool, watch: Callable[[JobState], None]) -> Result:
    """What becomes of one scan, be it a failure. An interruption goes through and leaves nothing behind."""
    try:
        return map_file(item, settings, overwrite, watch)
    except Exception as error:
        failed = as_failure(error, item.source.name)
        return Result(item, error=str(failed), details=failed.details)


def map_file(item: Item, settings: AnomalySettings, overwrite: bool, watch: Callable[[JobState], None]) -> Result:
    """Read, map in a child process, write all or nothing. Raises :class:`files.FileFailed` or ``VolumeError``."""
    wanted = item.targets
    files.check_targets(list(wanted.values()), item.sources, overwrite, item.makes_folder)
    inputs: dict[str, Volume | LabelMap] = {}
    notes: list[str] = []
    for number, path in enumerate(item.sources, 1):
        volume = read_volume(path)
        notes += volume.meta.pop("messages", [])
        inputs["volume" if number == 1 else f"volume {number}"] = volume
    outputs = files.computed("anomaly", inputs, settings, watch, list(wanted))
    report = outputs.report
    report["messages"] = notes + list(report.get("messages", ()))
    shown = {name: report[name] for name in SHOWN if name in report}
    said = {
        path: files.description(report, settings.to_dict(), item.sources, content=name, **shown)
        for name, path in wanted.items()
    }
    volumes = {path: outputs.volumes[name] for name, path in wanted.items()}
    if item.reconstruction is not None:
        made = volumes[item.reconstruction]
        assert isinstance(made, Volume)
        volumes[item.reconstruction] = marked(made, report["model"])
    files.write_marked(volumes, said, item.makes_folder)
    return Result(item, report)


def regions_text(results: Sequence[Result]) -> str:
    """CSV with one line per region."""
    rows = []
    for result in results:
        for region in result.report.get("regions", ()):
            rows.append([str(result.item.source), region["number"], region["score"], region["largest"],
                         region["volume_ml"], *region["centre_ras"], *region["box_ras"]["size"]])  # fmt: skip
    return csv_text(REGION_COLUMNS, rows)


def scans_text(results: Sequence[Result]) -> str:
    """CSV with one line per scan, also for those that failed."""
    rows = []
    for result in results:
        found = result.report
        regions = found.get("regions", [])
        row: Mapping[str, Any] = found | {
            "file": result.item.source,
            "status": "failed" if result.error else "done",
            "regions": "" if result.error else len(regions),
            "volume_ml": "" if result.error else round(sum(region["volume_ml"] for region in regions), 4),
            "error": result.error,
        }
        rows.append([_shown(row.get(name, "")) for name in SCAN_COLUMNS])
    return csv_text(SCAN_COLUMNS, rows)


def _shown(value: Any) -> Any:
    return float(f"{value:.6g}") if isinstance(value, float) else value
