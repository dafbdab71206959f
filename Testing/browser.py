"""Pages in a headless Chromium, as a person's browser would show them."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any


def _working() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        path = shutil.which(name)
        # Ubuntu's package of that name is a script that says where to get the real one.
        if path and subprocess.run([path, "--version"], capture_output=True, check=False).returncode == 0:
            return path
    return ""


CHROMIUM = _working()
"""The browser on this computer, or ''."""

QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


class Shown:
    """A page after its scripts have run: ``dom`` as text, what a probe returned, and what the console said."""

    def __init__(self, dom: str, said: str) -> None:
        self.dom = dom
        self.complaints = [line for line in said.splitlines() if ":CONSOLE" in line]
        found = re.search(r'<pre id="probed">(.*?)</pre>', dom, re.DOTALL)
        self.probed: Any = json.loads(base64.b64decode(found[1])) if found else None


def show(page: Path, folder: Path, probe: str = "", width: int = 1280, dark: bool = False) -> Shown:
    """Open a page file in a browser without a past, run the body of a function in it, and say what became of it.

    The function returns a value that JSON knows. Its script is let into a copy of the page beside it by its hash,
    because a page may forbid all others.
    """
    if probe:
        page = _with_script(page, probe)
    command = [CHROMIUM, *QUIET, f"--user-data-dir={folder / 'profile'}", f"--window-size={width},1200"]
    command += ["--enable-logging=stderr", "--v=0", "--virtual-time-budget=3000"]
    command += ["--blink-settings=preferredColorScheme=0"] if dark else []
    done = subprocess.run(
        [*command, "--dump-dom", page.as_uri()],
        capture_output=True,
        timeout=120,
        check=True,
    )
    return Shown(done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))


def _with_script(page: Path, probe: str) -> Path:
    script = (
        f"const probed = JSON.stringify((() => {{{probe}}})());"
        'const shown = document.createElement("pre"); shown.id = "probed";'
        "shown.textContent = btoa(String.fromCharCode(...new TextEncoder().encode(probed)));"
        "document.body.append(shown);"
    )
    allowed = "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    text = page.read_text(encoding="utf-8").replace("script-src ", f"script-src '{allowed}' ", 1)
    copy = page.with_name("probed-" + page.name)
    copy.write_text(text.replace("</body>", f"<script>{script}</script></body>"), encoding="utf-8")
    return copy
