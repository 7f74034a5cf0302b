"""From two files to a folder: inputs, exclusions, tables, page and figures."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from cervjax import NOTICE
from cervjax.anatomy import MUSCLES
from cervjax.cohort.analysis import MFI, VOLUME, analyse
from cervjax.cohort.assembly import MUSCLE_NAMES, assemble, modelled
from cervjax.cohort.checks import check_cohort
from cervjax.cohort.inputs import read_measurements, read_participants
from cervjax.cohort.page import p_text
from cervjax.cohort.plots import covariate_figure, muscles_figure, pairs_figure
from cervjax.cohort.report import analyse_cohort
from cervjax.io.written import adopt
from cervjax.phantom.subject import draw_change, draw_subject

pytestmark = pytest.mark.xdist_group("cohort_report")

HEADER = ["scan", "label", "muscle", "side", "mfi_percent", "volume_ml", "voxels"]


def made_up(count=24, sessions=1, seed=5):
    """Rows of both tables, as `cervjax infer` and BIDS have them."""
    rng = np.random.default_rng(seed)
    rows, people = [], []
    for i in range(count):
        who = draw_subject(seed, i)
        people.append([who.name, str(who.age_years), who.sex, str(who.bmi)])
        for session in range(1, sessions + 1):
            mfi = who.mfi_percent + 0.3 * rng.normal(size=14)
            mfi += draw_change(seed, who) if session == 2 else 0
            volume = 10 * who.muscle_area + 0.2 * rng.normal(size=14)
            scan = who.name + (f"_ses-{session}" if sessions > 1 else "")
            rows += [
                [
                    scan,
                    str(m.label),
                    m.abbreviation,
                    m.side,
                    f"{mfi[m.label - 1]:.5f}",
                    f"{volume[m.label - 1]:.5f}",
                    "100",
                ]
                for m in MUSCLES
            ]
    return rows, people


def write(
    folder, rows, people, columns=("participant_id", "age", "sex", "bmi"), header=HEADER
):
    folder.mkdir(exist_ok=True)
    paths = folder / "measurements.csv", folder / "participants.tsv"
    paths[0].write_text("\n".join(",".join(r) for r in [list(header), *rows]) + "\n")
    paths[1].write_text(
        "\n".join("\t".join(r) for r in [list(columns), *people]) + "\n"
    )
    return paths


def load(paths, **kwargs):
    return assemble(read_measurements(paths[0]), read_participants(paths[1]), **kwargs)


def analysed(folder, rows, people, **kwargs):
    """Everything but the drawing."""
    paths = write(folder, rows, people)
    cohort = load(paths, **kwargs)
    check_cohort(cohort, *paths)
    return cohort, analyse(cohort, MFI)


def table(path):
    with open(path) as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run on a cohort with two sessions and every kind of gap."""
    folder = tmp_path_factory.mktemp("cohort")
    rows, people = made_up(30, sessions=2)
    rows = [r for r in rows if r[0] != "sub-0004_ses-2"]  # not seen again
    rows = [r for r in rows if r[0] != "sub-0005_ses-1"]  # second session alone
    rows = [r for r in rows if r[:2] != ["sub-0006_ses-1", "11"]]  # TR right not there
    for row in rows:
        if row[:2] == ["sub-0007_ses-1", "2"]:  # MFSS left not found
            row[4:] = ["", "0.0", "0"]
        if row[0] == "sub-0030_ses-1":
            row[0] = "sub-0999_ses-1"  # a scan of nobody
    people[7][3] = "n/a"
    people[8][2] = "n/a"
    people[9][2] = "female" if people[9][2] == "F" else "mAle"
    people.append(["sub-0500", "33", "F", "25"])  # somebody without a scan
    said = []
    paths = write(folder, rows, people)
    analyse_cohort(*paths, folder / "out", log=said.append)
    return folder, load(paths), said


# --- reading


def test_sides_are_averaged(tmp_path):
    rows, people = made_up(8)
    cohort = load(write(tmp_path, rows, people))
    assert (
        cohort.muscles
        == MUSCLE_NAMES
        == ("MFSS", "LC", "SPCap", "SSCap", "SCM", "TR", "LS")
    )
    assert cohort.sessions == ("",) and cohort.mfi.shape == (1, 8, 7)
    for name, at in (("mfi", 4), ("volume", 5)):
        for i, k in ((0, 0), (3, 6), (7, 2)):
            pair = [
                float(r[at])
                for r in rows
                if r[0] == cohort.names[i] and r[2] == MUSCLE_NAMES[k]
            ]
            assert getattr(cohort, name)[0, i, k] == pytest.approx(sum(pair) / 2)
    assert cohort.exclusions == []


def test_order_of_rows_and_columns_does_not_matter(tmp_path):
    rows, people = made_up(12, sessions=2)
    a = load(write(tmp_path / "a", rows, people))
    turned = [r[::-1] for r in rows[::-1]]
    people = [p[::-1] for p in people[::-1]]
    columns = ("BMI", "Sex", "age", "participant_id")
    b = load(write(tmp_path / "b", turned, people, columns, HEADER[::-1]))
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x, y)


def test_bmi_from_height_and_weight(tmp_path):
    rows, people = made_up(8)
    people = [[*p[:3], "180", "81"] for p in people]
    people[0][3] = "n/a"
    columns = ("participant_id", "age", "sex", "height", "weight")
    bmi = load(write(tmp_path, rows, people, columns)).bmi
    assert np.isnan(bmi[0]) and bmi[1:] == pytest.approx(25.0)
    people = [[*p[:3], "1.8", "81"] for p in people]
    columns = ("participant_id", "age", "sex", "height_m", "weight_kg")
    assert load(write(tmp_path, rows, people, columns)).bmi == pytest.approx(25.0)


@pytest.mark.parametrize(("height", "weight"), [("70", "180"), ("1.8", "250e-1")])
def test_a_bmi_of_other_units_is_refused(tmp_path, height, weight):
    """Inches and pounds make 367 kg/m2."""
    rows, people = made_up(8)
    people = [[*p[:3], height, weight] for p in people]
    columns = ("participant_id", "age", "sex", "height", "weight")
    with pytest.raises(ValueError, match=r"line 2.*BMI of \d+ kg/m2.*inches"):
        load(write(tmp_path, rows, people, columns))


def test_truth_of_digital_necks_can_be_analysed(tmp_path):
    rows, people = made_up(8)
    header = [{"mfi_percent": "mfi_signal_percent"}.get(h, h) for h in HEADER]
    paths = write(tmp_path, rows, people, header=header)
    with pytest.raises(ValueError, match="lacks the column mfi_percent; it has scan"):
        read_measurements(paths[0])
    found = read_measurements(paths[0], mfi_column="mfi_signal_percent")
    assert found[0].mfi == float(rows[0][4]) and len(found) == 8 * 14


def test_sessions_named_by_words_are_ordered_by_the_user(tmp_path):
    rows, people = made_up(12, sessions=2)
    names = {"1": "pre", "2": "post"}
    for row in rows:
        row[0] = row[0][:-1] + names[row[0][-1]]
    paths = write(tmp_path, rows, people)
    with pytest.raises(
        ValueError, match="post, pre; say which .* --sessions FIRST SEC"
    ):
        load(paths)
    cohort = load(paths, sessions=("ses-pre", "post"))
    assert cohort.sessions == ("pre", "post")
    one = load(paths, sessions=["post"])
    np.testing.assert_array_equal(one.mfi[0], cohort.mfi[1])
    assert {e.reason for e in one.exclusions} == {"session not asked for"}
    with pytest.raises(ValueError, match="labels of post, pre, got pre, third"):
        load(paths, sessions=("pre", "third"))


def test_sessions_are_ordered_as_numbers(tmp_path):
    rows, people = made_up(12, sessions=2)
    for row in rows:
        row[0] = row[0].replace("_ses-1", "_ses-9").replace("_ses-2", "_ses-10")
    assert load(write(tmp_path, rows, people)).sessions == ("9", "10")


# --- gaps


def test_exclusions_are_stated_one_by_one(finished):
    folder, _, said = finished
    found = {
        (e["participant_id"], e["session"], e["muscle"]): e
        for e in table(folder / "out" / "exclusions.csv")
    }
    reasons = {key: e["reason"] for key, e in found.items()}
    assert reasons == {
        ("sub-0999", "1", ""): "scan without a participant",
        ("sub-0030", "1", ""): "no scan at this session",
        ("sub-0004", "2", ""): "no scan at this session",
        ("sub-0005", "1", ""): "no scan at this session",
        ("sub-0500", "", ""): "participant without a scan",
        ("sub-0006", "1", "TR"): "muscle missing: right",
        ("sub-0007", "1", "MFSS"): "muscle missing: left",
        ("sub-0008", "", ""): "missing BMI",
        ("sub-0009", "", ""): "missing sex",
    }
    assert found["sub-0004", "2", ""]["left_out_of"] == "change"
    assert found["sub-0008", "", ""]["left_out_of"] == "models with covariates"
    assert "left out of everything: 1 x scan without a participant" in said
    summary = json.loads((folder / "out" / "summary.json").read_text())
    assert summary["left_out"] == said[: len(summary["left_out"])]
    page = (folder / "out" / "cohort.md").read_text()
    assert "| missing BMI | models with covariates | 1 |" in page


def test_each_analysis_has_the_people_it_can_have(finished):
    folder, cohort, _ = finished
    out = folder / "out"
    # 30, less 2 without a first session, 2 without a covariate, 2 without a muscle.
    assert {r["n"] for r in table(out / "mfi_within.csv")} == {"24"}
    n = {
        r["muscle"]: int(r["n_female"]) + int(r["n_male"])
        for r in table(out / "mfi_sex.csv")
    }
    assert n == {m: 25 if m in ("TR", "MFSS") else 26 for m in MUSCLE_NAMES}
    n = {(r["muscle"], r["less_muscle"]): r["n"] for r in table(out / "mfi_pairs.csv")}
    assert n["MFSS", "TR"] == "26" and n["MFSS", "LC"] == "27" and n["LC", "LS"] == "28"
    assert len(n) == 21
    n = {r["muscle"]: r["n"] for r in table(out / "volume_change.csv")}
    assert n == {m: "26" if m in ("TR", "MFSS") else "27" for m in MUSCLE_NAMES}
    assert modelled(cohort).sum() == 24


@pytest.mark.parametrize("column, value", [(5, "0.0"), (4, ""), (4, "n/a")])
def test_muscle_counts_with_both_mfi_and_volume(tmp_path, column, value):
    rows, people = made_up(8)
    rows[3][column] = value  # LC left of the first
    cohort = load(write(tmp_path, rows, people))
    assert np.argwhere(np.isnan(cohort.mfi[0])).tolist() == [[0, 1]]
    assert np.argwhere(np.isnan(cohort.volume[0])).tolist() == [[0, 1]]
    (exclusion,) = cohort.exclusions
    assert exclusion[:3] == ("sub-0001", "", "LC")
    assert exclusion.reason == "muscle missing: left"


def test_what_is_not_to_be_used_is_left_out_and_counted(tmp_path):
    """Unless asked for; a wild number in such a row stops nothing."""
    rows, people = made_up()
    rows = [[*row, "use"] for row in rows]
    for row, verdict in ((rows[0], "do_not_use"), (rows[2], "look")):
        row[-1] = verdict
    paths = write(tmp_path, rows, people, header=[*HEADER, "verdict"])
    cohort, everything = (
        assemble(read_measurements(paths[0], all_rows=a), read_participants(paths[1]))
        for a in (False, True)
    )
    assert np.isfinite(everything.mfi).all()
    assert np.argwhere(np.isnan(cohort.mfi)).tolist() == [[0, 0, 0]]  # MFSS
    (left_out,) = cohort.exclusions
    assert left_out.reason == "verdict do_not_use: right"
    rows[0][4] = "-4000"
    paths = write(tmp_path, rows, people, header=[*HEADER, "verdict"])
    assert np.isfinite(load(paths).mfi).sum() == np.isfinite(cohort.mfi).sum()
    with pytest.raises(ValueError, match="must be a number from -100"):
        read_measurements(paths[0], all_rows=True)


@pytest.mark.slow
def test_scans_that_failed_a_review_are_left_out(tmp_path, points_for_pictures):
    rows, people = made_up()
    paths = write(tmp_path / "all", rows, people)
    review = tmp_path / "review.csv"
    lines = [f"{who[0]},{'fail' if i < 4 else 'pass'}" for i, who in enumerate(people)]
    review.write_text("\n".join(["scan,review", *lines]) + "\n")
    for flag in ("only", "exclude"):
        lists = {flag: review}
        analyse_cohort(*paths, tmp_path / flag, log=lambda line: None, **lists)
    gone = {who[0] for who in people[:4]}
    fewer = write(tmp_path / "fewer", [r for r in rows if r[0] not in gone], people)
    analyse_cohort(*fewer, tmp_path / "out", log=lambda line: None)
    for table in (tmp_path / "out").glob("*.csv"):
        for flag in ("only", "exclude"):
            assert (tmp_path / flag / table.name).read_bytes() == table.read_bytes()


def test_muscle_that_nobody_has_is_left_out(tmp_path):
    rows, people = made_up(14)
    rows = [r for r in rows if r[2:4] != ["TR", "left"]]
    cohort, tables = analysed(tmp_path, rows, people)
    assert cohort.muscles == tuple(m for m in MUSCLE_NAMES if m != "TR")
    (exclusion,) = cohort.exclusions
    assert exclusion.muscle == "TR" and exclusion.reason == "muscle that nobody has"
    assert tables["within"][0]["df"] == 5 and len(tables["pairs"]) == 15


# --- tables


def test_tables_hold_what_the_analyses_gave(finished):
    folder, cohort, _ = finished
    for outcome in (MFI, VOLUME):
        for name, rows in analyse(cohort, outcome).items():
            written = table(folder / "out" / f"{outcome.key}_{name}.csv")
            assert len(written) == len(rows) > 0
            for found, wanted in zip(written, rows, strict=True):
                assert list(found) == [*wanted, "limits"]
                for key, value in wanted.items():
                    if isinstance(value, float):
                        assert float(found[key]) == pytest.approx(value, rel=1e-5)
                    else:
                        assert found[key] == str(value)
    assert "mean_female_percent" in table(folder / "out" / "mfi_sex.csv")[0]
    assert "difference_ml" in table(folder / "out" / "volume_sex.csv")[0]


def test_tables_can_be_computed_from_the_values_written(finished):
    folder, _, _ = finished
    values = table(folder / "out" / "values.csv")

    def at(session, muscle):
        return {
            v["participant_id"]: float(v["mfi_percent"])
            for v in values
            if v["session"] == session and v["muscle"] == muscle
        }

    first, second = at("1", "LC"), at("2", "LC")
    both = sorted(first.keys() & second.keys())
    t = stats.ttest_rel([second[k] for k in both], [first[k] for k in both])
    (row,) = (
        r for r in table(folder / "out" / "mfi_change.csv") if r["muscle"] == "LC"
    )
    assert float(row["t"]) == pytest.approx(t.statistic, rel=1e-4)
    assert float(row["p"]) == pytest.approx(t.pvalue, rel=1e-3)
    mfss, lc = at("1", "MFSS"), first
    both = sorted(mfss.keys() & lc.keys())
    t = stats.ttest_rel([mfss[k] for k in both], [lc[k] for k in both])
    row = table(folder / "out" / "mfi_pairs.csv")[0]
    assert (row["muscle"], row["less_muscle"]) == ("MFSS", "LC")
    assert float(row["t"]) == pytest.approx(t.statistic, rel=1e-4)


def test_every_p_has_both_corrections(finished):
    folder, _, _ = finished
    seen = 0
    for path in (folder / "out").glob("*.csv"):
        for row in table(path):
            if "p" in row and "mauchly_w" not in row:
                assert float(row["p"]) <= float(row["p_holm"]) * (1 + 1e-5)
                assert float(row["p_fdr"]) <= float(row["p_holm"]) * (1 + 1e-5)
                seen += 1
    assert seen == 2 * (12 + 3 + 7 + 21 + 14 + 7)


def test_change_beyond_the_smallest_detectable(finished):
    folder, _, _ = finished
    limits = {r["muscle"]: r for r in table(folder / "out" / "mfi_change.csv")}
    page = (folder / "out" / "cohort.md").read_text()
    marked = 0
    for row in table(folder / "out" / "mfi_change_participants.csv"):
        change = float(row["second_percent"]) - float(row["first_percent"])
        assert float(row["change_points"]) == pytest.approx(change, abs=1e-3)
        limit = float(limits[row["muscle"]]["smallest_detectable_change_points"])
        assert limit == pytest.approx(
            1.96 * float(limits[row["muscle"]]["change_sd_points"]), rel=1e-4
        )
        assert row["exceeds"] == str(abs(change) > limit)
        if row["exceeds"] == "True":
            marked += 1
            assert f"| {row['participant_id']} |" in page
            assert f"{row['muscle']} {float(row['change_points']):+.2f}" in page
    assert marked > 3


@pytest.fixture
def points_for_pictures(monkeypatch):
    """Files with the points drawn instead of pictures, which take seconds each."""

    def save(figure, stem):
        drawn = [c.get_offsets().tolist() for a in figure.axes for c in a.collections]
        for kind in ("png", "pdf"):
            stem.with_name(f"{stem.name}.{kind}").write_text(str(drawn))

    monkeypatch.setattr("cervjax.cohort.report.save", save)


def unchanged(count=20, seed=11):
    """Measurements of people scanned twice: the same fat, new noise."""
    rng = np.random.default_rng(seed)
    rows, _ = made_up(count, sessions=2, seed=seed)
    first = {(r[0][:8], r[1]): r for r in rows if r[0].endswith("_ses-1")}
    return [
        [*r[:4], f"{float(first[r[0][:8], r[1]][4]) + 0.4 * rng.normal():.5f}", *r[5:]]
        if r[0].endswith("_ses-2")
        else r
        for r in rows
    ]


def test_detectable_change_of_repeated_scans(tmp_path, points_for_pictures):
    rows, people = made_up(12, sessions=2)
    repeated, _ = write(tmp_path / "repeated", unchanged(), people)
    paths = write(tmp_path, rows, people)
    analyse_cohort(*paths, tmp_path / "out", repeated=repeated, log=lambda line: None)
    values = {(r[0], r[2], r[3]): float(r[4]) for r in unchanged()}
    for row in table(tmp_path / "out" / "mfi_change.csv"):
        differences = [
            np.mean(
                [
                    values[f"sub-{i:04d}_ses-2", row["muscle"], side]
                    - values[f"sub-{i:04d}_ses-1", row["muscle"], side]
                    for side in ("left", "right")
                ]
            )
            for i in range(1, 21)
        ]
        smallest = float(row["smallest_detectable_change_points"])
        assert smallest == pytest.approx(1.96 * np.std(differences, ddof=1), rel=1e-5)
        assert row["detectable_from"] == "repeated scans"
        assert row["detectable_from_n"] == "20"
    for row in table(tmp_path / "out" / "mfi_change_participants.csv"):
        limit = float(row["smallest_detectable_change_points"])
        assert row["exceeds"] == str(abs(float(row["change_points"])) > limit)
    page = (tmp_path / "out" / "cohort.md").read_text()
    assert "scans repeated while nothing changed" in page
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert str(repeated) in summary["inputs"]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda rows: [r for r in rows if "_ses-1" in r[0]], "need two sessions"),
        (
            lambda rows: [r for r in rows if r[0] < "sub-0003"],
            "3 participants are needed",
        ),
        (lambda rows: [r for r in rows if r[2] != "TR"], "repeated scans have no TR"),
        (lambda rows: [[*r[:4], "9", "9", "9"] for r in rows], "are they copies"),
    ],
)
def test_repeated_scans_are_refused_with_what_to_do(tmp_path, edit, message):
    rows, people = made_up(12, sessions=2)
    repeated, _ = write(tmp_path / "repeated", edit(unchanged()), people)
    paths = write(tmp_path, rows, people)
    with pytest.raises(ValueError, match=message):
        analyse_cohort(*paths, tmp_path / "out", repeated=repeated)
    one = [r for r in rows if "_ses-1" in r[0]]
    with pytest.raises(ValueError, match="leave it out"):
        analyse_cohort(
            *write(tmp_path, one, people), tmp_path / "out", repeated=repeated
        )


def test_summary_names_files_tests_and_inputs(finished):
    folder, _, said = finished
    out = folder / "out"
    summary = json.loads((out / "summary.json").read_text())
    written = {p.name for p in out.glob("[a-z]*")}
    assert set(summary["files"]) | {"summary.json"} == written
    terms = "muscle, muscle x sex, muscle x age, muscle x bmi, sex, age, bmi"
    assert ", ".join(summary["tests"]["mfi"]) == terms
    row = table(out / "mfi_within.csv")[1]
    text = summary["tests"]["mfi"]["muscle"]
    assert row["correction"] == "Greenhouse-Geisser"
    df, error_df, f = (float(row[name]) for name in ("df", "error_df", "f"))
    assert text.startswith(f"F({df:.1f}, {error_df:.1f}) = {f:.2f}, p")
    assert f"MFI, muscle: {text}" in said
    assert len(summary["inputs"]) == 2 and summary["participants"] == 30


def test_every_text_says_what_it_is_not_for(finished):
    folder, _, said = finished
    for path in (folder / "out").glob("[a-z]*"):
        if path.suffix == ".csv":
            assert all(row["limits"] == NOTICE for row in table(path)), path
            assert path.read_text().splitlines()[0].endswith(",limits")
        elif path.suffix in (".md", ".json"):
            assert NOTICE in path.read_text(), path
    assert NOTICE in said[-1]


def test_page_is_whole(finished):
    folder, _, _ = finished
    text = (folder / "out" / "cohort.md").read_text()
    lines = [line for line in text.splitlines() if line.startswith("|")]
    widths = [line.count("|") for line in lines]
    for i, line in enumerate(lines):
        if line.startswith("| ---"):
            assert widths[i - 1] == widths[i] == widths[i + 1]
    assert not {"nan", "None", "inf"} & set(" ".join(lines).split())
    for name in (
        "figure5_mfi_by_muscle",
        "figure6_mfi_by_age",
        "figure6_mfi_by_bmi",
        "figure_mfi_pairs",
    ):
        assert f"]({name}.png)" in text and (folder / "out" / f"{name}.png").exists()
    sex = table(folder / "out" / "mfi_sex.csv")[0]
    assert f"| MFSS | {float(sex['mean_female_percent']):.1f} (" in text


def test_p_as_text():
    found = [p_text(p) for p in (0.0009, 0.001, 0.0504, 1)]
    assert found == ["<0.001", "0.001", "0.050", "1.000"]


@pytest.mark.slow
def test_same_input_same_bytes_and_nothing_old_is_left(tmp_path, points_for_pictures):
    rows, people = made_up(10, sessions=2)
    paths = write(tmp_path, rows, people)
    out = tmp_path / "out"
    out.mkdir()
    for name in ("mfi_change.csv", "volume_change_participants.csv", "notes.txt"):
        (out / name).write_text("old")
    adopt(out, ["mfi_change.csv", "volume_change_participants.csv"])
    analyse_cohort(*paths, out, sessions=("1",), log=str)
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    assert not any("change" in name for name in before)
    analyse_cohort(*paths, out, sessions=("1",), log=str)
    assert before == {p.name: p.read_bytes() for p in out.iterdir()}


# --- figures


@pytest.mark.parametrize("name", ["cohort.md", "summary.json", "mfi_change.csv"])
def test_files_of_others_are_kept(tmp_path, points_for_pictures, name):
    paths, out = write(tmp_path, *made_up(12)), tmp_path / "out"
    out.mkdir()
    (out / name).write_text("mine")
    if name != "mfi_change.csv":  # which only two sessions have
        with pytest.raises(ValueError, match=f"{name} is there"):
            analyse_cohort(*paths, out)
        assert list(out.glob("[a-z]*")) == [out / name]
    else:
        analyse_cohort(*paths, out)
    assert (out / name).read_text() == "mine"


def test_figures_are_of_print_size(finished):
    folder, _, _ = finished
    for path in (folder / "out").glob("*.png"):
        with Image.open(path) as image:
            width_mm = image.size[0] / image.info["dpi"][0] * 25.4
        assert width_mm == pytest.approx(180, abs=0.2)
        assert path.with_suffix(".pdf").read_bytes().startswith(b"%PDF")


def test_figure_5_shows_everybody_once_and_the_means(finished):
    _, cohort, _ = finished
    sex = analyse(cohort, MFI)["sex"]
    (ax,) = muscles_figure(cohort, sex, MFI).axes
    clouds = [
        np.asarray(c.get_offsets())
        for c in ax.collections
        if hasattr(c, "get_sizes") and len(c.get_sizes())
    ]
    assert len(clouds) == 14
    for k in range(7):
        for half, code in enumerate((1, 0)):
            drawn = clouds[2 * k + half]
            who = modelled(cohort, k) & (cohort.female == code)
            np.testing.assert_allclose(
                np.sort(drawn[:, 1]), np.sort(cohort.mfi[0, who, k])
            )
            assert (np.abs(drawn[:, 0] - k - (half - 0.5) * 0.4) <= 0.16).all()
    means = [line.get_ydata()[0] for line in ax.lines if line.get_marker() == "D"]
    wanted = [r[f"mean_{g}_percent"] for r in sex for g in ("female", "male")]
    np.testing.assert_allclose(means, wanted)


@pytest.mark.parametrize(
    "covariate, field", [("age_years", "age_years"), ("bmi_kg_m2", "bmi")]
)
def test_figure_6_draws_the_models_line(finished, covariate, field):
    _, cohort, _ = finished
    tables = analyse(cohort, MFI)
    rows = [r for r in tables["correlations"] if r["covariate"] == covariate]
    figure = covariate_figure(
        cohort, tables["sex"], tables["correlations"], MFI, covariate
    )
    for k, (ax, row) in enumerate(zip(figure.axes, rows, strict=False)):
        assert ax.get_title("left") == row["muscle"]
        assert f"r = {row['r']:.2f}" in ax.get_title("right")
        who = modelled(cohort, k)
        x = getattr(cohort, field)[who]
        columns = {"age_years": cohort.age_years[who], "bmi_kg_m2": cohort.bmi[who]}
        sex = 2 * cohort.female[who] - 1
        centred = [c - c.mean() for c in columns.values()]
        design = np.column_stack([np.ones(len(x)), sex, *centred])
        beta = np.linalg.lstsq(design, cohort.mfi[0, who, k], rcond=None)[0]
        slope = beta[2 + list(columns).index(covariate)]
        line = max(ax.lines, key=lambda item: len(item.get_xdata()))
        at, drawn = line.get_data()
        np.testing.assert_allclose(drawn, beta[0] + slope * (at - x.mean()), rtol=1e-6)
        points = np.concatenate([c.get_offsets() for c in ax.collections[:2]])
        assert len(points) == who.sum()


def test_pairs_figure_shows_each_pair(finished):
    _, cohort, _ = finished
    pairs = analyse(cohort, MFI)["pairs"]
    figure = pairs_figure(cohort, pairs, MFI)
    panels = np.reshape(figure.axes, (7, 7))
    row = next(r for r in pairs if (r["muscle"], r["less_muscle"]) == ("LC", "TR"))
    text = panels[1, 5].texts[0].get_text()
    assert text.startswith(f"{row['difference_points']:+.1f}\n")
    points = np.concatenate([c.get_offsets() for c in panels[5, 1].collections])
    known = np.isfinite(cohort.female)
    wanted = cohort.mfi[0][known][:, [1, 5]]
    np.testing.assert_allclose(np.nansum(points, 0), np.nansum(wanted, 0))


# --- refused


def case(rows, people, edit):
    edit(rows, people)
    return rows, people


def set_cell(which, row, column, value):
    def edit(rows, people):
        (rows if which == "rows" else people)[row][column] = value

    return edit


def everybody(column, value):
    def edit(rows, people):
        for person in people:
            person[column] = value

    return edit


def constant(muscle, column, value):
    def edit(rows, people):
        for row in rows:
            if row[2] == muscle:
                row[column] = value

    return edit


def same_age_and_bmi(rows, people):
    for person in people:
        person[3] = str(10 + float(person[1]) / 2)


@pytest.mark.parametrize(
    "edit, message",
    [
        (
            set_cell("people", 2, 2, "W"),
            r"participants.tsv, line 4 \(sub-0003\): sex must be M, F, .*, got 'W'",
        ),
        (set_cell("people", 2, 2, "1"), "got '1'; correct the row, or write n/a"),
        (set_cell("people", 2, 1, "old"), "line 4 .*age must be .* from 0 to 120"),
        (set_cell("people", 2, 1, "336"), "age must be .* got '336'"),
        (set_cell("people", 2, 3, "inf"), "bmi must be .* from 8 to 100, got 'inf'"),
        (lambda r, p: p.append(p[3]), r"line 14 \(sub-0004\): .* in line 5 already"),
        (lambda r, p: p[3].append("x"), "line 5: 5 cells, but the header has 4"),
        (lambda r, p: p.clear(), "participants.tsv has no rows"),
        (everybody(2, "F"), "all 12 participants with all muscles are women"),
        (everybody(2, "m"), "are men, but the models compare the sexes"),
        (everybody(1, "40"), "participants.tsv: age is 40 in all 12 participants"),
        (everybody(3, "25"), "bmi is 25 in all 12 participants"),
        (same_age_and_bmi, "sex, age and BMI .* are not independent"),
        (
            lambda r, p: p.__setitem__(slice(5, None), []),
            "5 participants have all muscles, sex, age and BMI, but .* at least 6",
        ),
        (
            lambda r, p: [x.__setitem__(0, "other" + x[0]) for x in p],
            "no scan is of a participant: .* such as sub-0001, .* such as othersub",
        ),
        (lambda r, p: r.append(r[20]), r"line 170 \(sub-0002, .*in line 22 already"),
        (lambda r, p: r.clear(), "measurements.csv has no rows"),
        (set_cell("rows", 0, 1, "2"), r"label '2' is not that of this muscle and side"),
        (set_cell("rows", 0, 4, "many"), r"line 2 \(sub-0001, MFSS right\): mfi_per"),
        (set_cell("rows", 0, 5, "-1"), "volume_ml must be a number >= 0, got '-1'"),
        (set_cell("rows", 0, 0, ""), "measurements.csv, line 2: no scan is named"),
        (constant("LC", 4, "12"), "measurements.csv: the MFI of LC is the same"),
        (constant("LC", 5, "12"), "the volume of LC is the same in everybody .12."),
        (
            lambda r, p: r.__setitem__(slice(None), [x for x in r if x[2] == "LC"]),
            "only LC is there on both sides",
        ),
        (
            lambda r, p: r.extend([[x[0] + "_run-2", *x[1:]] for x in r[:14]]),
            "sub-0001 and sub-0001_run-2 are scans of the same participant",
        ),
        (
            lambda r, p: r.extend([[x[0] + "_ses-2", *x[1:]] for x in r[:14]]),
            r"sessions \(none\), 2; say which to use",
        ),
    ],
)
def test_bad_tables_are_refused_with_what_to_do(tmp_path, edit, message):
    rows, people = made_up(12)
    rows, people = case([list(r) for r in rows], people, edit)
    with pytest.raises(ValueError, match=message):
        analysed(tmp_path, rows, people)


def test_change_refuses(tmp_path):
    rows, people = made_up(12, sessions=2)
    few = [r for r in rows if not r[0].endswith("_ses-2") or r[0] < "sub-0003"]
    with pytest.raises(ValueError, match="in 2 participants, .* --sessions 1"):
        analysed(tmp_path, few, people)
    cohort, tables = analysed(tmp_path, few, people, sessions=("1",))
    assert cohort.sessions == ("1",) and "change" not in tables
    first = {(r[0].split("_")[0], r[1]): r[4] for r in rows if "_ses-1" in r[0]}
    same = [[*r[:4], first[r[0].split("_")[0], r[1]], *r[5:]] for r in rows]
    with pytest.raises(
        ValueError, match="change of MFSS: the difference is 0 in all 12"
    ):
        analysed(tmp_path, same, people)


def test_missing_columns_are_named(tmp_path):
    rows, people = made_up(6)
    paths = write(tmp_path, rows, people, ("participant_id", "age", "gender", "bmi"))
    with pytest.raises(
        ValueError, match="lacks the column sex separated by tabs; it has"
    ):
        read_participants(paths[1])
    paths = write(tmp_path, rows, people, ("participant_id", "age", "sex", "mass"))
    with pytest.raises(ValueError, match="neither a column bmi nor height and weight"):
        read_participants(paths[1])
    paths[1].write_bytes(b"participant_id\tsex\tage\xff\n")
    with pytest.raises(ValueError, match="not UTF-8"):
        read_participants(paths[1])


def test_nothing_is_written_when_the_tables_are_refused(tmp_path):
    rows, people = made_up(5)
    with pytest.raises(ValueError, match="at least 6"):
        analyse_cohort(*write(tmp_path, rows, people), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_needs_neither_pandas_nor_statsmodels_nor_jax():
    code = (
        "import sys, cervjax.cohort.report as _; "
        "print({'pandas', 'statsmodels', 'pingouin', 'jax', 'matplotlib.pyplot'} "
        "& set(sys.modules))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "set()"
