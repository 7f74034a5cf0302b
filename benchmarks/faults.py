"""Faults injected into whole runs of `cervjax infer`: what was lost, what was wrong.

    python benchmarks/faults.py --kills 10 --seconds 900

SIGKILL, and SIGINT, SIGTERM and SIGHUP at random moments; a full disk (a small tmpfs,
where the system lets us mount one); damaged inputs, results, compiled programs; files
that vanish; two runs in one folder. After each fault the same command is run again, and
must leave the bytes of a run that nothing happened to (side-cars but for their times).
Prints a line for each kind; exit status 1 where anything was lost or wrong. No kind
begins after so many seconds. Damaged files of every reader: `fuzz.py`.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from made_up import SMALL, write_scans, write_untrained_weights
from measured import Parser, positive

ROOT = Path(__file__).resolve().parents[1]
SCANS = 3
SHAPE = (60, 56, 16)
PATIENCE_S = 600
Found = Iterator[str]
"""What was lost or wrong by each fault, in words; nothing of one that did no harm."""


class Runs:
    """A folder of scans, and runs of the command on them."""

    def __init__(self, folder: Path, seed: int):
        self.folder, self.random = folder, random.Random(seed)
        write_scans(folder / "in", SCANS, SHAPE, (2.0, 2.0, 3.0))
        write_untrained_weights(folder / "w.safetensors", architecture=SMALL)
        self.cache = folder / "programs"
        self.run("first")  # compiles
        started = time.perf_counter()
        status, text = self.run("whole")
        self.seconds = time.perf_counter() - started
        assert status in (0, 1), text
        self.expected = content(folder / "whole")

    def start(self, out: Path | str, scans: str = "in") -> subprocess.Popen:
        command = [sys.executable, str(ROOT / "infer.py"), scans, "-o", str(out)]
        return subprocess.Popen(
            [*command, "--weights", "w.safetensors"],
            cwd=self.folder,
            env=os.environ
            | {"PYTHONPATH": str(ROOT), "JAX_COMPILATION_CACHE_DIR": str(self.cache)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, out: Path | str, scans: str = "in") -> tuple[int, str]:
        return ended(self.start(out, scans))

    def checked(self, out: Path, text: str = "") -> list[str]:
        """Runs again: what is not as if nothing had happened."""
        status, more = self.run(out)
        return self.wrong(out, status, text + more)

    def wrong(self, out: Path, status: int, text: str) -> list[str]:
        told = []
        if status not in (0, 1) or "Traceback" in text:
            told.append(f"status {status}: {text[-300:]}")
        found = content(out)
        for name in sorted(self.expected.keys() | found.keys()):
            if self.expected.get(name) != found.get(name):
                there = "differs" if name in found else "is missing"
                told.append(f"{name} {there if name in self.expected else 'is new'}")
        return ["; ".join(told)] if told else []


def content(out: Path) -> dict[str, object]:
    """By name of file what must be the same whatever happened."""
    found: dict[str, object] = {}
    for path in out.iterdir():
        if path.name.startswith("."):  # the lock, the record, parts of killed runs
            continue
        found[path.name] = path.read_bytes()
        if path.name.endswith("_dseg.json"):
            found[path.name] = json.loads(path.read_text()) | {"Seconds": None}
    return found


def ended(process: subprocess.Popen) -> tuple[int, str]:
    text, _ = process.communicate(timeout=PATIENCE_S)
    return process.returncode, text


def kills(runs: Runs, number: int) -> Found:
    """SIGKILL at random moments."""
    for i in range(number):
        process, out = runs.start(f"kill{i}"), runs.folder / f"kill{i}"
        time.sleep(runs.random.uniform(0.2, 1.0) * runs.seconds)
        process.kill()
        ended(process)
        yield from runs.checked(out) or [""]


def signals(runs: Runs, number: int) -> Found:
    """Signals that end a batch job, from the first scan's end on."""
    for name, status in (("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)):
        out = runs.folder / name
        process = runs.start(out)
        while process.poll() is None and not list(out.glob("*_dseg.json")):
            time.sleep(0.02)
        process.send_signal(getattr(signal, name))
        got, text = ended(process)
        done = {p.name.removesuffix("_dseg.json") for p in out.glob("*_dseg.json")}
        table = (out / "measurements.csv").read_text().splitlines()[1:]
        wrong = []
        if got not in (status, 0, 1):  # too late: it had ended
            wrong.append(f"{name}: status {got}: {text[-200:]}")
        if not {line.partition(",")[0] for line in table} <= done:
            wrong.append(f"{name}: rows of scans without a result")
        wrong += runs.checked(out)
        yield "; ".join(wrong)


def full_disks(runs: Runs, number: int) -> Found:
    """A disk of some kilobytes, made larger before the run is repeated."""
    for kilobytes in (16, 100, 300, 600):
        out = runs.folder / f"disk{kilobytes}"
        out.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(out)]
        if subprocess.run(mount, capture_output=True).returncode:
            return
        try:
            status, text = runs.run(out)
            wrong = [] if status in (1, 2) else [f"full disk: status {status}"]
            if "Traceback" in text:
                wrong.append(text[-300:])
            subprocess.run(["mount", "-o", "remount,size=64m", str(out)], check=True)
            yield "; ".join([*wrong, *runs.checked(out)])
        finally:
            subprocess.run(["umount", str(out)], check=True)


def damaged(raw: bytes, rng: random.Random) -> bytes:
    """Cut, emptied, a bit turned, a part of zeros, other bytes."""
    at, kind = rng.randrange(len(raw)), rng.randrange(5)
    turned = bytes([raw[at] ^ 1 << rng.randrange(8)])
    return (
        raw[:at],
        b"",
        raw[:at] + turned + raw[at + 1 :],
        raw[:at] + b"\0" * min(64, len(raw) - at) + raw[at + 64 :],
        rng.randbytes(len(raw)),
    )[kind]


def inputs(runs: Runs, number: int) -> Found:
    """Damaged images beside whole ones: each fails alone or is read."""
    folder = runs.folder / "damaged"
    shutil.copytree(runs.folder / "in", folder)
    names = sorted(p.name for p in (runs.folder / "in").glob("*.nii.gz"))
    bad = set()
    for i in range(5 * number):
        source = runs.random.choice(names)
        stem, _, ending = source.partition("_")
        other = source.replace(*(("in", "out") if "_in" in source else ("out", "in")))
        raw = (folder / source).read_bytes()
        (folder / f"bad{i}_{ending}").write_bytes(damaged(raw, runs.random))
        twin = f"bad{i}_{other.partition('_')[2]}"
        shutil.copy(folder / other, folder / twin)
        bad.add(f"bad{i}")
    out = runs.folder / "of_damaged"
    status, text = runs.run(out, "damaged")
    failures = (out / "failures.csv").read_text()
    for name in sorted(bad):
        done = (out / f"{name}_dseg.json").is_file()
        yield "" if done or name in failures else f"{name}: neither done nor failed"
    wrong = ["Traceback"] if "Traceback" in text + failures else []
    wrong += ["unexpected"] if "unexpected" in failures else []
    found = content(out)
    for name, value in runs.expected.items():
        whole = name.startswith("demo") and not name.endswith("json")
        if whole and found.get(name) != value:
            wrong.append(f"{name} is another beside damaged scans")
    yield "; ".join(wrong)


def results(runs: Runs, number: int) -> Found:
    """Damaged or missing files of a result, and masks cut short.

    A side-car is cut only: one whose text is legal may say anything, and without one a
    mask is somebody's own.
    """
    for i in range(number):
        out = runs.folder / f"result{i}"
        shutil.copytree(runs.folder / "whole", out)
        path = runs.random.choice(sorted(out.glob("demo*")))
        raw = path.read_bytes()
        if path.name.endswith(("_dseg.json", "_dseg.nii.gz")):
            path.write_bytes(raw[: runs.random.randrange(len(raw))])
        elif i % 3:
            path.write_bytes(damaged(raw, runs.random))
        else:
            path.unlink()
        yield from runs.checked(out) or [""]


def programs(runs: Runs, number: int) -> Found:
    """Compiled programs that are damaged, or lie under each other's names."""
    for i in range(3):
        entries = sorted(runs.cache.glob("*-cache"))
        raw = [entry.read_bytes() for entry in entries]
        for entry, own, other in zip(entries, raw, raw[1:] + raw[:1], strict=True):
            entry.write_bytes(other if i == 0 else damaged(own, runs.random))
        yield from runs.checked(runs.folder / f"programs{i}") or [""]


def vanishing(runs: Runs, number: int) -> Found:
    """A scan that is taken away while the run has begun, and comes back."""
    out, path = runs.folder / "vanished", runs.folder / "in" / "demo-3_outphase.nii.gz"
    process = runs.start(out)
    time.sleep(0.5 * runs.seconds)
    path.rename(runs.folder / "away")
    _, text = ended(process)
    (runs.folder / "away").rename(path)
    yield "; ".join(runs.checked(out, text))


def together(runs: Runs, number: int) -> Found:
    """Two runs of the same scans in one folder."""
    for i in range(2):
        out = runs.folder / f"together{i}"
        both = [runs.start(out) for _ in range(2)]
        texts = "".join(ended(process)[1] for process in both)
        wrong = ["Traceback"] if "Traceback" in texts else []
        yield "; ".join([*wrong, *runs.checked(out)])


KINDS: tuple[Callable[[Runs, int], Found], ...] = (
    *(kills, signals, full_disks, inputs, results, programs, vanishing, together),
)


def main(argv: list[str] | None = None) -> int:
    parser = Parser(__doc__)
    parser.add_argument("--kills", type=positive, default=10, help="and others (10)")
    parser.add_argument("--seconds", type=positive, default=900, help="bound (900)")
    parser.add_argument("--seed", type=int, default=0)
    names = [kind.__name__ for kind in KINDS]
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    flags = parser.parse_args(argv)
    started, failed = time.monotonic(), 0
    print("| fault | injected | failures | seconds |\n|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        runs = Runs(Path(folder), flags.seed)
        for kind in KINDS:
            began, number, wrong = time.monotonic(), 0, []
            if kind.__name__ not in flags.only:
                continue
            if began - started > flags.seconds:
                print(f"| {kind.__name__} | not begun: out of time | | |")
                continue
            for told in kind(runs, flags.kills):
                number += 1
                wrong += [told] if told else []
                if time.monotonic() - started > flags.seconds:
                    break
            name = kind.__name__.replace("_", " ")
            took = time.monotonic() - began
            print(f"| {name} | {number} | {len(wrong)} | {took:.0f} |", flush=True)
            for told in wrong:
                print(f"  {told}", flush=True)
            failed += len(wrong)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
