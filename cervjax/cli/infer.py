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
    check_writable,
    extras_of,
    scans_of,
    shard,
    use_device,
)
from cervjax.cli.measure import add_levels
from cervjax.cli.network import add_network, method_of, scans_after_weights
from cervjax.io.pairing import pairing_table
from cervjax.io.review_list import chosen
from cervjax.io.scan_list import read_scan_list, write_participants, write_scan_list
from cervjax.io.scans import Problem, Scan

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
    add_network(parser)
    parser.add_argument(
        "--measure-on",
        choices=("echoes", "scanner"),
        default="echoes",
        help="fat from in-phase and out-of-phase, as the paper (default), "
        "or from the scanner's water and fat",
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
    add_levels(parser)
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


def run(args: argparse.Namespace) -> int:
    """Segments and measures scans."""
    scans_after_weights(args)
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
    from cervjax.inference.pipeline import segment_scans

    if args.levels is not None and not args.levels.exists():
        raise ValueError(f"--levels {args.levels}: no such file or folder")
    check_writable(args.output)
    if args.list:
        write_participants(args.output / "participants.tsv", read_scan_list(args.list))
    method = method_of(args)
    print(f"cervjax {__version__} on {device_name()}, {method.settings.mode} mode")
    for member in method.members:
        print(f"weights {member.weights.card.name}, sha256 {member.weights.sha256}")
        print(f"        {member.weights.card.source}")
    for line in dict.fromkeys(m.weights.card.limits for m in method.members):
        print(line)
    told = "not calibrated for these weights and settings"
    if method.intervals is not None:
        told = f"95 %, calibrated on {method.intervals.source}"
    print(f"intervals: {told}")
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
            levels=args.levels,
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
