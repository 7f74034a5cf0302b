"""``cervjax landmarks``: learns histogram landmarks from a folder of scans."""

import argparse
from pathlib import Path

from cervjax.cli.flags import OK, add_scan_flags, scans_of

HELP = "learn the standard histogram"

EXAMPLES = """\
cervjax landmarks scans/ -o landmarks.txt"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    add_scan_flags(parser)
    parser.add_argument("-o", "--output", type=Path, required=True, help="text file")
    parser.add_argument(
        "--foreground",
        default="threshold_plus",
        choices=("threshold_plus", "otsu_plus", "none"),
    )


def run(args: argparse.Namespace) -> int:
    """Learns histogram landmarks from a folder of scans."""
    from cervjax.io.dixon import read_scan
    from cervjax.io.files import write_atomically
    from cervjax.preprocessing.histogram import format_landmarks, train_landmarks
    from cervjax.preprocessing.pipeline import Recipe, to_network_grid

    scans, problems, _ = scans_of(args)
    if problems:
        raise ValueError(f"{problems[0].message}; {problems[0].hint}")

    def pairs():
        for scan in scans:
            images = read_scan(scan)
            print(scan.name, flush=True)
            yield tuple(
                to_network_grid(
                    v, images.grid.spacing_mm, Recipe(), flush_denormals=False
                )
                for v in (images.in_phase, images.out_phase)
            )

    learnt = train_landmarks(pairs(), foreground_type=args.foreground)
    text = format_landmarks(learnt)
    write_atomically(args.output, lambda part: part.write_text(text))
    print(f"{args.output}: landmarks of {len(scans)} scan(s)")
    return OK
