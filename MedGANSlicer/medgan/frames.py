"""A 4D file as frames: volumes on one grid, one after the other in time (or in whatever the fourth axis counts)."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from medgan import itk_names, nifti
from medgan.quiet import quiet
from medgan.reading import READERS, as_volume, check_grid, from_image, is_list, load_image
from medgan.volume import Volume, VolumeError, check_name, file_format, spacing_of

LIST, AXIS = "list", "axis"
"""How a file holds its frames: as the values at each voxel (sequence files of 3D Slicer) or as a fourth axis."""

INDEX_VALUES = "axis 0 index values"
"""Where a sequence file says what each frame is: its time, or any other text."""


@dataclass(eq=False)
class Frames(Mapping[str, Volume]):
    """``array[t, k, j, i]`` in the type of its file, one ``ijk_to_ras``, and the place of the frames in time.

    As a mapping it gives "frame 0", "frame 1" ... by name, each made on demand. ``step`` and ``start`` are in the
    file's unit, which for NIfTI is seconds. ``first`` is the number of the first frame in its file. ``extra``
    holds what a sequence file says of its index.
    """

    array: np.ndarray
    ijk_to_ras: np.ndarray
    step: float = 1.0
    start: float = 0.0
    layout: str = AXIS
    first: int = 0
    meta: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.array)

    def __iter__(self) -> Iterator[str]:
        return (f"frame {self.first + index}" for index in range(len(self)))

    def __getitem__(self, name: str) -> Volume:
        index = int(name.removeprefix("frame ")) - self.first
        if not 0 <= index < len(self):
            raise KeyError(name)
        called = f"frame {self.first + index} of '{self.meta.get('source', '')}'"
        return as_volume(self.array[index], self.ijk_to_ras, dict(self.meta), called)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of slices, rows and columns (k, j, i) of every frame."""
        return self.array.shape[1:]  # type: ignore[return-value]

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        return spacing_of(self.ijk_to_ras)

    def stored(self) -> np.ndarray:
        """The voxels in the type of their file."""
        return self.array

    def like(self, volumes: list[np.ndarray], ijk_to_ras: np.ndarray) -> Frames:
        """Other voxels, perhaps on another grid, at the same times; one stored array for each frame."""
        assert len(volumes) == len(self)
        return dataclasses.replace(self, array=np.stack(volumes), ijk_to_ras=ijk_to_ras)

    def part(self, chosen: slice) -> Frames:
        """The frames of a slice without a step. Raises :class:`VolumeError` when there are none."""
        first, stop, _ = chosen.indices(len(self))
        if stop <= first:
            source = self.meta.get("source", "")
            raise VolumeError(f"'{source}' has the frames 0 to {len(self) - 1}, none of which were chosen.")
        return dataclasses.replace(
            self,
            array=self.array[first:stop],
            first=self.first + first,
            start=self.start + first * self.step,
            extra={key: _part_of(key, value, first, stop) for key, value in self.extra.items()},
        )


def has_frames(path: Path) -> bool:
    """Whether the file holds more than one frame; no for every file that can not be read."""
    ending = file_format(path)
    if ending not in READERS or not os.path.isfile(path):  # Path.is_file raises in a folder that can not be entered
        return False
    check_name(path)
    reader = sitk.ImageFileReader()
    reader.SetImageIO(READERS[ending][1])
    try:
        with itk_names.readable(path) as safe, quiet():
            reader.SetFileName(str(safe))
            reader.ReadImageInformation()
    except (RuntimeError, OSError, VolumeError):
        return False
    return is_list(reader) or _is_4d(reader)


def read_frames(path: Path) -> Frames:
    """The frames of a 4D NIfTI or MetaImage, or of a 4D NRRD or sequence file. Raises :class:`VolumeError`."""
    image, not_finite = load_image(path, _check)
    meta = {"source": path.name, "format": READERS[file_format(path)][0]}
    if image.GetNumberOfComponentsPerPixel() > 1:
        array = np.moveaxis(sitk.GetArrayViewFromImage(image), -1, 0).copy()
        grid = sitk.VectorIndexSelectionCast(image, 0)
        extra = {key: image.GetMetaData(key) for key in image.GetMetaDataKeys() if key.startswith("axis ")}
        step, start = _times(extra.get(INDEX_VALUES, "").split())
        return Frames(array, from_image(grid)[1], step, start, layout=LIST, meta=meta, extra=extra)
    while image.GetDimension() > 4:
        image = image[..., 0]
    array, matrix = sitk.GetArrayFromImage(image), from_image(image[:, :, :, 0])[1]
    if meta["format"] == "NIfTI":
        nifti.check_geometry(path, matrix)
    if not_finite.size:
        array.reshape(-1)[not_finite] = np.nan  # infinity too: after ITK only its place is left
    return Frames(array, matrix, image.GetSpacing()[3], image.GetOrigin()[3], meta=meta)


def as_image(frames: Frames, geometry: sitk.Image, ending: str) -> sitk.Image:
    """A SimpleITK image of all frames; ``geometry`` is one on their grid, in LPS."""
    if writes_list(frames, ending):
        image = sitk.GetImageFromArray(np.moveaxis(frames.stored(), 0, -1), isVector=True)
        image.CopyInformation(geometry)
        for key, value in frames.extra.items():
            image.SetMetaData(key, value)
        return image
    image = sitk.GetImageFromArray(frames.stored(), isVector=False)
    image.SetSpacing((*geometry.GetSpacing(), frames.step))
    image.SetOrigin((*geometry.GetOrigin(), frames.start))
    direction = np.eye(4)
    direction[:3, :3] = np.reshape(geometry.GetDirection(), (3, 3))
    image.SetDirection(direction.ravel().tolist())
    return image


def writes_list(frames: Frames, ending: str) -> bool:
    """Whether the frames go into the values at each voxel, which only NRRD can say."""
    return frames.layout == LIST and READERS.get(ending, ("",))[0] == "NRRD"


def name_list(path: Path) -> None:
    """Say in the NRRD at ``path`` that the values at a voxel are a list of volumes; ITK calls them a vector."""
    content = path.read_bytes()
    path.write_bytes(content.replace(b"\nkinds: vector ", b"\nkinds: list ", 1))


def _check(name: str, reader: sitk.ImageFileReader) -> None:
    if any(length > 1 for length in reader.GetSize()[4:]):
        count = int(np.prod(reader.GetSize()[3:]))
        raise VolumeError(f"'{name}' has {reader.GetDimension()} axes ({count} volumes); give a 4D file.")
    check_grid(name, reader)
    if reader.GetNumberOfComponents() > 1 and (not is_list(reader) or _is_4d(reader)):
        raise VolumeError(
            f"'{name}' has {reader.GetNumberOfComponents()} values a voxel (colour or vectors); give frames with one."
        )


def _is_4d(reader: sitk.ImageFileReader) -> bool:
    return any(length > 1 for length in reader.GetSize()[3:])


def _times(index: list[str]) -> tuple[float, float]:
    """Step and start of the values of a sequence's index; of the frames' numbers when they are no even times."""
    try:
        values = np.array([float(value) for value in index])
    except ValueError:
        return 1.0, 0.0
    steps = np.diff(values)
    if len(steps) == 0 or not np.isfinite(steps).all() or steps.min() <= 0 or np.ptp(steps) > 1e-3 * steps.max():
        return 1.0, 0.0
    return float(steps.mean()), float(values[0])


def _part_of(key: str, value: str, first: int, stop: int) -> str:
    """The index values of some frames; any other entry as it is."""
    return " ".join(value.split()[first:stop]) if key == INDEX_VALUES else value
