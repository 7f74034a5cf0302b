"""The measured anatomies that every digital neck is deformed from.

``anatomies/NAME.json.gz`` holds closed contours of the muscles, bones, vessels and skin
of one person, read off real images (anatomies/README.md names sources and licences and
describes the format). ``standard`` is whole, C2 to T1; `completion` fills what others
lack, so that all have the same structures with the same vertices, and any two people
can be mixed.

Coordinates are RAS in mm: x to the patient's right, y anterior, z superior; the
origin is the centre of the C5 body.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.resources import files
from pathlib import Path

import numpy as np

from cervjax.phantom.additions import added
from cervjax.phantom.anatomy_file import AnatomyError, Outlines, read_outlines
from cervjax.phantom.completion import complete
from cervjax.phantom.structure import Structure

LEVELS = ("C2", "C3", "C4", "C5", "C6", "C7", "T1")
"""Vertebral levels, from above; 2-8 in maps of levels."""

STANDARD = "standard"
_DIGITS = 12  # of the digest, in a name
_DISCS = ("C2/3", "C3/4", "C4/5", "C5/6", "C6/7", "C7/T1", "T1/2")


@dataclass(frozen=True, eq=False)
class Anatomy:
    """One person's neck, C2 to T1.

    Attributes:
        name: packaged ones by their own, a file by its name and the first 12 digits
            of its SHA-256, a mix by both with their shares.
        structures: in painting order; the same ones in every anatomy.
        borders_mm: ``(8,)`` z of the levels' borders from above: top of C2, then the
            middle of each disc from C2/3 to T1/2.
        filled: what was missing in the file and taken from the standard one.
        traced_mm: lowest and highest z of the file's outlines; 0, 0 for a mix.
        who: one line about the person; empty for a mix.
        traced: one line about what the file holds; empty for a mix.
        sha256: of a user's file; empty for packaged ones and mixes.
    """

    name: str
    structures: tuple[Structure, ...]
    borders_mm: np.ndarray
    filled: tuple[str, ...] = ()
    traced_mm: tuple[float, float] = (0.0, 0.0)
    who: str = ""
    traced: str = ""
    sha256: str = ""

    @property
    def level_bounds_mm(self) -> dict[str, tuple[float, float]]:
        """Lower and upper z of each level: from disc middle to disc middle."""
        b = self.borders_mm
        return {n: (float(b[i + 1]), float(b[i])) for i, n in enumerate(LEVELS)}

    @property
    def width_mm(self) -> float:
        """Of the neck where it is narrowest."""
        skin = next(s for s in self.structures if s.name == "body_outline")
        return float(np.ptp(skin.contours_mm[..., 0], axis=1).min())


def anatomy_names() -> list[str]:
    """Names of the packaged anatomies."""
    folder = files("cervjax.phantom") / "anatomies"
    names = (p.name for p in folder.iterdir())
    return sorted(n[: -len(".json.gz")] for n in names if n.endswith(".json.gz"))


def load_anatomy(source: str | Path = STANDARD) -> Anatomy:
    """Reads an anatomy; takes a second for one that must be filled, then none.

    Args:
        source: a name of `anatomy_names`, or a file of that format.

    Raises:
        AnatomyError: there is none, or it cannot be used.
    """
    if str(source) == STANDARD:
        return _standard()
    if str(source) in anatomy_names():
        return _completed(_packaged(str(source)), "")
    path = Path(source)
    content = path.read_bytes() if path.is_file() else b""
    return _completed(path, sha256(content).hexdigest())


def anatomy_sources(chosen: Sequence[str] = ()) -> tuple[str, ...]:
    """What to draw from: each once, in an order that no folder's name changes.

    Args:
        chosen: names and files of `load_anatomy`; all packaged ones if empty.

    Raises:
        AnatomyError: one of them cannot be used.
    """
    by_name = {load_anatomy(c).name: str(c) for c in chosen or anatomy_names()}
    return tuple(by_name[name] for name in sorted(by_name))


def mix(one: Anatomy, other: Anatomy, share: float) -> Anatomy:
    """A person between two: every contour and level a weighted mean.

    Args:
        one: a person.
        other: another.
        share: 0 gives the first, 1 the second.
    """
    between = [
        a._replace(
            z_mm=_between(a.z_mm, b.z_mm, share),
            contours_mm=_between(a.contours_mm, b.contours_mm, share),
        )
        for a, b in zip(one.structures, other.structures, strict=True)
    ]
    name = f"{one.name}*{1 - share:.2f}+{other.name}*{share:.2f}"
    borders = _between(one.borders_mm, other.borders_mm, share)
    return Anatomy(name, tuple(between), borders)


def draw_anatomy(rng: np.random.Generator, names: Sequence[str] = ()) -> Anatomy:
    """Draws a person: one of those named, or, as often, a mix of two of them.

    Args:
        rng: draws.
        names: of `load_anatomy`; all packaged ones if empty.
    """
    names = list(names) or anatomy_names()
    first, second = rng.integers(len(names)), rng.integers(len(names))
    pure, share = rng.random() < 0.5, float(rng.uniform(0.1, 0.9))
    one = load_anatomy(names[first])
    if pure or first == second:
        return one
    return mix(one, load_anatomy(names[second]), share)


def _between(a: np.ndarray, b: np.ndarray, share: float) -> np.ndarray:
    return (1 - share) * a + share * b


def _packaged(name: str) -> Path:
    return Path(str(files("cervjax.phantom") / "anatomies" / f"{name}.json.gz"))


@cache
def _completed(path: Path, digest: str) -> Anatomy:
    """A file's anatomy; the digest of a user's file tells its versions apart."""
    outlines, standard = read_outlines(path, anatomy_names()), _standard()
    try:
        whole = complete(outlines, standard.structures, standard.borders_mm)
    except AnatomyError as error:
        raise AnatomyError(f"{path}: {error}") from error
    name = f"{path.name}@{digest[:_DIGITS]}" if digest else path.name.split(".")[0]
    return Anatomy(
        name,
        whole.structures,
        whole.borders_mm,
        whole.filled,
        _traced_mm(outlines),
        outlines.who,
        _traced(outlines),
        digest,
    )


def _traced_mm(outlines: Outlines) -> tuple[float, float]:
    z = next(s.z_mm for s in outlines.structures if s.name == "body_outline")
    return float(z[0]), float(z[-1])


def _traced(outlines: Outlines) -> str:
    low, high = _traced_mm(outlines)
    levels = ", ".join(outlines.levels_mm)
    number = len(outlines.structures)
    return f"{number} structures from {low:.0f} to {high:.0f} mm of C5; {levels}"


@cache
def _standard() -> Anatomy:
    outlines = read_outlines(_packaged(STANDARD))
    named = {s.name: s for s in outlines.structures}
    whole = sorted([*outlines.structures, *added(named)], key=lambda s: s.order)
    low, high = named["body_outline"].z_mm[[0, -1]]
    ends = [
        s._replace(goes_on=(bool(s.z_mm[0] <= low), bool(s.z_mm[-1] >= high)))
        for s in whole
    ]
    discs = [outlines.discs_mm[d] for d in _DISCS]
    top = 2 * outlines.levels_mm["C2"] - discs[0] + 2.0  # the dens reaches higher
    borders, traced = np.array([top, *discs]), _traced(outlines)
    return Anatomy(
        STANDARD, tuple(ends), borders, (), _traced_mm(outlines), outlines.who, traced
    )
