"""Digital scans without files, and necks that lie somehow, for tests."""

import numpy as np
from scipy.spatial.transform import Rotation

from cervjax.phantom.atlas import load_anatomy
from cervjax.phantom.dataset import anatomy_of, subject_of
from cervjax.phantom.neck import build_neck, with_mfi
from cervjax.phantom.pose import Pose
from cervjax.phantom.protocol import TIERS
from cervjax.phantom.scan import DigitalScan, make_scan
from cervjax.phantom.subject import draw_change

BORDERS = load_anatomy().borders_mm
PLAIN = Pose(np.eye(3), np.zeros(3), 0.0, np.ones(7), BORDERS, 0.0)
CURVED = PLAIN._replace(
    lordosis_deg=9.0, level_heights=np.linspace(0.9, 1.1, 7), shoulder_mm=6.0
)


def moved(
    pose: Pose, affine: np.ndarray, rotation: Rotation, shift: np.ndarray
) -> tuple[Pose, np.ndarray]:
    """Patient and grid, both moved by one rigid motion."""
    rigid = np.eye(4)
    rigid[:3, :3], rigid[:3, 3] = rotation.as_matrix(), shift
    turned = rigid[:3, :3] @ pose.rotation
    at = rigid[:3, :3] @ pose.shift_mm + shift
    return pose._replace(rotation=turned, shift_mm=at), rigid @ affine


def digital_scan(
    seed: int,
    index: int,
    severity: str = "clinical",
    session: int = 1,
    anatomies: tuple[str, ...] = (),
) -> DigitalScan:
    """One scan of a cohort, as `cervjax phantom` makes it."""
    tier = TIERS[severity]
    subject = subject_of(seed, index, tier)
    neck = build_neck(subject, anatomy_of(seed, index, anatomies))
    if session == 2:
        neck = with_mfi(neck, subject.mfi_percent + draw_change(seed, subject))
    return make_scan(neck, tier, (seed, index, 5, session))
