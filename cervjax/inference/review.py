"""``report.html``: one page to check all scans of a results folder on.

It needs no network and no other file. Pictures are made smaller the more scans there
are, so that the page of a large cohort can still be opened.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from cervjax.about import NOTICE, __version__
from cervjax.anatomy import MUSCLES
from cervjax.inference.results import FAILURES
from cervjax.inference.review_images import slices_for_review
from cervjax.inference.scan_tables import ROWS, with_rows
from cervjax.inference.sidecar import DamagedError, paths, plain, sidecars
from cervjax.io.dixon import read_scan
from cervjax.io.files import sha256_of_file
from cervjax.io.roles import ROLES
from cervjax.io.scans import Scan
from cervjax.io.tables import read_rows
from cervjax.io.written import check_ours, written_together
from cervjax.measurement.verdict import DO_NOT_USE, LOOK

REPORT = "report.html"
VERDICTS = ("use", LOOK, DO_NOT_USE)
_FEW = 8  # scans without which nothing is an outlier
_FAR = 3.5  # robust standard deviations
_KEYS = {m.label: m.key for m in MUSCLES}


def write_report(
    out: Path, on_scan: Callable[[str], object] = lambda name: None
) -> tuple[int, list[str]]:
    """Writes the page of a results folder.

    Args:
        out: the folder, as ``cervjax infer`` or ``measure`` leaves it.
        on_scan: called with the name of each scan that is drawn.

    Returns:
        How many scans the page has, and why some have no pictures.

    Raises:
        ValueError: the folder holds no results, or a page that cervjax has not written.
    """
    check_ours(out, [REPORT])
    found = [_whole(out, c) for c in sidecars(out) if "Failed" not in c]
    failures = []
    if (out / FAILURES).is_file():
        failures = [row for _, row in read_rows(out / FAILURES)]
    if not found and not failures:
        raise ValueError(
            f"{out} holds no results of cervjax; give a folder that cervjax infer or "
            "cervjax measure has written"
        )
    outliers = outliers_of(found)
    scans, pictures, without = [], [], []
    for content in found:
        name = content["Scan"]
        on_scan(name)
        scans.append(_summary(content, outliers[name]))
        try:
            picture = _pictures(out, content, len(found))
        except (ValueError, OSError) as error:
            without.append(f"{name}: no pictures ({error})")
            picture = None
        pictures.append(picture)
    page = _page(out, scans, failures, pictures)
    with written_together(out) as new:
        (new / REPORT).write_text(page, "utf-8")
    return len(scans), without


def _whole(out: Path, content: dict[str, Any]) -> dict[str, Any]:
    """A side-car with the scan's rows, none if they are damaged."""
    try:
        return with_rows(out, content)
    except DamagedError:
        return content | dict.fromkeys(ROWS, [])


def outliers_of(found: Collection[dict[str, Any]]) -> dict[str, list[str]]:
    """What of each scan lies far from the other scans.

    Args:
        found: side-cars with rows.

    Returns:
        By scan: muscles and measures more than 3.5 robust standard deviations (1.4826
        times the median absolute deviation) from the median; none of fewer than 8.
    """
    values: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    for content in found:
        for row in content["Measurements"]:
            for column, word in (("mfi_percent", "MFI"), ("volume_ml", "volume")):
                if row.get(column) is not None and row.get("voxels"):
                    key = (_KEYS[row["label"]], word)
                    values[key][content["Scan"]] = float(row[column])
    told: dict[str, list[str]] = defaultdict(list)
    for (muscle, word), by_scan in values.items():
        numbers = np.array(list(by_scan.values()))
        middle = np.median(numbers)
        spread = 1.4826 * np.median(np.abs(numbers - middle))
        if len(numbers) < _FEW or spread == 0:
            continue
        for name, value in by_scan.items():
            if abs(value - middle) > _FAR * spread:
                side = "high" if value > middle else "low"
                told[name].append(f"{muscle} {word} {side}")
    return told


def _summary(content: dict[str, Any], outliers: list[str]) -> dict[str, Any]:
    """What the table and the numbers on the picture show."""
    wanted = ("mfi_percent", "volume_ml", "verdict", "reasons")
    muscles = {
        r["label"]: {k: r.get(k) for k in wanted} for r in content["Measurements"]
    }
    profile: dict[int, list] = defaultdict(list)
    levels: dict[int, str] = {}
    for row in content["SliceMeasurements"]:
        mfi = row.get("mfi_percent")
        if mfi is not None:
            profile[row["label"]].append([row["slice"], round(float(mfi), 1)])
        if row.get("level"):
            levels[row["slice"]] = str(row["level"])
    rows = content["Measurements"]
    verdicts = {v: sum(r.get("verdict") == v for r in rows) for v in VERDICTS}
    return {
        "name": content["Scan"],
        "verdicts": verdicts,
        "familiarity": (rows[0].get("familiarity") if rows else "") or "",
        "outliers": outliers,
        "warnings": list(content.get("Warnings") or []),
        "muscles": muscles,
        "profile": profile,
        "levels": levels,
    }


def _pictures(out: Path, content: dict[str, Any], count: int) -> dict[str, Any]:
    """Smaller ones for many scans: 500 make a page of 56 MB."""
    digests = content["Identity"]["inputs_sha256"]
    sources = {
        role: _where(Path(path), out, digests.get(role))
        for role, path in content["Sources"].items()
        if role in ROLES  # of a given mask the side-car names the file, too
    }
    measured_on = content.get("FatWaterSource", "")
    measure_on = "scanner" if measured_on.startswith("scanner") else "echoes"
    images = read_scan(Scan(content["Scan"], **sources), measure_on=measure_on)
    mask = paths(out, content["Scan"]).labels
    size = (260, 80) if count <= 60 else (180, 40) if count <= 200 else (130, 24)
    return slices_for_review(images, mask, max_width=size[0], max_slices=size[1])


def _where(path: Path, out: Path, digest: str | None) -> Path:
    """The file, also where it was named from another folder, if it is still the same.

    Raises:
        ValueError: it is not there, or has changed.
    """
    for start in (Path(), *out.resolve().parents):
        if (start / path).is_file():
            if digest in (None, sha256_of_file(start / path)):
                return start / path
            raise ValueError(f"{start / path} has changed since it was measured")
    raise ValueError(f"{path} is no longer there")


def _page(
    out: Path,
    scans: list[dict[str, Any]],
    failures: Iterable[dict[str, str]],
    pictures: list[dict[str, Any] | None],
) -> str:
    home = files("cervjax.inference")
    template = home.joinpath("review.html").read_text("utf-8")
    script = home.joinpath("review_space.js").read_text("utf-8")
    names = "\n".join(sorted(scan["name"] for scan in scans))
    about = {
        "folder": out.resolve().name,
        "version": __version__,
        "notice": NOTICE,
        # Reviews are kept by the browser under this name.
        "key": "cervjax-" + hashlib.sha256(names.encode()).hexdigest()[:16],
        "muscles": [
            {
                "label": m.label,
                "short": f"{m.abbreviation} {m.side[0].upper()}",
                "name": f"{m.name}, {m.side}",
                "color": list(m.color_rgb),
            }
            for m in MUSCLES
        ],
        "scans": scans,
        "failures": [{"name": f["scan"], "error": f["error"]} for f in failures],
    }
    data = [_inert("about", about)]
    data += [_inert(f"pictures{i}", p) for i, p in enumerate(pictures) if p is not None]
    template = template.replace("<!--SPACE-->", script)
    return template.replace("<!--DATA-->", "\n".join(data))


def _inert(name: str, value: Any) -> str:
    """Data that the browser reads only when asked; no text can end the element."""
    text = json.dumps(plain(value), allow_nan=False, separators=(",", ":"))
    text = text.replace("<", "\\u003c")
    return f'<script type="application/json" id="{name}">{text}</script>'
