"""``cervjax measure``: masks of any program measured."""

import argparse
from pathlib import Path
from typing import Literal

from cervjax.cli.flags import (
    OK,
    SOME_FAILED,
    add_extras,
    add_scan_flags,
    check_writable,
    extras_of,
    scans_of,
)

HELP = "measure masks that are drawn already, by whatever program"

MIXTURES: dict[str, Literal[2, 3]] = {"mixture2": 2, "mixture3": 3}
"""Methods for images of one contrast, and their number of Gaussians."""

EXAMPLES = """\
cervjax measure scans/ masks/ -o results/
cervjax measure scans/ musclemap/ -o results/ --labels musclemap
cervjax measure imagesTr/ labelsTr/ -o results/ --labels dataset.json
cervjax measure mask.nii.gz --in-phase ip.nii.gz --out-phase op.nii.gz -o results/
cervjax measure t2w/ masks/ -o results/ --method mixture2"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    add_scan_flags(parser)
    parser.add_argument(
        "masks", nargs="?", type=Path, help="folder of masks, named as their scans"
    )
    parser.add_argument(
        "--method",
        choices=("dixon", *MIXTURES),
        default="dixon",
        help="dixon: fat fractions of Dixon scans (default); mixture2, mixture3: "
        "shares of dark and bright voxels in images of one contrast with bright fat "
        "(T1, T2), each file of SCANS an image; needs the extra mixture",
    )
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder")
    parser.add_argument(
        "--labels",
        default="",
        metavar="SET",
        help="what the numbers mean: paper, musclemap, nnU-Net's dataset.json, a table "
        "(CSV) with the columns value and name, or a mask that has the names in its "
        "header; default: a dataset.json beside the masks, else paper",
    )
    parser.add_argument(
        "--measure-on",
        choices=("echoes", "scanner"),
        default="echoes",
        help="fat from in-phase and out-of-phase, as the paper (default), "
        "or from the scanner's water and fat",
    )
    parser.add_argument(
        "--calibration",
        type=Path,
        metavar="FILE",
        help="calibrated values beside the raw ones",
    )
    add_levels(parser)
    add_extras(parser)


def add_levels(parser: argparse.ArgumentParser) -> None:
    """Vertebral levels that are known."""
    parser.add_argument(
        "--levels",
        type=Path,
        metavar="FILE|FOLDER",
        help="vertebral levels: a map of TotalSpineSeg or SCT on the scan's grid, a "
        "folder of such maps (NAME_levels.nii.gz), or a table of slices",
    )


def run(args: argparse.Namespace) -> int:
    """Measures masks."""
    if args.method in MIXTURES:
        return _by_mixture(args)
    if args.masks is None:  # the only folder or file given is that of the masks
        args.masks, args.scans = args.scans, None
    if args.masks is None:
        raise ValueError("give the scans and their masks: cervjax measure SCANS MASKS")
    from cervjax.cli.progress import end_of_run, scan_listener
    from cervjax.inference.measuring import GivenMasks, measure_scans
    from cervjax.io.label_sets import read_label_set
    from cervjax.io.masks import masks_of
    from cervjax.measurement.calibration import read_calibration

    scans, problems, root = scans_of(args)
    extras = extras_of(args, root)
    folder = args.masks if args.masks.is_dir() else args.masks.parent
    label_set = read_label_set(args.labels, folder)
    pairs, without = masks_of(scans, args.masks)
    calibration = args.calibration and read_calibration(args.calibration)
    check_writable(args.output)
    print(
        f"{len(pairs)} scan(s) with masks, labels: {label_set.name} "
        f"({len(set(label_set.muscles.values()))} of 14 muscles)",
        flush=True,
    )
    how = GivenMasks(label_set, args.measure_on, calibration, args.levels)
    flags = {name: getattr(args, name) for name in ("quiet", "verbose", "debug")}
    with scan_listener(len(pairs), **flags) as listener:
        failures = measure_scans(
            pairs, [*problems, *without], how, args.output, extras, listener
        )
    names = {scan.name for scan, _ in pairs}
    done = len(pairs) + len(problems) + len(without) - len(failures)
    print(f"{done} scan(s) done, {len(failures)} failed; results in {args.output}")
    return end_of_run(args.output, names, bool(failures))


def _by_mixture(args: argparse.Namespace) -> int:
    """Measures masks on images of one contrast."""
    for flag in ("calibration", "levels", "list", "histogram", "in_phase", "water"):
        if getattr(args, flag):
            name = flag.replace("_", "-")
            raise ValueError(f"--{name} is of Dixon scans; leave it out, or --method")
    source = args.scans or args.input
    if source is None or args.masks is None:
        raise ValueError(
            "give the images and their masks: cervjax measure IMAGES MASKS --method "
            f"{args.method}"
        )
    from cervjax.cli.progress import scan_listener
    from cervjax.inference.single_contrast import TABLE, ByMixture, measure_images
    from cervjax.io.label_sets import read_label_set
    from cervjax.io.masks import masks_of
    from cervjax.io.review_list import chosen
    from cervjax.io.single_images import single_images

    scans, problems = single_images(source)
    scans, problems = chosen(scans, problems, args.only, args.exclude)
    folder = args.masks if args.masks.is_dir() else args.masks.parent
    label_set = read_label_set(args.labels, folder)
    pairs, without = masks_of(scans, args.masks)
    alone = [p for p in without if p.message.startswith("no mask")]
    without = [p for p in without if p not in alone]
    check_writable(args.output)
    print(f"{len(pairs)} image(s) with masks, labels: {label_set.name}", flush=True)
    if alone:
        names = ", ".join(p.scan for p in alone[:5]) + ", ..." * (len(alone) > 5)
        print(f"without a mask, left out: {names}", flush=True)
    how = ByMixture(label_set, MIXTURES[args.method], args.maps)
    flags = {name: getattr(args, name) for name in ("quiet", "verbose", "debug")}
    with scan_listener(len(pairs), **flags) as listener:
        failures, rows = measure_images(
            pairs, [*problems, *without], how, args.output, listener
        )
    usable = sum(row["verdict"] == "use" for row in rows)
    print(
        f"{len(pairs) + len(problems) + len(without) - len(failures)} scan(s) done, "
        f"{len(failures)} failed; {usable} of {len(rows)} muscles to use; see "
        f"{args.output / TABLE}"
    )
    return SOME_FAILED if failures or not rows else OK
