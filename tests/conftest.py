"""Settings, paths and made-up scans and networks that tests share."""

import atexit
import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

# Before jax is imported, and by the first process only: the workers share its folder,
# so that each network is compiled once, and the user's own cache is left alone.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="cervjax-tests-")
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], True)

# Of programs that run but once, on little, compiling is the most; see `optimised`. The
# older of XLA's code generators compiles four times as fast; `make test-all` tests the
# newer one, which users have.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false")

import jax
import nibabel as nib
import numpy as np
import pytest
from flax.traverse_util import unflatten_dict

from cervjax.model.card import ModelCard
from cervjax.model.dense_vnet import PUBLISHED, Architecture
from cervjax.model.weights import expected_shapes, save_weights
from cervjax.preprocessing.pipeline import Recipe

jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_cpu_enable_async_dispatch", False)
jax.config.update("jax_numpy_rank_promotion", "raise")

SHARED = Path(__file__).resolve().parents[2] / "shared"
LANDMARKS = (0.0, 1.0, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 7.0, 7.5, 8.0, 9.0, 100.0)
RECIPE = Recipe(
    landmarks={"in_phase": LANDMARKS, "out_phase": LANDMARKS},
    spacing_mm=(2.0, 2.0, 3.0),
    padding=(8, 6, 4),
)
"""A coarse grid, so that tests are quick."""


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


class TwoBlobs(NamedTuple):
    """A scan that no reflection maps onto itself, and what is to be measured in it.

    A lean block lies at the patient's right-front-top, a fatty one at the left-back-
    bottom; `threshold_weights` labels them 9 (SCM right) and 10 (SCM left).
    """

    in_phase: np.ndarray
    out_phase: np.ndarray
    affine: np.ndarray
    centres_mm: dict[int, np.ndarray]
    mfi_percent: dict[int, float]


@pytest.fixture(scope="session")
def two_blobs() -> TwoBlobs:
    """In RAS, 2 x 2 x 3 mm."""
    rng = np.random.default_rng(0)
    shape = (44, 36, 16)
    affine = np.diag([2.0, 2.0, 3.0, 1.0])
    affine[:3, 3] = (-41, -33, 20)
    in_phase = rng.uniform(90, 110, shape)
    out_phase = in_phase * 0.9
    boxes = {
        9: (slice(30, 40), slice(20, 30), slice(8, 14)),
        10: (slice(5, 13), slice(4, 16), slice(2, 6)),
    }
    fat_fraction = {9: 0.05, 10: 0.4}
    centres = {}
    for label, box in boxes.items():
        in_phase[box] = rng.uniform(950, 1050, in_phase[box].shape)
        out_phase[box] = in_phase[box] * (1 - 2 * fat_fraction[label])
        middle = [(s.start + s.stop - 1) / 2 for s in box]
        centres[label] = affine[:3, :3] @ middle + affine[:3, 3]
    percent = {label: 100 * value for label, value in fat_fraction.items()}
    arrays = in_phase.astype(np.float32), out_phase.astype(np.float32)
    return TwoBlobs(*arrays, affine, centres, percent)


@contextlib.contextmanager
def optimised() -> Iterator[None]:
    """Compiles as for users, which takes twice as long: for scans of full size."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", False)
    try:
        yield
    finally:
        jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture
def no_pictures(monkeypatch):
    """An empty file for the picture of a scan, which takes longer than the scan."""
    home = "cervjax.figures.quality"
    monkeypatch.setattr(f"{home}.qc_figure", lambda *args, **options: None)
    monkeypatch.setattr(f"{home}.save_png", lambda figure, path: path.touch())


@pytest.fixture
def forget_programs():
    """Drops compiled programs after a test: their memory is given back."""
    yield
    jax.clear_caches()


SMALL = Architecture(
    units=(1, 1, 1), growth=(2, 3, 4), skips=(3, 4, 5), stem=6, downs=(4, 5)
)
"""A network that compiles in a second; no two of its sizes are alike."""


def network_variables(
    seed: int = 0, architecture: Architecture = PUBLISHED
) -> dict[str, Any]:
    """A network with random parameters and lively statistics."""
    rng = np.random.default_rng(seed)

    def draw(name: str, shape: tuple[int, ...]) -> np.ndarray:
        if name.endswith("kernel"):
            return rng.normal(0, np.sqrt(2 / np.prod(shape[:-1])), shape)
        if name.endswith(("scale", "/var")):
            return rng.uniform(0.5, 1.5, shape)
        return rng.normal(0, 0.3, shape)

    shapes = expected_shapes(architecture)
    tensors = {k: np.asarray(draw(k, v), np.float32) for k, v in shapes.items()}
    return unflatten_dict(tensors, sep="/")


def _card(name: str, recipe: Recipe) -> ModelCard:
    source, trained_on, licence = "made up for a test", "nothing", "none"
    return ModelCard(
        name, source, trained_on, licence, "whole", recipe, architecture=SMALL
    )


@pytest.fixture(scope="session")
def random_weights(tmp_path_factory) -> Path:
    """A weights file with random parameters: every label occurs, nothing is right."""
    path = tmp_path_factory.mktemp("weights") / "random.safetensors"
    save_weights(path, network_variables(0, SMALL), _card("random", RECIPE))
    return path


@pytest.fixture(scope="session")
def threshold_weights(tmp_path_factory) -> Path:
    """The small network with parameters by hand: it thresholds the pooled channels.

    Bright in phase is muscle: 9 if out of phase is bright too, 10 if it is not. The
    thresholds are so high that a block's rim is left out.
    """
    variables = jax.tree.map(np.zeros_like, network_variables(0, SMALL))
    params, stats = variables["params"], variables["batch_stats"]
    params["pool_norm"]["scale"][:] = 1
    stats["pool_norm"]["var"][:] = 1
    taps = params["head_kernel"][
        1, 1, 1
    ]  # centre; features 0 and 1 are the pooled pair
    taps[:2, 9], params["head_bias"][9] = (1, 1), -14
    taps[:2, 10], params["head_bias"][10] = (3, -2), -18
    params["head_bias"][[*range(1, 9), *range(11, 15)]] = -100
    path = tmp_path_factory.mktemp("weights") / "threshold.safetensors"
    save_weights(path, variables, _card("threshold", RECIPE))
    return path


@pytest.fixture(scope="session")
def neck():
    """A digital neck of the standard anatomy; tests do not change it."""
    from cervjax.phantom.atlas import load_anatomy
    from cervjax.phantom.neck import build_neck
    from cervjax.phantom.subject import draw_subject

    return build_neck(draw_subject(0, 0), load_anatomy())


def save_nifti(path: Path, data: np.ndarray, affine: np.ndarray, code: int = 1) -> Path:
    """Writes a NIfTI file with both qform and sform."""
    image = nib.Nifti1Image(data, affine)
    image.header.set_xyzt_units("mm")
    image.set_qform(affine, code)
    image.set_sform(affine, code)
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)
    return path


def save_pair(folder: Path, scan: TwoBlobs, name: str = "sub-1") -> Path:
    """Writes the pair of a scan; returns the folder."""
    save_nifti(folder / f"{name}_inphase.nii.gz", scan.in_phase, scan.affine)
    save_nifti(folder / f"{name}_outphase.nii.gz", scan.out_phase, scan.affine)
    return folder
