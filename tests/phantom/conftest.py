import pytest

from cervjax.phantom.neck import Neck, build_neck
from cervjax.phantom.subject import draw_subject


@pytest.fixture(scope="session")
def neck() -> Neck:
    """Of one subject; tests do not change it."""
    return build_neck(draw_subject(0, 0))
