"""Segmentations of 3D Slicer, read back by another library."""

import numpy as np
import pytest

from cervjax.anatomy import MUSCLES
from cervjax.io.segment_nrrd import segments_file

nrrd = pytest.importorskip("nrrd", reason="needs pynrrd")


@pytest.fixture
def written(tmp_path):
    """Labels 0-13 in an oblique grid, no two alike; 14 is not there."""
    labels = np.random.default_rng(0).integers(0, 14, (5, 4, 3)).astype(np.uint8)
    turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn * (0.7, 0.8, 3), (-31, 12, 5)
    (tmp_path / "a.seg.nrrd").write_bytes(segments_file(labels, affine))
    return labels, affine, *nrrd.read(str(tmp_path / "a.seg.nrrd"))


def test_voxels_lie_where_they_were(written):
    """The header's formula, from LPS to RAS, against the affine."""
    labels, affine, data, header = written
    np.testing.assert_array_equal(data, labels)
    assert header["space"] == "left-posterior-superior"
    index = np.stack(np.indices(labels.shape), -1).reshape(-1, 3)
    lps = header["space origin"] + index @ header["space directions"]
    ras = index @ affine[:3, :3].T + affine[:3, 3]
    np.testing.assert_allclose(lps * (-1, -1, 1), ras, atol=1e-12)


def test_segments_have_names_sides_colours_and_places(written):
    labels, _, _, header = written
    for number, m in enumerate(MUSCLES):
        segment = {
            key.removeprefix(f"Segment{number}_"): value
            for key, value in header.items()
            if key.startswith(f"Segment{number}_")
        }
        assert segment["ID"] == m.key and int(segment["LabelValue"]) == m.label
        assert segment["Name"] == f"{m.name} {m.side}"
        rgb = [round(255 * float(c)) for c in segment["Color"].split()]
        assert rgb == list(m.color_rgb)
        side = {"left": "SCT^7771000^Left", "right": "SCT^24028007^Right"}
        assert side[m.side] in segment["Tags"]
        ends = np.reshape([int(v) for v in segment["Extent"].split()], (3, 2))
        if m.label == 14:
            assert ends.tolist() == [[0, -1]] * 3
        else:
            box = labels[tuple(slice(a, b + 1) for a, b in ends)]
            assert (box == m.label).sum() == (labels == m.label).sum()
            assert all(
                (np.take(box, i, k) == m.label).any() for i in (0, -1) for k in range(3)
            )
