"""Digital scans without files, for tests."""

from cervjax.phantom.dataset import subject_of
from cervjax.phantom.neck import build_neck, with_mfi
from cervjax.phantom.protocol import TIERS
from cervjax.phantom.scan import DigitalScan, make_scan
from cervjax.phantom.subject import draw_change


def digital_scan(
    seed: int, index: int, severity: str = "clinical", session: int = 1
) -> DigitalScan:
    """One scan of a cohort, as `cervjax phantom` makes it."""
    tier = TIERS[severity]
    subject = subject_of(seed, index, tier)
    neck = build_neck(subject)
    if session == 2:
        neck = with_mfi(neck, subject.mfi_percent + draw_change(seed, subject))
    return make_scan(neck, tier, (seed, index, 5, session))
