"""Calibration of measurements: slopes through the origin, one per muscle and quantity.

The paper plots the reference over the prediction with a line through the origin
(Fig. 3). ``cervjax evaluate`` writes its slopes; ``infer --calibration`` reports
``slope x value`` beside the raw value, never instead of it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from cervjax.anatomy import MUSCLES
from cervjax.io.files import read_json, sha256_of_file

COLUMNS = {
    "mfi_percent": "mfi_calibrated_percent",
    "volume_ml": "volume_calibrated_ml",
}
SLOPE_LIMITS = (0.1, 10.0)
_UNREADABLE = (
    OSError,
    KeyError,
    TypeError,
    ValueError,
    AttributeError,
    OverflowError,  # a number of 400 digits
    RecursionError,  # brackets without end
)


class Calibration(NamedTuple):
    """Slopes through the origin.

    Attributes:
        slopes: by muscle key (``MFSS_L``) and quantity.
        sha256: of the file.
        weights_sha256: of the weights that drew the masks it was made with; "" if
            that is not known.
        path: the file.
    """

    slopes: Mapping[str, Mapping[str, float]]
    sha256: str
    weights_sha256: str = ""
    path: str = ""

    def check_weights(self, sha256: str) -> None:
        """Requires the weights that it was made with, if it tells.

        Raises:
            ValueError: these are others.
        """
        if self.weights_sha256 and self.weights_sha256 != sha256:
            raise ValueError(
                f"{self.path} is the calibration of other weights (sha256 "
                f"{self.weights_sha256[:12]}..., in use {sha256[:12] or 'none'}...); "
                "run 'cervjax evaluate' on masks of the weights in use"
            )


def read_calibration(path: Path) -> Calibration:
    """Reads what ``cervjax evaluate`` wrote.

    Raises:
        ValueError: not such a file, an unknown muscle or quantity, or a slope outside
            `SLOPE_LIMITS`.
    """
    try:
        content = read_json(path)
        slopes, weights = content["slopes"], str(content.get("weights_sha256") or "")
        flat = [(m, q, float(v)) for m, own in slopes.items() for q, v in own.items()]
    except _UNREADABLE as error:
        raise ValueError(
            f"{path}: not a calibration ({error!r}); give the calibration.json that "
            "'cervjax evaluate' writes"
        ) from error
    known = {m.key for m in MUSCLES}
    low, high = SLOPE_LIMITS
    for muscle, quantity, slope in flat:
        if muscle not in known or quantity not in COLUMNS:
            raise ValueError(
                f"{path}: {muscle}, {quantity} is not known; muscles are "
                f"{', '.join(sorted(known))}, quantities {', '.join(COLUMNS)}"
            )
        if not low <= slope <= high:
            raise ValueError(
                f"{path}: the slope of {muscle}, {quantity} is {slope:g}; outside "
                f"{low:g}-{high:g} it is no calibration but a failure"
            )
    return Calibration(slopes, sha256_of_file(path), weights, str(path))


def calibrated(
    rows: list[dict[str, Any]], calibration: Calibration
) -> list[dict[str, Any]]:
    """The rows of `composition.measure` with `COLUMNS` added; NaN without a slope."""
    found = []
    for row in rows:
        own = calibration.slopes.get(f"{row['muscle']}_{row['side'][0].upper()}", {})
        new = {
            name: row[raw] * own.get(raw, float("nan")) for raw, name in COLUMNS.items()
        }
        found.append(row | new)
    return found
