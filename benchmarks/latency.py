"""Seconds and memory per scan of the whole job, and how often it compiles.

    python benchmarks/latency.py --scans 10 --shape 180 160 20
    python benchmarks/latency.py --scans 3 --shape 457 271 40     # the paper's size

Made-up scans, random weights. Prints one JSON line. "cold" is the first scan of the
process (compilation included, from the cache if --cache), "warm" the median of those
after it. A different shape in every second scan with --mixed shows the buckets.
"""

import argparse
import json
import platform
import resource
import statistics
import tempfile
import time
from pathlib import Path

import jax
import numpy as np

from cervjax.demo import write_scans, write_untrained_weights
from cervjax.dixon import read_scan
from cervjax.figures import qc_figure, save_png
from cervjax.inference import Settings, device_name, measure_images, segment_images
from cervjax.scans import find_scans
from cervjax.segment import bucket_shape
from cervjax.volumes import write_labels
from cervjax.weights import load_weights

COMPILED = "/jax/core/compile/backend_compile_duration"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scans", type=int, default=10)
    parser.add_argument("--shape", type=int, nargs=3, default=(180, 160, 20))
    parser.add_argument("--spacing", type=float, nargs=3, default=(0.7, 0.7, 3.0))
    parser.add_argument("--mode", choices=("whole", "windows"), default="whole")
    parser.add_argument("--mixed", action="store_true", help="two shapes")
    parser.add_argument("--cache", help="folder of the compilation cache")
    args = parser.parse_args()
    if args.cache:
        jax.config.update("jax_compilation_cache_dir", args.cache)
    compilations = count_large_compilations()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shapes = [tuple(args.shape)]
        if args.mixed:
            shapes.append((args.shape[0] - 24, *args.shape[1:]))
        for i, shape in enumerate(shapes):
            count = len(range(i, args.scans, len(shapes)))
            write_scans(folder / f"scans/{i}", count, shape, tuple(args.spacing))
        write_untrained_weights(folder / "w.safetensors")
        weights = load_weights(folder / "w.safetensors")
        scans, _ = find_scans(folder / "scans")
        rows = [run(scan, weights, Settings(args.mode), folder) for scan in scans]
    seconds = [sum(row.values()) for row in rows]
    stages = {k: round(statistics.median(r[k] for r in rows[1:] or rows), 3)
              for k in rows[0]}  # fmt: skip
    warm = seconds[1:] or seconds
    report = {
        "benchmark": "latency",
        "device": device_name(),
        "machine": platform.processor() or platform.machine(),
        "jax": jax.__version__,
        "mode": args.mode,
        "scans": len(scans),
        "shapes": shapes,
        "buckets": sorted({bucket(s, args.spacing, weights) for s in shapes}),
        "network_compilations": len(compilations),
        "compile_seconds": [round(s, 1) for s in compilations],
        "cold_seconds": round(seconds[0], 2),
        "warm_seconds_median": round(statistics.median(warm), 2),
        "warm_seconds_range": [round(min(warm), 2), round(max(warm), 2)],
        "warm_stages_seconds": stages,
        "peak_memory_gb": round(peak_memory_gb(), 2),
    }
    print(json.dumps(report))


def run(scan, weights, settings, folder) -> dict[str, float]:
    """One scan, each stage timed."""
    marks = [time.perf_counter()]
    images = read_scan(scan)
    marks.append(time.perf_counter())
    found, _, spent = segment_images(images, weights, weights.card.recipe, settings)
    marks.append(time.perf_counter())
    measure_images(images, found)
    marks.append(time.perf_counter())
    write_labels(folder / f"{scan.name}_dseg.nii.gz", found.labels, images.grid)
    figure = qc_figure(
        images.fat_water.water,
        found.labels,
        spacing_mm=images.grid.spacing_mm,
        title=scan.name,
    )
    save_png(figure, folder / f"{scan.name}_qc.png")
    marks.append(time.perf_counter())
    read, network, measure, write = np.diff(marks).tolist()
    rest = network - spent["preprocess"] - spent["network"]
    return {"read": read, **spent, "back": rest, "measure": measure, "write": write}


def bucket(shape, spacing, weights) -> tuple[int, ...]:
    recipe = weights.card.recipe
    padded = [
        round(n * s / t) + 2 * p
        for n, s, t, p in zip(
            shape, spacing, recipe.spacing_mm, recipe.padding, strict=True
        )
    ]
    return bucket_shape(tuple(padded))


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


if __name__ == "__main__":
    main()
