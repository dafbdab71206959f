"""Keeping the C libraries below SimpleITK from printing on the person's terminal. Standard library only."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator

TERMINAL = threading.RLock()
"""Held while file descriptor 2 leads nowhere; who has to say something to the person takes it first."""


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Drop what is printed on file descriptor 2; one thread at a time, because all of them share it."""
    with TERMINAL:
        try:
            kept = os.dup(2)
        except OSError:  # a Windows program without a console has none
            yield
            return
        with contextlib.suppress(Exception):
            sys.stderr.flush()
        try:
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), 2)
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
