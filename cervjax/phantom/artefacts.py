"""What goes wrong in a scan: field, coils, motion, ghosts, fold-over, noise, swaps.

Complex images are ``(x, y, z)``; the phase-encoding direction is y (front to back).
"""

import numpy as np
from numpy.fft import fft, fftn, ifft, ifftn
from scipy.ndimage import gaussian_filter, map_coordinates

from cervjax.phantom.body import Body
from cervjax.phantom.signal import GYROMAGNETIC_RATIO_MHZ_PER_T
from cervjax.phantom.tissues import column

FIELD_STEP_MM = 4.0
_PHASE_AXIS = 1


def field_map_hz(body: Body, field_t: float) -> np.ndarray:
    """Field of the neck's own susceptibility, after a second-order shim.

    The convolution with a magnetic dipole, ``1/3 - kz^2/k^2`` (Salomir 2003, Marques
    and Bowtell 2005), on a grid of 4 mm; tissue goes on unchanged above and below.

    Returns:
        ``(z, y, x)`` in Hz on every 4 mm of the body's grid.
    """
    stride = np.round(FIELD_STEP_MM / body.step_mm).astype(int)
    tissue = body.tissue[:: stride[0], :: stride[1], :: stride[2]]
    chi = column("susceptibility_ppm")[tissue] - column("susceptibility_ppm")[0]
    pad = [(20, 20), (12, 12), (12, 12)]
    padded = np.pad(
        np.pad(chi, [pad[0], (0, 0), (0, 0)], mode="edge"), [(0, 0), *pad[1:]]
    )
    k = np.meshgrid(*(np.fft.fftfreq(n) for n in padded.shape), indexing="ij")
    square = np.maximum(sum(i**2 for i in k), 1e-12)
    shift = ifftn(fftn(padded) * (1 / 3 - k[0] ** 2 / square)).real
    inner = tuple(slice(a, -b) for a, b in pad)
    hz = GYROMAGNETIC_RATIO_MHZ_PER_T * field_t * shift[inner]
    at = [np.linspace(-1, 1, n) for n in tissue.shape]
    z, y, x = np.meshgrid(*at, indexing="ij")
    terms = np.stack(
        [
            np.ones_like(x),
            x,
            y,
            z,
            x * y,
            x * z,
            y * z,
            x * x - y * y,
            2 * z * z - x * x - y * y,
        ],
        -1,
    )
    inside = (tissue > 0) & (np.abs(z) < 0.75)
    fit, *_ = np.linalg.lstsq(terms[inside], hz[inside], rcond=None)
    return hz - terms @ fit


def add_metal(
    hz: np.ndarray, body: Body, centres_mm: np.ndarray, radius_mm: float
) -> np.ndarray:
    """Adds dental fillings: spheres with the dipole field of their susceptibility.

    Args:
        hz: of `field_map_hz`.
        body: the neck.
        centres_mm: ``(n, 3)`` x, y, z in the atlas' frame.
        radius_mm: of each.
    """
    axes = (
        first + FIELD_STEP_MM * np.arange(n)
        for first, n in zip(body.first_mm, hz.shape, strict=True)
    )
    z, y, x = np.meshgrid(*axes, indexing="ij")
    for cx, cy, cz in centres_mm:
        dz2, r2 = (z - cz) ** 2, (x - cx) ** 2 + (y - cy) ** 2 + (z - cz) ** 2
        r2 = np.maximum(r2, radius_mm**2)
        strength = 12_000.0  # Hz at the surface: an amalgam of some 100 ppm
        hz = hz + strength * (3 * dz2 / r2 - 1) * (radius_mm**2 / r2) ** 1.5
    return hz


def dephasing(hz: np.ndarray, te_ms: float, voxel_mm: float) -> np.ndarray:
    """Signal left by the field's gradient across a voxel: a product of sincs, 0-1."""
    left = np.ones_like(hz)
    for gradient in np.gradient(hz, FIELD_STEP_MM):
        left *= np.abs(np.sinc(gradient * voxel_mm * te_ms / 1000))
    return left


def at_voxels(field: np.ndarray, neck_zyx_mm: np.ndarray, body: Body) -> np.ndarray:
    """Values of a map on the field's grid at points of the neck, linearly."""
    at = neck_zyx_mm - body.first_mm.reshape(3, *[1] * (neck_zyx_mm.ndim - 1))
    return map_coordinates(field, at / FIELD_STEP_MM, order=1, mode="nearest")


def coil_shading(
    points_mm: np.ndarray, strength: float, rng: np.random.Generator
) -> np.ndarray:
    """Root of the summed squares of a ring of coils about the neck, mean 1.

    Args:
        points_mm: ``(3, ...)`` x, y, z in the scanner.
        strength: 0 for none, 1 for an uncorrected neck array.
        rng: draws the coils' gains.
    """
    angle = np.linspace(0, 2 * np.pi, 8, endpoint=False)
    total = 0.0
    for row in (-45.0, 45.0):
        for a in angle:
            reach = 85 if np.sin(a) < 0.3 else 115  # the back lies on its coils
            centre = np.array([100 * np.cos(a), reach * np.sin(a) - 12, row])
            d2 = sum((p - c) ** 2 for p, c in zip(points_mm, centre, strict=True))
            total = total + (rng.uniform(0.6, 1.4) / (1 + d2 / 70**2)) ** 2
    shade = np.sqrt(total)
    return (shade / shade.mean()) ** strength


def move(
    image: np.ndarray, rng: np.random.Generator, amount_mm: float, step_mm: float
) -> np.ndarray:
    """Bulk motion: for one stretch of the acquisition, the neck lies further on.

    Lines of k-space along y of that stretch get the phase of the shift.
    """
    n = image.shape[_PHASE_AXIS]
    line = np.arange(n)
    start = rng.uniform(0.52, 0.85) * n  # past the centre: contrast holds, edges blur
    when = 1 / (1 + np.exp(-(line - start) / 2))
    frequency = np.fft.fftshift(np.fft.fftfreq(n))
    phase = np.exp(-2j * np.pi * frequency * when * amount_mm / step_mm)
    phase = np.fft.ifftshift(phase).astype(np.complex64)[None, :, None]
    return ifft(fft(image, axis=_PHASE_AXIS) * phase, axis=_PHASE_AXIS)


def swallow(
    image: np.ndarray, where: np.ndarray, rng: np.random.Generator, amount: float
) -> np.ndarray:
    """Ghosts of a region that moves in bursts: its lines of k-space are modulated.

    Args:
        image: complex.
        where: weights 0-1 of what moves, same shape.
        rng: draws the bursts.
        amount: relative strength.
    """
    columns = np.flatnonzero(where.any((1, 2)))
    if not len(columns):
        return image
    part = slice(columns[0], columns[-1] + 1)
    n = image.shape[_PHASE_AXIS]
    bursts = gaussian_filter(rng.standard_normal(n), 2.0, mode="wrap")
    bursts = np.where(bursts > 0.25, bursts, 0) / max(np.abs(bursts).max(), 1e-9)
    wave = (amount * bursts * np.exp(2j * np.pi * rng.random())).astype(np.complex64)
    moving = fft(image[part] * where[part], axis=_PHASE_AXIS)
    image = image.copy()
    image[part] += ifft(moving * wave[None, :, None], axis=_PHASE_AXIS)
    return image


def pulsate(
    image: np.ndarray, arteries: np.ndarray, rng: np.random.Generator, amount: float
) -> np.ndarray:
    """Ghosts of the arteries at equal distances along the phase-encoding direction."""
    period = int(rng.integers(24, 60))
    source = image * arteries
    out = image.copy()
    for order, share in ((1, 1.0), (-1, 1.0), (2, 0.4), (-2, 0.4)):
        phase = np.exp(2j * np.pi * rng.random())
        out += np.complex64(amount * share * phase) * np.roll(
            source, order * period, _PHASE_AXIS
        )
    return out


def fold(image: np.ndarray, extra: int) -> np.ndarray:
    """Fold-over along y: what lies beyond one end appears at the other."""
    if not extra:
        return image
    inner = image[:, extra:-extra].copy()
    inner[:, -extra:] += image[:, :extra]
    inner[:, :extra] += image[:, -extra:]
    return inner


def add_noise(image: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Adds complex Gaussian noise; the magnitude is then Rician."""
    noise = rng.standard_normal((2, *image.shape), np.float32)
    return image + np.float32(sigma) * (noise[0] + 1j * noise[1])


def swapped_region(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Where the scanner takes water for fat: one side, one end, or a large patch."""
    at = [np.linspace(-1, 1, n) for n in shape]
    x, y, z = (
        v.reshape([-1 if i == k else 1 for i in range(3)]) for k, v in enumerate(at)
    )
    kind = rng.integers(3)
    if kind == 0:  # the lower end, in the shoulders' field
        return (z + 0.25 * np.abs(x) + 0 * y) < rng.uniform(-0.8, -0.3)
    if kind == 1:
        side = rng.choice([-1, 1])
        return (side * x + 0.3 * y + 0 * z) > rng.uniform(0.05, 0.3)
    centre, radius = rng.uniform(-0.3, 0.3, 3), rng.uniform(0.25, 0.6, 3)
    parts = zip((x, y, z), centre, radius, strict=True)
    return np.less(sum(((v - c) / r) ** 2 for v, c, r in parts), 1)
