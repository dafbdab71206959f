"""What happens on Apply when packages are missing. pip itself is a double here: there is no network in tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import types
import zipfile

import pytest
import slicer
from panel_tools import REPOSITORY
from standin import packagingdouble
from standin.waiting import wait_until

from medgan.job import JobStatus


@pytest.fixture
def lib(slicer_standin):
    """Names of the code under test; it needs Slicer's translations, so it is imported once there is a Slicer."""
    from MedGANSlicerLib import Dependencies, Installation

    return types.SimpleNamespace(
        Dependencies=Dependencies.Dependencies,
        Needs=Dependencies.Needs,
        nameOf=Dependencies.nameOf,
        MODULES=Dependencies.MODULES,
        TORCH=Installation.TORCH,
        Installation=Installation.Installation,
    )


@pytest.fixture
def pip(tmp_path, lib):
    """A Python launcher whose ``-m pip`` writes the plan of the test and fails where the test says so."""
    folder = tmp_path / "fake pip"
    folder.mkdir()
    plan = types.SimpleNamespace(
        lib=lib, install=[("monai", "1.6.1")], fails="", imports=True, python=folder / "python"
    )

    def write():
        report = {"install": [{"metadata": {"name": n, "version": v}} for n, v in plan.install]}
        plan.python.write_text(
            f"#!{sys.executable}\n"
            "import sys, pathlib\n"
            f"calls = pathlib.Path({str(folder / 'calls')!r})\n"
            "calls.open('a').write(' '.join(sys.argv[1:]) + '\\n')\n"
            "if '-c' in sys.argv and 'pip' not in sys.argv:\n"
            f"    sys.exit({0 if plan.imports else 'repr(0) and 1'})\n"
            f"if {plan.fails!r}:\n"
            f"    print('ERROR: ' + {plan.fails!r}); sys.exit(1)\n"
            "if '--report' in sys.argv:\n"
            f"    pathlib.Path(sys.argv[sys.argv.index('--report') + 1]).write_text({json.dumps(report)!r})\n"
        )
        plan.python.chmod(0o755)

    def calls():
        path = folder / "calls"
        return path.read_text().splitlines() if path.exists() else []

    plan.write, plan.calls = write, calls
    return plan


class FakeHost:
    def __init__(self, python, packaging=None, pytorch=None):
        self._python, self._packaging, self._pytorch = str(python), packaging, pytorch

    def python(self):
        return self._python

    def packaging(self):
        return self._packaging

    def pytorch(self):
        return self._pytorch

    def isInstalled(self, module):
        return True

    def isTesting(self):
        return False


def run(installation):
    wait_until(lambda: installation.poll().status is not JobStatus.RUNNING, timeout=30)
    state = installation.poll()
    installation.close()
    return state


def installed(pip, needs, versions=None, wheels="", **host):
    pip.write()
    return run(pip.lib.Installation(needs, FakeHost(pip.python, **host), wheels, versions or {"numpy": "2.4.0"}))


def test_plan_is_checked_before_anything_is_installed_and_imports_are_tried_after(pip, lib):
    state = installed(pip, lib.Needs(False, ("monai>=1.5",)))
    assert state.status is JobStatus.DONE, state
    dry, real, trial = pip.calls()
    assert "--dry-run" in dry
    assert "-m pip install" in real
    assert "--dry-run" not in real
    assert "-c" in real  # constraints
    assert trial.startswith("-c import torch, monai, SimpleITK")


@pytest.mark.parametrize("name", ["numpy", "SimpleITK"])
def test_packages_of_slicer_are_never_replaced(pip, name, lib):
    pip.install = [("monai", "1.6.1"), (name, "9.9")]
    state = installed(pip, lib.Needs(False, ("monai>=1.5",)), {name: "1.0"})
    assert state.status is JobStatus.FAILED
    assert state.error.startswith(f"{name} 1.0 came with Slicer and would be replaced by 9.9")
    assert len(pip.calls()) == 1  # the dry run only


def test_torch_never_comes_by_pip(pip, lib):
    pip.install = [("torch", "2.9.0")]
    state = installed(pip, lib.Needs(False, ("monai>=1.5",)))
    assert "use the PyTorch extension" in state.error
    assert len(pip.calls()) == 1


def test_failure_names_the_package_the_reason_and_the_next_step(pip, lib):
    pip.fails = "No matching distribution found for monai>=1.5"
    state = installed(pip, lib.Needs(False, ("monai>=1.5",)))
    assert state.status is JobStatus.FAILED
    assert "monai>=1.5" in state.error
    assert "No matching distribution found" in state.error
    assert state.error.endswith("Check the network connection, then press Apply again.")
    assert "ERROR" in state.details


def test_installed_is_not_yet_importable(pip, lib):
    pip.imports = False
    state = installed(pip, lib.Needs(False, ("monai>=1.5",)))
    assert state.status is JobStatus.FAILED
    assert "can not be imported" in state.error
    assert "network" not in state.error
    assert "Restart Slicer" in state.error


def test_folder_of_wheels_is_used_without_network(pip, tmp_path, lib):
    state = installed(pip, lib.Needs(True, ("monai>=1.5",)), wheels=str(tmp_path))
    assert state.status is JobStatus.DONE
    for call in pip.calls()[:2]:
        assert f"--no-index --find-links {tmp_path.as_uri()}" in call
        assert "torch>=2.8" in call


@pytest.mark.skipif(sys.platform == "win32", reason="the launcher is a script that begins with #!")
def test_pip_finds_its_files_though_slicers_launcher_loses_letters(tmp_path, monkeypatch, lib, slicers_launcher):
    """As that of Slicer 5.10 for Windows does. Here pip is the real one."""
    wheels, temporary, target = (tmp_path / each for each in ("Räder für B", "Jörg", "target"))
    wheels.mkdir()
    temporary.mkdir()
    for version in ("1.0", "2.0"):
        with zipfile.ZipFile(wheels / f"medganwheel-{version}-py3-none-any.whl", "w") as wheel:
            information = f"medganwheel-{version}.dist-info"
            wheel.writestr(f"{information}/METADATA", f"Metadata-Version: 2.1\nName: medganwheel\nVersion: {version}\n")
            wheel.writestr(f"{information}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{information}/RECORD", "")
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    monkeypatch.setenv("PIP_TARGET", str(target))
    needs = lib.Needs(False, ("medganwheel",))
    installation = lib.Installation(needs, FakeHost(slicers_launcher), str(wheels), {"medganwheel": "1.0"})
    wait_until(lambda: installation.poll().fraction > 0.8 or installation.poll().error, timeout=30)
    assert installation.poll().message == "Trying the new packages", installation.poll()
    installation.close()
    assert [each.name for each in target.glob("*.dist-info")] == ["medganwheel-1.0.dist-info"]
    assert list(temporary.iterdir()) == []


class FakePackaging:
    """``slicer.packaging``; ``others``: so many times another installation is still under way; ``ends``: ours does."""

    def __init__(self, others=0, ends=True):
        self.asked = []
        self._others, self._ends = others, ends

    def isPipInstallInProgress(self):
        self._others -= 1
        return self._others >= 0

    def pip_install(self, requirements, constraints=None, blocking=True, completedCallback=None, **options):
        assert self._others < 0, "Slicer refuses two installations at a time"
        self.asked.append((requirements, blocking))
        if self._ends:
            completedCallback(0)


@pytest.mark.parametrize("others", [0, 2])
def test_slicer_packaging_installs_where_it_is_present(pip, lib, others):
    packaging = FakePackaging(others)
    state = installed(pip, lib.Needs(False, ("monai>=1.5",)), packaging=packaging)
    assert state.status is JobStatus.DONE
    assert packaging.asked == [(["monai>=1.5"], False)]


def test_cancelled_installation_says_what_goes_on(pip, lib):
    packaging = FakePackaging(ends=False)
    pip.write()
    needs = lib.Needs(False, ("monai>=1.5",))
    installation = lib.Installation(needs, FakeHost(pip.python, packaging), "", {"numpy": "2.4.0"})
    wait_until(lambda: installation.poll() and packaging.asked, timeout=30)
    installation.cancel()
    assert installation.poll().status is JobStatus.CANCELLED
    assert installation.dropped == "Nothing was run. pip finishes what it has begun; press Apply later to go on."
    installation.close()


def test_torch_comes_through_the_pytorch_extension(pip, lib):
    torch = types.SimpleNamespace(__version__="2.13.0")
    logic = packagingdouble.pytorch_module(installs=torch).PyTorchUtilsLogic
    state = installed(pip, lib.Needs(True, ()), pytorch=logic())
    assert state.status is JobStatus.DONE
    assert logic.installed[0]["torch"] == ">=2.8"
    assert [call for call in pip.calls() if "pip" in call] == []


def test_declined_torch_is_told_with_the_next_step(pip, lib):
    logic = packagingdouble.pytorch_module(installs=None).PyTorchUtilsLogic
    state = installed(pip, lib.Needs(True, ()), pytorch=logic())
    assert state.status is JobStatus.FAILED
    assert "open the module PyTorch Utils" in state.error


def test_torch_that_pip_could_not_install_is_told_with_the_next_step(pip, lib):
    logic = packagingdouble.pytorch_module(
        installs=subprocess.CalledProcessError(1, ["PythonSlicer", "-m", "light_the_torch"])
    ).PyTorchUtilsLogic
    state = installed(pip, lib.Needs(True, ()), pytorch=logic())
    assert state.status is JobStatus.FAILED
    assert "open the module PyTorch Utils" in state.error
    assert state.error.endswith("Check the network connection too; the Python console shows what pip said.")
    assert "light_the_torch" in state.details


def test_installation_can_be_cancelled(pip, lib):
    pip.write()
    installation = lib.Installation(lib.Needs(False, ("monai",)), FakeHost(pip.python), "", {})
    installation.cancel()
    assert installation.poll().status is JobStatus.CANCELLED
    installation.close()
    assert not installation._folder.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="the launcher is a script that begins with #!")
def test_cancel_ends_pip_behind_the_launcher(lib, tmp_path):
    """PythonSlicer is a launcher too. The pipe is read to its end once nothing holds the other one."""
    launcher, pipe = tmp_path / "PythonSlicer", tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    pip = f"import time; held = open({str(pipe)!r}, 'w'); print('begun', file=held, flush=True); time.sleep(60)"
    launcher.write_text(
        f"#!{sys.executable}\nimport subprocess\nsubprocess.call([{sys.executable!r}, '-c', {pip!r}])\n"
    )
    launcher.chmod(0o755)
    installation = lib.Installation(lib.Needs(False, ("monai",)), FakeHost(launcher), "", {})

    def read():
        try:
            return os.read(reader, 100)
        except BlockingIOError:
            return None

    wait_until(lambda: read() == b"begun\n", timeout=20)
    installation.close()
    wait_until(lambda: read() == b"", timeout=5)
    os.close(reader)


@pytest.mark.parametrize("packaging", [True, False])
def test_missing_packages_are_found_without_importing_them(slicer_standin, tmp_path, packaging, lib):
    slicer_standin.use_packaging(packaging)
    from MedGANSlicerLib.Host import Host

    file = tmp_path / "requirements.txt"
    file.write_text("# a comment\nmonai>=99\nscipy>=1.0\n")
    found = lib.Dependencies(file, Host(), {})
    before = set(sys.modules)
    needs = found.missing()
    assert needs == lib.Needs(False, ("monai>=99",))
    assert not {"torch", "monai"} & (set(sys.modules) - before)
    question = found.question(needs)
    assert "monai>=99" in question
    assert "2 MB to 5 MB" in question


def test_requirements_file_has_no_torch_and_no_inline_comments(lib):
    path = REPOSITORY / "MedGANSlicer" / "Resources" / "requirements.txt"
    lines = [line for line in path.read_text().splitlines() if line and line[0] not in "#-"]
    assert [str(each) for each in packagingdouble.load_requirements(path)] == lines
    assert {lib.nameOf(line) for line in lines} <= set(lib.MODULES) - {"torch"}


def test_torch_is_asked_for_as_by_the_package(lib):
    assert f'"{lib.TORCH}",' in (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")


def test_question_declined_runs_nothing(person, slicer_standin):
    slicer_standin.use_packaging(True, missing=("monai",))
    person.volume()
    person.choose_model("quick")
    slicer_standin.answer(False)
    person.press_apply()
    assert not person.widget.taskPanel.busy
    assert person.ui.progressLabel.text == "Nothing was installed and nothing was run."
    assert person.volumes() == ["Head"]
    (asked,) = [each for each in slicer_standin.messages if each.kind == "question" or "monai" in each.text]
    assert "monai>=1.5.1" in asked.text


def test_missing_pytorch_extension_is_one_sentence(person, slicer_standin):
    slicer_standin.use_packaging(True, missing=("torch",))
    person.volume()
    person.press_apply()
    assert person.ui.errorLabel.text.startswith("PyTorch is missing: install the extension 'PyTorch'")
    assert person.volumes() == ["Head"]


@pytest.mark.parametrize("wheels", [False, True])
@pytest.mark.parametrize(("system", "machine"), [("darwin", "x86_64"), ("darwin", "arm64"), ("linux", "x86_64")])
def test_slicer_for_intel_macs_is_told_before_it_is_asked(lib, tmp_path, monkeypatch, system, machine, wheels):
    """PyTorch has no builds for it since 2.3. On Apple silicon such a Slicer runs under Rosetta."""
    monkeypatch.setattr("sys.platform", system)
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr(sys, "path", [])  # where nothing is installed
    pytorch = packagingdouble.pytorch_module(installs=None).PyTorchUtilsLogic()
    environment = {"MEDGAN_WHEELS": str(tmp_path)} if wheels else {}
    found = lib.Dependencies(tmp_path / "requirements.txt", FakeHost("python", pytorch=pytorch), environment)
    told = found.obstacle(lib.Needs(True, ("monai>=1.5",)))
    assert bool(told) == ((system, machine) == ("darwin", "x86_64"))
    assert told.startswith("This Slicer is built for Intel" if told else "")
    assert found.obstacle(lib.Needs(False, ("monai>=1.5",))) == ""


def test_older_torch_is_not_replaced_from_wheels_behind_what_goes_with_it(lib, tmp_path, monkeypatch):
    metadata = tmp_path / "site" / "torch-2.5.1.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text("Metadata-Version: 2.1\nName: torch\nVersion: 2.5.1\n")
    monkeypatch.syspath_prepend(metadata.parents[1])
    file = tmp_path / "requirements.txt"
    file.touch()
    found = lib.Dependencies(file, FakeHost("python"), {"MEDGAN_WHEELS": str(tmp_path)})
    needs = found.missing()
    assert needs.torch
    assert found.obstacle(needs).startswith("PyTorch 2.5.1 is installed, which is too old; uninstall it in the module")


def test_self_tests_of_slicer_install_nothing(person, slicer_standin):
    """There boxes answer themselves, with yes."""
    slicer_standin.use_packaging(True, missing=("monai",))
    slicer_standin.use_testing_mode()
    person.volume()
    person.press_apply()
    assert person.ui.errorLabel.text == "monai>=1.5.1 are missing, and tests install nothing."
    assert slicer_standin.installer.calls == []


@pytest.fixture
def torch_being_installed(person, slicer_standin, pip):
    """The person has pressed Apply and said yes; the PyTorch extension is at work and turns the event loop."""
    slicer_standin.use_packaging(True, missing=("torch",))
    slicer_standin.use_pytorch(packagingdouble.pytorch_module(installs=types.SimpleNamespace(__version__="2.13.0")))
    pip.write()
    person.volume()
    person.choose_model("quick")
    slicer_standin.answer(True)
    person.press_apply()
    return person


def test_cancel_waits_for_the_pytorch_extension(torch_being_installed, pip):
    person = torch_being_installed
    installation = person.widget.taskPanel._work
    person.wait(lambda: installation._advancing)
    person.ui.applyButton.click()
    assert person.widget.taskPanel.busy
    assert person.ui.progressLabel.text == "Stopping…"
    person.wait_for_end()
    assert not person.ui.errorBox.visible, person.log()
    assert person.ui.progressLabel.text == "The installation was cancelled and nothing was run."
    assert pip.calls() == []
    assert person.volumes() == ["Head"]


def test_scene_closed_while_the_pytorch_extension_works(torch_being_installed, pip):
    person = torch_being_installed
    installation = person.widget.taskPanel._work
    person.wait(lambda: installation._advancing)
    slicer.mrmlScene.Clear()
    assert not person.widget.taskPanel.busy
    person.wait(lambda: not installation._advancing)
    assert not person.ui.errorBox.visible, person.log()
    assert "The scene was closed" in person.log()
    assert pip.calls() == []
    assert not installation._folder.exists()


def test_accepted_installation_goes_on_to_the_run(person, slicer_standin, pip, monkeypatch):
    slicer_standin.use_packaging(True, missing=("monai",))
    slicer_standin.installer.outcome = lambda requirements: packagingdouble.missing.clear()
    real = person.widget.host.python()
    pip.write()
    monkeypatch.setattr(
        type(person.widget.host),
        "python",
        lambda self: str(pip.python) if packagingdouble.missing or not done else real,
    )
    done = []
    node = person.volume()
    person.choose_model("quick")
    slicer_standin.answer(True)
    person.press_apply()
    assert person.ui.applyButton.text == "Cancel"
    person.wait(lambda: len(pip.calls()) == 2)  # dry run and trial
    done.append(True)
    person.wait_for_end()
    assert "Head denoised" in person.volumes(), person.log()
    assert node is person.parameters.inputVolume
    assert slicer_standin.installer.calls == [["monai>=1.5.1"]]
