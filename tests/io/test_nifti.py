import gzip
import itertools
import time

import nibabel as nib
import numpy as np
import pytest
from conftest import save_nifti

from cervjax.io.nifti import (
    NiftiError,
    check_same_grid,
    read_nifti,
    to_stored_orientation,
    write_labels,
    write_volume,
)

AFFINE = np.array(
    [[-0.8, 0, 0, 40.0], [0, 0, 3.0, -20.0], [0, 0.9, 0, -50.0], [0, 0, 0, 1.0]]
)  # stored left, superior, anterior

CODES = sorted(
    "".join(axes)
    for order in itertools.permutations(("LR", "PA", "IS"))
    for axes in itertools.product(*order)
)


@pytest.fixture
def ramp():
    return np.arange(4 * 5 * 6, dtype=np.float32).reshape(4, 5, 6)


def test_reading_brings_axes_to_ras(tmp_path, ramp):
    volume = read_nifti(save_nifti(tmp_path / "v.nii.gz", ramp, AFFINE))
    np.testing.assert_array_equal(volume.data, ramp[::-1].transpose(0, 2, 1))
    assert volume.spacing_mm == pytest.approx((0.8, 3.0, 0.9))
    assert volume.voxel_volume_ml == pytest.approx(0.8 * 3.0 * 0.9 / 1000)
    assert volume.oblique_degrees == pytest.approx(0, abs=0.05)
    # the first voxel in RAS is the last stored one along x
    np.testing.assert_allclose(volume.affine[:3, 3], AFFINE[:3] @ [3, 0, 0, 1])
    np.testing.assert_array_equal(to_stored_orientation(volume.data, volume), ramp)


def test_canonical_image_of_nibabel_agrees(tmp_path, ramp):
    rng = np.random.default_rng(1)
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    affine = np.eye(4)
    affine[:3, :3] = turn * (0.7, 0.8, 3)
    path = save_nifti(tmp_path / "v.nii", ramp, affine)
    volume, expected = read_nifti(path), nib.as_closest_canonical(nib.load(path))
    np.testing.assert_array_equal(volume.data, expected.get_fdata(dtype=np.float32))
    np.testing.assert_allclose(volume.affine, expected.affine, atol=1e-6)


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_labels_come_back_where_they_were(tmp_path, ramp, kind, suffix):
    image = kind(ramp.astype(np.int16), AFFINE)
    image.header.set_slope_inter(2, 5)
    nib.save(image, tmp_path / "v.nii")
    volume = read_nifti(tmp_path / "v.nii")
    labels = (volume.data.astype(int) % 15).astype(np.uint8)
    path = tmp_path / f"labels{suffix}"
    write_labels(path, labels, volume)
    written = nib.load(path)
    assert type(written) is kind
    assert written.header["scl_slope"] in (1, 0) or np.isnan(
        written.header["scl_slope"]
    )
    np.testing.assert_array_equal(written.affine, nib.load(tmp_path / "v.nii").affine)
    back = read_nifti(path)
    np.testing.assert_array_equal(back.data, labels)
    assert not list(tmp_path.glob(".*"))


def test_forms_that_disagree_on_sides_are_refused(tmp_path, ramp):
    image = nib.Nifti1Image(ramp, AFFINE)
    image.set_sform(AFFINE, 1)
    image.set_qform(np.diag([-1.0, 1, 1, 1]) @ AFFINE, 1)
    nib.save(image, tmp_path / "v.nii")
    with pytest.raises(NiftiError, match="left and right cannot be trusted"):
        read_nifti(tmp_path / "v.nii")


def test_header_and_affine_that_disagree_on_size_are_refused(tmp_path, ramp):
    path = save_nifti(tmp_path / "v.nii", ramp, AFFINE)
    raw = bytearray(path.read_bytes())
    raw[80:84] = np.float32(0.9).tobytes()  # pixdim[1]
    path.write_bytes(raw)
    with pytest.raises(NiftiError, match=r"0\.9 x .* in the header but 0\.8"):
        read_nifti(path)


def test_singleton_fourth_axis_is_no_series(tmp_path, ramp):
    path = save_nifti(tmp_path / "v.nii", ramp[..., None], AFFINE)
    assert read_nifti(path).data.shape == (4, 6, 5)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (np.full((4, 4, 4), np.inf, np.float32), "64 of 64 voxels"),
        (np.full((4, 4, 4), 7, np.int16), "every voxel has the value 7"),
        (np.ones((4, 4, 1), np.float32), "at least 2 voxels"),
        (np.ones((4, 4, 4), np.complex64), "real numbers"),
        (np.linspace(0, 1e300, 64).reshape(4, 4, 4), "too large"),
    ],
)
def test_bad_data_are_refused(tmp_path, data, reason):
    path = save_nifti(tmp_path / "v.nii", data, AFFINE)
    with pytest.raises(NiftiError, match=reason) as caught:
        read_nifti(path)
    assert str(path) in str(caught.value)


def test_same_grid_is_judged_in_ras(tmp_path, ramp):
    """The same volume stored in two orientations is on one grid."""
    first = read_nifti(save_nifti(tmp_path / "a.nii", ramp, AFFINE))
    flipped = AFFINE @ np.array(
        [[-1, 0, 0, 3], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]
    )
    second = read_nifti(save_nifti(tmp_path / "b.nii", ramp[::-1], flipped))
    check_same_grid(first, second)
    turned = AFFINE.copy()
    turned[:3, 0] *= 1.05  # the last corner moves by 0.12 mm
    third = read_nifti(save_nifti(tmp_path / "c.nii", ramp, turned))
    with pytest.raises(NiftiError, match=r"0\.12 mm apart"):
        check_same_grid(first, third)


@pytest.mark.parametrize("codes", CODES)
def test_stored_axes_do_not_move_a_voxel(tmp_path, codes):
    rng = np.random.default_rng(5)
    turn, _ = np.linalg.qr(np.eye(3) + 0.1 * rng.normal(size=(3, 3)))
    affine = np.eye(4)
    affine[:3, :3] = turn * np.sign(np.diag(turn)) * (0.7, 0.9, 3.0)
    affine[:3, 3] = -11, 7, 30
    data = np.zeros((4, 5, 6), np.int16)
    data[1, 3, 4] = 100
    data[0, 0, 5] = 200
    write_volume(tmp_path / "a.nii.gz", data, affine, codes)
    again = nib.load(tmp_path / "a.nii.gz")
    assert "".join(nib.aff2axcodes(again.affine)) == codes
    stored = np.asanyarray(again.dataobj)
    for value, index in ((100, (1, 3, 4)), (200, (0, 0, 5))):
        (at,) = np.argwhere(stored == value)
        for form in (again.get_sform(), again.get_qform()):
            np.testing.assert_allclose(
                form[:3] @ [*at, 1], affine[:3] @ [*index, 1], atol=1e-4
            )


def test_the_same_volume_gives_the_same_bytes(tmp_path, ramp, monkeypatch):
    write_volume(tmp_path / "a.nii.gz", ramp, np.eye(4))
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 1000)
    write_volume(tmp_path / "b.nii.gz", ramp, np.eye(4))
    a, b = (tmp_path / f"{name}.nii.gz" for name in "ab")
    assert a.read_bytes() == b.read_bytes()


def test_sheared_axes_and_giant_fields_of_view_are_refused(tmp_path, ramp):
    sheared = np.eye(4)
    sheared[0, 1] = 0.05
    image = nib.Nifti1Image(ramp, sheared)
    image.set_sform(sheared, 1)
    image.header["qform_code"] = 0
    nib.save(image, tmp_path / "a.nii")
    with pytest.raises(NiftiError, match="sheared affine .*cosine up to 0.050"):
        read_nifti(tmp_path / "a.nii")
    long = np.zeros((50, 2, 2), np.float32)
    long[0] = 1
    wide = np.diag([45.0, 1, 1, 1])
    with pytest.raises(NiftiError, match="field of view of 2250 x 2 x 2 mm"):
        read_nifti(save_nifti(tmp_path / "b.nii", long, wide))


def write_with(path, ramp, **fields):
    """A file whose header has other values than its writer would allow."""
    image = nib.Nifti1Image(ramp, AFFINE)
    image.header.set_xyzt_units("mm")
    image.set_qform(AFFINE, 1)
    image.set_sform(AFFINE, 1)
    nib.save(image, path)
    content = bytearray(path.read_bytes())
    header = np.frombuffer(content, nib.Nifti1Header.template_dtype, 1).copy()
    for name, value in fields.items():
        header[name] = value
    content[: header.itemsize] = header.tobytes()
    path.write_bytes(content)
    return path


def test_a_quaternion_longer_than_1_does_not_matter_beside_a_sound_sform(
    tmp_path, ramp
):
    path = tmp_path / "v.nii"
    long = {"quatern_b": 0.8, "quatern_c": 0.8, "quatern_d": 0.1}
    volume = read_nifti(write_with(path, ramp, **long))
    np.testing.assert_array_equal(volume.data, ramp[::-1].transpose(0, 2, 1))
    with pytest.raises(NiftiError, match=r"v\.nii"):
        read_nifti(write_with(path, ramp, **long, sform_code=0))


@pytest.mark.parametrize(
    "fields",
    [
        {"xyzt_units": 3},
        {"xyzt_units": 1},
        {"xyzt_units": 7},
        {"dim": [3, 4, 5, 6000, 1, 1, 1, 1]},
        {"dim": [3, 30000, 30000, 30000, 1, 1, 1, 1]},
        {"dim": [3, -4, 5, 6, 1, 1, 1, 1]},
        {"dim": [3, 0, 5, 6, 1, 1, 1, 1]},
        {"srow_x": np.nan},
        {"srow_x": np.inf, "qform_code": 0},
        {"vox_offset": 1e30},
        {"vox_offset": np.nan},
        {"datatype": 77},
        {"bitpix": 0, "datatype": 0},
        {"pixdim": np.nan},
        {"sform_code": 0, "quatern_b": np.nan},
    ],
    ids=str,
)
def test_damaged_headers_are_refused_by_name(tmp_path, ramp, fields):
    path = write_with(tmp_path / "v.nii", ramp, **fields)
    with pytest.raises(NiftiError, match=r"v\.nii"):
        read_nifti(path)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_header_that_promises_too_much_takes_no_memory(tmp_path, suffix, monkeypatch):
    import gzip

    plain = write_with(
        tmp_path / "v.nii",
        np.zeros((4, 5, 6), "f4"),
        dim=[3, 700, 500, 500, 1, 1, 1, 1],
    )
    path = tmp_path / f"w{suffix}"
    content = plain.read_bytes()
    path.write_bytes(gzip.compress(content) if suffix.endswith("gz") else content)
    monkeypatch.setattr(np, "asanyarray", None)  # what would read the voxels
    with pytest.raises(NiftiError, match="promises"):
        read_nifti(path)


def test_masks_hold_nothing_of_the_patient(tmp_path, ramp):
    image = nib.Nifti1Image(ramp, AFFINE)
    image.header.set_xyzt_units("mm")
    image.header["db_name"] = b"MUELLER^HANS"
    image.header["aux_file"] = b"MUELLER^HANS"
    image.header.extensions.append(
        nib.nifti1.Nifti1Extension("comment", b"MUELLER^HANS 1970")
    )
    nib.save(image, tmp_path / "v.nii")
    assert b"MUELLER" in (tmp_path / "v.nii").read_bytes()
    volume = read_nifti(tmp_path / "v.nii")
    write_labels(tmp_path / "m.nii", np.ones((4, 6, 5), np.uint8), volume)
    assert b"MUELLER" not in (tmp_path / "m.nii").read_bytes()


@pytest.mark.parametrize("damage", ["voxel", "sum", "end"])
def test_a_changed_voxel_in_a_whole_gzip_file_is_noticed(tmp_path, damage):
    """Of a file packed without compression, whose stream stays legal."""
    data = np.random.default_rng(0).normal(100, 9, (8, 7, 6)).astype(np.float32)
    path = save_nifti(tmp_path / "a.nii", data, np.diag([1, 1, 3, 1.0]))
    raw = bytearray(gzip.compress(path.read_bytes(), 0))
    packed = tmp_path / "a.nii.gz"
    packed.write_bytes(raw + b"garbage")
    read_nifti(packed)
    if damage == "end":
        raw = raw[:-3]
    else:
        raw[-300 if damage == "voxel" else -6] ^= 4
    packed.write_bytes(raw)
    with pytest.raises(NiftiError, match="a.nii.gz.*cut short or damaged"):
        read_nifti(packed)
