"""The files of a scan: in-phase and out-of-phase images, water and fat, or both.

`pairing` finds scans in a folder.
"""

from dataclasses import dataclass
from pathlib import Path

from cervjax.io.filenames import NIFTI, read_name, safe_name, stem_of
from cervjax.io.roles import FAT_PAIR, PHASE_PAIR, ROLES

ACCEPTED = (
    "_inphase/_outphase, _IN/_OPP, _IN/_OUT, _IP/_OP or _0000/_0001 (nnU-Net) for "
    "in-phase/out-of-phase, _water/_fat or _W/_F for water/fat"
)
"""The endings to recommend."""
BY_HAND = "or name the files: --in-phase F --out-phase F, or --list TABLE"
"""What to do where names are of no use, for messages."""


class PairingError(ValueError):
    """The files named cannot form a scan."""


@dataclass(frozen=True)
class Scan:
    """The images of one scan.

    Attributes:
        name: unique in its tree, and safe as a file name.
        in_phase: in-phase image.
        out_phase: out-of-phase (opposed-phase) image.
        water: water image.
        fat: fat image.
    """

    name: str
    in_phase: Path | None = None
    out_phase: Path | None = None
    water: Path | None = None
    fat: Path | None = None

    @property
    def files(self) -> dict[str, Path]:
        """The images given, by role."""
        return {role: path for role in ROLES if (path := getattr(self, role))}

    @property
    def has_pair(self) -> bool:
        """Whether in-phase and out-of-phase are there."""
        return self.files.keys() >= set(PHASE_PAIR)

    @property
    def has_water_fat(self) -> bool:
        """Whether water and fat are there."""
        return self.files.keys() >= set(FAT_PAIR)


@dataclass(frozen=True)
class Problem:
    """Why some files are not a scan.

    Attributes:
        scan: best name for what they belong to.
        files: the files (or folder) concerned.
        message: what is wrong.
        hint: what to do about it.
    """

    scan: str
    files: tuple[Path, ...]
    message: str
    hint: str


def explicit_scan(
    in_phase: Path | None = None,
    out_phase: Path | None = None,
    water: Path | None = None,
    fat: Path | None = None,
    name: str | None = None,
) -> Scan:
    """Makes a scan of the files the user names, whatever they are called.

    Args:
        in_phase: in-phase image; needs `out_phase`.
        out_phase: out-of-phase image; needs `in_phase`.
        water: water image; needs `fat`.
        fat: fat image; needs `water`.
        name: name of the scan; by default, that of the first file without its role.

    Returns:
        The scan.

    Raises:
        PairingError: if a file is missing or not NIfTI, or if its
            partner is not given.
    """
    given = dict(zip(ROLES, (in_phase, out_phase, water, fat), strict=True))
    files = {role: Path(path) for role, path in given.items() if path}
    received = ", ".join(f"{ROLES[role]} {path}" for role, path in files.items())
    if not files or any(
        len(files.keys() & {*pair}) == 1 for pair in (PHASE_PAIR, FAT_PAIR)
    ):
        raise PairingError(
            f"got {received or 'no file'}; give both --in-phase F and --out-phase F, "
            "or both --water F and --fat F"
        )
    for role, path in files.items():
        if not path.is_file():
            raise PairingError(f"{ROLES[role]} {path} is not a file; check the path")
        if not NIFTI.fullmatch(path.name):
            hint = "give a .nii or .nii.gz file (dcm2niix converts DICOM)"
            raise PairingError(f"{ROLES[role]} {path} is not NIfTI; {hint}")
    first = next(iter(files.values()))
    image = read_name(first, first.parent)
    stem = name or (image.stem if image else stem_of(first))
    return Scan(safe_name(stem, first.parent), **files)
