"""What every measurement says of itself: machine, load, code; kept and compared.

Each line is JSON: CPU, its widest vectors, cores, load per core before the run, commit,
date, versions, then what was measured: ``what``, ``seconds`` (a median) and ``range``.
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NoReturn

BUSY_LOAD = 0.3
"""Per core; above it the machine did other things, and times are not to be trusted."""
WIDE = 0.25
"""Range of repeats over their median, above which they are not either."""
_VECTORS = ("avx512f", "avx2", "avx", "asimd")


class Parser(argparse.ArgumentParser):
    """Says in one line what is wrong with the arguments; has what every run takes."""

    def __init__(self, document: str):
        super().__init__(description=document.splitlines()[0])
        self.add_argument(
            "--json", type=Path, metavar="FILE", help="write the lines there, too"
        )
        self.add_argument(
            "--against",
            type=Path,
            metavar="FILE",
            help="of another run's --json: print times here over times there",
        )

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}; see --help\n")

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parses, and looks at the files before anything is measured."""
        flags = super().parse_args(args, namespace)
        if flags.against is not None:
            try:
                flags.against = read_lines(flags.against)
            except (OSError, ValueError) as error:
                self.error(f"--against {flags.against}: {error}")
        if flags.json is not None and not flags.json.parent.is_dir():
            self.error(f"--json {flags.json}: there is no such folder")
        return flags


def add_window(parser: argparse.ArgumentParser, flag: str = "--shape") -> None:
    """Voxels of the network's input, the paper's by default."""
    parser.add_argument(
        flag,
        type=eighth,
        nargs=3,
        default=(360, 240, 32),
        metavar=("X", "Y", "Z"),
        help="voxels of a window (default %(default)s)",
    )


def positive(text: str) -> int:
    """A whole number from 1."""
    return _whole(text, 1, 1)


def natural(text: str) -> int:
    """A whole number from 0."""
    return _whole(text, 0, 1)


def eighth(text: str) -> int:
    """A size that the network takes."""
    return _whole(text, 8, 8)


def _whole(text: str, least: int, of: int) -> int:
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if value < least or value % of:
        kind = f"a multiple of {of}" if of > 1 else "a whole number"
        raise argparse.ArgumentTypeError(f"{kind} from {least} is wanted, not {text!r}")
    return value


class Report:
    """Prints lines as they come; at the end keeps and compares them."""

    def __init__(self, flags: argparse.Namespace, **more: Any):
        self._flags, self.rows = flags, []
        self.about = {**about(), **more}

    def add(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        print(json.dumps({**self.about, **row}, default=str), flush=True)

    def end(self) -> None:
        """Says what makes the numbers doubtful, and writes and compares them."""
        for doubt in doubts(self.about["load_per_core"], self.rows):
            print(f"NOT TO BE TRUSTED: {doubt}")
        lines = [{**self.about, **row} for row in self.rows]
        if self._flags.json is not None:
            text = "".join(json.dumps(line, default=str) + "\n" for line in lines)
            self._flags.json.write_text(text)
        if self._flags.against is not None:
            print("\n".join(comparison(lines, self._flags.against)))


def doubts(load_per_core: float, rows: Sequence[dict[str, Any]]) -> list[str]:
    """Why times should not be believed; empty if they may be."""
    found = []
    if load_per_core > BUSY_LOAD:
        found.append(f"the machine was busy: load {load_per_core} per core before")
    for row in rows:
        wide = spread(row)
        if wide > WIDE:
            found.append(f"{row['what']}: repeats differ by {wide:.0%} of their median")
    return found


def spread(row: dict[str, Any]) -> float:
    """Range over median; 0 of a single run."""
    low, high = row.get("range", (0, 0))
    return (high - low) / row["seconds"] if row.get("seconds") else 0.0


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, Any]:
    """Of runs that alternate: the median of the pairs' ratios, and their range."""
    pairs = [a / b for a, b in zip(ours, theirs, strict=True)]
    middle = round(statistics.median(pairs), 3)
    return {
        "ratio": middle,
        "ratio_range": [round(min(pairs), 3), round(max(pairs), 3)],
    }


def timing(seconds: Sequence[float]) -> dict[str, Any]:
    """Median and range of repeats."""
    return {
        "seconds": round(statistics.median(seconds), 4),
        "range": [round(min(seconds), 4), round(max(seconds), 4)],
    }


def comparison(here: list[dict], there: list[dict]) -> list[str]:
    """A line for each thing that both runs have measured, of the same shape."""

    def name(line: dict) -> tuple[Any, ...]:
        return line.get("what"), *(line.get("shape") or ())

    earlier = {name(line): line for line in there if line.get("seconds")}
    found = [f"\n{'seconds':36}{'here':>9}{'there':>9}{'ratio':>8}"]
    for line in here:
        other = earlier.get(name(line))
        if other is None or not line.get("seconds"):
            continue
        a, b = line["seconds"], other["seconds"]
        found.append(f"{line['what']:36}{a:9.3f}{b:9.3f}{a / b:8.2f}")
        if line["cpu"] != other.get("cpu"):
            found.append(f"  measured on {other.get('cpu')}, here on {line['cpu']}")
    if len(found) == 1:
        found.append("nothing in common")
    if here and there:
        found.append(f"here {here[0]['commit']}, there {there[0].get('commit')}")
    return found


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a run's --json."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def about() -> dict[str, Any]:
    """Machine, its load now, and the code that is measured."""
    cores = len(os.sched_getaffinity(0))
    now = datetime.datetime.now(datetime.UTC)
    return {
        "cpu": _cpu("model name") or platform.processor() or platform.machine(),
        "vectors": next((v for v in _VECTORS if v in _cpu("flags").split()), "unknown"),
        "cores": cores,
        "load_per_core": round(os.getloadavg()[0] / cores, 2),
        "commit": _commit(),
        "date": now.isoformat(timespec="seconds"),
        "python": platform.python_version(),
        **{name: _version(name) for name in ("jax", "jaxlib", "numpy", "scipy")},
    }


def _cpu(field: str) -> str:
    """A field of Linux's description of the first processor; "" elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    pairs = (line.partition(":") for line in lines)
    return next((text.strip() for name, _, text in pairs if name.strip() == field), "")


def _commit() -> str:
    """Of the checkout, with a + if it was changed since."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        commit = subprocess.check_output([*git, "rev-parse", "--short", "HEAD"])
        changed = subprocess.check_output([*git, "status", "--porcelain"])
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit.decode().strip() + ("+" if changed else "")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "none"
