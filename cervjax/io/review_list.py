"""Lists of scans to keep or to leave out, such as ``review.csv`` of ``report.html``."""

from collections.abc import Collection
from pathlib import Path

from cervjax.io.scans import Problem, Scan
from cervjax.io.tables import read_rows

KEPT, LEFT_OUT = {"pass"}, {"fail", "artifact"}
"""Reviews that ``--only`` keeps, and that ``--exclude`` leaves out."""


def chosen(
    scans: list[Scan],
    problems: list[Problem],
    only: Path | None,
    exclude: Path | None,
) -> tuple[list[Scan], list[Problem]]:
    """Those that two lists leave.

    Args:
        scans: what was found.
        problems: what was found to be none.
        only: list of those to keep.
        exclude: list of those to leave out.

    Raises:
        ValueError: as `names_in`, or a list names nothing that is there.
    """
    known = {scan.name for scan in scans} | {problem.scan for problem in problems}
    names = kept(known, only, exclude)
    return [s for s in scans if s.name in names], [
        p for p in problems if p.scan in names
    ]


def kept(known: Collection[str], only: Path | None, exclude: Path | None) -> set[str]:
    """The names that two lists leave.

    Args:
        known: names of all scans.
        only: list of those to keep.
        exclude: list of those to leave out.

    Raises:
        ValueError: as `names_in`, or a list names nothing that is there.
    """
    names = {*known}
    for path, reviews in ((only, KEPT), (exclude, LEFT_OUT)):
        if path is None:
            continue
        listed = names_in(path, reviews)
        if listed and not listed & {*known}:
            raise ValueError(
                f"{path} names none of the {len(known)} scan(s) there, such as "
                f"{min(known, default='none')}; give the list of these scans"
            )
        names = names & listed if reviews is KEPT else names - listed
    return names


def names_in(path: Path, reviews: set[str]) -> set[str]:
    """The scans of a list; where it has reviews, those with one of `reviews`.

    Args:
        path: table with the column ``scan``, and perhaps ``review``.
        reviews: of pass, fail, artifact.

    Raises:
        ValueError: it has no column ``scan``, or a review that is none.
    """
    rows = read_rows(path, required=["scan"], optional=["review"])
    names = set()
    for line, row in rows:
        review = row.get("review", "").lower()
        if review not in ("", *KEPT, *LEFT_OUT):
            raise ValueError(
                f"{path}, line {line}: review must be pass, fail, artifact or empty, "
                f"got {review!r}"
            )
        if "review" not in row or review in reviews:
            names.add(row["scan"])
    return names
