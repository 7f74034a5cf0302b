"""Memory of a training step by batch size, from the compiler's own analysis.

    python benchmarks/memory.py                       # the paper's window, 360x240x32
    python benchmarks/memory.py --shape 144 96 16 --remat nothing --lowering auto

"kept" is what JAX keeps per window from the forward for the backward pass, traced
without any device. "peak" is the compiler's: it compiles the step (Dice loss, gradient,
Adam) for two batch sizes, runs none, and draws a straight line through the two.
`--lowering plain` (the default) is the form that GPUs and TPUs run, but layout and
scheduling are those of the device at hand: run it there for its own. On CPUs the
compiler merges what is computed twice, so recomputation lowers "kept" and not "peak".
Prints one JSON line per combination, and the batch whose peak fits 16, 24 and 80 GB.
"""

import time
from typing import Any, get_args

import jax
import jax.numpy as jnp
from flax.traverse_util import unflatten_dict
from measured import Parser, Report, add_window, positive
from network import train_step

from cervjax.model.dense_vnet import DenseVNet, Remat
from cervjax.model.weights import expected_shapes
from cervjax.training.losses import dice, overlap_upsampled

CARDS_GB = (16, 24, 80)
USABLE = 0.9  # of a card's memory; the rest is the runtime's


def main() -> None:
    parser = Parser(__doc__)
    add_window(parser)
    parser.add_argument(
        "--batches", type=positive, nargs=2, default=(1, 3), help="two sizes (1 3)"
    )
    parser.add_argument(
        "--remat",
        nargs="+",
        choices=get_args(Remat),
        default=get_args(Remat),
        help="what is computed again (all in turn)",
    )
    parser.add_argument(
        "--dtype",
        nargs="+",
        choices=("float32", "bfloat16"),
        default=("float32", "bfloat16"),
        help="of activations (both in turn)",
    )
    parser.add_argument(
        "--lowering",
        default="plain",
        choices=("plain", "auto"),
        help="of convolutions: that of accelerators (plain), or the device's",
    )
    flags = parser.parse_args()
    if flags.batches[0] == flags.batches[1]:
        parser.error(f"--batches must be two sizes, not {flags.batches[0]} twice")
    report = Report(flags, device=jax.devices()[0].device_kind, shape=flags.shape)
    for dtype in flags.dtype:
        for remat in flags.remat:
            options = {"dtype": jnp.dtype(dtype), "remat": remat}
            options["lowering"] = flags.lowering
            start = time.perf_counter()
            small, large = (peak_gb(flags.shape, b, options) for b in flags.batches)
            each = (large - small) / (flags.batches[1] - flags.batches[0])
            fixed = small - each * flags.batches[0]
            row = {"what": f"memory, {dtype}, {remat}", "lowering": flags.lowering}
            row |= {"dtype": dtype, "remat": remat}
            row["kept_gb_each"] = round(kept_gb(flags.shape, options), 3)
            row |= {"peak_gb_each": round(each, 3), "peak_gb_fixed": round(fixed, 3)}
            row |= {
                f"batch_{gb}_gb": int((USABLE * gb - fixed) / each) for gb in CARDS_GB
            }
            row["seconds_to_compile"] = round(time.perf_counter() - start)
            report.add(row)
    print(
        f"\n{'dtype':10}{'recomputed':12}{'GB each':>9}  largest batch in"
        + "".join(f"{gb:>5} GB" for gb in CARDS_GB)
    )
    for r in report.rows:
        fits = "".join(f"{r[f'batch_{gb}_gb']:8}" for gb in CARDS_GB)
        print(
            f"{r['dtype']:10}{r['remat']:12}{r['kept_gb_each']:9.2f}"
            f"{r['peak_gb_each']:9.2f}{'':18}{fits}"
        )
    report.end()


def kept_gb(shape: tuple[int, ...], options: dict[str, Any]) -> float:
    """What the pullback of the loss of one window holds."""
    model = DenseVNet(**{**options, "lowering": "auto"})
    example = jax.ShapeDtypeStruct((1, *shape, 2), jnp.float32)
    labels = jax.ShapeDtypeStruct((1, *shape), jnp.int32)

    def pullback(variables: dict, x: jax.Array, y: jax.Array):
        def loss(params: dict):
            logits, _ = model.apply(
                {**variables, "params": params},
                x,
                method="half_resolution",
                train=True,
                mutable=["batch_stats"],
            )
            return dice(overlap_upsampled(logits, y)).mean()

        return jax.vjp(loss, variables["params"])[1]

    kept = jax.eval_shape(pullback, zero_variables(), example, labels)
    return sum(v.size * v.dtype.itemsize for v in jax.tree.leaves(kept)) / 1e9


def zero_variables() -> dict:
    zeros = {k: jnp.zeros(s) for k, s in expected_shapes().items()}
    return unflatten_dict(zeros, sep="/")


def peak_gb(shape: tuple[int, ...], batch: int, options: dict[str, Any]) -> float:
    """Arguments, results and temporaries of one step, what is donated counted once."""
    step, state = train_step(zero_variables(), 1, **options)
    x = jax.ShapeDtypeStruct((batch, *shape, 2), jnp.float32)
    y = jax.ShapeDtypeStruct((batch, *shape), jnp.int32)
    m = step.lower(state, x, y).compile().memory_analysis()
    total = m.argument_size_in_bytes + m.output_size_in_bytes + m.temp_size_in_bytes
    return (total - m.alias_size_in_bytes) / 1e9


if __name__ == "__main__":
    main()
