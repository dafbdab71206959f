"""Which files Slicer packages: those in the tree and those that CMake lists.

``python Testing/update_file_list.py`` writes the list in ``MedGANSlicer/CMakeLists.txt`` anew from the tree.
"""

from __future__ import annotations

import re
from pathlib import Path

MODULE_FOLDER = Path(__file__).resolve().parents[1] / "MedGANSlicer"
CMAKE_FILE = MODULE_FOLDER / "CMakeLists.txt"

_LIST = re.compile(r"^(set\(MODULE_FILES\n)(.*?)(^\))", re.MULTILINE | re.DOTALL)


def files_in_tree(folder: Path = MODULE_FOLDER) -> list[str]:
    """Every file that has to be packaged, relative to the folder of the module, sorted."""
    names = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(name.as_posix() for name in names if _is_packaged(name))


def files_in_cmake(cmake_file: Path = CMAKE_FILE) -> list[str]:
    """The files that CMake lists, in its order. Raises ``ValueError`` when there is no list."""
    return [line.strip() for line in _find(cmake_file.read_text(encoding="utf-8")).splitlines()]


def update(folder: Path = MODULE_FOLDER, cmake_file: Path = CMAKE_FILE) -> bool:
    """Write the list anew; whether it changed."""
    before = cmake_file.read_text(encoding="utf-8")
    _find(before)
    lines = "".join(f"  {name}\n" for name in files_in_tree(folder))
    after = _LIST.sub(lambda found: found[1] + lines + found[3], before, count=1)
    cmake_file.write_text(after, encoding="utf-8", newline="\n")
    return after != before


def _find(text: str) -> str:
    found = _LIST.search(text)
    if not found:
        raise ValueError("The CMake file has no list that begins with 'set(MODULE_FILES'.")
    return found[2]


def _is_packaged(name: Path) -> bool:
    made_by_tools = any(
        part.startswith(".") or part == "__pycache__" or part.endswith(".egg-info") for part in name.parts
    )
    return not made_by_tools and name.suffix != ".pyc" and name.name != "CMakeLists.txt"


if __name__ == "__main__":
    changed = update()
    print(f"{len(files_in_cmake())} files, {'changed' if changed else 'as before'}: {CMAKE_FILE.name}")
