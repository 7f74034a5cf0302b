"""Which images of DICOM files form a scan: by type, echo time, place and time.

What they leave open becomes a `Problem`: nothing is guessed. People have pseudonyms,
and files are not named, since folders often have patients' names.
"""

import contextlib
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cervjax.io.dicom_frames import DicomError, Frame, frames_of, role_by_echo
from cervjax.io.filenames import NIFTI, safe_name
from cervjax.io.files import walk_once
from cervjax.io.pseudonyms import pseudonym
from cervjax.io.roles import FAT_PAIR, PHASE_PAIR, ROLES
from cervjax.io.scans import Problem
from cervjax.io.series import has_pair

_HINT = "Convert it with dcm2niix and name the files: --list TABLE."
_SLOPE_DEGREES = 0.5
_UNEVEN = 0.02  # of the distance between slices, with some rounding in headers


@dataclass(frozen=True)
class Stack:
    """Parallel slices of one image, from the first along `normal`.

    Attributes:
        frames: sorted by place.
        role: of `roles.ROLES`, "" if unknown.
        fault: why it cannot be used, or "".
    """

    frames: tuple[Frame, ...]
    role: str
    fault: str

    @property
    def place(self) -> tuple:
        """What is equal for images on the same grid."""
        first, last = self.frames[0], self.frames[-1]
        ends = np.round((*first.position_mm, *last.position_mm), 1) + 0.0
        return first.shape, len(self.frames), tuple(ends.tolist())

    @property
    def acquired(self) -> str:
        """Of the first of its slices."""
        return min(frame.acquired for frame in self.frames)


@dataclass(frozen=True)
class DicomScan:
    """A scan in DICOM: its name and, by role, its images."""

    name: str
    stacks: dict[str, Stack]


def is_dicom_folder(folder: Path) -> bool:
    """Whether a folder has DICOM files, told by their bytes, and no NIfTI file."""
    if not folder.is_dir():
        return False
    names = (name for _, _, files in walk_once(folder) for name in files)
    return not any(map(NIFTI.fullmatch, names)) and any(_dicom_files(folder))


def find_dicom_scans(
    root: Path, key: bytes, *, keep_ids: bool = False
) -> tuple[list[DicomScan], list[Problem], list[str]]:
    """Finds the scans in a folder of DICOM files and its sub-folders.

    Args:
        root: the folder.
        key: of the pseudonyms.
        keep_ids: patients' identifiers and series' dates as names instead.

    Returns:
        Scans; what should be one and is none; lines on images that are left out. None
        has a word of the patient's but, with `keep_ids`, the identifier.
    """
    frames: dict[str, Frame] = {}
    problems: list[Problem] = []
    damaged: Counter[str] = Counter()
    for path in _dicom_files(root):
        try:
            frames.update((frame.uid, frame) for frame in frames_of(path))
        except DicomError as error:
            damaged[str(error)] += 1
    for what, count in damaged.items():
        hint = "Copy the files again from the scanner or the archive."
        problems.append(Problem("dicom", (), f"{count} time(s): {what}", hint))
    studies: dict[str, list[Frame]] = defaultdict(list)
    for frame in frames.values():
        person = frame.person or frame.study
        studies[_name(person, frame, key, keep_ids=keep_ids)].append(frame)
    scans: list[DicomScan] = []
    left_out: list[str] = []
    for name, members in sorted(studies.items()):
        found, wrong, without = _of_study(name, members)
        scans += found
        problems += wrong
        left_out += without
    return scans, problems, left_out


def dicom_table(
    scans: Collection[DicomScan], problems: Collection[Problem], left_out: list[str]
) -> str:
    """Lays out what `find_dicom_scans` found."""
    lines = []
    for scan in scans:
        lines.append(scan.name)
        for role, stack in scan.stacks.items():
            lines.append(f"  {ROLES[role]:13} {_described(stack.frames)}")
    lines += [f"PROBLEM {p.scan}: {p.message}\n  {p.hint}" for p in problems]
    lines += [f"left out: {line}" for line in left_out]
    lines.append(f"{len(scans)} scan(s), {len(problems)} problem(s)")
    return "\n".join(lines)


def _dicom_files(root: Path) -> Iterator[Path]:
    for folder, _, names in walk_once(root):
        for name in sorted(names):
            with contextlib.suppress(OSError), open(folder / name, "rb") as stream:
                if stream.read(132)[128:] == b"DICM" and name.upper() != "DICOMDIR":
                    yield folder / name


def _name(person: str, frame: Frame, key: bytes, *, keep_ids: bool) -> str:
    if keep_ids:
        parts = (person.partition("\n")[0], frame.acquired[:8])
        who, when = (re.sub(r"[^A-Za-z0-9]", "", part) for part in parts)
        return safe_name(f"sub-{who or 'unknown'}_ses-{when or 1}", Path("scan"))
    who, when = pseudonym(key, person), pseudonym(key, frame.study)[:6]
    return f"sub-{who}_ses-{when}"


def _of_study(
    name: str, frames: list[Frame]
) -> tuple[list[DicomScan], list[Problem], list[str]]:
    left_out = Counter(
        f"{name} series {f.series_number}, {f.left_out}" for f in frames if f.left_out
    )
    stacks = _with_roles(_stacks(frame for frame in frames if not frame.left_out))
    groups: dict[tuple, list[Stack]] = defaultdict(list)
    for stack in stacks:
        series = {f.series for f in stack.frames}
        groups[stack.place, min(series)].append(stack)
    scans: list[DicomScan] = []
    problems: list[Problem] = []
    for group in _joined(list(groups.values())):
        numbers = sorted(f.series_number for stack in group for f in stack.frames)
        outcome = _scan(f"{name}_run-{numbers[0]}", group)
        if isinstance(outcome, DicomScan):
            scans.append(outcome)
        elif isinstance(outcome, Problem):
            problems.append(outcome)
        else:
            left_out.update(f"{name} {outcome}" for _ in numbers)
    lines = [f"{text}: {count} image(s)" for text, count in left_out.items()]
    if not scans and not problems and frames:
        message = "no in-phase and out-of-phase images, and no water and fat images"
        problems.append(Problem(name, (), message, _HINT))
    return scans, problems, lines


def _stacks(frames: Iterable[Frame]) -> Iterator[Stack]:
    by_key: dict[tuple, list[Frame]] = defaultdict(list)
    for f in frames:
        turned = tuple((np.round(f.orientation, 3) + 0.0).tolist())
        by_key[f.series, f.role, f"{f.echo_time_ms:.2f}", turned, f.shape].append(f)
    for members in by_key.values():
        normal = np.cross(members[0].orientation[:3], members[0].orientation[3:])
        members.sort(key=lambda f: (float(np.dot(normal, f.position_mm)), f.time_point))
        yield Stack(tuple(members), members[0].role, _fault(members, normal))


def _fault(frames: list[Frame], normal: np.ndarray) -> str:
    """Why frames are no stack of parallel slices that lie evenly, or nothing."""
    if len(frames) < 2:
        return "a single slice"
    if len({f.spacing_mm[:2] for f in frames}) > 1:
        return "pixels of different sizes"
    positions = np.array([frame.position_mm for frame in frames])
    heights = positions @ normal
    steps = np.diff(heights)
    if steps.min() < 1e-3:
        twice = int((steps < 1e-3).sum())
        return (
            f"{twice} slice(s) lie where another one is: several images over time, or "
            "several versions, in one series"
        )
    usual = float(np.median(steps))
    if steps.max() > usual * (1 + _UNEVEN) + 0.05 or steps.min() < usual * 0.95 - 0.05:
        return (
            f"slices are missing: they lie {steps.min():.1f} to {steps.max():.1f} mm "
            "apart"
        )
    way = positions[-1] - positions[0]
    cosine = float(np.clip(way @ normal / np.linalg.norm(way), -1, 1))
    slope = float(np.degrees(np.arccos(cosine)))
    if slope > _SLOPE_DEGREES:
        return f"slices are shifted against each other (tilt of {slope:.1f} degrees)"
    return ""


def _with_roles(stacks: Iterable[Stack]) -> list[Stack]:
    """Those without a role get that of their echo time, where its series has two."""
    echoes: dict[str, set[float]] = defaultdict(set)
    stacks = list(stacks)
    for stack in stacks:
        if not stack.role:
            echoes[str(stack.place)].add(stack.frames[0].echo_time_ms)
    return [
        Stack(stack.frames, role_by_echo(stack.frames[0]), stack.fault)
        if not stack.role and len(echoes[str(stack.place)]) > 1
        else stack
        for stack in stacks
    ]


def _joined(groups: list[list[Stack]]) -> Iterator[list[Stack]]:
    """Series on one grid that have one time, or that hold each role just once."""
    by_place: dict[tuple, list[list[Stack]]] = defaultdict(list)
    for group in groups:
        by_place[group[0].place].append(group)
    for alike in by_place.values():
        by_time: dict[str, list[Stack]] = defaultdict(list)
        for i, group in enumerate(alike):
            time = min(stack.acquired for stack in group)
            by_time[time or f"unknown {i}"] += group
        whole = {t for t, g in by_time.items() if has_pair(stack.role for stack in g)}
        yield from (by_time[time] for time in by_time if time in whole)
        left = [s for time, g in by_time.items() if time not in whole for s in g]
        if has_pair(stack.role for stack in left):
            yield left
        else:
            yield from ([stack] for stack in left)


def _scan(name: str, stacks: list[Stack]) -> DicomScan | Problem | str:
    """A scan, a problem, or a line on images that are of no use here."""
    by_role: dict[str, list[Stack]] = defaultdict(list)
    for stack in stacks:
        by_role[stack.role].append(stack)
    nameless = by_role.pop("", [])
    if not by_role:
        echoes = "; ".join(_described(stack.frames) for stack in nameless)
        return f"{echoes}: neither type nor echo time tells a phase"
    for role in filter(by_role.get, ROLES):
        same = by_role[role]
        if len(same) > 1:
            which = "; ".join(sorted(_described(stack.frames) for stack in same))
            message = f"{len(same)} {ROLES[role]} images on one grid: {which}"
            return Problem(name, (), message, _HINT)
    if not has_pair(by_role):
        found = ", ".join(
            f"{ROLES[role]} ({_described(same[0].frames)})"
            for role, same in by_role.items()
        )
        message = f"{found} without a partner on the same grid"
        if not any(stack.frames[0].is_stated for stack in stacks):
            return message
        return Problem(name, (), message, _HINT)
    wanted = [pair for pair in (PHASE_PAIR, FAT_PAIR) if by_role.keys() >= {*pair}]
    chosen = {role: by_role[role][0] for pair in wanted for role in pair}
    for role, stack in chosen.items():
        if stack.fault:
            message = f"{ROLES[role]}, {_described(stack.frames)}: {stack.fault}"
            return Problem(name, (), message, "Export the whole series again.")
    return DicomScan(name, chosen)


def _described(frames: Collection[Frame]) -> str:
    numbers = sorted({frame.series_number for frame in frames})
    first = next(iter(frames))
    echo = "" if np.isnan(first.echo_time_ms) else f", TE {first.echo_time_ms:.2f} ms"
    numbered = ", ".join(map(str, numbers))
    return f"series {numbered}, {len(frames)} slices{echo}"
