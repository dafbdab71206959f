"""What Slicer and pip install is all there is, nothing else is needed, and the extension says what it must say."""

from __future__ import annotations

import json
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest

import install_tree
import update_file_list
from update_file_list import CMAKE_FILE, MODULE_FOLDER

REPOSITORY = MODULE_FOLDER.parent
CATALOGUE_ENTRY = REPOSITORY / "Resources" / "MedGANSlicer.json"
TOP_CMAKE = (REPOSITORY / "CMakeLists.txt").read_text(encoding="utf-8")

TEXT = {".py", ".md", ".txt", ".json", ".toml", ".ui", ".cmake", ""}
MACHINE_PATH = re.compile(r"(?<![\w.$})])/(?:root|home|Users|work|opt)/(?!somebody)\w|(?<!\w)/tmp/\w|[A-Z]:\\+Users")


def metadata() -> dict[str, str]:
    """The extension's metadata as the index reads it: lines of the form ``set(NAME "value")``."""
    return dict(re.findall(r'^set\((EXTENSION_\w+) "([^"\n]+)"\)$', TOP_CMAKE, re.MULTILINE))


def in_repository(url: str) -> Path:
    """The file in this tree behind an address of raw.githubusercontent.com."""
    return REPOSITORY / url.split("/main/", 1)[1]


def _made_by_tools(path: Path) -> bool:
    hidden = {part for part in path.parts if part.startswith(".")} - {".ci", ".gitignore"}
    return bool(hidden) or "__pycache__" in path.parts or any(part.endswith(".egg-info") for part in path.parts)


def test_cmake_lists_exactly_the_files_of_the_tree():
    listed, tree = update_file_list.files_in_cmake(), update_file_list.files_in_tree()
    remedy = "run: python Testing/update_file_list.py"
    assert sorted(set(tree) - set(listed)) == [], f"not listed in {CMAKE_FILE.name}; {remedy}"
    assert sorted(set(listed) - set(tree)) == [], f"listed in {CMAKE_FILE.name} but not there; {remedy}"
    assert listed == tree, f"not sorted, or twice; {remedy}"


def test_list_follows_the_tree(tmp_path):
    (tmp_path / "b" / "__pycache__").mkdir(parents=True)
    for name in ("A.py", "CMakeLists.txt", "b/data.bin", "b/__init__.py", "b/__pycache__/x.pyc", "b/.hidden"):
        (tmp_path / name).write_text("")
    cmake = tmp_path / "CMakeLists.txt"
    cmake.write_text("set(X 1)\nset(MODULE_FILES\n  gone.py\n)\nset(Y\n  z\n)\n")
    assert update_file_list.update(tmp_path, cmake) is True
    assert cmake.read_text() == "set(X 1)\nset(MODULE_FILES\n  A.py\n  b/__init__.py\n  b/data.bin\n)\nset(Y\n  z\n)\n"
    assert update_file_list.files_in_cmake(cmake) == update_file_list.files_in_tree(tmp_path)
    assert update_file_list.update(tmp_path, cmake) is False


def test_every_folder_of_python_files_is_a_package_but_the_module_folder():
    """pip packages no folder without ``__init__.py``; with one, Slicer could not import the module by its name."""
    folders = {(MODULE_FOLDER / name).parent for name in update_file_list.files_in_tree() if name.endswith(".py")}
    without = {
        folder.relative_to(MODULE_FOLDER).as_posix() for folder in folders if not (folder / "__init__.py").exists()
    }
    assert without == {"."}


def test_every_slicer_test_is_known_to_ctest():
    folder = REPOSITORY / "Testing" / "Slicer"
    cmake = (folder / "CMakeLists.txt").read_text(encoding="utf-8")
    known = re.findall(r"slicer_add_python_unittest\(SCRIPT (\w+\.py)", cmake)
    assert sorted(known) == sorted(path.name for path in folder.glob("*Test.py"))
    assert known


def test_metadata_is_complete():
    found = metadata()
    assert set(found) == {
        "EXTENSION_HOMEPAGE",
        "EXTENSION_CATEGORY",
        "EXTENSION_CONTRIBUTORS",
        "EXTENSION_DESCRIPTION",
        "EXTENSION_ICONURL",
        "EXTENSION_SCREENSHOTURLS",
        "EXTENSION_DEPENDS",
        "EXTENSION_LICENSE_FILE",
        "EXTENSION_README_FILE",
    }
    assert TOP_CMAKE.index("EXTENSION_README_FILE") < TOP_CMAKE.index("include(${Slicer_USE_FILE})")
    assert found["EXTENSION_CONTRIBUTORS"] == "MedGANSlicer developers"
    description = found["EXTENSION_DESCRIPTION"]
    assert len(re.findall(r"[.!?](?= |$)", description)) <= 2, "the index asks for one or two sentences"
    assert ";" not in description, "Slicer hands it on as a list"
    here = "${CMAKE_CURRENT_SOURCE_DIR}"
    for name in ("EXTENSION_LICENSE_FILE", "EXTENSION_README_FILE"):
        assert Path(found[name].replace(here, str(REPOSITORY))).is_file()


def test_catalogue_entry_agrees_with_cmake():
    assert b"\r" not in CATALOGUE_ENTRY.read_bytes()
    entry, found = json.loads(CATALOGUE_ENTRY.read_text(encoding="utf-8")), metadata()
    assert set(entry) == {
        "$schema",
        "build_dependencies",
        "build_subdirectory",
        "category",
        "scm_revision",
        "scm_url",
        "tier",
    }
    assert (entry["category"], entry["tier"]) == (found["EXTENSION_CATEGORY"], 1)
    assert entry["build_dependencies"] == found["EXTENSION_DEPENDS"].split()
    assert entry["scm_url"] == found["EXTENSION_HOMEPAGE"]
    # The index takes the first match in the text, be it a comment, as the name of the extension.
    assert re.search(r"project\(\s*(\w+)", TOP_CMAKE)[1] == CATALOGUE_ENTRY.stem == "MedGANSlicer"


def test_pictures_behind_the_addresses_are_there():
    found = metadata()
    raw = found["EXTENSION_HOMEPAGE"].replace("github.com", "raw.githubusercontent.com") + "/main/"
    urls = [found["EXTENSION_ICONURL"], *found["EXTENSION_SCREENSHOTURLS"].split()]
    assert all(url.startswith(raw) for url in urls)
    assert [url for url in urls if not in_repository(url).is_file()] == []
    assert {in_repository(url).read_bytes()[:8] for url in urls} == {b"\x89PNG\r\n\x1a\n"}


def test_icon_is_128_pixels_square_and_the_same_in_both_places():
    icon = in_repository(metadata()["EXTENSION_ICONURL"]).read_bytes()
    assert struct.unpack(">II", icon[16:24]) == (128, 128)
    assert (MODULE_FOLDER / "Resources" / "Icons" / "MedGANSlicer.png").read_bytes() == icon


def test_version_is_written_once():
    import medgan

    pyproject = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    assert 'dynamic = ["version"]' in pyproject
    assert 'version = { attr = "medgan.__version__" }' in pyproject
    named = [path for path in MODULE_FOLDER.rglob("*.py") if re.search(r"^__version__", path.read_text("utf-8"), re.M)]
    assert named == [MODULE_FOLDER / "medgan" / "__init__.py"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", medgan.__version__)


def test_requirements_can_be_read_by_slicer():
    """``slicer.packaging`` fails on a comment that follows a requirement."""
    lines = (MODULE_FOLDER / "Resources" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    wanted = [line for line in lines if line and not line.startswith("#")]
    assert wanted
    assert not any("#" in line for line in wanted)
    assert not any(re.match(r"torch|numpy|simpleitk", line, re.I) for line in wanted), "Slicer and PyTorch bring these"


def test_slicer_and_pip_ask_for_the_same_packages():
    wanted = (MODULE_FOLDER / "Resources" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    with_pip = re.findall(r'^  "(.+)",$', (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    assert [line for line in wanted if line and not line.startswith("#") and line not in with_pip] == []


def test_tracked_files_stay_small():
    """What Slicer's index and everybody else downloads; weights can not be taken out of the history again."""
    try:
        names = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this is no clone")
    files = [file for name in names.decode().split("\0") if name and (file := REPOSITORY / name).is_file()]
    if not files:
        pytest.skip("these files lie in another clone")
    assert sum(file.stat().st_size for file in files) < 60_000_000
    assert {file.name: file.stat().st_size for file in files if file.suffix == ".pt"}
    weights = [file for file in files if file.suffix in (".pt", ".npz")]
    assert {str(file): file.stat().st_size for file in weights if file.stat().st_size > 10_000_000} == {}


def test_nothing_names_a_path_of_one_machine():
    ours = ["CMakeLists.txt", "LICENSE", "README.md", "pyproject.toml", ".ci", ".gitignore"]
    ours += ["MedGANSlicer", "Resources", "Testing"]
    files = [path for name in ours for path in (REPOSITORY / name, *(REPOSITORY / name).rglob("*")) if path.is_file()]
    texts = [path for path in files if path.suffix in TEXT and not _made_by_tools(path.relative_to(REPOSITORY))]
    assert len(texts) > 50
    guilty = {str(path.relative_to(REPOSITORY)): MACHINE_PATH.findall(path.read_text("utf-8")) for path in texts}
    assert {name: found for name, found in guilty.items() if found} == {}


@pytest.mark.parametrize("first", ["/home/", "/root/", "'/tmp/", "(/opt/", "C:\\"])
def test_a_path_of_one_machine_is_noticed(first):
    assert MACHINE_PATH.search(f"see {first}Users/me")


def test_an_address_is_no_path_of_one_machine():
    assert not MACHINE_PATH.search("https://example.org/home/me and/opt/x, ${HERE}/work/x")


def test_engine_runs_from_the_installed_files_alone(tmp_path):
    installed = install_tree.install(tmp_path)
    script = Path(__file__).with_name("run_installed.py")
    done = subprocess.run(
        [sys.executable, str(script), str(installed)],
        cwd=tmp_path,
        env=install_tree.environment(tmp_path),
        capture_output=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["medgan"] == str(installed / "medgan" / "__init__.py")
    assert said["child"] == str(installed / "medgan" / "job_child.py")
    assert said["model"] == str(installed / "medgan" / "bundles" / "denoise")
    assert Path(said["sample"]).is_relative_to(installed)
    assert said["gain_db"] > 3.0


def test_command_finds_the_shipped_model_in_the_installed_files(tmp_path):
    installed = install_tree.install(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "medgan", "models", "--json"],
        cwd=installed,
        env=install_tree.environment(tmp_path),
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["unusable"] == []
    assert {card["name"]: Path(card["folder"]) for card in said["models"]} == {
        folder.name: installed / "medgan" / "bundles" / folder.name
        for folder in (MODULE_FOLDER / "medgan" / "bundles").iterdir()
    }
    assert {"denoise", "brain-parts", "label-to-volume", "recognise"} <= {card["name"] for card in said["models"]}
