"""Fixtures for the tests of the engine."""

from __future__ import annotations

import subprocess
import sys

import pytest

from medgan import cli


@pytest.fixture
def call(monkeypatch, capfd):
    """The command within this process, for what starts no child: the same entry point, without its start-up time."""

    def called(*arguments: object, cwd=None) -> subprocess.CompletedProcess[str]:
        monkeypatch.setattr(sys, "argv", ["medgan", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "200")
        if cwd is not None:
            monkeypatch.chdir(cwd)
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capfd.readouterr()
        return subprocess.CompletedProcess(sys.argv, ended.value.code, out, err)

    return called
