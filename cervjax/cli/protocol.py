"""``cervjax protocol``: what a protocol will give, before anybody is scanned."""

import argparse
import os
from pathlib import Path

from cervjax.cli.flags import OK, check_target, natural, positive, progress_bar

HELP = "what a scanning protocol will give, from digital necks"

EXAMPLES = """\
cervjax protocol --te1 2.46 --te2 3.69 --spacing 0.7 0.7 3 --snr 20
cervjax protocol --te1 1.15 --te2 2.3 --spacing 1 1 5 --snr 30 --effect 1 -o plan.csv"""


_UNITS = {
    "mean": "mfi_mean_percent",
    "bias": "bias_points",
    "limit_low": "limit_low_points",
    "limit_high": "limit_high_points",
    "repeat_sd": "repeat_sd_points",
    "smallest_detectable_change": "smallest_detectable_change_points",
    "people_sd": "people_sd_points",
}
"""Columns of the table."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    number = {"type": float, "metavar": "X"}
    parser.add_argument("--te1", **number, default=2.46, help="one echo time in ms")
    parser.add_argument("--te2", **number, default=3.69, help="the other one")
    parser.add_argument(
        "--tr", **number, default=7.05, help="repetition time in ms (%(default)s)"
    )
    parser.add_argument(
        "--flip", **number, default=12.0, help="flip angle in degrees (%(default)s)"
    )
    parser.add_argument(
        "--field", **number, default=3.0, help="field in tesla (%(default)s)"
    )
    parser.add_argument(
        "--spacing",
        type=float,
        nargs=3,
        default=(0.7, 0.7, 3.0),
        metavar=("X", "Y", "Z"),
        help="voxel size in mm, slices last (0.7 0.7 3)",
    )
    parser.add_argument(
        "--snr", **number, default=25.0, help="of muscle in phase (%(default)s)"
    )
    parser.add_argument(
        "--slab", **number, default=120.0, help="height of the stack in mm (120)"
    )
    parser.add_argument(
        "--severity",
        choices=("clean", "clinical", "hard"),
        default="clinical",
        help="artefacts (default %(default)s)",
    )
    parser.add_argument(
        "--people", type=positive, default=10, help="digital ones (%(default)s)"
    )
    parser.add_argument(
        "--effect",
        **number,
        default=2.0,
        help="MFI in points that is to be shown, by change or between groups (2)",
    )
    parser.add_argument("--power", **number, default=0.8, help="(%(default)s)")
    parser.add_argument("--seed", type=natural, default=0, help="other people")
    parser.add_argument(
        "--workers",
        type=positive,
        default=os.cpu_count() or 1,
        help="processes (default: one per core)",
    )
    parser.add_argument("-o", "--output", type=Path, help="table (CSV) to be written")
    parser.add_argument("--overwrite", action="store_true", help="replace the table")


def run(args: argparse.Namespace) -> int:
    """Scans digital people twice and tells what the numbers will be worth."""
    from cervjax.cohort.planning import plan
    from cervjax.io.tables import write_rows
    from cervjax.phantom.trial import people, run_trial

    if args.output is not None:
        check_target(args.output, overwrite=args.overwrite)
    protocol = _protocol(args)
    with progress_bar("people", args.people, quiet=args.quiet) as (_, on_progress):
        rows = run_trial(
            protocol,
            args.people,
            seed=args.seed,
            workers=args.workers,
            on_progress=on_progress,
        )
    found = plan(
        people(rows, "mfi_percent"),
        people(rows, "pdff_percent"),
        effect=args.effect,
        power=args.power,
    )
    print(_text(found, args))
    if args.output is not None:
        named = [{_UNITS.get(k, k): v for k, v in row.items()} for row in found]
        write_rows(args.output, named)
        print(f"{args.output}: MFI, in percent and points")
    return OK


def _protocol(args: argparse.Namespace):
    from cervjax.phantom.trial import Protocol, sequence_of

    x, y, z = args.spacing
    if not (0.3 <= min(x, y) and max(x, y) <= 3 and 1 <= z <= 20):
        raise ValueError(
            f"--spacing {x:g} {y:g} {z:g}: in-plane 0.3-3 mm and slices of 1-20 mm can "
            "be made"
        )
    if abs(x - y) > 0.1 * x:
        raise ValueError(f"--spacing {x:g} {y:g} {z:g}: in-plane must be square")
    if not (args.snr > 1 and 40 <= args.slab <= 200):
        raise ValueError(
            f"--snr must be above 1 and --slab 40-200 mm, got {args.snr:g}, "
            f"{args.slab:g}"
        )
    sequence = sequence_of(
        (args.te1, args.te2), field_t=args.field, tr_ms=args.tr, flip_deg=args.flip
    )
    return Protocol(sequence, ((x + y) / 2, z), args.snr, args.slab, args.severity)


def _text(rows: list[dict], args: argparse.Namespace) -> str:
    """The table for the terminal."""
    lines = [
        f"MFI of {args.people} digital people scanned twice, true outlines. Bias and "
        "limits of agreement: against",
        f"the density of fat. SDC: smallest detectable change of one person. People "
        f"for {args.effect:g} points at a power of",
        f"{args.power:g}: measured twice for a change, or in each of two groups.",
        "",
        "muscle  people   MFI   bias  limits of agreement   SDC   for change"
        "  per group",
    ]
    for row in rows:
        if "bias" not in row:
            lines.append(f"{row['muscle']:7} {row['people']:6}   not covered")
            continue
        limits = f"{row['limit_low']:+.1f} to {row['limit_high']:+.1f}"
        people = [row["people_change"], row["people_per_group"]]
        change, group = ("> 100,000" if n is None else str(n) for n in people)
        lines.append(
            f"{row['muscle']:7} {row['people']:6} {row['mean']:5.1f}"
            f" {row['bias']:+6.2f}  {limits:>19}"
            f" {row['smallest_detectable_change']:5.2f}   {change:>10} {group:>10}"
        )
    lines += [
        "",
        "Errors of outlines come on top (cervjax evaluate tells them of your masks); "
        "changes that differ",
        "between people need more of them. Synthetic: no patient, no clinical meaning.",
    ]
    return "\n".join(lines)
