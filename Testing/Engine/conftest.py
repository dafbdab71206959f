"""Fixtures for the tests of the engine."""

from __future__ import annotations

import pytest

from command_line import run


@pytest.fixture
def call():
    """The command within this process."""
    return run
