"""Files of outlines for tests: the standard anatomy's own, cut and mirrored."""

import gzip
import json
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

_OTHER = {"R": "L", "L": "R", "M": "M"}


@cache
def _text() -> bytes:
    folder = files("cervjax.phantom") / "anatomies"
    return gzip.decompress((folder / "standard.json.gz").read_bytes())


def standard_content() -> dict[str, Any]:
    """The standard anatomy as its file has it, to be changed at will."""
    return json.loads(_text())


def cut(low_mm: float, high_mm: float, without: tuple[str, ...] = ()) -> dict[str, Any]:
    """The standard anatomy between two heights, without some structures."""
    content = standard_content()
    for part in ("levels", "discs"):
        content[part] = {
            k: z for k, z in content[part].items() if low_mm <= z <= high_mm
        }
    kept = []
    for row in content["structures"]:
        sections = [s for s in row["sections"] if low_mm <= s["z"] <= high_mm]
        if sections and row["name"] not in without:
            kept.append(row | {"sections": sections})
    return content | {"structures": kept}


def mirrored(content: dict[str, Any]) -> dict[str, Any]:
    """The person in a mirror: sides and labels exchanged, x reversed."""
    rows = []
    for row in content["structures"]:
        label = row["label"] and row["label"] + (1 if row["label"] % 2 else -1)
        sections = [
            {"z": s["z"], "contour": [[-x, y] for x, y in s["contour"]]}
            for s in row["sections"]
        ]
        side = _OTHER[row["side"]]
        rows.append(row | {"side": side, "label": label, "sections": sections})
    return content | {"structures": rows}


def save(path: Path, content: Any) -> Path:
    """Writes a file of outlines and returns its path."""
    path.write_text(json.dumps(content))
    return path
