"""What each column of the tables means, as BIDS has it: ``measurements.json``."""

from typing import Any, NamedTuple

from cervjax.anatomy import MUSCLES
from cervjax.measurement.statistics import PERCENTILES


class Column(NamedTuple):
    """Of a table.

    Attributes:
        description: what it holds.
        units: of its numbers, "" for words and counts without a unit.
        levels: the values that words may take.
    """

    description: str
    units: str = ""
    levels: dict[str, str] | None = None


_IDENTITY = {
    "scan": Column("name of the scan"),
    "label": Column("value in the mask: Table 1 of the paper, even is left"),
    "muscle": Column(
        "abbreviation of the muscle",
        levels={m.abbreviation: m.name for m in MUSCLES},
    ),
    "side": Column("the patient's side", levels={"left": "left", "right": "right"}),
}
_MEASURES = {
    "volume_ml": Column("voxels times the volume of one", "ml"),
    "mfi_percent": Column(
        "the paper's muscle fat infiltration, a ratio of means: "
        "100 mean(F) / (mean(F) + mean(W)) over all voxels of the muscle",
        "%",
    ),
    "fat_fraction_mean_percent": Column(
        "mean of the voxels' own 100 F / (F + W), where F + W > 0", "%"
    ),
    "fat_fraction_median_percent": Column("median of the same", "%"),
    "water_mean": Column("mean of W = (IP + OOP) / 2", "arbitrary"),
    "fat_mean": Column("mean of F = (IP - OOP) / 2", "arbitrary"),
    "voxels": Column("number of voxels", "count"),
    "voxels_undefined": Column("voxels with F + W <= 0, without a fraction", "count"),
    "voxels_negative_fat": Column("voxels with F < 0: noise, kept in means", "count"),
    "confidence_mean": Column("mean of the network's largest class probability", "1"),
}
_MUSCLE = {
    "slice_first": Column("lowest axial slice; 0 is the lowest of the scan"),
    "slice_last": Column("highest axial slice, included"),
    "slices": Column("axial slices with voxels of the muscle", "count"),
    "touches_fov_edge": Column("a voxel lies on a face of the volume"),
    "asymmetry_volume_percent": Column("100 (L - R) / ((L + R) / 2) of volumes", "%"),
    "asymmetry_mfi_points": Column("MFI left less right", "points of %"),
    "fat_fraction_sd_percent": Column("standard deviation of voxels' fractions", "%"),
    **{
        f"fat_fraction_p{p}_percent": Column(f"{p}th percentile of the same", "%")
        for p in PERCENTILES
    },
    "lean_volume_ml": Column("sum of W / (F + W) times the volume of a voxel", "ml"),
    "area_max_mm2": Column("largest axial cross-section", "mm^2"),
    "area_max_slice": Column("its slice; 0 is the lowest of the scan"),
    "mfi_outline_in_percent": Column(
        "MFI with the outline moved inwards by outline_step_mm", "%"
    ),
    "mfi_outline_out_percent": Column(
        "MFI with the outline moved outwards, not into other muscles", "%"
    ),
    "volume_outline_in_ml": Column("volume with the outline moved inwards", "ml"),
    "volume_outline_out_ml": Column("volume with the outline moved outwards", "ml"),
    "outline_step_mm": Column("the smallest side of a voxel", "mm"),
    "scanner_swapped_percent": Column(
        "share of the muscle in which the scanner's fat exceeds its water, in pieces "
        "of 0.5 ml and more: exchanged, or more than half fat",
        "%",
    ),
    "mfi_bias_t2star_points": Column(
        "what the decay between the echoes adds to MFI: muscle and fat at 3 T, from "
        "the side-cars' echo times",
        "points of %",
    ),
    "mfi_bias_peaks_points": Column(
        "what the peaks of fat, and echoes not quite in and out of phase, add to MFI",
        "points of %",
    ),
    "mfi_table1_percent": Column(
        "MFI at the muscle's levels of the paper's Table 1 only", "%"
    ),
    "volume_table1_ml": Column("volume there", "ml"),
    "levels": Column("vertebral levels at which the muscle has voxels, C2 to T1"),
    "mfi_calibrated_percent": Column("MFI times the slope of an evaluation", "%"),
    "volume_calibrated_ml": Column("volume times the slope of an evaluation", "ml"),
    "mfi_spread_points": Column(
        "how much MFI changes where the outline moves by outline_step_mm, and between "
        "the opinions that the mask was put together from (both sides of test-time "
        "augmentation, members of an ensemble), root mean squares; of masks that no "
        "network has just drawn by the outline alone",
        "points of %",
    ),
    "volume_spread_percent": Column("the same of the volume's logarithm", "%"),
    "mfi_low_percent": Column(
        "lower end of an interval for the MFI that the true outline would give in "
        "these images; see interval_basis",
        "%",
    ),
    "mfi_high_percent": Column("upper end of the same", "%"),
    "volume_low_ml": Column("lower end of an interval for the true volume", "ml"),
    "volume_high_ml": Column("upper end of the same", "ml"),
    "interval_basis": Column(
        "what the intervals are; of given and of edited masks always the outline alone",
        levels={
            "calibrated": "95 %: spreads times factors of these weights and settings, "
            "learnt on labelled scans of other people",
            "uncalibrated": "smallest and largest of the number itself, with the "
            "outline moved, and of the opinions: not 95 %",
            "outline": "smallest and largest of the number itself and with the outline "
            "moved: not 95 %",
        },
    ),
    "verdict": Column(
        "whether the numbers may be used",
        levels={
            "use": "nothing speaks against it",
            "look": "look at the picture before using the numbers",
            "do_not_use": "the numbers are of something else",
        },
    ),
    "reasons": Column("what speaks against it, the gravest first"),
    "familiarity": Column(
        "whether the whole scan is one that the weights know",
        levels={
            "known": "a neck, found whole",
            "doubtful": "something was not found",
            "stranger": "no neck, or nothing that the weights know",
        },
    ),
    "fat_water_source": Column("what fat and water were computed from"),
}
_SLICE = {
    "slice": Column("axial slice; 0 is the lowest of the scan"),
    "z_mm": Column("height of the slice's middle in scanner coordinates (S)", "mm"),
    "area_mm2": Column("cross-section of the muscle", "mm^2"),
}
_LEVEL = {
    "level": Column("vertebral level, from the middle of a disc to that of the next"),
    "level_confidence": Column("of a level that the network found; 1 from a file", "1"),
    "area_mean_mm2": Column("mean cross-section at the level", "mm^2"),
}
_MIXTURE = {
    "image": Column("the image whose intensities were told apart"),
    "method": Column(
        "how they were",
        levels={
            "mixture2": "two Gaussians: muscle and fat",
            "mixture3": "three Gaussians: muscle, neither, fat",
        },
    ),
    **{
        f"{name}_{ending}": Column(f"{what} {text}", unit)
        for ending, what, unit in (
            ("percent", "share of the muscle's voxels that are", "%"),
            ("volume_ml", "volume of the muscle's voxels that are", "ml"),
        )
        for name, text in (
            ("muscle", "as dark as muscle"),
            ("fat", "as bright as fat"),
            ("undefined", "of the middle of three Gaussians"),
        )
    },
    "muscle_max_intensity": Column("darker voxels are muscle", "arbitrary"),
    "fat_min_intensity": Column("brighter voxels are fat", "arbitrary"),
    "mixture_separation": Column(
        "Ashman's D of the darkest and the brightest Gaussian; below 2: one peak",
        "1",
    ),
}
_HISTOGRAM = {
    "from_percent": Column("lower end of a bin of voxels' fat fractions", "%"),
    "to_percent": Column("its upper end, not included", "%"),
}
_ORIGIN = {
    "mask_source": Column(
        "who drew the mask",
        levels={
            "network": "the weights",
            "edited": "the weights, and changed since",
            "given": "another program, or a person",
        },
    ),
    "mode": Column(
        "how the network was run",
        levels={
            "whole": "the whole volume at once",
            "sliding_window": "window by window",
        },
    ),
    "weights_sha256": Column("first digits of the weights' SHA-256"),
    "cervjax_version": Column("version of the program"),
}
_FAILURE = {
    "files": Column("files of a scan without a result"),
    "error": Column("why it has none, and what to do"),
}

COLUMNS = (
    _IDENTITY
    | _MEASURES
    | _MUSCLE
    | _MIXTURE
    | _SLICE
    | _LEVEL
    | _HISTOGRAM
    | _ORIGIN
    | _FAILURE
)
"""All columns of ``measurements.csv``, its tables by slice, of images of one
contrast, and ``failures.csv``."""


def as_bids() -> dict[str, Any]:
    """The content of ``measurements.json``."""
    found = {}
    for name, column in COLUMNS.items():
        entry: dict[str, Any] = {"Description": column.description}
        if column.units:
            entry["Units"] = column.units
        if column.levels:
            entry["Levels"] = column.levels
        found[name] = entry
    return found
