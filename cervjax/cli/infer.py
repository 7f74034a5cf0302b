"""``cervjax infer``: segments and measures scans."""

import argparse
from pathlib import Path

from cervjax.about import __version__
from cervjax.cli.dicom import add_dicom_flags, is_dicom, scans_of_dicom
from cervjax.cli.dicom_seg import KINDS, segmentations
from cervjax.cli.flags import (
    OK,
    SOME_FAILED,
    add_extras,
    add_scan_flags,
    add_triple,
    add_tta,
    check_writable,
    extras_of,
    positive,
    scans_of,
    shard,
    use_device,
)
from cervjax.io.pairing import pairing_table
from cervjax.io.review_list import chosen
from cervjax.io.scan_list import read_scan_list, write_participants, write_scan_list
from cervjax.io.scans import Problem, Scan

SETTINGS = (
    "mode",
    "window",
    "border",
    "predict_border",
    "tta",
    "levels_rule",
    "batch_size",
    "max_memory_gb",
    "measure_on",
)
"""Flags that are fields of `inference.types.Settings`."""

HELP = "segment and measure scans"

EXAMPLES = """\
cervjax infer scans/ -o results/
cervjax infer dicom_export/ -o results/ --dicom-seg
cervjax infer --in-phase ip.nii.gz --out-phase op.nii.gz -o results/
cervjax infer scans/ --dry-run --csv scans.csv
cervjax infer --list scans.csv -o results/
cervjax infer scans/ -o results/ --cluster local"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    _add_files(parser)
    _add_network(parser)
    _add_preprocessing(parser)
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
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="compute results again; masks that were edited are kept and measured",
    )
    parser.add_argument(
        "--discard-edits",
        action="store_true",
        help="draw masks again that were edited since they were written",
    )
    add_extras(parser)
    parser.add_argument(
        "--report", action="store_true", help="write report.html to check them on, too"
    )
    parser.add_argument(
        "--dicom-seg",
        nargs="?",
        choices=KINDS,
        const=KINDS[0],
        metavar="KIND",
        help="DICOM: write masks as DICOM SEG, too, as 'cervjax dicom-seg' does: "
        "binary (default) or labelmap",
    )
    parser.add_argument("--dry-run", action="store_true", help="print the pairing only")
    parser.add_argument(
        "--csv",
        type=Path,
        metavar="TABLE",
        help="with --dry-run: write the pairing, to be edited and read by --list",
    )


def _add_files(parser: argparse.ArgumentParser) -> None:
    """What is read, and where the results go."""
    add_scan_flags(parser)
    add_dicom_flags(parser)
    parser.add_argument("-o", "--output", type=Path, help="folder for the results")
    parser.add_argument(
        "--shard",
        type=shard,
        default=(1, 1),
        metavar="PART/PARTS",
        help="only a part of the scans, as 3/100: every hundredth from the third; jobs "
        "may share a results folder",
    )
    parser.add_argument(
        "--weights",
        type=Path,
        help="file, work directory or checkpoint (default: the package's own)",
    )
    parser.add_argument("--landmarks", type=Path, help="of a NiftyNet checkpoint")


def _add_network(parser: argparse.ArgumentParser) -> None:
    """How the network is run."""
    parser.add_argument(
        "--mode", choices=("whole", "sliding_window"), help="default: the weights'"
    )
    for name, default in (("window", (360, 240, 32)), ("border", (8, 8, 8))):
        add_triple(
            parser, f"--{name}", default, "sliding window: voxels (default %(default)s)"
        )
    parser.add_argument(
        "--predict-border",
        action="store_true",
        help="sliding window: also predict the outer border, which NiftyNet leaves 0",
    )
    add_tta(parser, "default: the weights'")
    parser.add_argument(
        "--levels-rule",
        choices=("paper", "none"),
        help="each muscle at its levels of the paper's Table 1, or in its full length; "
        "for weights that find levels (default: the weights')",
    )
    parser.add_argument(
        "--batch-size", type=positive, default=1, help="windows at once (default 1)"
    )
    parser.add_argument("--max-memory-gb", type=float, help="for the network")
    parser.add_argument(
        "--device", choices=("cpu", "gpu", "tpu"), help="default: the best"
    )
    parser.add_argument(
        "--cluster",
        metavar="local|ADDRESS",
        help="workers on all devices of this machine (local), or of a Ray cluster",
    )
    parser.add_argument(
        "--worker-cores",
        type=positive,
        default=4,
        metavar="N",
        help="cores of each worker that has no device of its own (default 4)",
    )


def _add_preprocessing(parser: argparse.ArgumentParser) -> None:
    """What else the weights' card has on the network's input."""
    add_triple(
        parser, "--padding", None, "voxels around the scan (default: the weights')"
    )
    parser.add_argument(
        "--padding-mode",
        choices=("minimum", "zero"),
        help="what stands there (default: the weights')",
    )
    parser.add_argument(
        "--keep-last-plane",
        action=argparse.BooleanOptionalAction,
        help="keep a plane that SciPy's zoom may lose",
    )
    parser.add_argument(
        "--skip-fitting-grid",
        action=argparse.BooleanOptionalAction,
        help="no spline where the scan's grid is the network's already "
        "(default: the weights')",
    )


def run(args: argparse.Namespace) -> int:
    """Segments and measures scans."""
    if args.csv and not args.dry_run:
        raise ValueError("--csv writes what --dry-run finds; give both")
    if is_dicom(args.scans or args.input):
        return _run_on_dicom(args)
    if args.dicom_seg:
        raise ValueError("--dicom-seg is for scans in DICOM; these are NIfTI")
    scans, problems, root = scans_of(args)
    part, parts = args.shard
    scans, problems = scans[part - 1 :: parts], problems[part - 1 :: parts]
    if args.dry_run:
        print(pairing_table(scans, problems, root))
        if args.csv:
            write_scan_list(args.csv, scans, problems)
            print(f"{args.csv} is to be edited, then read by --list {args.csv}")
        return SOME_FAILED if problems else OK
    if args.output is None:
        raise ValueError("give a folder for the results: -o OUT")
    return _segment(args, scans, problems, extras_of(args, root))


def _run_on_dicom(args: argparse.Namespace) -> int:
    """Converts DICOM into ``nifti`` of the results folder, then segments that."""
    if args.csv:
        raise ValueError("convert DICOM first: cervjax dicom FOLDER -o nifti/")
    out = None if args.dry_run else args.output
    if out is None and not args.dry_run:
        raise ValueError("give a folder for the results: -o OUT")
    if out is not None:
        check_writable(out)
    if args.dicom_seg:
        from cervjax.io.dicom_seg import require_highdicom

        require_highdicom()
    images = None if out is None else out / "nifti"
    found = scans_of_dicom(args.scans or args.input, images, args)
    scans, problems = chosen(*found, args.only, args.exclude)
    if out is None:
        return SOME_FAILED if problems else OK
    extras = [name for name in ("maps", "histogram") if getattr(args, name)]
    status = _segment(args, scans, problems, extras)
    if args.dicom_seg and scans:
        dicom = args.scans or args.input
        return max(status, segmentations(args.output, dicom, args.dicom_seg, args))
    return status


def _segment(
    args: argparse.Namespace,
    scans: list[Scan],
    problems: list[Problem],
    extras: list[str],
) -> int:
    use_device(args.device)
    from cervjax.cli.progress import end_of_run, scan_listener
    from cervjax.inference.memory import device_name
    from cervjax.inference.method import RECIPE_SETTINGS, Method
    from cervjax.inference.pipeline import segment_scans
    from cervjax.measurement.calibration import read_calibration
    from cervjax.model.weights import SHIPPED, load_weights

    check_writable(args.output)
    if args.list:
        write_participants(args.output / "participants.tsv", read_scan_list(args.list))
    weights = load_weights(args.weights or SHIPPED, args.landmarks)
    calibration = args.calibration and read_calibration(args.calibration)
    chosen = (*RECIPE_SETTINGS, *SETTINGS)
    given = {name: getattr(args, name) for name in chosen}
    method = Method.of_weights(weights, calibration, **given)
    print(f"cervjax {__version__} on {device_name()}, {method.settings.mode} mode")
    print(f"weights {weights.card.name}, sha256 {weights.sha256}")
    print(f"        {weights.card.source}")
    print(weights.card.limits)
    print(f"{len(scans)} scan(s), results in {args.output}", flush=True)
    flags = {name: getattr(args, name) for name in ("quiet", "verbose", "debug")}
    with scan_listener(len(scans), **flags) as listener:
        failures = segment_scans(
            scans,
            problems,
            method,
            args.output,
            overwrite=args.overwrite,
            discard_edits=args.discard_edits,
            extras=extras,
            listener=listener,
            run=_cluster(args),
        )
    if args.report:
        from cervjax.inference.review import write_report

        for line in write_report(args.output)[1]:
            print(line)
    names = {scan.name for scan in scans}
    done = len(scans) + len(problems) - len(failures)
    print(f"{done} scan(s) done, {len(failures)} failed; results in {args.output}")
    return end_of_run(args.output, names, bool(failures))


def _cluster(args: argparse.Namespace):
    """Who does the work; None is this process."""
    if args.cluster is None:
        return None
    from cervjax.inference.cluster import Cluster

    cluster = Cluster(args.cluster, args.worker_cores, args.device, args.verbose)
    return cluster.run
