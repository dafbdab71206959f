"""The denoising benchmark: one command measures MedGAN and its peers on the held-out volumes and prints the table.

    python Testing/Benchmarks/denoise.py --data DIR --make-peers-env ENV      # once: makes the peers' environment
    python Testing/Benchmarks/denoise.py --data DIR --peers-python ENV/bin/python --output results

``DIR`` holds the training data set with its folders ``mr``, ``ct`` and ``multi``; the volumes measured here stand in
``held_out.json`` and are in no training run. Without a peers' environment only MedGAN is measured, and the verdicts
that need a peer say so. ``--cache`` keeps the peers' results (BM4D takes a minute a crop), so a second run, with other
weights say, only measures MedGAN again. What noise, range and foreground mean stands in ``cases.py``, the figures in
``figures.py``, the treatment of the peers in ``peers.py``. Needs the ``test`` extra (scikit-image measures SSIM).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
sys.path[:0] = [str(HERE), str(REPOSITORY / "MedGANSlicer")]

import methods  # noqa: E402
import peers  # noqa: E402
import report  # noqa: E402
from cases import Case, cases  # noqa: E402


def main(words: list[str] | None = None) -> int:
    options = _parse(words)
    python = methods.make_peers_environment(options.make_peers_env) if options.make_peers_env else options.peers_python
    with tempfile.TemporaryDirectory() as temporary:
        cache = options.cache or Path(temporary)
        try:
            chosen = list(cases(options.data, options.crop, options.seed, options.only))
        except FileNotFoundError as error:
            print(error, file=sys.stderr)
            return 2
        if not chosen:
            print(f"No case has '{options.only}' in its name.", file=sys.stderr)
            return 2
        rows = measure(chosen, cache, python, options)
    about = {
        "crop": options.crop,
        "seed": options.seed,
        "model": options.model,
        "device": options.device,
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPU cores",
        "python": platform.python_version(),
        "volumes": sorted({case.volume for case in chosen}),
        "peers": bool(python) or any(row.method in peers.METHODS for row in rows),
    }
    text = report.markdown(rows, about)
    print(text)
    if options.output:
        options.output.mkdir(parents=True, exist_ok=True)
        (options.output / "denoise.md").write_text(text, encoding="utf-8")
        plain = {"about": about, "verdicts": report.verdicts(rows), "rows": [row.to_dict() for row in rows]}
        (options.output / "denoise.json").write_text(json.dumps(plain, indent=1), encoding="utf-8")
        print(f"Written: {options.output / 'denoise.md'} and {options.output / 'denoise.json'}")
    return 0


def measure(chosen: list[Case], cache: Path, python: Path | None, options: argparse.Namespace) -> list[methods.Row]:
    """Every method on every case."""
    names = [name for name in options.methods.split(",") if name in peers.METHODS]
    folders = {case.name: methods.write_case(case, cache) for case in chosen}
    if python:
        methods.run_peers(python, cache, list(folders), names)
    elif not options.cache:
        print("The reference methods are left out: give --peers-python or --make-peers-env.", file=sys.stderr)
    rows = []
    for number, case in enumerate(chosen, 1):
        print(f"[{number}/{len(chosen)}] figures of {case.name}", file=sys.stderr)
        rows.append(methods.noisy_row(case, folders[case.name]))
        rows += methods.peer_rows(case, folders[case.name], names)
        for character in options.characters:
            rows.append(methods.medgan_row(case, options.model, character, options.device))
    return rows


def _parse(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure MedGAN's denoising against its peers.")
    parser.add_argument("--data", type=Path, required=True, help="folder with mr, ct and multi")
    parser.add_argument("--output", type=Path, help="folder for denoise.md and denoise.json")
    parser.add_argument("--peers-python", type=Path, help="Python of the environment that holds the reference methods")
    parser.add_argument("--make-peers-env", type=Path, metavar="DIR", help="make that environment in DIR, then use it")
    parser.add_argument("--cache", type=Path, help="folder that keeps the peers' results between runs")
    parser.add_argument("--crop", type=int, default=96, help="longest side of the central crop; 0 takes whole volumes")
    parser.add_argument("--seed", type=int, default=0, help="seed of the noise")
    parser.add_argument("--only", default="", help="part of the names of the cases to run, such as 'stroke' or '_9'")
    parser.add_argument(
        "--methods", default=",".join(peers.METHODS), help="reference methods, with commas; '' for none"
    )
    parser.add_argument("--model", default="denoise", help="name of a model or path of a bundle folder")
    parser.add_argument(
        "--characters", type=_numbers, default=[0.0, 0.2, 1.0], help="with commas; '' leaves MedGAN out"
    )
    parser.add_argument("--device", default="cpu", choices=["auto", "cpu", "cuda", "mps"])
    return parser.parse_args(words)


def _numbers(text: str) -> list[float]:
    return [float(word) for word in text.split(",") if word]


if __name__ == "__main__":
    sys.exit(main())
