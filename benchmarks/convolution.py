"""Times every kind of layer of the dense V-Net, plain against fast, alternating.

Prints one JSON line per layer and a table at the end. Forms alternate in one process,
so that a busy machine hurts both; read the ratio rather than the times.

    python benchmarks/convolution.py --size 360 240 32 --gradients
"""

import statistics
import time
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from measured import Parser, Report, add_window, positive, ratio, timing

from cervjax.model.convolution import convolve

# name, size divisor, C, O, kernel, stride
LAYERS = [
    ("stem", 1, 2, 24, 5, 2),
    ("block 0 unit", 2, 42, 4, 3, 1),
    ("block 0 skip", 2, 46, 12, 3, 1),
    ("block 0 down", 2, 46, 24, 3, 2),
    ("block 1 unit", 4, 96, 8, 3, 1),
    ("block 1 skip", 4, 104, 24, 3, 1),
    ("block 1 down", 4, 104, 24, 3, 2),
    ("block 2 unit", 8, 168, 16, 3, 1),
    ("block 2 skip", 8, 184, 24, 3, 1),
    ("head", 2, 62, 15, 3, 1),
]
# name, size divisor, C, units, O, skip O
BLOCKS = [
    ("block 0", 2, 26, 5, 4, 12),
    ("block 1", 4, 24, 10, 8, 24),
    ("block 2", 8, 24, 10, 16, 24),
]


def draw(*shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(0).standard_normal(shape), jnp.float32)


def layer(c: int, o: int, k: int, stride: int, gradients: bool, lowering: str):
    conv = partial(convolve, stride=stride, lowering=lowering)  # type: ignore

    def run(x: jax.Array, kernel: jax.Array):
        if not gradients:
            return conv(x, kernel)
        y, pullback = jax.vjp(conv, x, kernel)
        return pullback(y)

    return run


def block(x: jax.Array, kernels: list, lowering: str) -> jax.Array:
    parts = [x]
    for kernel in kernels:
        y = convolve(parts, kernel, lowering=lowering)  # type: ignore
        parts.append(jax.nn.relu(y))
    return parts[-1]


def measure(
    runs: dict[str, Callable], args: tuple, repeats: int
) -> dict[str, list[float]]:
    """Seconds of each form, which alternate."""
    jitted = {name: jax.jit(run) for name, run in runs.items()}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for i in range(repeats + 1):
        for name, run in jitted.items():
            start = time.perf_counter()
            jax.block_until_ready(run(*args))
            if i:  # the first call compiles
                seconds[name].append(time.perf_counter() - start)
    return seconds


def main() -> None:
    parser = Parser(__doc__)
    add_window(parser, "--size")
    parser.add_argument("--repeats", type=positive, default=3, help="of each (3)")
    parser.add_argument("--gradients", action="store_true", help="backward pass too")
    flags = parser.parse_args()
    report = Report(
        flags, device=jax.devices()[0].device_kind, gradients=flags.gradients
    )
    rows = []
    for name, divisor, c, o, k, stride in LAYERS:
        sizes = [n // divisor for n in flags.size]
        work = 2 * k**3 * c * o * int(np.prod([-(-n // stride) for n in sizes]))
        work *= 3 if flags.gradients else 1
        forms = ("plain", "fast")
        runs = {f: layer(c, o, k, stride, flags.gradients, f) for f in forms}
        args = draw(1, *sizes, c), draw(k, k, k, c, o)
        rows.append((name, work, measure(runs, args, flags.repeats)))
    for name, divisor, c, units, o, skip in BLOCKS:
        sizes = [n // divisor for n in flags.size]
        ends = [(c + i * o, o) for i in range(units)] + [(c + units * o, skip)]
        work = sum(54 * a * b for a, b in ends) * int(np.prod(sizes))
        runs = {f: partial(block, lowering=f) for f in ("plain", "fast")}
        args = draw(1, *sizes, c), [0.05 * draw(3, 3, 3, *end) for end in ends]
        rows.append((name, work, measure(runs, args, flags.repeats)))
    for name, work, seconds in rows:
        compared = ratio(seconds["plain"], seconds["fast"])
        for form, times in seconds.items():
            row = {"what": f"{name}, {form}", "shape": flags.size, **timing(times)}
            rate = round(work / statistics.median(times) / 1e9, 1)
            report.add({**row, "gflops": rate, **compared})
    print(f"\n{'layer':14}{'plain':>9}{'fast':>9}  GFLOP/s   times faster (range)")
    for plain, fast in zip(report.rows[::2], report.rows[1::2], strict=True):
        rates = f"{plain['gflops']:9.1f}{fast['gflops']:9.1f}"
        low, high = fast["ratio_range"]
        name = plain["what"].removesuffix(", plain")
        print(f"{name:14}{rates}{fast['ratio']:19.1f} ({low:.1f}-{high:.1f})")
    report.end()


if __name__ == "__main__":
    main()
