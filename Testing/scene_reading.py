"""What a scene holds, read back: the lines of a table node, and scenes that were saved."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any


def rows_of(table_node) -> list[dict[str, Any]]:
    """The lines of a table node: text as it stands, numbers as float."""
    table = table_node.GetTable()
    columns = [table.GetColumn(number) for number in range(table.GetNumberOfColumns())]
    return [
        {column.GetName(): _value(column, row) for column in columns} for row in range(int(table.GetNumberOfRows()))
    ]


def _value(column, row: int):
    value = column.GetValue(row)
    return value if isinstance(value, str) else float(value)


def load_scene(scene, path: Path, folder: Path) -> None:
    """Add the content of a ``.mrb`` file, unpacked to ``folder``, to a scene."""
    with zipfile.ZipFile(path) as archive:
        archive.extractall(folder)
        described = next(name for name in archive.namelist() if name.endswith(".mrml"))
    scene.SetURL(str(Path(folder, described).resolve()))
    scene.SetRootDirectory(str(Path(folder, described).resolve().parent))
    assert scene.Import()
