"""`cervjax evaluate`: folders of masks to the paper's tables."""

import csv
import json

import nibabel as nib
import numpy as np
import pytest
from conftest import save_nifti, save_pair

from cervjax.anatomy import MUSCLES
from cervjax.cli.main import main
from cervjax.evaluation.comparison import compare, evaluate
from cervjax.evaluation.pairs import find_masks, find_pairs
from cervjax.evaluation.report import FILES
from cervjax.evaluation.tables import differences, make_tables

SHAPE = (28, 24, 10)
AFFINE = np.diag([0.7, 0.7, 3.0, 1.0])
VOXEL_ML = 0.7 * 0.7 * 3 / 1000


def command(*arguments) -> int:
    return main(["evaluate", *map(str, arguments)])


def table(path) -> list[dict[str, str]]:
    with open(path, newline="") as stream:
        return list(csv.DictReader(stream))


def muscles(widths) -> np.ndarray:
    """Label k is ``widths[k - 1]`` voxels deep, right muscles right of left ones."""
    labels = np.zeros(SHAPE, np.uint8)
    for k, width in enumerate(widths, start=1):
        labels[28 - 2 * k, 1 : 1 + width, 2:8] = k
    return labels


def write_scan(root, name, labels, fat_percent=10.0):
    in_phase = np.full(SHAPE, 100.0)
    in_phase[0] = 5  # not constant
    fat = np.where(labels > 0, fat_percent + labels, 80.0) / 100
    save_nifti(root / f"{name}_inphase.nii.gz", in_phase, AFFINE)
    save_nifti(root / f"{name}_outphase.nii.gz", in_phase * np.abs(1 - 2 * fat), AFFINE)


@pytest.fixture(autouse=True)
def quick_figures(request, monkeypatch):
    """Files without pictures, except where the pictures are tested."""
    if request.function is not test_the_tables:
        monkeypatch.setattr(
            "cervjax.evaluation.report.save_figure", lambda figure, path: path.touch()
        )


@pytest.fixture
def study(tmp_path):
    """Four scans; predictions one voxel too deep in three, right in one."""
    rng = np.random.default_rng(1)
    for i in range(4):
        widths = rng.integers(6, 12, 14)
        reference = muscles(widths)
        write_scan(tmp_path / "scans", f"s{i}", reference, 5.0 + i)
        predicted = muscles(widths + (i > 0))
        for folder, labels in (("scans", reference), ("masks", predicted)):
            save_nifti(tmp_path / folder / f"s{i}_dseg.nii.gz", labels, AFFINE)
    return tmp_path


def test_the_tables(study, capsys):
    assert command(study / "masks", study / "scans", "-o", study / "out") == 0
    rows = table(study / "out" / "scans.csv")
    assert len(rows) == 4 * 14
    for row in rows:
        tp, fp, fn = (int(row[k]) for k in ("tp", "fp", "fn"))
        assert fn == 0 and (fp > 0) == (row["scan"] != "s0")
        assert float(row["dice"]) == pytest.approx(2 * tp / (2 * tp + fp), rel=1e-5)
        volume = (tp + fp) * VOXEL_ML
        assert float(row["predicted_volume_ml"]) == pytest.approx(volume, rel=1e-5)
        # an echo of |W - F|: fat of 80 % around the muscle reads as 20 %
        i = int(row["scan"][1])
        truth = 5.0 + i + int(row["label"])
        assert float(row["reference_mfi_percent"]) == pytest.approx(truth, abs=0.35)
    two = {(r["muscle"], r["quantity"]): r for r in table(study / "out" / "table2.csv")}
    assert len(two) == 28 and list(two)[0] == ("MFSS_L", "mfi_percent")
    depth = 6 * VOXEL_ML  # of one more voxel
    assert float(two["LC_R", "volume_ml"]["bias"]) == pytest.approx(
        0.75 * depth, rel=1e-4
    )
    four = {r["muscle"]: r for r in table(study / "out" / "table4.csv")}
    assert float(four["TR_L"]["tpr_mean"]) == 1 and int(four["TR_L"]["scans"]) == 4
    assert len(table(study / "out" / "table3.csv")) == 28
    summary = json.loads((study / "out" / "summary.json").read_text())
    assert summary["metric_per_case"][0]["metrics"]["3"]["Dice"] == 1
    assert summary["mean"]["3"]["FN"] == 0
    slopes = json.loads((study / "out" / "calibration.json").read_text())["slopes"]
    assert 0.8 < slopes["SCM_L"]["volume_ml"] < 1
    assert "not for clinical use" in (study / "out" / "tables.md").read_text().lower()
    assert "\\midrule" in (study / "out" / "tables.tex").read_text()
    for number in (3, 4):
        for quantity in ("mfi", "volume"):
            picture = study / "out" / f"figure{number}_{quantity}"
            assert picture.with_suffix(".png").stat().st_size > 20_000
            assert picture.with_suffix(".pdf").read_bytes()[:4] == b"%PDF"
    assert "mean Dice" in capsys.readouterr().out


@pytest.mark.parametrize("axes", ["LAS", "PSR", "IAL"])
def test_masks_stored_along_other_axes(study, axes):
    """The same masks turned: the same rows."""
    for path in (study / "masks").glob("*.nii.gz"):
        image = nib.load(path)
        turn = nib.orientations.ornt_transform(
            nib.io_orientation(image.affine), nib.orientations.axcodes2ornt(axes)
        )
        nib.save(image.as_reoriented(turn), path)
    pairs, _ = find_pairs(study / "masks", study / "scans")
    rows = compare(pairs[0])
    assert all(row["dice"] == 1 for row in rows)


@pytest.mark.parametrize("named", [False, True])
def test_what_the_reference_ignores_is_left_out(study, named):
    """By the command's value, or by a dataset.json."""
    pair = find_pairs(study / "masks", study / "scans")[0][1]
    predicted = np.asarray(nib.load(pair.predicted).dataobj)
    reference = np.asarray(nib.load(pair.reference).dataobj).copy()
    assert (predicted != reference).any()
    reference[predicted != reference] = 200
    save_nifti(pair.reference, reference, AFFINE)
    flags = [] if named else ["--ignore-label", "200"]
    if named:
        labels = {m.key: m.label for m in MUSCLES} | {"ignore": 200}
        text = json.dumps({"labels": labels})
        (pair.reference.parent / "dataset.json").write_text(text)
    out = study / "out"
    assert command(study / "masks", study / "scans", "-o", out, *flags) == 0
    rows = [r for r in table(out / "scans.csv") if r["scan"] == pair.name]
    assert len(rows) == 14 and all(float(row["dice"]) == 1 for row in rows)


def swapped(labels: np.ndarray) -> np.ndarray:
    """Numbered as MuscleMap does: odd is left, even is right."""
    partner = np.array([0, *[k + 1 if k % 2 else k - 1 for k in range(1, 15)]])
    return partner[labels].astype(np.uint8)


@pytest.mark.parametrize("which", [["masks"], ["scans"], ["masks", "scans"]])
def test_exchanged_sides_are_refused(study, which):
    """In either mask, and where both agree but name each muscle's side wrongly."""
    for folder in which:
        path = study / folder / "s0_dseg.nii.gz"
        save_nifti(path, swapped(np.asarray(nib.load(path).dataobj)), AFFINE)
    pairs, _ = find_pairs(study / "masks", study / "scans")
    with pytest.raises(ValueError, match="s0_dseg.*exchanged in 7 of 7.*MuscleMap"):
        compare(pairs[0])


def test_exchanged_sides_are_told_by_the_command(study, capsys):
    for path in (study / "masks").glob("*.nii.gz"):
        save_nifti(path, swapped(np.asarray(nib.load(path).dataobj)), AFFINE)
    assert command(study / "masks", study / "scans", "-o", study / "out") == 2
    assert "left and right are exchanged" in capsys.readouterr().out
    assert not [*(study / "out").iterdir()]


def test_everything_written_is_looked_for_before_the_work(study):
    arguments = (study / "masks", study / "scans", "-o", study / "out")
    assert command(*arguments, "--compare", study / "masks") == 0
    assert {p.name for p in (study / "out").glob("[a-z]*")} == set(FILES)


def test_exchanged_sides_of_one_half_are_refused():
    """One muscle of each pair: only the reference can tell the side."""
    labels = muscles([6] * 14)
    one_half = np.where(labels % 2 == 1, labels, np.uint8(0))
    with pytest.raises(ValueError, match="predicted: .*7 of its muscles overlap the"):
        evaluate(swapped(one_half), one_half, spacing_mm=(1, 1, 1))


def test_arrays_and_files_give_the_same_rows(study):
    paths = study / "masks" / "s1_dseg.nii.gz", study / "scans" / "s1_dseg.nii.gz"
    arrays = [np.asarray(nib.load(p).dataobj) for p in paths]
    rows = evaluate(*arrays, spacing_mm=(0.7, 0.7, 3.0))
    of_files = evaluate(*map(str, paths))
    for row, other in zip(rows, of_files, strict=True):
        assert row == pytest.approx(other, nan_ok=True)
    assert [row["label"] for row in rows] == list(range(1, 15))
    assert all(0 < row["dice"] < 1 < row["volume_ratio"] for row in rows)
    assert all(0 < row["surface_distance_mm"] < row["hausdorff95_mm"] for row in rows)
    assert rows[0]["reference_volume_ml"] == pytest.approx(
        (arrays[1] == 1).sum() * VOXEL_ML
    )


@pytest.mark.parametrize(
    "masks, spacing, message",
    [
        ((muscles([6] * 14),) * 2, None, "spacing_mm is missing"),
        ((muscles([6] * 14), muscles([6] * 14)[1:]), (1, 1, 1), "differ in shape"),
        ((muscles([6] * 14), np.full(SHAPE, 15)), (1, 1, 1), "must be 0-14"),
        ((muscles([6] * 14), np.zeros(SHAPE)), (1, 1, 1), "must be integers"),
        ((muscles([6] * 14),) * 2, (1, 1), "three positive numbers"),
    ],
)
def test_what_cannot_be_evaluated(masks, spacing, message):
    with pytest.raises(ValueError, match=message):
        evaluate(*masks, spacing_mm=spacing)


def test_without_images(study, capsys):
    """Two raters' masks: overlap and volume; the images may be given apart."""
    for path in (study / "scans").glob("*phase*"):
        (study / "images").mkdir(exist_ok=True)
        path.rename(study / "images" / path.name)
    where = study / "masks", study / "scans", "-o", study / "out"
    assert command(*where) == 0
    assert "no fat infiltration" in capsys.readouterr().out
    assert not table(study / "out" / "scans.csv")[0]["predicted_mfi_percent"]
    assert not (study / "out" / "figure3_mfi.png").exists()
    assert command(*where, "--images", study / "images") == 0
    assert float(table(study / "out" / "scans.csv")[0]["predicted_mfi_percent"]) > 0


def test_another_set_of_predictions(study):
    where = study / "masks", study / "scans", "-o", study / "out"
    assert command(*where, "--compare", study / "scans") == 0
    rows = table(study / "out" / "differences.csv")
    dice = [r for r in rows if r["measure"] == "dice"]
    assert len(dice) == 14
    assert all(float(r["difference"]) < 0 and float(r["mean_other"]) == 1 for r in dice)
    from scipy import stats

    own = [
        float(r["dice"])
        for r in table(study / "out" / "scans.csv")
        if r["muscle"] == "LS" and r["side"] == "left"
    ]
    row = next(r for r in dice if r["muscle"] == "LS_L")
    assert float(row["p_t_test"]) == pytest.approx(
        stats.ttest_rel(own, np.ones(4)).pvalue, rel=1e-4
    )
    assert float(row["p_holm"]) >= float(row["p_t_test"])


def test_one_bad_scan_is_told_and_the_others_are_done(study, capsys):
    image = nib.load(study / "masks" / "s1_dseg.nii.gz")
    save_nifti(
        study / "masks" / "s1_dseg.nii.gz", np.asarray(image.dataobj)[:-1], AFFINE
    )
    save_nifti(study / "masks" / "alone_dseg.nii.gz", muscles([6] * 14), AFFINE)
    assert command(study / "masks", study / "scans", "-o", study / "out") == 1
    assert "FAILED s1" in capsys.readouterr().out
    reasons = {r["scan"]: r["reason"] for r in table(study / "out" / "exclusions.csv")}
    assert reasons["alone"] == "no reference mask" and "shape" in reasons["s1"]
    assert {r["scan"] for r in table(study / "out" / "scans.csv")} == {"s0", "s2", "s3"}


def test_an_empty_prediction_counts(study):
    save_nifti(study / "masks" / "s2_dseg.nii.gz", np.zeros(SHAPE, np.uint8), AFFINE)
    assert command(study / "masks", study / "scans", "-o", study / "out") == 0
    row = table(study / "out" / "table4.csv")[0]
    assert (row["dice_n"], row["ppv_n"], row["tpr_n"]) == ("4", "3", "4")
    assert float(row["dice_mean"]) < 0.76


@pytest.mark.parametrize(
    "hint, message",
    [
        (lambda p: (p / "masks").rename(p / "other"), "not a folder"),
        (lambda p: [f.unlink() for f in (p / "masks").iterdir()], "no NIfTI"),
        (
            lambda p: [
                f.rename(f.with_name("x" + f.name))
                for f in list((p / "masks").iterdir())
            ],
            "no scan has a mask in both",
        ),
        (
            lambda p: save_nifti(
                p / "masks" / "b" / "s1_seg.nii.gz", muscles([6] * 14), AFFINE
            ),
            "2 masks of s1",
        ),
    ],
)
def test_bad_folders(study, capsys, hint, message):
    hint(study)
    assert command(study / "masks", study / "scans", "-o", study / "out") == 2
    assert message in capsys.readouterr().err


def test_plain_names_are_masks_too(tmp_path):
    save_nifti(tmp_path / "case_001.nii.gz", muscles([6] * 14), AFFINE)
    assert list(find_masks(tmp_path)) == ["case_001"]


def test_two_scans_have_no_statistics(study):
    pairs, _ = find_pairs(study / "masks", study / "scans")
    rows = compare(pairs[0]) + compare(pairs[1])
    tables = make_tables(rows)
    assert all(np.isnan(r["bias"]) and r["n"] == 2 for r in tables.table2)
    assert all(np.isnan(r["p_t_test"]) for r in differences(rows, rows))


def test_calibration_stands_beside_the_raw_value(
    tmp_path, two_blobs, threshold_weights, capsys
):
    scans, slopes = save_pair(tmp_path / "in", two_blobs), tmp_path / "c.json"
    slopes.write_text(json.dumps({"slopes": {"SCM_R": {"mfi_percent": 0.8}}}))
    run = [
        "infer",
        str(scans),
        "-o",
        str(tmp_path / "out"),
        "--weights",
        str(threshold_weights),
    ]
    assert main(run) == 0
    plain = table(tmp_path / "out" / "measurements.csv")
    assert "mfi_calibrated_percent" not in plain[0]
    assert main([*run, "--calibration", str(slopes)]) == 2  # not mixed in
    assert main([*run, "--calibration", str(slopes), "--overwrite"]) == 0
    rows = {r["label"]: r for r in table(tmp_path / "out" / "measurements.csv")}
    for row in plain:
        assert rows[row["label"]].items() >= row.items()
    raw = float(rows["9"]["mfi_percent"])
    assert float(rows["9"]["mfi_calibrated_percent"]) == pytest.approx(0.8 * raw)
    assert not rows["9"]["volume_calibrated_ml"]
    assert not rows["10"]["mfi_calibrated_percent"]
    for text, message in (
        ("{}", "not a calibration"),
        ('{"slopes": {"XX_L": {"mfi_percent": 1}}}', "not known"),
        ('{"slopes": {"SCM_L": {"mfi_percent": -1}}}', "no calibration but a failure"),
    ):
        slopes.write_text(text)
        assert main([*run, "--calibration", str(slopes)]) == 2
        assert message in capsys.readouterr().err


def test_what_is_not_to_be_used_is_left_out_unless_asked(study, capsys):
    """Verdicts stand in the measurements beside the masks; a missing muscle counts."""
    empty = muscles([0] + [6] * 13)
    save_nifti(study / "masks" / "s2_dseg.nii.gz", empty, AFFINE)
    lines = ["scan,label,verdict", "s1,3,do_not_use", "s2,1,do_not_use", "s3,3,look"]
    lines += [f"s{i},4,do_not_use" for i in range(4)]
    (study / "masks" / "measurements.csv").write_text("\n".join(lines) + "\n")
    where = (study / "masks", study / "scans", "-o", study / "out")

    def scans():
        assert command(*where) == 0
        four = table(study / "out" / "table4.csv")
        return {r["muscle"]: r["scans"] for r in four}

    found = scans()
    assert found.pop("LC_R") == "3" and "LC_L" not in found
    assert set(found.values()) == {"4"}
    assert "left out: 5 of 56 muscles" in capsys.readouterr().out
    verdicts = {r["verdict"] for r in table(study / "out" / "scans.csv")}
    assert verdicts == {"", "look", "do_not_use"}
    where += ("--all-rows",)
    assert set(scans().values()) == {"4"}
