"""Figures of segmentation: ``python Testing/Benchmarks/segment.py --data DATA --output results``.

- tissue-ct against plain thresholds on held-out CT with added noise (segment_tissue.py),
- brain-parts on held-out heads in unseen contrasts (segment_parts.py). ``--model`` names one or several bundles: with
  and without the adversarial term, the ablation; ``--atlas`` adds the registration of one labelled head as a peer.

Writes ``segment.json`` (every row) and ``segment.md`` (the tables) as the rows get ready.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent.parent / "MedGANSlicer")]

import segment_parts  # noqa: E402
import segment_tissue  # noqa: E402
import torch  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with ct, multi and labels")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--only", choices=("tissue", "parts"), help="one of the two")
    parser.add_argument("--model", nargs="+", default=["brain-parts"], help="models that name the parts of a head")
    parser.add_argument("--tissue-model", default="tissue-ct")
    parser.add_argument("--atlas", action="store_true", help="also register one labelled head (minutes a scan)")
    parser.add_argument("--heads", nargs="+", default=list(segment_parts.HELD_OUT))
    parser.add_argument("--contrasts", nargs="+", default=[*segment_parts.CONTRASTS, "random"])
    parser.add_argument("--with-skull-only", action="store_true")
    parser.add_argument("--slices", nargs="+", type=int, default=[1, segment_parts.THICK], help="mm along S")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.output.mkdir(parents=True, exist_ok=True)
    held: dict[str, list[dict[str, Any]]] = {}
    if options.only != "parts":
        collect(held, "tissue", segment_tissue.measure(options.data, options.tissue_model), options.output)
    if options.only != "tissue":
        skulls = (True,) if options.with_skull_only else (True, False)
        rows = segment_parts.measure(
            options.data, options.model, options.heads, options.contrasts, options.atlas, skulls, options.slices
        )
        collect(held, "parts", rows, options.output)


def collect(held: dict[str, list[dict[str, Any]]], name: str, rows: Any, output: Path) -> None:
    """Write all that there is after every scan, so that an interrupted run is not lost."""
    held[name] = []
    for row in rows:
        held[name].append(row)
        if len(held[name]) % 17 == 0:
            write(held, output)
    write(held, output)
    print((output / "segment.md").read_text(encoding="utf-8"))


def write(held: dict[str, list[dict[str, Any]]], output: Path) -> None:
    (output / "segment.json").write_text(json.dumps(held, indent=1), encoding="utf-8")
    parts = []
    if held.get("tissue"):
        parts += ["## tissue-ct: Dice by added noise", segment_tissue.table(held["tissue"])]
    if rows := held.get("parts"):
        parts += ["## brain-parts: mean Dice (HD95) of the main structures"]
        parts += [segment_parts.table(rows, key) for key in ("contrast", "skull", "structure")]
        slowest = max(row["seconds"] for row in rows if row["method"] != "atlas")
        parts += [f"Longest run {slowest:g} s, {max(row['peak_gb'] for row in rows):g} GB at the most."]
    (output / "segment.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
