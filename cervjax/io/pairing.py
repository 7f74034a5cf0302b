"""Which NIfTI files of a folder form a scan: told from their names, never from pixels.

What the names (and dcm2niix's ``.json`` side-cars) leave open becomes a `Problem`:
nothing is guessed.
"""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

from cervjax.io.filenames import (
    NOT_MAGNITUDE,
    NamedImage,
    of_series_folder,
    read_name,
    safe_name,
    stem_of,
)
from cervjax.io.roles import FAT_PAIR, PHASE_PAIR, ROLE_FOLDER, ROLES, role_words
from cervjax.io.scans import ACCEPTED, BY_HAND, PairingError, Problem, Scan
from cervjax.io.series import Key, by_series, by_time, has_pair
from cervjax.io.tree import Tree, natural, series_folder, walk

_MANY_ECHOES = 3
_ECHO = re.compile(r"_e\d+[a-z]?\.nii", re.IGNORECASE)


def find_scans(root: Path) -> tuple[list[Scan], list[Problem]]:
    """Finds the scans in a folder and its sub-folders.

    Passed over are hidden files, segmentations and maps (``_dseg``, ``_mask``,
    ``_pdff``, ...) and folders named ``derivatives``, ``labels``, ``masks`` and so on.
    Linked folders are followed, but no folder is read twice.

    Args:
        root: folder to search.

    Returns:
        Scans and problems, in natural order of their names. Where there is no scan,
        the last problem says which names are understood.

    Raises:
        PairingError: if `root` is not a folder.
    """
    root = Path(root)
    if not root.is_dir():
        what = "is a file, not a folder" if root.exists() else "does not exist"
        hint = f"give its folder, {BY_HAND}" if root.exists() else "check the path"
        raise PairingError(f"{root} {what}; {hint}")
    tree = walk(root)
    groups, numbered = _groups(_images(tree.paths, root))
    names = _names(groups, root)
    outcomes = [
        _assemble(names[key], images, numbered) for key, images in groups.items()
    ]
    problems = tree.problems
    problems += [outcome for outcome in outcomes if isinstance(outcome, Problem)]
    scans = [outcome for outcome in outcomes if isinstance(outcome, Scan)]
    taken = _repeated(scan.name for scan in scans)
    problems += [_name_taken(scan) for scan in scans if scan.name.casefold() in taken]
    scans = [scan for scan in scans if scan.name.casefold() not in taken]
    problems.sort(key=lambda problem: natural(problem.scan))
    if not scans:
        problems.append(_nothing_found(root, tree))
    return sorted(scans, key=lambda scan: natural(scan.name)), problems


def pairing_table(
    scans: Collection[Scan], problems: Collection[Problem], root: Path
) -> str:
    """Lays out what `find_scans` found, for a dry run.

    Args:
        scans: scans found under `root`.
        problems: problems found under `root`.
        root: the folder searched; paths are shown relative to it.

    Returns:
        A table of the scans, then the problems, then the NIfTI files without a use.
    """
    root = Path(root)

    def shown(path: Path | None) -> str:
        if path is None:
            return "-"
        return os.path.relpath(path, root) if path.is_relative_to(root) else str(path)

    rows = [("scan", *ROLES.values())]
    rows += [(s.name, *(shown(s.files.get(role)) for role in ROLES)) for s in scans]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    for problem in problems:
        lines += ["", f"PROBLEM {problem.scan}: {problem.message}"]
        lines += [*(f"  {shown(path)}" for path in problem.files), f"  {problem.hint}"]
    used = {path for scan in scans for path in scan.files.values()}
    used |= {path for problem in problems for path in problem.files}
    tree = walk(root)
    unused = [path for path in tree.paths if path not in used]
    if unused:
        lines += ["", f"not recognised: {len(unused)} NIfTI file(s)"]
        lines += [f"  {shown(path)}" for path in unused]
    if tree.others:
        lines += ["", f"of other formats, not read: {_examples(tree.others)}"]
    lines += ["", f"{len(scans)} scan(s), {len(problems)} problem(s)"]
    return "\n".join(lines)


def _groups(
    images: Iterable[NamedImage],
) -> tuple[dict[Key, list[NamedImage]], dict[Path, Path]]:
    """The images of each scan, and of what should be one.

    Of an image whose own name tells nothing, and that has no partner, nothing is said.

    Returns:
        Images by folder and name; and of images without a partner, the one that would
        be it but for a number.
    """
    by_stem: dict[Key, list[NamedImage]] = defaultdict(list)
    for image in images:
        by_stem[image.folder, image.stem].append(image)
    groups: dict[Key, list[NamedImage]] = {}
    alone: list[NamedImage] = []
    for key, members in by_stem.items():
        roles = [min(image.claims) for image in members if len(image.claims) == 1]
        if len({*roles}) == len(members) and not has_pair(roles):
            alone += members
            continue
        runs = by_time(members) if len(roles) == len(members) else [members]
        for i, run in enumerate(runs, 1):
            name = f"{key[1]}_{i}" if len(runs) > 1 else key[1]
            groups[key[0], name] = run
    together, left, numbered = by_series(alone)
    for key, members in together.items():
        groups[key] = groups.get(key, []) + members
    for image in left:
        if image.is_named:
            groups.setdefault((image.folder, image.stem), []).append(image)
    return groups, numbered


def _images(paths: Iterable[Path], root: Path) -> Iterator[NamedImage]:
    """The files that have a role, or should have one.

    A folder named for a role lends it to its files, unless theirs differ: then it is
    just a folder (such as ``in`` for input). A folder that holds one series has the
    role in its name, with or without the file's.
    """
    by_folder: dict[Path, list[Path]] = defaultdict(list)
    for path in paths:
        if not NOT_MAGNITUDE.fullmatch(stem_of(path)):
            by_folder[path.parent].append(path)
    for folder, members in by_folder.items():
        home, stems = folder, {stem_of(path) for path in members}
        own = {role for stem in stems for role in role_words(stem).roles}
        series = series_folder(folder, root)
        lent = role_words(series.name).roles - {""} if series != root else set()
        if series != root and ROLE_FOLDER.fullmatch(series.name):
            labels = (f"{series.name}/{stem}" for stem in stems)
            roles = {role for label in labels for role in role_words(label).roles}
            home = series.parent if len(roles) == 1 else folder
        elif len(lent) == 1 and lent == own or series != folder and not lent:
            home = series.parent if series != root else folder
        for path in members:
            stem = stem_of(path)
            is_first = f"{stem}_e2" in stems and not role_words(stem).matches
            image = read_name(path, home, is_first_echo=is_first)
            if image is None and len(lent) == 1 and len(members) == 1:
                image = of_series_folder(path, series)
            elif image is None and len(lent) == 1 and not own:
                image = read_name(path, series.parent)
                image = image and image._replace(is_named=False)
            if image:
                yield image


def _assemble(
    name: str, images: list[NamedImage], numbered: Mapping[Path, Path]
) -> Scan | Problem:
    """A scan of the images that share a stem, or why they are none."""
    files = tuple(image.path for image in images)
    by_role: dict[str, list[NamedImage]] = defaultdict(list)
    for image in images:
        claims = sorted(ROLES[role] for role in image.claims)
        if len(claims) != 1:
            both = f"mean {' and '.join(claims)}" if claims else "do not tell its role"
            message = f"{image.path.name}: name and .json side-car {both}"
            hint = f"Keep the side-cars, use one clear ending ({ACCEPTED}), {BY_HAND}."
            return Problem(name, files, message, hint + _philips_hint(images))
        by_role[min(image.claims)].append(image)
    for role, same in by_role.items():
        if len(same) > 1:
            files = tuple(image.path for image in same)
            names = ", ".join(path.name for path in files)
            message = f"{len(same)} {ROLES[role]} images: {names}"
            hint = f"Keep one in the folder, {BY_HAND}."
            return Problem(name, files, message, hint + _philips_hint(same))
    pairs = [pair for pair in (PHASE_PAIR, FAT_PAIR) if by_role.keys() >= {*pair}]
    studies = {image.acquisition.study for image in images} - {""}
    if pairs and len(studies) > 1:
        message = f"the .json side-cars name {len(studies)} studies"
        return Problem(name, files, message, f"Keep one in the folder, {BY_HAND}.")
    if pairs:
        return Scan(name, **{r: by_role[r][0].path for pair in pairs for r in pair})
    message = "; ".join(
        f"{image.path.name} is {ROLES[role]} without a partner "
        f"(expected {image.partner})"
        for role, (image,) in by_role.items()
    )
    others = [numbered[path].name for path in files if path in numbered]
    if others:
        message += (
            f"; {', '.join(others)} has another number, which may be of another series "
            "or of another person"
        )
        hint = f"Keep dcm2niix's side-cars, which tell the time, {BY_HAND}."
        return Problem(name, files, message, hint)
    return Problem(name, files, message, f"Add or rename the partner, {BY_HAND}.")


def _philips_hint(images: list[NamedImage]) -> str:
    """What else may be done where "echoes" are many: perhaps they are none."""
    if len(images) < _MANY_ECHOES or not all(_ECHO.search(i.path.name) for i in images):
        return ""
    return (
        " Of a Philips Dixon, dcm2niix's names and side-cars lose the roles: cervjax "
        "dicom reads them from the DICOM files."
    )


def _names(keys: Iterable[Key], root: Path) -> dict[Key, str]:
    """Names of scans: the shared stem, after the folder where several share it."""
    names = {(folder, stem): safe_name(stem, folder) for folder, stem in keys}
    repeated = _repeated(names.values())
    for (folder, stem), name in names.items():
        if name.casefold() in repeated:
            parts = (*folder.relative_to(root).parts, stem)
            names[folder, stem] = safe_name("_".join(parts), folder)
    return names


def _repeated(names: Iterable[str]) -> set[str]:
    """Names that occur twice where upper and lower case count as equal."""
    return {n for n, count in Counter(map(str.casefold, names)).items() if count > 1}


def _name_taken(scan: Scan) -> Problem:
    message = f"another scan is named {scan.name} too, in upper or lower case"
    hint = "Rename the files of one of them."
    return Problem(scan.name, tuple(scan.files.values()), message, hint)


def _nothing_found(root: Path, tree: Tree) -> Problem:
    name, paths = safe_name("", root), tree.paths
    if tree.has_dicom and not paths:
        hint = "Convert it first: cervjax dicom FOLDER -o nifti/"
        return Problem(name, (), f"DICOM but no NIfTI file in {root}", hint)
    count = f"{len(paths)} NIfTI file(s) ({_examples(paths)})"
    message = f"no complete scan in {root}: {count}"
    if tree.passed:
        message += f"; masks and maps, not read: {_examples(tree.passed)}"
    if tree.others:
        message += f"; of other formats, not read: {_examples(tree.others)}"
        hint = "Convert other formats to NIfTI (.nii, .nii.gz)."
        return Problem(name, (), message, hint)
    hint = f"Use the endings {ACCEPTED}, {BY_HAND}."
    if paths and not any(
        path.with_name(f"{stem_of(path)}.json").exists() for path in paths
    ):
        hint += " dcm2niix's .json side-cars tell roles too, and are missing (-b y)."
    return Problem(name, (), message, hint)


def _examples(paths: list[Path]) -> str:
    return (
        ", ".join(path.name for path in paths[:5]) + ", ..." * (len(paths) > 5)
        or "none"
    )
