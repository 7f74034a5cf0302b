"""Subjects: age, sex and size, the build of the neck and the fat in its muscles.

Cohorts are like the paper's 84 participants (73 % women, 34.2 +- 10.7 years), the
muscles' size and fat infiltration like its manual segmentations (Table 2: mean of the
network less its bias), with women 1.8 points above men and a rise with age in the deep
muscles alone. Every other effect on infiltration is null by construction.
"""

from typing import Literal, NamedTuple

import numpy as np

from cervjax.anatomy import MUSCLES

Sex = Literal["F", "M"]

# Table 2, manual: MFI in percent (left, right), its spread between subjects in points,
# its rise per year of age, and the spread of area between subjects (ratio).
_MUSCLE = {
    "MFSS": (15.5, 14.8, 4.4, 0.16, 0.17),
    "LC": (12.4, 12.5, 4.0, 0.15, 0.15),
    "SSCap": (14.8, 13.5, 4.4, 0.16, 0.19),
    "SPCap": (8.6, 9.0, 3.4, 0.0, 0.16),
    "LS": (6.8, 7.5, 2.4, 0.0, 0.22),
    "SCM": (8.6, 9.1, 3.2, 0.0, 0.19),
    "TR": (8.2, 8.2, 3.0, 0.0, 0.28),
}
MEAN_AGE_YEARS, SD_AGE_YEARS = 34.2, 10.7
FEMALE_SHARE = 61 / 84
SEX_EFFECT_POINTS = 1.8
"""MFI of women less that of men."""
AGE_SLOPE_POINTS_PER_YEAR = {name: row[3] for name, row in _MUSCLE.items()}
MEAN_MFI_PERCENT = {m.key: _MUSCLE[m.abbreviation][m.side == "right"] for m in MUSCLES}
HIGHEST_MFI_PERCENT = 28.0
"""Highest that is drawn: from magnitudes, MFI folds back beyond some 36 %."""
_LOWEST_MFI_PERCENT = 3.8
_THIN = [m.label - 1 for m in MUSCLES if m.abbreviation in ("SPCap", "LS", "TR")]
_AREA_RATIO_OF_WOMEN = 0.78  # of men's
_FEMALE_AREA = _AREA_RATIO_OF_WOMEN / (
    FEMALE_SHARE * _AREA_RATIO_OF_WOMEN + 1 - FEMALE_SHARE
)


class Subject(NamedTuple):
    """One subject, at the first session. Ratios are relative to the atlas.

    Attributes:
        name: such as ``sub-0001``.
        sex: F or M.
        age_years, height_m, bmi: years, metres, kg/m2.
        mfi_percent: ``(14,)`` signal-level MFI of each muscle by the paper's rule.
        muscle_area: ``(14,)`` ratio of each muscle's area; more where wide gaps are
            filled, as they are around SPCap.
        girth, bone: ratios of width outside and inside the spine; a neck's width stays
            within `body.WIDTH_MM`.
        fat_posterior, fat_lateral: ratios of the subcutaneous fat's thickness.
        gap_mm: by how much every muscle's border lies further out.
        closing_mm: gaps between neighbouring muscles that are up to twice as wide are
            filled by them, but for a thin plane.
        plane_mm: thickness of these planes.
        fatty_planes: whether the planes are fat, or fascia.
        front_fat: share of fat in the loose space in front of the spine, 0-1.
        investing_fascia_mm: thickness of the investing layer of the deep cervical
            fascia, which encloses TR and SCM.
        airway, vessels: ratios of radius.
        level_heights: ``(7,)`` ratios of the levels' heights, C2 to T1.
        lordosis_deg: added to the atlas' mild one, C2 to C7.
        shoulder_mm: how far the shoulders are lifted.
        warp_mm: standard deviation of the smooth individual deformation.
        fused_level: index of a disc (0 = C2/3) turned into bone, or -1.
        dental_metal: whether there are fillings.
        seed: of everything else of this subject.
    """

    name: str
    sex: Sex
    age_years: float
    height_m: float
    bmi: float
    mfi_percent: np.ndarray
    muscle_area: np.ndarray
    girth: float
    bone: float
    fat_posterior: float
    fat_lateral: float
    gap_mm: float
    closing_mm: float
    plane_mm: float
    fatty_planes: bool
    front_fat: float
    investing_fascia_mm: float
    airway: float
    vessels: float
    level_heights: np.ndarray
    lordosis_deg: float
    shoulder_mm: float
    warp_mm: float
    fused_level: int
    dental_metal: bool
    seed: tuple[int, ...]


def draw_subject(seed: int, index: int, *, pathology: bool = False) -> Subject:
    """Draws a subject; the same for the same seed and index.

    Args:
        seed: of the cohort.
        index: number within the cohort, from 0.
        pathology: draws older subjects with severe, patchy or one-sided infiltration,
            atrophy and fused levels.
    """
    rng = np.random.default_rng([seed, index, 1])
    female = bool(rng.random() < FEMALE_SHARE)
    age = _truncated(rng, MEAN_AGE_YEARS, SD_AGE_YEARS, 18, 65)
    if pathology:
        age = _truncated(rng, 55, 14, 20, 85)
    height = _truncated(rng, 1.64 if female else 1.77, 0.068, 1.45, 2.05)
    bmi = float(np.clip(np.exp(rng.normal(np.log(25.0), 0.17)), 17, 42))
    size = (height / (1.64 if female else 1.77)) - 1
    heavy = np.log(bmi / 25)
    area = _areas(rng, female)
    mfi = _infiltration(rng, female, age)
    fused = -1
    if pathology:
        mfi, area = _disease(rng, mfi, area)
        fused = int(rng.integers(1, 5)) if rng.random() < 0.3 else -1
    typical = float(np.sqrt(area.mean()))
    fascia = np.random.default_rng([seed, index, 5]).normal(1.0, 0.12)
    packing = np.random.default_rng([seed, index, 6])
    # Planes between muscles thicken with age, weight and wasting.
    plane = 0.55 * np.exp(0.012 * (age - 34) + 0.8 * heavy + packing.normal(0, 0.35))
    plane = float(np.clip(plane, 0.3, 2.0))
    closing = float(packing.uniform(0.8, 4.0))
    # Fat in a thick plane alone would show more MFI than lean muscles have.
    lean = mfi[_THIN].mean() < 6 + 3 * plane
    return Subject(
        name=f"sub-{index + 1:04d}",
        sex="F" if female else "M",
        age_years=round(age, 1),
        height_m=round(height, 2),
        bmi=round(bmi, 1),
        mfi_percent=mfi,
        muscle_area=area,
        girth=typical * float(np.exp(rng.normal(0.02 + 0.10 * heavy, 0.03))),
        bone=(0.985 if female else 1.05) * float(np.exp(rng.normal(0, 0.04))),
        fat_posterior=float(np.exp(rng.normal(1.3 * heavy + 0.05 * female, 0.28))),
        fat_lateral=float(np.exp(rng.normal(1.3 * heavy + 0.10 * female, 0.28))),
        gap_mm=float(rng.uniform(-0.15, 0.38)),
        closing_mm=closing,
        plane_mm=plane,
        fatty_planes=bool(packing.random() < 0.8 and not lean),
        front_fat=float(np.clip(packing.normal(0.45 + 0.6 * heavy, 0.2), 0.1, 0.9)),
        investing_fascia_mm=float(np.clip(fascia, 0.7, 1.3)),
        airway=float(np.exp(rng.normal(0, 0.15))),
        vessels=float(np.exp(rng.normal(0, 0.12))),
        level_heights=(0.98 if female else 1.03)
        * (1 + 0.5 * size)
        * np.exp(rng.normal(0, 0.03) + rng.normal(0, 0.03, 7)),
        lordosis_deg=float(rng.normal(2, 8)),
        shoulder_mm=float(np.clip(rng.normal(0, 5), -10, 12)),
        warp_mm=float(rng.uniform(0.8, 1.6)),
        fused_level=fused,
        dental_metal=bool(rng.random() < 0.3),
        seed=(seed, index, 2),
    )


def draw_change(seed: int, subject: Subject) -> np.ndarray:
    """``(14,)`` true change of MFI between two sessions, in points of signal-level MFI.

    A third of subjects worsen, by 1.5-4 points in MFSS and SSCap and less elsewhere,
    but not beyond `HIGHEST_MFI_PERCENT`; the others stay as they are, to the bit.
    """
    rng = np.random.default_rng([seed, *subject.seed[1:], 3])
    worsens, amount = rng.random() < 1 / 3, rng.uniform(1.5, 4.0)
    share = [
        {"MFSS": 1.0, "SSCap": 0.8, "LC": 0.6}.get(m.abbreviation, 0.3) for m in MUSCLES
    ]
    most = HIGHEST_MFI_PERCENT - subject.mfi_percent
    return np.minimum(np.array(share) * (amount if worsens else 0.0), most)


def _areas(rng: np.random.Generator, female: bool) -> np.ndarray:
    """Ratios of area: sex, a common factor, each muscle's own, left against right."""
    common, own = rng.normal(), rng.normal(size=7)
    sides = rng.normal(size=7)
    factors = []
    for i, (name, row) in enumerate(_MUSCLE.items()):
        spread = row[4]
        both = spread * (0.6 * common + 0.8 * own[i]) - spread**2 / 2
        asymmetry = (0.055 if name in ("LC", "SPCap", "TR") else 0.035) * sides[i]
        factors += [(name, both - asymmetry), (name, both + asymmetry)]
    sex = _FEMALE_AREA if female else _FEMALE_AREA / _AREA_RATIO_OF_WOMEN
    by_label = np.zeros(14)
    for i, m in enumerate(MUSCLES):
        pair = [f for name, f in factors if name == m.abbreviation]
        by_label[i] = sex * np.exp(pair[m.side == "left"])
    return by_label


def _infiltration(rng: np.random.Generator, female: bool, age: float) -> np.ndarray:
    """Signal-level MFI in percent: effects add, what is left is log-normal."""
    common, own, sides = rng.normal(), rng.normal(size=7), rng.normal(size=14)
    sex = SEX_EFFECT_POINTS * ((1 - FEMALE_SHARE) if female else -FEMALE_SHARE)
    names = list(_MUSCLE)
    mfi = np.zeros(14)
    for i, m in enumerate(MUSCLES):
        row, k = _MUSCLE[m.abbreviation], names.index(m.abbreviation)
        mean = MEAN_MFI_PERCENT[m.key] + sex + row[3] * (age - MEAN_AGE_YEARS)
        mean = max(mean, _LOWEST_MFI_PERCENT + 0.5)
        explained = (row[3] * SD_AGE_YEARS) ** 2 + 0.8**2
        spread = np.sqrt(max(row[2] ** 2 - explained, 1.0)) / MEAN_MFI_PERCENT[m.key]
        e = 0.75 * common + 0.58 * own[k] + 0.316 * sides[i]
        mfi[i] = mean * np.exp(spread * e - spread**2 / 2)
    return np.clip(mfi, _LOWEST_MFI_PERCENT, HIGHEST_MFI_PERCENT)


def _disease(
    rng: np.random.Generator, mfi: np.ndarray, area: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """More fat and less muscle, most in the deep extensors, sometimes on one side."""
    deep = np.array(
        [
            {"MFSS": 1.0, "SSCap": 0.8, "LC": 0.6, "SPCap": 0.5}.get(
                m.abbreviation, 0.3
            )
            for m in MUSCLES
        ]
    )
    left = np.array([m.side == "left" for m in MUSCLES])
    severe = rng.uniform(0, 30) * deep if rng.random() < 0.6 else np.zeros(14)
    wasted = rng.uniform(0, 0.4) * deep if rng.random() < 0.5 else np.zeros(14)
    if rng.random() < 0.35:
        side = left if rng.random() < 0.5 else ~left
        wasted = wasted + np.where(side, rng.uniform(0.1, 0.35) * deep, 0)
        severe = severe + np.where(side, rng.uniform(3, 15) * deep, 0)
    mfi = np.clip(mfi + severe, _LOWEST_MFI_PERCENT, HIGHEST_MFI_PERCENT)
    return mfi, area * (1 - np.clip(wasted, 0, 0.6))


def _truncated(
    rng: np.random.Generator, mean: float, sd: float, low: float, high: float
) -> float:
    while not low <= (value := rng.normal(mean, sd)) <= high:
        pass
    return float(value)
