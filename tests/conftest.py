"""Settings and paths that every test shares."""

from pathlib import Path

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_cpu_enable_async_dispatch", False)
jax.config.update("jax_numpy_rank_promotion", "raise")

SHARED = Path(__file__).resolve().parents[2] / "shared"


def _shared(name: str) -> Path:
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"needs ../shared/{name}, which is not part of the product")
    return path


@pytest.fixture(scope="session")
def golden() -> Path:
    """Values computed by the genuine NiftyNet 0.6.0."""
    return _shared("golden")


@pytest.fixture(scope="session")
def real_scans() -> Path:
    """Real scans, which may not be committed."""
    return _shared("scans")
