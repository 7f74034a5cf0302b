"""The dense V-Net in PyTorch, to be timed against ours by `benchmarks/network.py`.

Needs torch and numpy only. A server: one JSON command per line in, one answer out.

    python benchmarks/pytorch_network.py
    {"command": "load", "weights": "w.npz", "form": "compile", "dtype": "float32"}
    {"command": "forward", "input": "x.npy", "repeat": 3}
    {"command": "outputs", "input": "x.npy", "logits": "logits.npy"}
    {"command": "step", "input": "x.npy", "labels": "y.npy", "repeat": 3}

A form is "eager" or any of these joined by "+": "channels_last_3d" (memory layout),
"compile" (torch.compile), "interpolate" (upsampling by F.interpolate rather than by
lerp). Inputs are (b, x, y, z, 2), weights our variables as ``params/stem/kernel`` and
so on. Inference has the batch norms folded into the convolutions; in bfloat16 its
weights are bfloat16, while a training step runs under autocast.
"""

import copy
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
CHANNELS_LAST = torch.channels_last_3d
CLASSES = 15
SLAB = 4  # half-resolution planes that become labels at a time, to stay in cache


class Unit(nn.Module):
    """Convolution, batch norm, ReLU; at stride 2 with TensorFlow's one-sided zeros."""

    def __init__(self, c: int, o: int, k: int = 3, stride: int = 1, relu: bool = True):
        super().__init__()
        before, after = (k - stride) // 2, (k - stride + 1) // 2
        self.outside = (before, after) * 3 if before != after else None
        padding = 0 if self.outside else before
        self.conv = nn.Conv3d(c, o, k, stride, padding, bias=False)
        self.norm = nn.BatchNorm3d(o, eps=1e-5)
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(x, self.outside) if self.outside else x
        x = self.norm(self.conv(x))
        return F.relu(x, inplace=True) if self.relu else x


class DenseBlock(nn.Module):
    def __init__(self, c: int, o: int, count: int, skip: int, down: int | None):
        super().__init__()
        self.units = nn.ModuleList(Unit(c + i * o, o) for i in range(count))
        self.skip = Unit(c + count * o, skip)
        self.down = Unit(c + count * o, down, stride=2) if down else None

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        for unit in self.units:
            x = torch.cat([x, unit(x)], 1)
        return self.skip(x), x if self.down is None else self.down(x)


class DenseVNet(nn.Module):
    """(b, 2, x, y, z) to half-resolution logits (b, 15, x/2, y/2, z/2)."""

    def __init__(self, upsample: Callable[[Tensor, int], Tensor]):
        super().__init__()
        # Windows start on even voxels; ceil_mode lets the last one reach outside.
        self.pool = nn.AvgPool3d(3, 2, ceil_mode=True, count_include_pad=False)
        self.pool_norm = nn.BatchNorm3d(2, eps=1e-5)
        self.stem = Unit(2, 24, 5, stride=2, relu=False)
        self.block0 = DenseBlock(26, 4, 5, 12, 24)
        self.block1 = DenseBlock(24, 8, 10, 24, 24)
        self.block2 = DenseBlock(24, 16, 10, 24, None)
        self.head = nn.Conv3d(62, CLASSES, 3, padding=1)
        self.upsample = upsample

    def forward(self, x: Tensor) -> Tensor:
        # In float32: CPUs have no bfloat16 pooling.
        pooled = self.pool_norm(self.pool(x.float()).to(x.dtype))
        skip0, x = self.block0(torch.cat([pooled, self.stem(x)], 1))
        skip1, x = self.block1(x)
        skip2, _ = self.block2(x)
        fine = [pooled, skip0, self.upsample(skip1, 2), self.upsample(skip2, 4)]
        return self.head(torch.cat(fine, 1))


def upsample_lerp(x: Tensor, factor: int) -> Tensor:
    """Output i reads input i / factor, the last one repeated; axis by axis."""
    last = not x.is_contiguous() and x.is_contiguous(memory_format=CHANNELS_LAST)
    x = x.permute(0, 2, 3, 4, 1) if last else x
    for axis in (3, 2, 1) if last else (4, 3, 2):
        n = x.shape[axis]
        after = torch.cat([x.narrow(axis, 1, n - 1), x.narrow(axis, n - 1, 1)], axis)
        parts = [torch.lerp(x, after, k / factor) for k in range(1, factor)]
        x = torch.stack([x, *parts], axis + 1).flatten(axis, axis + 1)
    return x.permute(0, 4, 1, 2, 3) if last else x


def upsample_interpolate(x: Tensor, factor: int) -> Tensor:
    """The same, by aligned corners of a volume extended by its last planes."""
    size = [factor * n + 1 for n in x.shape[2:]]
    x = F.pad(x, (0, 1) * 3, mode="replicate")
    x = F.interpolate(x, size, mode="trilinear", align_corners=True)
    return x[:, :, :-1, :-1, :-1]


def labels_of(logits: Tensor, upsample: Callable, slab: int | None) -> Tensor:
    """uint8 (b, 2x, 2y, 2z); slab by slab unless ``slab`` is None."""
    logits = logits.float()
    if slab is None:
        return upsample(logits, 2).max(1)[1].to(torch.uint8)
    padded = torch.cat([logits, logits[:, :, -1:]], 2)
    parts = [
        upsample(padded[:, :, i : i + slab + 1], 2)[:, :, :-2].max(1)[1].byte()
        for i in range(0, logits.shape[2], slab)
    ]
    return torch.cat(parts, 1)


def dice_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean over the batch of 1 - mean over classes of the soft Dice coefficient."""
    p = logits.float().softmax(1)
    g = torch.zeros_like(p).scatter_(1, labels.unsqueeze(1), 1)
    space = (2, 3, 4)
    total = (p * p).sum(space) + g.sum(space)
    return 1 - ((2 * (p * g).sum(space) + 1e-5) / (total + 1e-5)).mean()


def load_variables(network: DenseVNet, weights: dict[str, np.ndarray]) -> None:
    """Copies our variables; every one but the moving averages' bookkeeping."""
    state = {}
    for name, value in weights.items():
        place = name.split("/", 1)[1].replace("units_", "units/").replace("/", ".")
        place = place.replace("head_kernel", "head.weight").replace("head_b", "head.b")
        if place.endswith(("biased", "steps")):
            continue
        if value.ndim == 5:
            value = value.transpose(4, 3, 0, 1, 2)
        place = place.removesuffix("kernel") + "conv.weight" * place.endswith("kernel")
        place = place.removesuffix("scale") + "weight" * place.endswith("scale")
        for ours, theirs in (("mean", "running_mean"), ("var", "running_var")):
            place = place.removesuffix(ours) + theirs * place.endswith(ours)
        state[place] = torch.from_numpy(np.ascontiguousarray(value))
    missing, unexpected = network.load_state_dict(state, strict=False)
    if unexpected or any("num_batches_tracked" not in m for m in missing):
        raise ValueError(f"not this network: {missing=} {unexpected=}")


def fused(network: DenseVNet) -> DenseVNet:
    """For inference: batch norms folded into the convolutions before them."""
    network = copy.deepcopy(network).eval()
    for unit in network.modules():
        if isinstance(unit, Unit):
            unit.conv = fuse_conv_bn_eval(unit.conv, unit.norm)
            unit.norm = nn.Identity()
    return network


class Server:
    """One loaded network and what the commands do with it."""

    def load(self, weights: str, form: str, dtype: str, threads: int = 0) -> dict:
        if threads:
            torch.set_num_threads(threads)
        torch.backends.cudnn.benchmark = True
        words = set(form.split("+"))
        if unknown := words - {"eager", "channels_last_3d", "compile", "interpolate"}:
            raise ValueError(f"unknown form {unknown}")
        self.compiled = "compile" in words
        self.last = "channels_last_3d" in words
        self.dtype = getattr(torch, dtype)
        upsample = upsample_interpolate if "interpolate" in words else upsample_lerp
        network = DenseVNet(upsample)
        load_variables(network, dict(np.load(weights)))
        layout = CHANNELS_LAST if self.last else torch.contiguous_format
        self.network = network.to(DEVICE, memory_format=layout).train()
        self.inference = fused(self.network).to(self.dtype)
        self.optimiser = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)
        mixed = self.dtype != torch.float32
        autocast = torch.autocast(DEVICE.type, self.dtype) if mixed else nullcontext()
        slab = None if self.compiled or DEVICE.type == "cuda" else SLAB

        def labels(x: Tensor) -> Tensor:
            return labels_of(self.inference(x.to(self.dtype)), upsample, slab)

        def loss(x: Tensor, labels: Tensor) -> Tensor:
            with autocast:
                logits = self.network(x)
            return dice_loss(upsample(logits.float(), 2), labels)

        freeze = {"freezing": True} if DEVICE.type == "cpu" else {}
        compiled = self.compiled
        self.labels = torch.compile(labels, options=freeze) if compiled else labels
        self.loss = torch.compile(loss) if compiled else loss
        device = torch.cuda.get_device_name() if DEVICE.type == "cuda" else "cpu"
        return {
            "torch": torch.__version__,
            "device": device,
            "threads": torch.get_num_threads(),
        }

    def forward(self, input: str, repeat: int = 1) -> dict:
        x = self.volume(input)
        with torch.inference_mode():
            seconds = [timed(self.labels, x)[0] for _ in range(repeat)]
        return {"seconds": seconds, **memory()}

    def outputs(self, input: str, logits: str, labels: str = "") -> dict:
        """Saves half-resolution logits (b, x, y, z, 15), and labels if asked."""
        torch.backends.cudnn.allow_tf32 = False
        x = self.volume(input)
        with torch.inference_mode():
            y = self.inference(x.to(self.dtype)).float().permute(0, 2, 3, 4, 1)
            np.save(logits, y.contiguous().cpu().numpy())
            if labels:
                np.save(labels, self.labels(x).cpu().numpy())
        torch.backends.cudnn.allow_tf32 = True
        return {}

    def step(self, input: str, labels: str, repeat: int = 1) -> dict:
        x = self.volume(input)
        y = torch.from_numpy(np.load(labels)).to(DEVICE, torch.int64)
        runs = [timed(self.train, x, y) for _ in range(repeat)]
        seconds, losses = zip(*runs, strict=True)
        return {"seconds": seconds, "losses": [v.item() for v in losses], **memory()}

    def train(self, x: Tensor, labels: Tensor) -> Tensor:
        self.optimiser.zero_grad(set_to_none=True)
        loss = self.loss(x, labels)
        loss.backward()
        self.optimiser.step()
        return loss.detach()

    def volume(self, path: str) -> Tensor:
        x = torch.from_numpy(np.load(path)).to(DEVICE).permute(0, 4, 1, 2, 3)
        return x if self.last else x.contiguous()


def timed(run: Callable[..., Tensor], *args: Tensor) -> tuple[float, Tensor]:
    synchronise()
    start = time.perf_counter()
    result = run(*args)
    synchronise()
    return time.perf_counter() - start, result


def synchronise() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def memory() -> dict[str, float]:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if DEVICE.type == "cuda":
        peak = torch.cuda.max_memory_allocated()
    return {"peak_gb": round(peak / 1e9, 3)}


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever compilers print goes to standard error
    server = Server()
    for line in sys.stdin:
        command: dict[str, Any] = json.loads(line)
        try:
            answer = getattr(server, command.pop("command"))(**command)
        except Exception as error:  # the client decides whether this is fatal
            answer = {"error": f"{type(error).__name__}: {error}"[:500]}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
