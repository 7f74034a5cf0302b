"""Many small scans through one process: what grows, and how many a minute.

    python benchmarks/load.py --scans 1000

Made-up scans of a few sizes, in turn, and a small untrained network do the whole
job of `cervjax infer`, tables too, and pictures. A line is printed ten times: resident
memory, open files, threads, memory maps, and programs compiled so far. The last line is
the change of memory after the first fifth. Exit status 1 where memory has changed by
more than 5 %, files, threads or programs at all.
"""

import os
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import jax
import psutil
from made_up import SMALL, write_scans, write_untrained_weights
from measured import Parser, Report, positive

from cervjax.cli.flags import use_device
from cervjax.figures import quality
from cervjax.inference.failures import Listener
from cervjax.inference.method import Method
from cervjax.inference.pipeline import segment_scans
from cervjax.io.pairing import find_scans
from cervjax.io.scans import Scan
from cervjax.model.weights import load_weights

SHAPES = [(40, 32, 10), (48, 40, 12), (56, 40, 10), (40, 48, 14), (56, 48, 12)]
MOST_GROWTH = 0.05
COMPILED = "/jax/core/compile/backend_compile_duration"


class Load:
    """What the process holds after each scan, as a listener sees it."""

    def __init__(self, scans: int):
        self.scans, self.done, self.compiled = scans, 0, 0
        self.started = time.perf_counter()
        self.rows: list[dict] = []
        self._every = max(scans // 10, 1)
        jax.monitoring.register_event_duration_secs_listener(self._on_event)

    def _on_event(self, event: str, seconds: float, **_: object) -> None:
        self.compiled += event == COMPILED

    def on_finished(self, name: str, seconds: Mapping[str, float]) -> None:
        self.done += 1
        if self.done % self._every and self.done != self.scans:
            return
        process = psutil.Process()
        took = time.perf_counter() - self.started
        row = {
            "scans": self.done,
            "minutes": took / 60,
            "per_minute": 60 * self.done / took,
            "resident_mb": process.memory_info().rss / 1e6,
            "files": process.num_fds(),
            "threads": process.num_threads(),
            "maps": len(Path("/proc/self/maps").read_text().splitlines()),
            "compiled": self.compiled,
        }
        if not self.rows:
            print("| " + " | ".join(row) + " |\n" + "|---" * len(row) + "|")
        self.rows.append(row)
        cells = (f"{v:.1f}" if isinstance(v, float) else str(v) for v in row.values())
        print("| " + " | ".join(cells) + " |", flush=True)


def grown(rows: list[dict]) -> list[str]:
    """What has grown since the first fifth of the scans, in words."""
    first, last = rows[1], rows[-1]
    change = last["resident_mb"] / first["resident_mb"] - 1
    told = [f"memory changed by {100 * change:+.1f} % after the first fifth"]
    if abs(change) > MOST_GROWTH:
        told.append(f"MEMORY changed by more than {100 * MOST_GROWTH:.0f} %")
    for key in ("files", "threads", "compiled"):
        if last[key] > first[key]:
            told.append(f"GROWN: {key} from {first[key]} to {last[key]}")
    return told


def main() -> int:
    parser = Parser(__doc__)
    parser.add_argument("--scans", type=positive, default=1000, help="(1000)")
    parser.add_argument("--folder", type=Path, help="for the results, kept (temporary)")
    parser.add_argument(
        "--no-pictures", action="store_true", help="empty files for them: quicker"
    )
    flags = parser.parse_args()
    report = Report(flags)
    if flags.no_pictures:
        quality.qc_figure = lambda *args, **options: None
        quality.save_png = lambda figure, path: path.touch()
    use_device(None)
    with tempfile.TemporaryDirectory() as temporary:
        folder = flags.folder or Path(temporary)
        found = []
        for i, shape in enumerate(SHAPES):
            write_scans(folder / str(i), 1, shape, (2.0, 2.0, 3.0), seed=i)
            found += find_scans(folder / str(i))[0]
        scans = [
            Scan(
                f"scan-{i:06d}",
                found[i % len(found)].in_phase,
                found[i % len(found)].out_phase,
            )
            for i in range(flags.scans)
        ]
        write_untrained_weights(folder / "small.safetensors", architecture=SMALL)
        method = Method.of_weights(load_weights(folder / "small.safetensors"))
        out = folder / "out"
        out.mkdir()
        load = Load(len(scans))
        listener = Listener(lambda text: None, on_finished=load.on_finished)
        failures = segment_scans(scans, [], method, out, listener=listener)
        took = time.perf_counter() - load.started
        sizes = [os.path.getsize(p) for p in out.glob("*_dseg.json")]
        tables = [os.path.getsize(p) for p in out.glob("*_tables.json.gz")]
    told = grown(load.rows)
    print(f"{len(failures)} failure(s); {took / 60:.1f} min with the tables")
    print(f"side-car {max(sizes):,} bytes at most, rows {max(tables):,}")
    print("\n".join(told))
    report.add({"what": "load", **load.rows[-1]})
    report.end()
    return 1 if len(told) > 1 or failures else 0


if __name__ == "__main__":
    sys.exit(main())
