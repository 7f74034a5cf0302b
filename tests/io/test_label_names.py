"""Names of labels in the header of a mask."""

import xml.etree.ElementTree as ET

import nibabel as nib
import numpy as np
import pytest
from conftest import save_nifti
from nibabel.nifti1 import Nifti1Extension

from cervjax.anatomy import MUSCLES
from cervjax.io.label_names import label_names
from cervjax.io.label_sets import read_label_set
from cervjax.io.nifti import NiftiError, read_nifti, write_labels, write_map

KEYS = {m.label: m.key for m in MUSCLES}


@pytest.fixture
def scan(tmp_path):
    data = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
    return read_nifti(save_nifti(tmp_path / "v.nii.gz", data, np.diag([2, 2, 3, 1.0])))


def with_names(path, content: bytes, code: int = 30):
    """A mask of another program with a table in its header."""
    image = nib.Nifti1Image(np.ones((3, 3, 3), np.uint8), np.eye(4))
    image.header.extensions.append(Nifti1Extension(code, content))
    nib.save(image, path)
    return path


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_mask_names_its_muscles_and_reads_as_before(tmp_path, scan, suffix):
    labels = (scan.data.astype(int) % 15).astype(np.uint8)
    path = tmp_path / f"m{suffix}"
    write_labels(path, labels, scan)
    assert label_names(path) == {0: "background"} | KEYS
    np.testing.assert_array_equal(read_nifti(path).data, labels)
    assert read_label_set(str(path)).muscles == {i: i for i in range(1, 15)}
    write_labels(tmp_path / "again.nii", labels, read_nifti(path))  # one table, not two
    again = nib.load(tmp_path / "again.nii")
    assert len(again.header.extensions) == 1
    assert again.dataobj.offset % 16 == 0  # as NIfTI wants it


def test_colours_are_those_of_the_other_tables(tmp_path, scan):
    write_labels(tmp_path / "m.nii", np.ones((3, 4, 5), np.uint8), scan)
    (extension,) = nib.load(tmp_path / "m.nii").header.extensions
    assert extension.get_code() == 30
    root = ET.fromstring(extension.content.rstrip(b"\0"))
    rgb = {
        int(e.get("Key")): [
            round(255 * float(e.get(c))) for c in ("Red", "Green", "Blue")
        ]
        for e in root.iter("Label")
    }
    assert all(rgb[m.label] == list(m.color_rgb) for m in MUSCLES)


def test_images_and_maps_have_no_names(tmp_path, scan):
    assert label_names(scan.path) == {}
    write_map(tmp_path / "m.nii.gz", scan.data, scan)
    assert label_names(tmp_path / "m.nii.gz") == {}


def test_names_of_another_program_say_what_its_values_mean(tmp_path):
    """Left and right the other way round, under another code, and a bone."""
    table = "".join(
        f'<Label Key="{i}"><![CDATA[{name}]]></Label>'
        for i, name in enumerate(["background", "LS_L", "Levator scapulae right", "C3"])
    )
    xml = f'<?xml version="1.0"?><A><LabelTable>{table}</LabelTable></A>'.encode()
    path = with_names(tmp_path / "m.nii.gz", xml, 0)
    found = read_label_set(str(path))
    assert found.muscles == {1: 14, 2: 13} and found.others == {3}


@pytest.mark.parametrize(
    "content",
    [
        b"<A><LabelTable><Label Key='1'>LC_L</A>",
        b"<A><LabelTable><Label>LC_L</Label></LabelTable></A>",
        b"<!DOCTYPE a [<!ENTITY b 'c'>]><A><LabelTable/></A>",
    ],
)
def test_damaged_names_are_refused_in_one_line(tmp_path, content):
    path = with_names(tmp_path / "m.nii", content)
    with pytest.raises(NiftiError, match="names of labels in its header are damaged"):
        label_names(path)


def test_a_mask_without_names_is_no_label_set(tmp_path, scan):
    with pytest.raises(ValueError, match="names none of the paper's muscles"):
        read_label_set(str(scan.path))
    broken = tmp_path / "broken.nii"
    broken.write_bytes(b"x" * 100)
    with pytest.raises(NiftiError, match="not usable as NIfTI"):
        label_names(broken)
