"""Who may import whom: the engine never Slicer, the Slicer side no third party when it is loaded."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

MODULE = Path(__file__).resolve().parents[2] / "MedGANSlicer"
ENGINE = sorted((MODULE / "medgan").rglob("*.py"))
SLICER_SIDE = [*sorted((MODULE / "MedGANSlicerLib").rglob("*.py")), *MODULE.glob("*.py")]
OF_SLICER = {
    "slicer",
    "slicer_core",
    "vtk",
    "vtkmodules",
    "qt",
    "ctk",
    "sitkUtils",
    "SampleData",
    "mrml",
    "MRMLCorePython",
}
AT_START_UP = {*sys.stdlib_module_names, "slicer", "vtk", "numpy", "qt", "ctk", "medgan", "MedGANSlicerLib"}

# Third parties of the engine that its torch-free modules may not import either: Slicer has only numpy at first.
HEAVY = ("torch", "monai", "SimpleITK", "scipy", "typer", "rich")


def imported(tree: ast.AST, *, file_scope: bool) -> set[str]:
    """First parts of the names of all imported modules, or of those that loading the file imports (``file_scope``)."""
    names: set[str] = set()
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            names |= {each.name.split(".")[0] for each in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add((node.module or "").split(".")[0])
        elif isinstance(node, ast.Call) and file_scope is False and isinstance(node.func, ast.Name | ast.Attribute):
            name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
            if name in ("import_module", "__import__") and node.args and isinstance(node.args[0], ast.Constant):
                names.add(str(node.args[0].value).split(".")[0])
        if file_scope and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        pending += ast.iter_child_nodes(node)
    return names


def parsed(path: Path) -> ast.AST:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def relative(path: Path) -> str:
    return path.relative_to(MODULE).as_posix()


def test_there_is_something_to_check():
    assert {"medgan/volume.py", "medgan/job.py"} <= {relative(path) for path in ENGINE}
    assert {"MedGANSlicerLib/SceneBridge.py", "MedGANSlicerLib/TaskLogic.py"} <= {
        relative(path) for path in SLICER_SIDE
    }


def test_import_finder_finds_imports_in_functions_and_by_name():
    tree = ast.parse("import a.b\ndef f():\n    from c import d\n    import_module('e.f')\nclass G:\n    import h")
    assert imported(tree, file_scope=False) == {"a", "c", "e", "h"}
    assert imported(tree, file_scope=True) == {"a", "h"}


@pytest.mark.parametrize("path", ENGINE, ids=relative)
def test_engine_never_imports_slicer(path):
    assert not imported(parsed(path), file_scope=False) & OF_SLICER


@pytest.mark.parametrize("path", ENGINE, ids=relative)
def test_engine_knows_the_slicer_side_only_in_its_command(path):
    """The command may start the demo, inside a function; nothing else in the engine may depend on the panel's side."""
    assert "MedGANSlicerLib" not in imported(parsed(path), file_scope=relative(path) == "medgan/cli.py")


@pytest.mark.parametrize("path", SLICER_SIDE, ids=relative)
def test_slicer_side_imports_no_third_party_when_it_is_loaded(path):
    assert imported(parsed(path), file_scope=True) <= AT_START_UP


@pytest.mark.parametrize("path", [path for path in SLICER_SIDE if path.parent.name == "Panels"], ids=relative)
def test_panels_never_touch_an_array(path):
    assert "arrayOf" not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "name",
    [
        "SceneBridge",
        "SceneEdits",
        "ColorTables",
        "VoxelTypes",
        "TaskLogic",
        "JobRun",
        "Sequences",
        "HeadlessScene",
        "Demo",
        "TableNodes",
        "PlotNodes",
        "NodePairs",
        "LabelInputs",
        "TrainInputs",
        "TrainRun",
        "RunLog",
        "EvaluateInputs",
        "EvaluateRun",
        "EvaluationNodes",
        "Conversion",
        "ConvertRun",
        "SegmentationBridge",
        "SegmentGrids",
        "Surfaces",
        "RecogniseNodes",
        "RecogniseQuestion",
        "SynthesizeNodes",
        "SynthesizeSource",
        "Thumbnails",
    ],
)
def test_scene_code_needs_no_application(name):
    path = MODULE / "MedGANSlicerLib" / f"{name}.py"
    assert not imported(parsed(path), file_scope=False) & {"qt", "ctk"}
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"\bqt\b|\bctk\b|slicer\.(app|modules|mrmlScene)\b", text)


@pytest.mark.parametrize("path", [*ENGINE, *SLICER_SIDE], ids=relative)
def test_events_are_never_pumped(path):
    assert "processEvents" not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("module", ["settings", "models", "job", "progress", "volume", "tasks", "places"])
def test_menus_fill_before_anything_is_installed(module):
    """The module is imported by a real interpreter in which torch and the other packages can not be."""
    code = (
        "import sys\n"
        f"sys.path.insert(0, {str(MODULE)!r})\n"
        f"for name in {HEAVY!r}: sys.modules[name] = None\n"
        f"import medgan.{module} as module\n"
        "if hasattr(module, 'catalogue'): module.catalogue()\n"
        "print('ready')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.strip() == "ready", done.stderr


def test_task_logic_loads_before_anything_is_installed():
    """What the panel imports when Slicer starts: a real Slicer wheel, but no torch and no SimpleITK."""
    pytest.importorskip("slicer")
    code = (
        "import sys\n"
        f"sys.path.insert(0, {str(MODULE)!r})\n"
        f"for name in {HEAVY!r}: sys.modules[name] = None\n"
        "import MedGANSlicerLib.TaskLogic, MedGANSlicerLib.Sequences\n"
        "print('ready')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.strip() == "ready", done.stderr
