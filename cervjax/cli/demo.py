"""``cervjax demo``: the whole job on two digital necks, beside the truth."""

import argparse
import os
from pathlib import Path

from cervjax.cli.flags import (
    OK,
    SOME_FAILED,
    check_writable,
    use_device,
)
from cervjax.io.tables import read_rows

HELP = "the whole job on two digital necks"

EXAMPLES = """\
cervjax demo
cervjax demo /tmp/demo"""

SEED = 4_000  # of people that no shipped weights were trained on


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    parser.add_argument(
        "folder",
        type=Path,
        nargs="?",
        default=Path("demo"),
        help="folder for scans and results (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Makes two digital necks, segments them and shows the truth beside the result."""
    from cervjax.cli.progress import scan_listener
    from cervjax.inference.method import Method
    from cervjax.inference.pipeline import segment_scans
    from cervjax.io.pairing import find_scans
    from cervjax.measurement.interval_table import table_beside
    from cervjax.model.card import NO_PATIENTS
    from cervjax.model.weights import SHIPPED, load_weights
    from cervjax.phantom.dataset import write_dataset

    use_device(None)
    folder, out = args.folder / "scans", args.folder / "out"
    check_writable(out)
    print(f"making two digital necks in {folder}", flush=True)
    workers = os.cpu_count() or 1
    write_dataset(folder, 2, seed=SEED, severity="clinical", workers=workers)
    scans, problems = find_scans(folder)
    weights = load_weights(SHIPPED)
    method = Method.of_weights(weights).with_intervals(table_beside(SHIPPED))
    print(f"weights {weights.card.name}, results in {out}", flush=True)
    flags = {name: getattr(args, name) for name in ("quiet", "verbose", "debug")}
    with scan_listener(len(scans), **flags) as listener:
        failures = segment_scans(
            scans, problems, method, out, overwrite=True, listener=listener
        )
    print(compare_with_truth(folder, out))
    print(NO_PATIENTS)
    pictures = ", ".join(str(p) for p in sorted(out.glob("*_qc.png")))
    print(f"Open {pictures}; all numbers are in {out / 'measurements.csv'}.")
    return SOME_FAILED if failures else OK


def compare_with_truth(scans: Path, out: Path) -> str:
    """A table of found and true MFI and volume.

    Args:
        scans: folder of digital necks with their ``truth.csv``.
        out: results of ``infer`` on it.

    Returns:
        Lines of text; MFI in percent, volumes in millilitres.
    """
    found = {(r["scan"], r["label"]): r for r in _rows(out / "measurements.csv")}
    lines = [
        "                      MFI (%)          volume (ml)",
        "scan      muscle   found    true     found    true",
    ]
    for truth in _rows(scans / "truth.csv"):
        row = found.get((truth["scan"], truth["label"]))
        if row is None:
            continue
        numbers = (
            row["mfi_percent"],
            truth["mfi_image_percent"],
            row["volume_ml"],
            truth["volume_ml"],
        )
        texts = [f"{float(n):8.1f}" if n else f"{'-':>8}" for n in numbers]
        name = f"{row['muscle']}_{row['side'][0].upper()}"
        lines.append(
            f"{truth['scan']:9} {name:7}{''.join(texts[:2])}  {''.join(texts[2:])}"
        )
    return "\n".join(lines)


def _rows(path: Path) -> list[dict[str, str]]:
    return [row for _, row in read_rows(path)]
