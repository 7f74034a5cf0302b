"""What the numbers in a mask mean: the paper's labels, MuscleMap's, or a file's.

nnU-Net names its labels in ``dataset.json``; a table with the columns value and name
(or value, muscle and side) does for any other program, as does a mask with names in it.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from cervjax.anatomy import IGNORED, MUSCLES
from cervjax.io.filenames import NIFTI
from cervjax.io.files import read_json
from cervjax.io.label_names import label_names
from cervjax.io.tables import read_rows

DATASET_JSON = "dataset.json"


class LabelSet(NamedTuple):
    """The labels of a segmenter.

    Attributes:
        name: for messages and side-cars.
        muscles: value in the mask to label of the paper, 1-14.
        others: further values that are known and no muscle of the paper.
        whole_body: any value that is not listed is another structure.
        ignored: values of voxels of which nobody says what they are (nnU-Net's
            "ignore").
    """

    name: str
    muscles: Mapping[int, int]
    others: frozenset[int] = frozenset()
    whole_body: bool = False
    ignored: frozenset[int] = frozenset()

    def with_ignored(self, value: int) -> "LabelSet":
        """The same, and one more value that nobody knows; below 0 is none.

        Raises:
            ValueError: it is background, or a muscle's.
        """
        if value < 0 or value in self.ignored:
            return self
        if value == 0 or value in self.muscles:
            raise ValueError(
                f"the ignore label {value} is background or a muscle in the labels "
                f"{self.name}; give another value, and draw with it what nobody knows"
            )
        return self._replace(ignored=self.ignored | {value})


_KEYS = {m.key: m.label for m in MUSCLES}
_MUSCLEMAP = {
    "LS": 1101,
    "MFSS": 1111,
    "SSCap": 1121,
    "SPCap": 1131,
    "SCM": 1141,
    "LC": 1151,
    "TR": 1161,
}  # of the left one; that of the right one is higher by one

PAPER = LabelSet("paper", {m.label: m.label for m in MUSCLES})
"""Weber et al. 2021, Table 1: even is left."""
MUSCLEMAP = LabelSet(
    "musclemap",
    {
        value + right: _KEYS[f"{muscle}_{side}"]
        for muscle, value in _MUSCLEMAP.items()
        for right, side in enumerate("LR")
    },
    whole_body=True,
)
"""MuscleMap's whole-body model: odd is left. Its muscles elsewhere are left out."""

_SIDES = {"l": "L", "left": "L", "lt": "L", "r": "R", "right": "R", "rt": "R"}
_IDLE = {"and", "muscle", "muscles", "m", "mm", "the"}
_SYNONYMS = {
    "sternocleidomastoideus": "SCM",
    "multifidus cervicis semispinalis": "MFSS",
    "multifidus semispinalis": "MFSS",
    "longus coli": "LC",
    "levator scapula": "LS",
    "upper trapezius": "TR",
    "ss cap": "SSCap",  # as words are split
    "sp cap": "SPCap",
}


def read_label_set(given: str, beside: Path | None = None) -> LabelSet:
    """The label set that a user names.

    Args:
        given: "paper", "musclemap", or a file: nnU-Net's ``dataset.json``, a table
            (.csv, .tsv), or a mask with names in its header (.nii.gz). "" looks for a
            ``dataset.json`` and else takes the paper's.
        beside: where the masks are: a ``dataset.json`` lies there or one folder up.

    Raises:
        ValueError: no such set, or the file cannot be used.
    """
    if not given:
        places = [] if beside is None else [beside, beside.resolve().parent]
        found = [p / DATASET_JSON for p in places if (p / DATASET_JSON).is_file()]
        return _of_json(found[0]) if found else PAPER
    for known in (PAPER, MUSCLEMAP):
        if given.casefold() == known.name:
            return known
    path = Path(given)
    if path.is_dir():
        path = path / DATASET_JSON
    if not path.is_file():
        raise ValueError(
            f"--labels {given}: not a file; give {PAPER.name}, {MUSCLEMAP.name}, "
            f"nnU-Net's {DATASET_JSON}, a table with the columns value and name, or a "
            "mask that has names of labels in its header"
        )
    if NIFTI.fullmatch(path.name):
        return _named(path, [(n, v) for v, n in label_names(path).items()])
    return _of_json(path) if path.suffix.lower() == ".json" else _of_table(path)


def to_papers(
    values: np.ndarray, labels: LabelSet
) -> tuple[UInt8[np.ndarray, "x y z"], dict[int, int]]:
    """The paper's labels from a mask's values, and what is none.

    Args:
        values: whole numbers (x, y, z).
        labels: what they mean.

    Returns:
        Labels 0-14, or `IGNORED`, and how many voxels have each value that the set does
        not know.
    """
    if labels is PAPER and values.min() >= 0 and values.max() <= len(MUSCLES):
        return values.astype(np.uint8), {}
    found, where, counts = np.unique(values, return_inverse=True, return_counts=True)
    new = [
        IGNORED if int(v) in labels.ignored else labels.muscles.get(int(v), 0)
        for v in found
    ]
    foreign = {
        int(v): int(n)
        for v, n, label in zip(found, counts, new, strict=True)
        if v and not label and v not in labels.others
        if v < 0 or not labels.whole_body
    }
    return np.array(new, np.uint8)[where.reshape(np.shape(values))], foreign


def muscle_named(name: str) -> int | None:
    """The label of a muscle of the paper, or None: ``LS_L``, "Levator scapulae, left".

    Raises:
        ValueError: it is one of the paper's muscles, but the side is not told.
    """
    for text in (name, re.sub(r"\(.*?\)", " ", name)):
        spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text)
        words = [w for w in re.split(r"[^a-z0-9]+", spaced.casefold()) if w]
        sides = {_SIDES[w] for w in words if w in _SIDES}
        muscle = _MUSCLE_WORDS.get(_sorted(w for w in words if w not in _SIDES))
        if muscle and len(sides) == 1:
            return _KEYS[f"{muscle}_{sides.pop()}"]
        if muscle:
            raise ValueError(
                f"{name!r} does not tell its side; call it {muscle}_L or {muscle}_R"
            )
    return None


def _sorted(words: Iterable[str]) -> str:
    return " ".join(sorted(w for w in words if w not in _IDLE))


_MUSCLE_WORDS = {
    _sorted(words.split()): short
    for words, short in (
        *((m.name, m.abbreviation) for m in MUSCLES),
        *((m.abbreviation.casefold(), m.abbreviation) for m in MUSCLES),
        *_SYNONYMS.items(),
    )
}


def _of_json(path: Path) -> LabelSet:
    """Raises ValueError for what is no ``dataset.json`` of nnU-Net, version 1 or 2."""
    try:
        labels = read_json(path)["labels"]
        pairs = [(v, k) if str(k).isdecimal() else (k, v) for k, v in labels.items()]
        named = [(str(n), int(v)) for n, vs in pairs for v in _each(vs)]
    except (
        OSError,
        ValueError,
        LookupError,
        AttributeError,
        TypeError,
        OverflowError,
    ) as error:
        raise ValueError(
            f"{path}: no labels of nnU-Net in it ({type(error).__name__}); it must "
            'have "labels": {"background": 0, "MFSS_R": 1, ...}'
        ) from error
    return _named(path, named)


def _each(values: Any) -> list[Any]:
    """nnU-Net's regions have several values."""
    return values if isinstance(values, list) else [values]


def _of_table(path: Path) -> LabelSet:
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    optional = ("name", "muscle", "side")
    named = []
    for line, row in read_rows(
        path, required=["value"], optional=optional, delimiter=delimiter
    ):
        name = row.get("name") or f"{row.get('muscle', '')} {row.get('side', '')}"
        if not name.strip() or not re.fullmatch(r"\d{1,9}", row["value"]):
            raise ValueError(
                f"{path}, line {line}: give a whole number as value, and a name such "
                f"as MFSS_L (or muscle and side), got {row['value']!r}, "
                f"{name.strip()!r}"
            )
        named.append((name, int(row["value"])))
    return _named(path, named)


def _named(path: Path, named: Iterable[tuple[str, int]]) -> LabelSet:
    muscles: dict[int, int] = {}
    others: set[int] = set()
    ignored: set[int] = set()
    owner: dict[int, str] = {}
    for name, value in named:
        if value == 0:
            continue
        if name.strip().casefold() == "ignore":
            ignored.add(value)
            continue
        try:
            label = muscle_named(name)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
        if label is None:
            others.add(value)
        elif muscles.get(value, label) != label:
            raise ValueError(
                f"{path}: value {value} is {owner[value]} and {name}; give it one name"
            )
        else:
            muscles[value], owner[value] = label, name
    if not muscles:
        raise ValueError(
            f"{path}: names none of the paper's muscles; name them "
            f"{', '.join(list(_KEYS)[:4])}, ... or in words with the side"
        )
    for value in ignored & muscles.keys():
        raise ValueError(
            f"{path}: value {value} is {owner[value]} and ignore; give it one name"
        )
    return LabelSet(
        str(path),
        muscles,
        frozenset(others - muscles.keys()),
        ignored=frozenset(ignored),
    )
