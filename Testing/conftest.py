"""Fixtures for all tests: plain nouns. The scene's and the widget's own are in the conftest.py of their folders."""

from __future__ import annotations

import os
import signal
import sys

# A shell ignores Ctrl-C for what it runs in the background, and child processes inherit that; tests press Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Small volumes gain nothing from many threads, and child processes inherit this: also the workers of pytest -n, which
# with more threads than cores would wait for each other most of the time.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest

import model_folders
import phantoms
from medgan.volume import Label, LabelMap, Volume


@pytest.fixture
def a_volume() -> Volume:
    """A small clean head: 24 x 24 x 24 voxels of 1 mm, int16 in its source."""
    return Volume(phantoms.head(), phantoms.geometry(), voxel_type="int16")


@pytest.fixture
def an_oblique_volume() -> Volume:
    """A noisy head that is oblique, left-handed, anisotropic and odd: 37 x 41 x 29 voxels."""
    noisy = phantoms.rician(phantoms.head(phantoms.ODD_SHAPE), sigma=50.0)
    return Volume(np.rint(noisy), phantoms.awkward_geometry(), voxel_type="int16")


@pytest.fixture
def a_single_slice() -> Volume:
    """One slice of 31 x 33 voxels that still lies somewhere in space."""
    return Volume(phantoms.head((9, 33, 31))[4:5], phantoms.awkward_geometry(), voxel_type="uint16")


@pytest.fixture
def a_label_map() -> LabelMap:
    """Values 0, 3, 7 and 900 on an odd, oblique, left-handed grid, with names and colours."""
    array = np.zeros(phantoms.ODD_SHAPE, np.int16)
    array[5:20, 5:20, 5:20] = 3
    array[8:12, 8:12, 8:12] = 7
    array[20:25, 30:40, 2:9] = 900
    labels = {
        3: Label("brain", (0.9, 0.7, 0.5)),
        7: Label("ventrículo", (0.1, 0.2, 0.8)),
        900: Label("lesion", (1.0, 0.0, 0.0)),
    }
    return LabelMap(array, phantoms.awkward_geometry(), labels)


@pytest.fixture
def a_model(tmp_path_factory, monkeypatch) -> str:
    """The name of a tiny model in the person's model folder; it denoises a little, untrained as it is."""
    root = tmp_path_factory.mktemp("models")
    model_folders.write_bundle(root / "tiny")
    monkeypatch.setenv("MEDGAN_MODELS", str(root))
    return "tiny"


@pytest.fixture
def full_disk():
    """A function after which no file of this process can get longer than so many bytes, as on a disk that is full."""
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda most: resource.setrlimit(resource.RLIMIT_FSIZE, (most, limits[1]))  # Python ignores the signal
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.fixture
def one_thread(monkeypatch):
    """Sums come out alike in this process and its children only with the same number of threads; earlier tests may have
    changed that of this one."""
    import torch

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def slicers_launcher(tmp_path_factory) -> str:
    """Ends as PythonSlicer does: with 1 and these words, whatever the signal that ended the interpreter. As that of
    Slicer 5.10 for Windows it loses the letters of its command line that are not ASCII."""
    launcher = tmp_path_factory.mktemp("bin") / "PythonSlicer"
    launcher.write_text(
        f"#!{sys.executable}\nimport subprocess, sys\n"
        "arguments = [each.encode('cp1252', 'replace').decode('utf-8', 'replace') for each in sys.argv[1:]]\n"
        f"code = subprocess.call([{sys.executable!r}, *arguments])\n"
        "sys.exit('error: [python-real] exit abnormally - Report the problem.' if code < 0 else code)\n"
    )
    launcher.chmod(0o755)
    return str(launcher)
