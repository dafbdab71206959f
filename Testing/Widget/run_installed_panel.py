"""``python run_installed_panel.py FOLDER``: open the module file in that folder, press Apply, say what happened."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import standin
from standin.waiting import wait_until


def main(installed: Path) -> None:
    sys.path.insert(0, str(installed))  # as Slicer does with a folder of modules
    with standin.install() as make, tempfile.TemporaryDirectory() as folder:
        running = make(Path(folder))
        running.load_module(installed / "MedGANSlicer.py")
        running.start_up()
        widget = running.open_module("MedGANSlicer")
        print(json.dumps(press_apply(widget)))
        running.close()


def press_apply(widget) -> dict[str, object]:
    import numpy as np
    import slicer.util

    import medgan
    import MedGANSlicerLib

    noise = np.random.default_rng(0).normal(0.0, 40.0, (25, 24, 27))
    node = slicer.util.addVolumeFromArray((1000 + noise).astype(np.int16), name="Noisy")
    widget.logic.getParameterNode().inputVolume = node
    wait_until(lambda: widget.ui.applyButton.enabled)
    widget.ui.applyButton.click()
    wait_until(lambda: not widget.taskPanel.busy, timeout=240)
    nodes = {node.GetName(): node for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")}
    result = nodes.get("Noisy denoised")
    return {
        "engine": medgan.__file__,
        "library": MedGANSlicerLib.__file__,
        "sources": [source.sampleName for source in slicer.modules.sampleDataSources["MedGAN"]],
        "error": widget.ui.errorLabel.text,
        "spread_after": float(slicer.util.arrayFromVolume(result).std()) if result else None,
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]))
