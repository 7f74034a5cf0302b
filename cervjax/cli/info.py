"""``cervjax info``: versions, devices, memory, cache folder and shipped weights."""

import argparse
import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cervjax.about import __version__
from cervjax.cli.flags import OK, cache_folder, use_device

HELP = "versions, devices, memory, cache folder and the shipped weights"

EXAMPLES = """\
cervjax info
cervjax info --json > environment.json"""

_LIBRARIES = ("jax", "jaxlib", "flax", "numpy", "scipy", "nibabel")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Prints what a report of a fault should have with it."""
    found = facts()
    if args.json:
        print(json.dumps(found, indent=2))
        return OK
    weights, memory = found["weights"], found["memory_gb"]
    devices = ", ".join(f"{d['kind']} ({d['platform']})" for d in found["devices"])
    libraries = ", ".join(f"{name} {found[name]}" for name in _LIBRARIES)
    print(f"cervjax   {found['cervjax']}, Python {found['python']}")
    print(f"libraries {libraries}")
    print(f"system    {found['system']}, {found['cores']} cores")
    print(f"devices   {devices}")
    if found["unused_gpu"]:
        print('          there is an NVIDIA GPU: pip install "cervjax[cuda]" to use it')
    print(f"memory    {memory['total']:.1f} GB, {memory['available']:.1f} GB free")
    print(f"cache     {found['cache']}")
    print(f"weights   {weights['name']}, sha256 {weights['sha256']}")
    print(f"          {weights['limits']}")
    return OK


def facts() -> dict[str, Any]:
    """All that `run` prints; memory in GB (1e9 bytes)."""
    import jax
    import psutil

    from cervjax.model.weights import SHIPPED, load_weights

    use_device(None)
    weights, memory = load_weights(SHIPPED), psutil.virtual_memory()
    devices = jax.devices()
    no_gpu = all(device.platform == "cpu" for device in devices)
    return {
        "cervjax": __version__,
        "python": platform.python_version(),
        **{name: version(name) for name in _LIBRARIES},
        "system": platform.platform(),
        "cores": psutil.cpu_count(logical=False) or psutil.cpu_count() or 1,
        "devices": [{"platform": d.platform, "kind": d.device_kind} for d in devices],
        "unused_gpu": no_gpu and Path("/dev/nvidia0").exists(),
        "memory_gb": {
            "total": memory.total / 1e9,
            "available": memory.available / 1e9,
        },
        "cache": str(cache_folder()),
        "weights": {
            "name": weights.card.name,
            "sha256": weights.sha256,
            "limits": weights.card.limits,
        },
    }
