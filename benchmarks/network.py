"""Times the whole network, ours and in PyTorch: inference and a training step.

    python benchmarks/network.py --what forward --pytorch ~/torch/bin/python
    python benchmarks/network.py --what step --shape 96 96 32 --batch 2 --remat units

Without --pytorch (a Python that has torch) only our figures. The two alternate, so that
a busy machine hurts both: read the ratio rather than the times. Of the PyTorch forms
(see `pytorch_network.py`; "passive" lets its idle CPU threads sleep rather than spin,
much faster where other processes run) a short trial keeps the fastest. Both do the same
work on the same random weights and input: inference ends in labels at full resolution,
a step in weights updated by Adam. The first outputs
and losses are compared; too large a difference ends the run with an error. Rates are
given as the share of what jnp.dot reaches in the same run. Prints one JSON line per
measured thing and a table at the end. Peak memory is a process's own, so ask for one
thing at a time. On several devices a step has --batch volumes on each; PyTorch takes
them all on one.
"""

import argparse
import json
import math
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # PyTorch needs room

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.traverse_util import unflatten_dict
from measured import Parser, Report, add_window, positive, ratio, timing

from cervjax.inference.decode import upsampled_labels
from cervjax.model.dense_vnet import DenseVNet, Remat
from cervjax.model.weights import expected_shapes
from cervjax.training.losses import dice, overlap_upsampled

FORMS = (
    "eager",
    "eager+passive",
    "channels_last_3d",
    "channels_last_3d+passive",
    "channels_last_3d+interpolate",
    "channels_last_3d+interpolate+passive",
    "compile",
    "compile+channels_last_3d",
)
TOLERANCE = 1e-3  # of the range of the logits, and of the loss, in float32


class PyTorch:
    """The server of `pytorch_network.py` with one form loaded."""

    def __init__(self, flags: argparse.Namespace, folder: Path, form: str):
        self.folder = folder
        script = Path(__file__).with_name("pytorch_network.py")
        words = form.split("+")
        passive = {"OMP_WAIT_POLICY": "passive"} if "passive" in words else {}
        self.process = subprocess.Popen(
            [flags.pytorch, script],
            env={**os.environ, **passive},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if flags.verbose else subprocess.DEVNULL,
            text=True,
        )
        form = "+".join(w for w in words if w != "passive")
        options = {"form": form, "dtype": flags.dtype, "threads": flags.threads}
        self.about = self.ask("load", weights="w.npz", **options)

    def __enter__(self) -> "PyTorch":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.communicate()

    def ask(self, command: str, **arguments: Any) -> dict[str, Any]:
        assert self.process.stdin and self.process.stdout
        for name, value in arguments.items():
            if str(value).endswith((".npy", ".npz")):
                arguments[name] = str(self.folder / value)
        print(
            json.dumps({"command": command, **arguments}),
            file=self.process.stdin,
            flush=True,
        )
        answer = json.loads(self.process.stdout.readline() or '{"error": "died"}')
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer

    def run(self, what: str) -> dict[str, Any]:
        labels = {"labels": "y.npy"} if what == "step" else {}
        return self.ask(what, input="x.npy", **labels)


class Ours:
    """One compiled form of our network; `run` gives its seconds and loss, if any."""

    def __init__(self, what: str, data: dict[str, Any], **options: Any):
        devices = jax.device_count() if what == "step" else 1
        make, names = (
            (forward, ("x",)) if what == "forward" else (train_step, ("x", "y"))
        )
        function, self.state = make(data["variables"], devices, **options)
        self.what, self.args = what, [jnp.asarray(data[name]) for name in names]
        if devices > 1:
            self.args = [a.reshape(devices, -1, *a.shape[1:]) for a in self.args]
        start = time.perf_counter()
        self.compiled = function.lower(self.state, *self.args).compile()
        self.compile_seconds = time.perf_counter() - start

    def run(self) -> dict[str, Any]:
        start = time.perf_counter()
        result = jax.block_until_ready(self.compiled(self.state, *self.args))
        seconds = time.perf_counter() - start
        if self.what == "forward":
            return {"seconds": [seconds]}
        self.state, loss = result
        return {"seconds": [seconds], "losses": [float(loss)]}

    def compiled_gb(self) -> float:
        m = self.compiled.memory_analysis()
        donated = m.alias_size_in_bytes
        total = m.argument_size_in_bytes + m.output_size_in_bytes + m.temp_size_in_bytes
        return (total - donated) / 1e9


def forward(variables: dict, _: int, **options: Any) -> tuple[Any, dict]:
    model = DenseVNet(**options)

    def run(variables: dict, x: jax.Array):
        logits: Any = model.apply(variables, x, method="half_resolution")
        return upsampled_labels(logits)[0]  # PyTorch is not asked for confidence

    return jax.jit(run), variables


def train_step(variables: dict, devices: int, **options: Any) -> tuple[Any, tuple]:
    axis = "devices" if devices > 1 else None
    model = DenseVNet(axis_name=axis, **options)
    adam = optax.adam(1e-3)

    def step(state: tuple, x: jax.Array, labels: jax.Array):
        params, stats, moments = state

        def loss_of(params: dict):
            logits, new = model.apply(
                {"params": params, "batch_stats": stats},
                x,
                method="half_resolution",
                train=True,
                mutable=["batch_stats"],
            )
            return dice(overlap_upsampled(logits, labels)).mean(), new["batch_stats"]

        (loss, stats), grads = jax.value_and_grad(loss_of, has_aux=True)(params)
        if axis:
            loss, grads = jax.lax.pmean((loss, grads), axis)
        updates, moments = adam.update(grads, moments, params)
        return (optax.apply_updates(params, updates), stats, moments), loss

    # Donated: copies, so that the next form starts from the same weights.
    params, stats = jax.tree.map(
        jnp.array, (variables["params"], variables["batch_stats"])
    )
    state = params, stats, adam.init(params)
    if not axis:
        return jax.jit(step, donate_argnums=0), state
    spread: Any = jax.pmap(
        step, axis, in_axes=(None, 0, 0), out_axes=None, donate_argnums=0
    )
    return spread, state


class Products:
    """The machine's own rate: square matrix products in the same dtype."""

    def __init__(self, dtype: str):
        self.size = 2048 if jax.default_backend() == "cpu" else 8192
        self.matrix = jnp.ones((self.size, self.size), dtype)
        self.dot = jax.jit(jnp.dot)
        self.dot(self.matrix, self.matrix).block_until_ready()

    def gflops(self, count: int) -> list[float]:
        rates = []
        for _ in range(count):
            start = time.perf_counter()
            self.dot(self.matrix, self.matrix).block_until_ready()
            rates.append(2e-9 * self.size**3 / (time.perf_counter() - start))
        return rates


def draw(folder: Path, shape: tuple[int, ...], batch: int) -> dict[str, Any]:
    """Random variables, volumes and labels; written for PyTorch too."""
    rng = np.random.default_rng(0)

    def tensor(name: str, shape: tuple[int, ...]) -> np.ndarray:
        if name.endswith("kernel"):
            return rng.normal(0, math.sqrt(2 / math.prod(shape[:-1])), shape)
        if name.endswith(("scale", "/var")):
            return rng.uniform(0.5, 1.5, shape)
        own = name.endswith(("bias", "/mean"))
        return rng.normal(0, 0.1, shape) if own else np.zeros(shape)

    tensors = {k: np.float32(tensor(k, v)) for k, v in expected_shapes().items()}
    x = rng.standard_normal((batch, *shape, 2), np.float32)
    y = rng.integers(0, 15, (batch, *shape), np.uint8)
    np.savez(folder / "w.npz", **tensors)
    np.save(folder / "x.npy", x)
    np.save(folder / "y.npy", y)
    variables = jax.tree.map(jnp.asarray, unflatten_dict(tensors, sep="/"))
    return {"variables": variables, "x": x, "y": y.astype(np.int32)}


def network_gflop(shape: tuple[int, ...], batch: int) -> float:
    """Multiplications and additions of all convolutions of one inference."""
    places = {"stem": 2, "block0": 2, "block1": 4, "block2": 8, "head_kernel": 2}
    total = 0
    for name, kernel in expected_shapes().items():
        if name.endswith("kernel"):
            divisor = places[name.split("/")[1]] * (2 if "/down/" in name else 1)
            total += 2 * math.prod(kernel) * math.prod(n // divisor for n in shape)
    return batch * total / 1e9


def fastest_form(flags: argparse.Namespace, folder: Path, what: str) -> str | None:
    """A short trial, each form in a process of its own."""
    seconds = {}
    for form in flags.forms:
        try:
            with PyTorch(flags, folder, form) as torch:
                start = time.perf_counter()
                torch.run(what)
                first = time.perf_counter() - start
                runs = [torch.run(what)["seconds"][0] for _ in range(2)]
            seconds[form] = min(runs)
            result: dict = {"seconds": round(min(runs), 4), "first": round(first, 2)}
        except RuntimeError as error:
            result = {"error": str(error)}
        print(json.dumps({"trial": what, "form": form, **result}), flush=True)
    return min(seconds, key=seconds.__getitem__) if seconds else None


def compare_outputs(torch: PyTorch, data: dict[str, Any], dtype: str) -> float:
    """Largest difference of the logits relative to their range; checks the labels."""
    torch.ask("outputs", input="x.npy", logits="logits.npy", labels="labels.npy")
    theirs = np.load(torch.folder / "logits.npy")
    model = DenseVNet(dtype=jnp.dtype(dtype))
    with jax.default_matmul_precision("highest"):
        run = jax.jit(lambda v, x: model.apply(v, x, method="half_resolution"))
        ours: Any = run(data["variables"], data["x"])
    labels = upsampled_labels(ours)[0]
    difference = float(np.abs(ours - theirs).max() / np.ptp(theirs))
    agree = float(np.mean(np.asarray(labels) == np.load(torch.folder / "labels.npy")))
    print(json.dumps({"parity": "logits", "difference": difference, "labels": agree}))
    return max(difference, (1 - agree) / 10)


def summary(name: str, runs: list[dict], gflop: float, machine: float) -> dict:
    seconds = [run["seconds"][0] for run in runs]
    middle = statistics.median(seconds)
    return {
        "what": name,
        **timing(seconds),
        "gflops": round(gflop / middle, 1),
        "share_of_products": round(gflop / middle / machine, 3),
    }


def compare(
    flags: argparse.Namespace, what: str, folder: Path, report: Report
) -> float:
    """Measures one thing; returns the largest difference of the outputs."""
    batch = flags.batch * (jax.device_count() if what == "step" else 1)
    data = draw(folder, flags.shape, batch)
    gflop = network_gflop(flags.shape, batch) * (3 if what == "step" else 1)
    form = fastest_form(flags, folder, what) if flags.pytorch else None
    torch = PyTorch(flags, folder, form) if form else None
    options: dict[str, Any] = {"dtype": jnp.dtype(flags.dtype)}
    if what == "step":
        options["remat"] = flags.remat
    ours = {"ours": Ours(what, data, **options)}
    if flags.plain:
        ours["ours, plain"] = Ours(what, data, lowering="plain", **options)
    runs: dict[str, list[dict]] = {name: [] for name in ours}
    calls: dict[str, Callable[[], dict]] = {k: v.run for k, v in ours.items()}
    if torch:
        calls["pytorch"] = lambda: torch.run(what)
        runs["pytorch"] = []
    products, rates = Products(flags.dtype), []
    for _ in range(flags.repeats + 1):
        for name, call in calls.items():
            runs[name].append(call())
        rates += products.gflops(-(-10 // flags.repeats))
    machine = statistics.median(rates)
    difference = 0.0
    about = {"device": jax.devices()[0].device_kind, "devices": jax.device_count()}
    about |= {"dtype": flags.dtype, "batch": batch, "shape": flags.shape}
    about |= {"products_gflops": round(machine, 1), "gflop": round(gflop, 1)}
    for name, (first, *rest) in runs.items():
        row = summary(f"{what}, {name}", rest, gflop, machine)
        row |= ratio(*([r["seconds"][0] for r in v] for v in (runs["ours"][1:], rest)))
        if name in ours:
            row["compile_s"] = round(ours[name].compile_seconds, 1)
            row["compiled_gb"] = round(ours[name].compiled_gb(), 3)
            row["peak_gb"] = round(peak_gb(), 3)
        else:
            row |= {"form": form, "peak_gb": rest[-1]["peak_gb"], **torch.about}
        if what == "step":
            row["first_loss"] = first["losses"][0]
            reference = runs["ours"][0]["losses"][0]
            difference = max(difference, abs(row["first_loss"] - reference))
        report.add({**about, **row})
    if torch:
        with torch:
            if what == "forward":
                difference = compare_outputs(torch, data, flags.dtype)
    print(json.dumps({"what": what, "largest_difference": difference}), flush=True)
    return difference


def peak_gb() -> float:
    stats = jax.devices()[0].memory_stats()
    if stats:
        return stats["peak_bytes_in_use"] / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def physical_cores() -> int:
    """Cores of this process on Linux, hyper-threads counted once."""
    place = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    return len({Path(place.format(c)).read_text() for c in os.sched_getaffinity(0)})


def main() -> None:
    parser = Parser(__doc__)
    whats = ("forward", "step")
    parser.add_argument(
        "--what", nargs="+", choices=whats, default=["forward"], help="(forward)"
    )
    add_window(parser)
    parser.add_argument("--batch", type=positive, default=1, help="windows (1)")
    parser.add_argument("--repeats", type=positive, default=5, help="of each (5)")
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16"),
        default="float32",
        help="of activations (float32)",
    )
    parser.add_argument("--pytorch", help="a Python that has torch")
    parser.add_argument("--forms", nargs="+", default=FORMS, help="of PyTorch, to try")
    parser.add_argument(
        "--threads", type=positive, default=physical_cores(), help="of PyTorch"
    )
    parser.add_argument("--plain", action="store_true", help="textbook convolution too")
    parser.add_argument(
        "--remat",
        choices=get_args(Remat),
        default="nothing",
        help="what a step computes again (nothing)",
    )
    parser.add_argument("--verbose", action="store_true", help="PyTorch's messages")
    flags = parser.parse_args()
    if flags.pytorch and not shutil.which(flags.pytorch):
        parser.error(f"--pytorch {flags.pytorch}: no such program")
    report, worst = Report(flags), 0.0
    with tempfile.TemporaryDirectory() as folder:
        for what in flags.what:
            worst = max(worst, compare(flags, what, Path(folder), report))
    heads = ("seconds", "min", "max", "GFLOP/s", "of dot", "ours/this", "peak GB")
    print(f"\n{'':20}" + "".join(f"{head:>10}" for head in heads) + "   range of ratio")
    for r in report.rows:
        values = r["seconds"], *r["range"], r["gflops"], r["share_of_products"]
        values = *values, r["ratio"], r["peak_gb"]
        low, high = r["ratio_range"]
        cells = "".join(f"{value:10.3f}" for value in values)
        print(f"{r['what']:20}{cells}   {low:.3f}-{high:.3f}")
    report.end()
    if worst > TOLERANCE and flags.dtype == "float32":
        sys.exit(f"outputs differ by {worst:.1e}, more than {TOLERANCE:.0e}")


if __name__ == "__main__":
    main()
