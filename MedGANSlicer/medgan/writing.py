"""A volume or label map as a file that appears complete under its name, or not at all."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from medgan import itk_names, nifti
from medgan.frames import Frames, as_image, name_list, writes_list
from medgan.quiet import quiet
from medgan.reading import READERS
from medgan.staging import complete
from medgan.volume import FORMATS, LPS_TO_RAS, LabelMap, Volume, VolumeError, check_name, file_format

LONGEST_NAME = 240
"""In bytes. File systems take 255; what lies beside a volume, such as its record or table, is called after it."""

MARKS = {"NIfTI": "ITK_FileNotes", "NRRD": "MedGAN.Synthetic", "MetaImage": "MedGAN.Synthetic"}
"""Where a header says that no scanner made the voxels: ITK's name of NIfTI's "descrip", and the attribute that nodes
with made volumes have, which 3D Slicer takes from the header of a NRRD."""

LONGEST_MARK = 79
"""Bytes of NIfTI's "descrip", less the one that ends it."""


def marked(volume: Volume, model: str, seed: int | None = None) -> Volume:
    """The same volume, whose file will say in its header that it is synthetic."""
    parts = ("synthetic, MedGANSlicer", "" if seed is None else f"seed {seed}", f"model {model}")
    text = " ".join(", ".join(filter(None, parts)).split())
    return dataclasses.replace(
        volume, meta={**volume.meta, "synthetic": text.encode("ascii", "replace").decode()[:LONGEST_MARK]}
    )


def write(volume: Volume | LabelMap | Frames, path: Path) -> list[Path]:
    """Write ``volume`` in the format that the ending of ``path`` names; the files that it became.

    Raises :class:`VolumeError`, and then leaves nothing there.
    """
    check_target(path)
    ending = file_format(path)
    if isinstance(volume, Frames):
        check_frames_target(path)
    check_shear(volume.ijk_to_ras, path)
    return complete({path: lambda part: _write_there(volume, part, ending)})


def check_target(path: Path, make_folder: bool = False) -> None:
    """Raise :class:`VolumeError` when nothing can be written at ``path``; leaves nothing there.

    ``make_folder``: its folder is going to be made.
    """
    check_name(path)
    if (more := len(os.fsencode(path.name)) - LONGEST_NAME) > 0:
        raise VolumeError(f"'{path.name[:40]}...' is too long a name; make it {more} bytes shorter.")
    if not file_format(path):
        raise VolumeError(f"'{path.name}' does not say its format; end the name with one of {', '.join(FORMATS)}.")
    if path.name.lower() == file_format(path):
        raise VolumeError(f"'{path}' is only an ending; put a name before it.")
    if make_folder and not path.parent.is_dir():
        there = next(folder for folder in path.parent.parents if folder.exists())
        if path.parent.exists() or not there.is_dir() or not os.access(there, os.W_OK):
            raise VolumeError(f"Folder '{path.parent}' can not be made in '{there}'; choose another.")
        return
    if not path.parent.is_dir():
        raise VolumeError(f"There is no folder '{path.parent}' to write '{path.name}' into; make it first.")
    if path.is_dir():
        raise VolumeError(f"'{path}' is a folder; give the name of a file.")
    if not os.access(path.parent, os.W_OK):
        raise VolumeError(f"Folder '{path.parent}' can not be written to; choose another.")


def check_frames_target(path: Path) -> None:
    """Raise :class:`VolumeError` when the format of ``path`` holds no frames."""
    if file_format(path) not in READERS:
        raise VolumeError(
            f"NumPy files hold 3D volumes; write the frames of a 4D file as .nii.gz or .nrrd, not as '{path.name}'."
        )


def check_shear(ijk_to_ras: np.ndarray, path: Path) -> None:
    """Raise :class:`VolumeError` when the axes are sheared and the format of ``path`` can not hold that."""
    if file_format(path) in (".nii", ".nii.gz") and not at_right_angles(ijk_to_ras):
        raise VolumeError(f"The axes are sheared, which NIfTI can not hold; write '{path.name}' as .nrrd or .mha.")


def at_right_angles(ijk_to_ras: np.ndarray) -> bool:
    """Whether the axes are not sheared, as they are by a tilted gantry."""
    axes = ijk_to_ras[:3, :3] / np.linalg.norm(ijk_to_ras[:3, :3], axis=0)
    return bool(np.abs(axes.T @ axes - np.eye(3)).max() < 1e-3)


def to_image(volume: Volume | LabelMap | Frames) -> sitk.Image:
    """A SimpleITK image in LPS with the voxel type of the source; of frames, one on the grid of the first."""
    image = sitk.GetImageFromArray(volume.stored()[0] if isinstance(volume, Frames) else volume.stored())
    matrix = LPS_TO_RAS @ volume.ijk_to_ras
    spacing = np.array(volume.spacing_mm)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(matrix[:3, 3].tolist())
    image.SetDirection((matrix[:3, :3] / spacing).ravel().tolist())
    return image


def _write_there(volume: Volume | LabelMap | Frames, path: Path, ending: str) -> None:
    if ending == ".npy":
        np.save(path, volume.stored(), allow_pickle=False)
    elif ending == ".npz":
        labels = volume.labels if isinstance(volume, LabelMap) else {}
        held: dict[str, Any] = {"array": volume.stored(), "ijk_to_ras": volume.ijk_to_ras}
        names: dict[str, Any] = {
            "label_values": np.array(list(labels), dtype=np.int64),
            "label_names": np.array([label.name for label in labels.values()], dtype=np.str_),
            "label_colors": np.array([label.color for label in labels.values()], dtype=np.float64).reshape(-1, 3),
            "label_terminologies": np.array([label.terminology for label in labels.values()], dtype=np.str_),
        }
        np.savez_compressed(path, **held, **(names if labels else {}))
    else:
        writer = sitk.ImageFileWriter()
        writer.SetImageIO(READERS[ending][1])
        writer.SetUseCompression(ending != ".nii")
        image = to_image(volume)
        if isinstance(volume, Volume) and "synthetic" in volume.meta:
            image.SetMetaData(MARKS[READERS[ending][0]], volume.meta["synthetic"])
        with itk_names.writable(path) as safe, quiet():
            writer.SetFileName(str(safe))
            writer.Execute(as_image(volume, image, ending) if isinstance(volume, Frames) else image)
        if isinstance(volume, Frames) and writes_list(volume, ending):
            name_list(path)
        if READERS[ending][0] == "NIfTI":
            _check_written(path)


def _check_written(path: Path) -> None:
    """Raise ``RuntimeError`` for a NIfTI that is not whole: ITK does not tell of a full disk."""
    try:
        nifti.check(path)
    except VolumeError as error:
        raise RuntimeError(str(error)) from error
