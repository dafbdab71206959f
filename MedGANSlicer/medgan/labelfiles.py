"""Files of labels, whatever their format, as segments; and segments as files.

A label map file (NIfTI, NRRD, MetaImage, NumPy) holds numbers only. What they mean stands beside it in a table of the
same name with the ending ``.labels.csv``; it is written and found without being asked for. 3D Slicer reads it too,
but for what the messages name.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Set
from pathlib import Path

from medgan.labels import Converted, Overlap, label_maps, renamed, segmentation_of
from medgan.labeltable import LabelTable, read_table, unnamed, write_table
from medgan.labelvalues import Values, assigned, listed
from medgan.segments import Mapping, Segmentation, counted_in_steps, slabs
from medgan.staging import complete
from medgan.steps import finished
from medgan.targets import check_new, check_not_read
from medgan.volume import Label, LabelMap, VolumeError, file_format, read_label_map, stem_of, write_volume

DICOM_ENDING = ".dcm"


def is_segmentation(path: Path) -> bool:
    """Whether a result of this name holds segments with all that is known of them."""
    return path.name.lower().endswith((".seg.nrrd", ".seg.nhdr", DICOM_ENDING))


def table_beside(path: Path) -> Path:
    """The table that belongs to a label map file."""
    return path.with_name(stem_of(path) + ".labels.csv")


def names_beside(path: Path) -> bool:
    """Whether the values of a label map file are named by the table beside it, because its format holds no names."""
    return not is_segmentation(path) and file_format(path) not in ("", ".npz")


def read(
    path: Path, table: LabelTable | None = None, own_names: bool = False
) -> tuple[Segmentation, dict[str, list[int]], list[str]]:
    """The segments in a file or a DICOM folder, what of its values is unknown or missing in the table, and sentences
    about the file.

    Names are those of ``table``; without one, or with ``own_names`` for the values that have some, those of the file,
    or of the table beside it. Voxels of no segment become 0. Raises :class:`VolumeError` or
    :class:`~medgan.labeltable.TableError`.
    """
    read_segments = _reader_of_segments(path)
    if read_segments is not None:
        segmentation = read_segments()
        said = _clear_voxels_of_none(segmentation)
        if table is None or own_names:
            return segmentation, {"unknown": [], "holes": []}, said
        return segmentation, renamed(segmentation, table), said
    held, beside = _label_map(path)
    if table is not None and not (own_names and held.labels):
        return segmentation_of([held], table, about_values=False)
    keep_empty = bool(held.labels)
    segmentation, report, said = segmentation_of([held], None, keep_empty, about_values=table is None)
    else_of_table = ""
    if table is not None:
        for segment in segmentation.segments:
            if segment.value not in held.labels and segment.value in table:
                segment.label, else_of_table = table.labels[segment.value], ", else those of the table"
    if beside:
        said.insert(0, f"Names are those of '{table_beside(path).name}', which lies beside it{else_of_table}.")
    return segmentation, report, said


def read_label_maps(path: Path) -> list[LabelMap]:
    """The labels in a file or a DICOM folder with the names in it or beside it: several maps if segments overlap.

    The maps lie on one grid, and no value stands in two of them. Raises :class:`VolumeError` or
    :class:`~medgan.labeltable.TableError`.
    """
    read_segments = _reader_of_segments(path)
    if read_segments is not None:
        return label_maps(read_segments(), overlap=Overlap.LAYERS).label_maps
    return [_label_map(path)[0]]


def read_map(path: Path) -> tuple[LabelMap, list[str]]:
    """The label map in a file, with what it or the table beside it calls the labels; sentences about segments that
    overlap, of which the last one keeps a voxel, and about label values that two of them had.

    Raises :class:`VolumeError` or :class:`~medgan.labeltable.TableError`.
    """
    read_segments = _reader_of_segments(path)
    if read_segments is None:
        return _label_map(path)[0], []
    converted = label_maps(read_segments())
    said = converted.messages if all(converted.voxels) else converted.messages[:-1]  # of segments without a voxel
    return converted.label_maps[0], said


def holds_segments(path: Path) -> bool:
    """Whether a file or a DICOM folder is a segmentation, and no plain label map or volume."""
    return _reader_of_segments(path) is not None


def _reader_of_segments(path: Path) -> Callable[[], Segmentation] | None:
    """What reads the segments of a file that says what they are; None for any other."""
    if path.is_dir() or path.suffix.lower() == DICOM_ENDING:
        from medgan import dicomseg

        found = dicomseg.find(path) if path.exists() else None
        if found is not None:
            return functools.partial(dicomseg.read, found)
        if path.is_file():
            raise VolumeError(f"'{path.name}' is no DICOM segmentation; give the folder of an image series, or a file.")
    if file_format(path) in (".nrrd", ".nhdr") and path.is_file():
        from medgan import segnrrd

        if segnrrd.holds_segments(path):
            return functools.partial(segnrrd.read, path)
    return None


def _label_map(path: Path) -> tuple[LabelMap, bool]:
    """A label map with its names, and whether these stood in the table beside it."""
    held = read_label_map(path)
    beside = bool(file_format(path)) and not held.labels and table_beside(path).is_file()
    if beside:
        held.labels = dict(read_table(table_beside(path)).labels)
    return held, beside


def write(
    segmentation: Segmentation,
    path: Path,
    values: Values = Values.OWN,
    table: LabelTable | None = None,
    overlap: Overlap = Overlap.LAST,
    reference: Path | None = None,
    save_table: Path | None = None,
    overwrite: bool = True,
    sources: Collection[Path] = (),
) -> tuple[list[Path], Converted | None, list[str]]:
    """Write the segments in the format that the name says. Returns the files, the label maps, and sentences.

    A ``.seg.nrrd`` and a DICOM file keep overlapping segments; a label map resolves overlaps by ``overlap``, or is
    written as one file a layer. A table that lies beside it already is written anew, because it would name other
    values. ``sources`` are files that are never replaced. Raises :class:`VolumeError` or
    :class:`~medgan.labeltable.TableError`.
    """
    said: list[str] = []
    if path.suffix.lower() == DICOM_ENDING:
        from medgan import dicomseg

        if reference is None:
            raise VolumeError("A DICOM segmentation belongs to an image series; give its folder with --reference.")
        give_values(segmentation, values, table, said)
        said += dicomseg.write(segmentation, path, reference)
        return [path, *_tables(segmentation, save_table, said)], None, said
    if is_segmentation(path):
        from medgan import segnrrd

        give_values(segmentation, values, table, said)
        segnrrd.write(segmentation, path)
        return [path, *_tables(segmentation, save_table, said)], None, said
    converted = label_maps(segmentation, values, table, overlap)
    several = len(converted.label_maps) > 1
    maps = {_numbered(path, n) if several else path: each for n, each in enumerate(converted.label_maps, start=1)}
    tables: dict[Path, dict[int, Label]] = {}
    if save_table is not None:
        labels = zip(converted.values, segmentation.segments, strict=True)
        tables[save_table] = {value: segment.label for value, segment in labels}
    empty = {value for value, count in zip(converted.values, converted.voxels, strict=True) if not count}
    for file, each in maps.items():
        wanted = (save_table is None or several) and _says_something(each.labels, empty)
        if names_beside(file) and (wanted or table_beside(file).exists()):
            tables[table_beside(file)] = each.labels
    for file in [*maps, *tables]:
        check_not_read(file, sources)
        if not overwrite:
            check_new(file)
    writers: dict[Path, Callable[[Path], object]] = {
        file: functools.partial(write_volume, each) for file, each in maps.items()
    }
    for file, names in tables.items():
        writers[file] = lambda part, names=names: said.extend(write_table(names, part))  # type: ignore[misc]
    complete(writers)
    return sorted([*maps, *tables], key=lambda file: file not in maps), converted, said + converted.messages


def _numbered(path: Path, number: int) -> Path:
    stem = stem_of(path)
    return path.with_name(f"{stem}_{number}{path.name.removeprefix(stem)}")


def _clear_voxels_of_none(segmentation: Segmentation) -> list[str]:
    """Set voxels that belong to no segment to 0; a sentence about their values."""
    left: set[int] = set()
    for number, layer in enumerate(segmentation.layers):
        own = {segmentation.segments[each].value for each in segmentation.of_layer(number)}
        others = set(finished(counted_in_steps(layer.array))) - own
        if others:
            mapping = Mapping(((value, value) for value in own), layer.array.dtype)
            for slab in slabs(layer.array.shape):
                layer.array[slab] = mapping(layer.array[slab])
        left |= others
    return [f"Of no segment, so left out: voxels of {listed(map(str, sorted(left)))}."] if left else []


def give_values(segmentation: Segmentation, values: Values, table: LabelTable | None, said: list[str]) -> None:
    """Give each segment the label value that the rule says, as what it is known by; adds sentences to ``said``."""
    chosen, messages = assigned(segmentation.segments, values, table)
    for segment, value in zip(segmentation.segments, chosen, strict=True):
        segment.own_value = value
    said += messages


def _tables(segmentation: Segmentation, path: Path | None, said: list[str]) -> list[Path]:
    if path is None:
        return []
    said += write_table({segment.known_value: segment.label for segment in segmentation.segments}, path)
    return [path]


def _says_something(labels: dict[int, Label], empty: Set[int]) -> bool:
    """Whether the labels are more than what anyone would call the values that are there; ``empty`` ones are not."""
    return any(value in empty or label != unnamed(value) for value, label in labels.items())
