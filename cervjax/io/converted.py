"""What dcm2niix's side-cars tell of an image: its role, and when it was acquired."""

import re
from pathlib import Path
from typing import Any, NamedTuple

from cervjax.io.files import read_json

_IMAGE_TYPES = {  # of DICOM, as dcm2niix writes them
    "IN_PHASE": "in_phase",
    "OUT_PHASE": "out_phase",
    "OPP_PHASE": "out_phase",
    "WATER": "water",
    "FAT": "fat",
}
_FAT_SHIFT_HZ_PER_T = 3.4 * 42.577  # 3.4 ppm from water


class Acquisition(NamedTuple):
    """What is the same for all images that were computed from the same echoes.

    Attributes:
        study: UID of the study; empty if unknown (side-cars are often made anonymous).
        time: of acquisition; empty if unknown.
    """

    study: str = ""
    time: str = ""


class Told(NamedTuple):
    """What a side-car tells.

    Attributes:
        role: in the DICOM image type, if it has just one; else empty.
        echo_role: by echo time and field; empty if unknown.
        acquisition: when.
    """

    role: str = ""
    echo_role: str = ""
    acquisition: Acquisition = Acquisition()


def read_told(sidecar: Path) -> Told:
    """Reads a side-car; nothing where there is none that can be read."""
    try:
        content = read_json(sidecar)
    except (OSError, ValueError):
        return Told()
    if not isinstance(content, dict):
        return Told()
    return Told(_stated_role(content), _echo_role(content), _acquisition(content))


def _acquisition(content: dict[str, Any]) -> Acquisition:
    study, time = content.get("StudyInstanceUID"), content.get("AcquisitionTime")
    known = isinstance(time, str | int | float) and re.search("[1-9]", str(time))
    # Midnight is what is left of a time that was made anonymous.
    return Acquisition(
        study.strip() if isinstance(study, str) else "",
        str(time).strip() if known else "",
    )


def _stated_role(content: dict[str, Any]) -> str:
    words = f"{content.get('ImageType')} {content.get('ImageTypeText')}"
    roles = {_IMAGE_TYPES.get(word, "") for word in re.findall(r"\w+", words)} - {""}
    return roles.pop() if len(roles) == 1 else ""


def _echo_role(content: dict[str, Any]) -> str:
    echo_time_s, field_t = content.get("EchoTime"), content.get("MagneticFieldStrength")
    if not (isinstance(echo_time_s, float | int) and isinstance(field_t, float | int)):
        return ""
    return echo_role(echo_time_s, field_t)


def echo_role(echo_time_s: float, field_t: float) -> str:
    """The role that the echo time gives, if it is near that of either phase."""
    cycles = echo_time_s * field_t * _FAT_SHIFT_HZ_PER_T
    if not 0 < cycles < 6:  # no echo of a Dixon scan, or not in seconds
        return ""
    off_phase = abs(cycles - round(cycles))
    return "in_phase" if off_phase < 0.15 else "out_phase" if off_phase > 0.35 else ""
