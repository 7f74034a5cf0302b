"""Flags and checks that several commands share."""

import argparse
import contextlib
import os
import re
import secrets
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from cervjax.io.compiled import tend
from cervjax.io.files import remove_old_parts, user_cache
from cervjax.io.pairing import find_scans
from cervjax.io.review_list import chosen
from cervjax.io.scan_list import read_scan_list
from cervjax.io.scans import PairingError, Problem, Scan, explicit_scan

OK, SOME_FAILED, NOT_STARTED, INTERRUPTED = 0, 1, 2, 130
"""Exit status: all well, a scan failed, nothing could be started, interrupted."""


def add_scan_flags(parser: argparse.ArgumentParser) -> None:
    """A folder of scans, or the single files of one scan."""
    parser.add_argument("scans", nargs="?", type=Path, help="folder of scans")
    parser.add_argument(
        "-i", "--input", type=Path, metavar="SCANS", help="the same as a flag"
    )
    parser.add_argument(
        "--list",
        type=Path,
        metavar="TABLE",
        help="CSV of scans instead: name, in_phase, out_phase, water, fat, and what "
        "else there is of participants (--dry-run --csv of infer writes one)",
    )
    add_lists(parser)
    for role in ("in-phase", "out-phase", "water", "fat"):
        parser.add_argument(
            f"--{role}", type=Path, metavar="FILE", help=f"one scan's {role} image"
        )


def add_lists(parser: argparse.ArgumentParser) -> None:
    """Which scans, by lists such as a page's reviews."""
    for flag, text in (
        (
            "--only",
            "no other scans than those of a list: review.csv of report.html "
            "(those that passed), or a table with the column scan",
        ),
        (
            "--exclude",
            "all scans but those of a list: in review.csv, those that failed "
            "or have artifacts",
        ),
    ):
        parser.add_argument(flag, type=Path, metavar="LIST", help=text)


def shard(text: str) -> tuple[int, int]:
    """The part of a cohort that a job does: "3/100"."""
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise argparse.ArgumentTypeError(
            f"must be PART/PARTS, from 1/PARTS to PARTS/PARTS, got {text}"
        )
    return int(match[1]), int(match[2])


def scans_of(args: argparse.Namespace) -> tuple[list[Scan], list[Problem], Path]:
    """The scans that `add_scan_flags` names, what is wrong, and their folder.

    ``--only`` and ``--exclude`` have their say.

    Raises:
        PairingError: neither a folder nor files nor a list were given, or two of them.
    """
    scans, problems, root = _all_scans_of(args)
    return *chosen(scans, problems, args.only, args.exclude), root


def _all_scans_of(args: argparse.Namespace) -> tuple[list[Scan], list[Problem], Path]:
    if args.scans is not None and args.input is not None:
        raise PairingError(f"two folders of scans: {args.scans} and {args.input}")
    folder = args.scans or args.input
    files = (args.in_phase, args.out_phase, args.water, args.fat)
    if sum((folder is not None, any(files), args.list is not None)) > 1:
        raise PairingError("give a folder of scans, single files or a list: one only")
    if any(files):
        return [explicit_scan(*files)], [], Path(".")
    if args.list is not None:
        listed = read_scan_list(args.list)
        return listed.scans, listed.problems, args.list.parent
    if folder is None:
        raise PairingError(
            "give a folder of scans, --in-phase F --out-phase F, or --list TABLE"
        )
    scans, problems = find_scans(folder)
    return scans, problems, folder


def add_extras(parser: argparse.ArgumentParser) -> None:
    """What is written only where it is asked for."""
    parser.add_argument(
        "--maps",
        action="store_true",
        help="write maps of water, fat and fat fraction of each scan",
    )
    parser.add_argument(
        "--histogram",
        action="store_true",
        help="write each muscle's voxels by their fat fraction",
    )


def extras_of(args: argparse.Namespace, scans: Path) -> list[str]:
    """Those that `add_extras` has asked for.

    Args:
        args: of the command.
        scans: folder of the scans.

    Raises:
        ValueError: maps would lie among the scans, and be taken for their images.
    """
    given = args.scans or args.input
    if args.maps and given and args.output.resolve().is_relative_to(scans.resolve()):
        raise ValueError(
            f"--maps into {args.output}, which lies in the folder of the scans: they "
            "would be taken for images of scans; give another folder with -o"
        )
    return [name for name in ("maps", "histogram") if getattr(args, name)]


def add_tta(parser: argparse.ArgumentParser, when: str) -> None:
    """How many versions of a scan the network sees."""
    parser.add_argument(
        "--tta",
        type=int,
        choices=(1, 2, 4),
        help="test-time augmentation: average over 1 version of the scan (none), 2 "
        f"(and its mirror image) or 4 (and both moved by a slice); {when}",
    )


def add_triple(
    parser: argparse.ArgumentParser,
    flag: str,
    default: tuple[int, int, int] | None,
    text: str,
) -> None:
    """A flag that takes three numbers of voxels, none negative."""
    parser.add_argument(
        flag,
        nargs=3,
        type=natural,
        action=_Triple,
        default=default,
        help=text,
        metavar=("X", "Y", "Z"),
    )


class _Triple(argparse.Action):
    def __call__(self, parser, namespace, values, option_string=None):
        setattr(namespace, self.dest, tuple(values or ()))


def natural(text: str) -> int:
    """A whole number from 0."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"must not be negative, got {text}")
    return value


def positive(text: str) -> int:
    """A whole number from 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return value


_EXTRAS = {
    "train": ("grain", "ml_collections", "optax", "orbax", "tensorboardX"),
    "figures": ("plotly", "skimage"),
    "mixture": ("sklearn",),
    "cluster": ("ray",),
    "dicom": ("dcm2niix", "highdicom", "pydicom"),
    "export": ("flatbuffers",),
}


def extra_with(module: str | None) -> str | None:
    """The extra of the package that installs a module, or None: "skimage.measure"."""
    top = (module or "").partition(".")[0]
    return next((name for name, has in _EXTRAS.items() if top in has), None)


def check_writable(out: Path) -> None:
    """Makes the folder and writes into it, before any work is done.

    Raises:
        ValueError: the folder cannot be written into.
    """
    probe = out / f".{secrets.token_hex(8)}.writable"
    try:
        out.mkdir(parents=True, exist_ok=True)
        remove_old_parts(out)
        probe.write_bytes(b"cervjax")
    except OSError as error:
        raise ValueError(f"cannot write into {out} ({error.strerror})") from error
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()


def check_target(path: Path, *, overwrite: bool = False) -> None:
    """Looks at a file to be written, before any work is done.

    Raises:
        ValueError: it is there already and may not be replaced, or its folder cannot be
            written into.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder; give the name of a file")
    if path.exists() and not overwrite:
        raise ValueError(f"{path} is there already; give another name, or --overwrite")
    check_writable(path.parent)


def cache_folder() -> Path:
    """Where compiled programs are kept between runs."""
    given = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    if given:
        return Path(given)
    return user_cache() / "cervjax" / "xla"


def use_device(name: str | None) -> None:
    """Chooses the device, and where compiled programs are kept between runs.

    Raises:
        ValueError: there is no such device.
    """
    import jax

    is_ours = not os.environ.get("JAX_COMPILATION_CACHE_DIR")
    tend(cache_folder(), is_ours=is_ours)
    if is_ours:
        jax.config.update("jax_compilation_cache_dir", str(cache_folder()))
    if name is not None:
        try:
            jax.config.update("jax_default_device", jax.devices(name)[0])
        except RuntimeError as error:
            raise ValueError(f"no {name} here ({error})") from error


@contextlib.contextmanager
def progress_bar(
    unit: str, total: int, *, quiet: bool = False
) -> Iterator[tuple[Callable[[str], None], Callable[[str], None]]]:
    """A bar on a terminal's stderr; none if quiet or where stderr is a file.

    Args:
        unit: what is counted, such as "scans".
        total: how many.
        quiet: no bar.

    Yields:
        log(text), which prints a line on stdout, above the bar if both are a terminal;
        on_progress(name), which moves the bar on by one.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(
        *columns,
        console=console,
        redirect_stdout=sys.stdout.isatty(),
        disable=quiet or not console.is_terminal,
    ) as bar:
        task = bar.add_task(unit, total=total)
        yield lambda text: print(text, flush=True), lambda name: bar.advance(task)
