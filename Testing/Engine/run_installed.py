"""``python run_installed.py FOLDER``: denoise a piece of the sample with the engine in that folder, say how it went."""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main(installed: Path) -> None:
    sys.path.insert(0, str(installed))
    import numpy as np

    import medgan
    from medgan import models
    from medgan.job import Job
    from medgan.samples import sample_path
    from medgan.settings import EnhanceSettings
    from medgan.volume import Volume, read_volume

    sample = read_volume(sample_path())
    clean = sample.array[40:72, 60:91, 40:73]
    noise = np.random.default_rng(0).normal(0.0, 0.06 * clean.max(), (2, *clean.shape)).astype(np.float32)
    noisy = np.hypot(clean + noise[0], noise[1])
    with Job("enhance", {"volume": Volume(noisy, sample.ijk_to_ras)}, EnhanceSettings(character=0.0)) as job:
        job.start()
        state = job.wait(240)
        if state.error:
            sys.exit(f"{state.error}\n{state.details}")
        result = job.outputs().volumes["volume"].array
    errors = [float(np.square(array - clean).mean()) for array in (noisy, result)]
    said = {
        "medgan": medgan.__file__,
        "child": str(job.child_script),
        "sample": str(sample_path()),
        "model": str(models.find("denoise").folder),
        "gain_db": 10 * float(np.log10(errors[0] / errors[1])),
    }
    print(json.dumps(said))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
