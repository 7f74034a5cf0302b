"""Names of labels inside a NIfTI mask, in its header's extension.

An XML table of labels under the code of Caret, as Connectome Workbench keeps it and
TotalSegmentator reads it, so that a mask alone tells which muscle and side a value is.
"""

import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from pathlib import Path

import nibabel as nib
from nibabel.nifti1 import Nifti1Extension

from cervjax.anatomy import MUSCLES
from cervjax.io.nifti_checks import UNREADABLE, NiftiError

_CARET = 30
"""Code of the extension, as the NIfTI group has given it to Caret."""
_LARGEST_TABLE = 4_000_000  # bytes


def names_extension() -> Nifti1Extension:
    """The names and colours of the 14 muscles, and nothing else."""
    root = ET.Element("CaretExtension")
    volume = ET.SubElement(root, "VolumeInformation", Index="0")
    table = ET.SubElement(volume, "LabelTable")
    colours = {0: ("background", (0, 0, 0), 0)}
    colours |= {m.label: (m.key, m.color_rgb, 1) for m in MUSCLES}
    for label, (name, rgb, alpha) in colours.items():
        parts = zip(("Red", "Green", "Blue"), rgb, strict=True)
        shade = {part: f"{value / 255:.4f}" for part, value in parts}
        attributes = {"Key": str(label), **shade, "Alpha": str(alpha)}
        ET.SubElement(table, "Label", attributes).text = name
    ET.SubElement(volume, "VolumeType").text = "Label"
    text = ET.tostring(root, encoding="UTF-8", xml_declaration=True)
    return Nifti1Extension(_CARET, text)


def label_names(path: str | Path) -> Mapping[int, str]:
    """The names of labels that a NIfTI file has in itself, by value; {} if it has none.

    Raises:
        NiftiError: the file cannot be read as NIfTI, or its table of names is damaged.
    """
    try:
        header = nib.load(path).header
        extensions = getattr(header, "extensions", ())
        contents = [extension.content.rstrip(b"\0") for extension in extensions]
    except UNREADABLE as error:
        raise NiftiError(
            f"{path}: not usable as NIfTI ({type(error).__name__}: {error}); copy it "
            "again"
        ) from error
    for content in contents:
        if b"<LabelTable" in content:
            try:
                return _names(content)
            except (ET.ParseError, ValueError, TypeError) as error:
                raise NiftiError(
                    f"{path}: the names of labels in its header are damaged ({error}); "
                    "say what the values mean with a table: --labels TABLE.csv"
                ) from error
    return {}


def _names(content: bytes) -> dict[int, str]:
    if len(content) > _LARGEST_TABLE or re.search(rb"<!(DOCTYPE|ENTITY)", content):
        raise ValueError("too large, or with definitions of its own")
    table = ET.fromstring(content).find(".//LabelTable")
    labels = () if table is None else table.iter("Label")
    return {int(label.get("Key", "")): (label.text or "").strip() for label in labels}
