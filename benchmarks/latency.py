"""Seconds and memory of the whole job, `infer.py`: cold, warm, and for many scans.

    python benchmarks/latency.py --shape 457 271 40           # the paper's size
    python benchmarks/latency.py --shape 320 192 60 --cohort 1 20
    python benchmarks/latency.py --shape 180 160 20 --mixed --cold 0

Made-up scans and random weights, whose background is favoured so that some 5 % of
the volume is muscle, as in a neck. "cold" is a new process of `infer.py`, from start to
exit, with an empty and then with a warm compilation cache; "warm" is one scan in a
process that has segmented one of that shape before; a cohort is as many in one call,
overlapped. Stages are each scan's own seconds: overlapped ones add up to more than the
whole. With --mixed every second scan has another shape, which shows the buckets. Prints
one JSON line per measured thing and a table. NiftyNet's figures are not measured here:
they are of the genuine program on another two-core server, beside ours for scale.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
from made_up import write_scans, write_untrained_weights

from cervjax.inference.memory import device_name
from cervjax.inference.method import Method
from cervjax.inference.pipeline import Listener, segment_scans
from cervjax.inference.sidecar import paths
from cervjax.inference.stages import STAGES
from cervjax.io.pairing import find_scans
from cervjax.io.scans import Scan
from cervjax.model.weights import Weights, load_weights, save_weights

COMPILED = "/jax/core/compile/backend_compile_duration"
BACKGROUND_LOGIT = 18.0  # leaves about 5 % of the made-up scan to the muscles
NIFTYNET_SECONDS = {(457, 271, 40): (63.2, 65.2), (320, 192, 60): (72.9, 75.2)}
NIFTYNET_GB = 1.5
INFER = Path(__file__).parents[1] / "infer.py"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", type=int, nargs=3, default=(457, 271, 40))
    parser.add_argument("--spacing", type=float, nargs=3, default=(0.7, 0.7, 3.0))
    parser.add_argument("--mode", choices=("whole", "sliding_window"), default="whole")
    parser.add_argument("--cohort", type=int, nargs="+", default=(1,), metavar="N")
    parser.add_argument("--repeats", type=int, default=5, help="of one warm scan")
    parser.add_argument("--cold", type=int, default=3, help="new processes")
    parser.add_argument("--mixed", action="store_true", help="two shapes")
    flags = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scans = make_scans(folder / "scans", flags)
        weights = make_weights(folder / "w.safetensors")
        for i in range(flags.cold and flags.cold + 1):
            rows.append(cold(folder, scans[0], flags.mode, "warm" if i else "empty"))
        rows += warm(folder / "out", scans, weights, flags)
    about = {"device": device_name(), "jax": jax.__version__, "mode": flags.mode}
    about["shape"] = flags.shape
    for row in rows:
        print(json.dumps({**about, **row}), flush=True)
    print_table(rows, tuple(flags.shape))


def make_scans(folder: Path, flags: argparse.Namespace) -> list[Scan]:
    """As many as the largest cohort, at least two."""
    shapes = [tuple(flags.shape)]
    if flags.mixed:
        shapes.append((flags.shape[0] - 24, *flags.shape[1:]))
    count = max(2, *flags.cohort)
    for i, shape in enumerate(shapes):
        part = len(range(i, count, len(shapes)))
        write_scans(folder / str(i), part, shape, tuple(flags.spacing))
    return find_scans(folder)[0]


def make_weights(path: Path) -> Weights:
    write_untrained_weights(path)
    random = load_weights(path)
    bias = np.zeros(15, np.float32)
    bias[0] = BACKGROUND_LOGIT
    params = {**random.variables["params"], "head_bias": bias}
    save_weights(path, {**random.variables, "params": params}, random.card)
    return load_weights(path)


def cold(folder: Path, scan: Scan, mode: str, cache: str) -> dict:
    """One new process of infer.py."""
    out = folder / "cold"
    files = [
        "--in-phase",
        scan.files["in_phase"],
        "--out-phase",
        scan.files["out_phase"],
    ]
    command = [sys.executable, INFER, *files, "-o", out, "--overwrite", "--mode", mode]
    start = time.perf_counter()
    process = subprocess.Popen(
        [*map(str, command), "--weights", str(folder / "w.safetensors")],
        env={**os.environ, "XDG_CACHE_HOME": str(folder / "cache")},
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
) -> list[dict]:
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

    def stages(some: list[Scan]) -> dict[str, float]:
        side_cars = [json.loads(paths(out, s.name).sidecar.read_text()) for s in some]
        return {
            k: round(statistics.median(s["Seconds"][k] for s in side_cars), 3)
            for k in side_cars[0]["Seconds"]
        }

    timed(scans[:2])
    rows, one = [], []
    for n in flags.cohort:
        one += (few := [timed(scans[:1]) for _ in range(-(-flags.repeats // 2))])
        alone = stages(scans[:1])
        if n > 1:
            each = timed(scans[:n]) / n
            few += [timed(scans[:1]) for _ in range(flags.repeats // 2)]
            rows.append(
                {
                    "what": f"{n} scans, each",
                    "seconds": round(each, 2),
                    "ratio_to_one": round(each / statistics.median(few), 3),
                    "stages": stages(scans[:n]),
                    "scans_per_hour": round(3600 / each),
                }
            )
    while len(one) < flags.repeats:
        one.append(timed(scans[:1]))
    rows.insert(
        0,
        {
            "what": "warm, one scan",
            "seconds": round(statistics.median(one), 2),
            "range": [round(min(one), 2), round(max(one), 2)],
            "stages": alone,
        },
    )
    rows[-1] |= {
        "compilations": len(compilations),
        "compile_seconds": [round(s, 1) for s in compilations],
        "peak_gb": round(peak_memory_gb(), 2),
    }
    return rows


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
        stages = "".join(f"{row['stages'][n]:11.2f}" for n in names)
        peak = f"{row['peak_gb']:10.2f}" if "peak_gb" in row else ""
        print(f"{row['what']:24}{row['seconds']:9.2f}{stages}{peak}")
    if shape in NIFTYNET_SECONDS:
        low, high = NIFTYNET_SECONDS[shape]
        print(
            f"NiftyNet 0.6.0, whole process, measured elsewhere on a like machine: "
            f"{low}-{high} s, {NIFTYNET_GB} GB"
        )


if __name__ == "__main__":
    main()
