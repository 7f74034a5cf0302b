"""SNOMED CT codes of the muscles and their sides, for DICOM and 3D Slicer.

Only codes that stand in published lists: DICOM's own (PS3.16) and HL7's list of body
sites. The other muscles are a "muscle of neck", and their name says which one.
"""

from typing import NamedTuple

from cervjax.anatomy import Muscle


class Code(NamedTuple):
    """A concept of SNOMED CT.

    Attributes:
        value: its number.
        meaning: in words.
    """

    value: str
    meaning: str


CATEGORY = Code("91723000", "Anatomical Structure")
NECK = Code("45048000", "Neck")
SIDES = {"left": Code("7771000", "Left"), "right": Code("24028007", "Right")}
_NECK_MUSCLE = Code("81727001", "Muscle of neck")
_MUSCLES = {
    "SCM": Code("22823000", "Sternocleidomastoid muscle"),
    "SSCap": Code("2666009", "Semispinalis capitis muscle"),
    "TR": Code("31764008", "Trapezius muscle"),
}


def muscle_code(muscle: Muscle) -> Code:
    """The code of a muscle without its side, or of any muscle of the neck."""
    return _MUSCLES.get(muscle.abbreviation, _NECK_MUSCLE)
