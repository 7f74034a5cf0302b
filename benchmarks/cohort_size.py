"""What many results cost that are there already: the tables of a folder, its check.

    python benchmarks/cohort_size.py results/ --scans 20000

Side-cars and rows of the scans in a folder are copied under other names, without
masks and pictures. Prints seconds and peak memory of what every run does at its start
(`check_folder`) and its end (the tables), and bytes of each kind of file a scan.
"""

import json
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path

from measured import Parser, Report, positive

from cervjax.inference.results import check_folder, verdicts, write_tables
from cervjax.inference.sidecar import Identity, paths, sidecars


def copy_many(source: Path, target: Path, number: int) -> None:
    """So many scans in ``target``, each a copy of one in ``source``."""
    found = list(sidecars(source))
    for i in range(number):
        content = dict(found[i % len(found)])
        old, new = paths(source, content["Scan"]), paths(target, f"scan-{i:06d}")
        digest = content["Files"][old.tables.name]
        content |= {"Scan": f"scan-{i:06d}", "Files": {new.tables.name: digest}}
        shutil.copyfile(old.tables, new.tables)
        new.sidecar.write_text(json.dumps(content, indent=1))


def main() -> int:
    parser = Parser(__doc__)
    parser.add_argument("results", type=Path, help="folder that infer wrote")
    parser.add_argument("--scans", type=positive, default=20_000, help="(20,000)")
    flags = parser.parse_args()
    report = Report(flags)
    first = next(sidecars(flags.results), None)
    if first is None:
        parser.error(f"{flags.results} holds no results")
    identity = Identity(**first["Identity"])
    for kind in ("_dseg.nii.gz", "_qc.png", "_dseg.json", "_tables.json.gz"):
        sizes = [p.stat().st_size for p in flags.results.glob(f"*{kind}")]
        print(f"{kind}: {sum(sizes) / max(len(sizes), 1):,.0f} bytes a scan")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        copy_many(flags.results, out, flags.scans)
        names = {f"scan-{i:06d}" for i in range(flags.scans)}
        steps = {
            "check": lambda: check_folder(out, identity),
            "tables": lambda: write_tables(out, identity),
            "count": lambda: verdicts(out, names),
        }
        for what, step in steps.items():
            started = time.perf_counter()
            step()
            took = time.perf_counter() - started
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
            report.add({"what": what, "scans": flags.scans, "s": took, "peak_mb": peak})
        for path in sorted(out.glob("measurements*.csv")):
            print(f"{path.name}: {path.stat().st_size / flags.scans:,.0f} bytes a scan")
    report.end()
    return 0


if __name__ == "__main__":
    sys.exit(main())
