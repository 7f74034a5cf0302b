"""Seconds and memory of the whole job, `infer.py`: cold, warm, and for many scans.

    python benchmarks/latency.py                     # a digital neck, 457x271x40 voxels
    python benchmarks/latency.py --shape 320 192 60 --cohort 20
    python benchmarks/latency.py --random --mode whole          # the paper's network

The package's weights and the defaults of `infer.py`, on digital necks of the demo's
protocol; with --shape on made-up ellipses of that many voxels. --random takes random
weights of the paper's network on its grid, whose background is favoured so that some
5 % of the volume is muscle. "cold" is a new process of `infer.py`, from start to exit,
with an empty and then with a warm compilation cache; "warm" is one scan in a process
that has segmented it before; a cohort is as many in one call, overlapped, of --people
people. Stages are each scan's own seconds: overlapped ones add up to more than the
whole. NiftyNet's figures are not measured here: they are of the genuine program on
another two-core server, beside ours for scale.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from made_up import write_scans, write_untrained_weights
from measured import Parser, Report, natural, positive, ratio, timing

from cervjax.inference.memory import device_name
from cervjax.inference.method import Method
from cervjax.inference.pipeline import Listener, segment_scans
from cervjax.inference.sidecar import paths
from cervjax.inference.stages import STAGES
from cervjax.io.pairing import find_scans
from cervjax.io.scans import Scan
from cervjax.model.weights import SHIPPED, Weights, load_weights, save_weights
from cervjax.phantom.dataset import write_dataset

COMPILED = "/jax/core/compile/backend_compile_duration"
BACKGROUND_LOGIT = 18.0  # leaves about 5 % of the made-up scan to the muscles
NIFTYNET_SECONDS = {(457, 271, 40): (63.2, 65.2), (320, 192, 60): (72.9, 75.2)}
NIFTYNET_GB = 1.5
INFER = Path(__file__).parents[1] / "infer.py"


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument(
        "--shape",
        type=positive,
        nargs=3,
        metavar=("X", "Y", "Z"),
        help="voxels of made-up ellipses; by default digital necks, 457x271x40",
    )
    parser.add_argument(
        "--spacing",
        type=float,
        nargs=3,
        default=(0.7, 0.7, 3.0),
        metavar=("X", "Y", "Z"),
        help="of --shape, mm (default %(default)s)",
    )
    parser.add_argument("--random", action="store_true", help="random weights")
    parser.add_argument(
        "--mode", choices=("whole", "sliding_window"), help="default: the weights'"
    )
    parser.add_argument(
        "--cohort",
        type=positive,
        nargs="*",
        default=[],
        metavar="N",
        help="also as many scans in one call",
    )
    parser.add_argument(
        "--people", type=positive, default=2, help="different ones of a cohort (2)"
    )
    parser.add_argument(
        "--repeats", type=positive, default=5, help="of one warm scan (5)"
    )
    parser.add_argument(
        "--cold",
        type=natural,
        default=3,
        help="new processes with a warm cache, after one with an empty one (3)",
    )
    flags = parser.parse_args()
    report = Report(flags, device=device_name(), shape=flags.shape or (457, 271, 40))
    report.about["weights"] = "random" if flags.random else "the package's"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scans = make_scans(folder / "scans", flags)
        path = make_weights(folder / "w.safetensors") if flags.random else SHIPPED
        again = [
            cold(folder, scans[0], path, flags.mode, "warm" if i else "empty")
            for i in range(flags.cold and flags.cold + 1)
        ]
        if again:
            report.add(again[0])
            report.add(again[-1] | timing([row["seconds"] for row in again[1:]]))
        for row in warm(folder / "out", scans, load_weights(path), flags):
            report.add(row)
    print_table(report.rows, tuple(report.about["shape"]))
    report.end()


def make_scans(folder: Path, flags: argparse.Namespace) -> list[Scan]:
    """As many as the largest cohort; people come again under other names."""
    count = max([1, *flags.cohort])
    people = min(flags.people, count)
    if flags.shape:
        write_scans(folder / "0", people, tuple(flags.shape), tuple(flags.spacing))
    else:
        write_dataset(folder / "0", people, seed=4_000, severity="clinical", workers=2)
        shutil.rmtree(folder / "0" / "derivatives")
    for i in range(1, -(-count // people)):
        shutil.copytree(folder / "0", folder / str(i))
    return find_scans(folder)[0][:count]


def make_weights(path: Path) -> Path:
    write_untrained_weights(path)
    random = load_weights(path)
    bias = np.zeros(15, np.float32)
    bias[0] = BACKGROUND_LOGIT
    params = {**random.variables["params"], "head_bias": bias}
    save_weights(path, {**random.variables, "params": params}, random.card)
    return path


def cold(
    folder: Path, scan: Scan, weights: Path, mode: str | None, cache: str
) -> dict[str, Any]:
    """One new process of infer.py, which gets no flag that is not needed."""
    out = folder / "cold"
    command = [sys.executable, INFER, "-o", out, "--overwrite"]
    for role in ("in_phase", "out_phase"):
        command += [f"--{role.replace('_', '-')}", scan.files[role]]
    command += ["--weights", weights] if weights != SHIPPED else []
    command += ["--mode", mode] if mode else []
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache")}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    start = time.perf_counter()
    process = subprocess.Popen(
        [*map(str, command)],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    if status:
        raise SystemExit("infer.py failed; run it by hand")
    side_car = json.loads(next(out.glob("*_dseg.json")).read_text())
    return {
        "what": f"cold, {cache} cache",
        "seconds": round(seconds, 2),
        "stages": side_car["Seconds"],
        "peak_gb": round(usage.ru_maxrss * 1024 / 1e9, 2),
    }


def warm(
    out: Path, scans: list[Scan], weights: Weights, flags: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    """One scan, several times, then cohorts, in this process."""
    out.mkdir()
    compilations = count_large_compilations()
    method = Method.of_weights(weights, mode=flags.mode)
    silent = Listener(log=lambda text: None)

    def timed(some: list[Scan]) -> float:
        start = time.perf_counter()
        failures = segment_scans(some, [], method, out, overwrite=True, listener=silent)
        if failures:
            raise SystemExit(f"infer failed: {failures[0].error}")
        return time.perf_counter() - start

    def measured(what: str, some: list[Scan], seconds: list[float]) -> dict[str, Any]:
        side_cars = [json.loads(paths(out, s.name).sidecar.read_text()) for s in some]
        stages = {
            name: round(statistics.median(s["Seconds"][name] for s in side_cars), 3)
            for name in side_cars[0]["Seconds"]
        }
        row = {"what": what, **timing(seconds), "stages": stages}
        compiled = [round(s, 1) for s in compilations]
        return row | {
            "compile_seconds": compiled,
            "peak_gb": round(peak_memory_gb(), 2),
        }

    timed(scans[: flags.people])
    one = [timed(scans[:1]) for _ in range(flags.repeats)]
    yield measured("warm, one scan", scans[:1], one)
    for n in flags.cohort:
        before, each, after = timed(scans[:1]), timed(scans[:n]) / n, timed(scans[:1])
        row = measured(f"{n} scans, each", scans[:n], [each])
        row |= ratio([each, each], [before, after])
        yield row | {"scans_per_hour": round(3600 / each)}


def count_large_compilations() -> list[float]:
    """Collects the seconds of every compilation of over a second: the network's."""
    found: list[float] = []

    def listen(event: str, duration: float, **_) -> None:
        if event == COMPILED and duration > 1:
            found.append(duration)

    jax.monitoring.register_event_duration_secs_listener(listen)
    return found


def peak_memory_gb() -> float:
    stats = jax.devices()[0].memory_stats()
    if stats:
        return stats["peak_bytes_in_use"] / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def print_table(rows: list[dict], shape: tuple[int, ...]) -> None:
    names = STAGES
    print(
        f"\n{'':24}{'seconds':>9}" + "".join(f"{n:>11}" for n in names) + "   peak GB"
    )
    for row in rows:
        stages = "".join(f"{row['stages'].get(n, 0):11.2f}" for n in names)
        print(f"{row['what']:24}{row['seconds']:9.2f}{stages}{row['peak_gb']:10.2f}")
    if shape in NIFTYNET_SECONDS:
        low, high = NIFTYNET_SECONDS[shape]
        print(
            f"NiftyNet 0.6.0, whole process, measured elsewhere on a like machine: "
            f"{low}-{high} s, {NIFTYNET_GB} GB"
        )


if __name__ == "__main__":
    main()
