"""The ways of a scan and of a training batch: the steps, and drawings of them.

What a box says is the first line of the function's docstring. A test runs both ways and
fails where a step is not called, or not in this order.
"""

import importlib
import inspect
import textwrap
from collections.abc import Callable
from html import escape
from typing import Any

SCAN = (
    "io.pairing.find_scans",
    "io.dixon.read_scan",
    "preprocessing.pipeline.prepare",
    "inference.segment.segment_prepared",
    "model.dense_vnet.DenseVNet.half_resolution",
    "measurement.scan.measure_scan",
    "measurement.verdict.judge_muscles",
    "figures.quality.qc_figure",
    "inference.results.write_tables",
)
BATCH = (
    "training.config_checks.check",
    "data.dataset.load_train_set",
    "training.setup.initial_state",
    "model.dense_vnet.DenseVNet.half_resolution",
    "data.windows.windows",
    "training.parallel.parallel_step",
    "training.parallel.share",
    "data.augment_spatial.warp",
    "data.augment_intensity.distort",
    "training.losses.overlap_upsampled",
    "training.run.evaluate",
    "inference.segment.segment_whole",
    "model.weights.save_weights",
    "training.checkpoint.save",
)

_COLOURS = {
    "io": "#2b6cb0",
    "preprocessing": "#2c7a7b",
    "inference": "#6b46c1",
    "model": "#b7791f",
    "measurement": "#2f855a",
    "figures": "#97266d",
    "data": "#2c7a7b",
    "training": "#6b46c1",
}
_WIDTH, _BOX, _GAP, _TOP = 720, 62, 18, 48


def function_of(step: str) -> Callable[..., Any]:
    """The function or method that a step names."""
    parts = f"cervjax.{step}".split(".")
    found: Any = None
    for i, part in enumerate(parts):
        found = getattr(found, part, None) if i > 2 else found
        if i == 2:
            found = importlib.import_module(".".join(parts[:3]))
    if found is None:
        raise ValueError(f"no function {step}: mend docs/ways.py")
    return found


def drawing(steps: tuple[str, ...], title: str) -> str:
    """An SVG with a box for each step, from top to bottom."""
    height = _TOP + len(steps) * (_BOX + _GAP)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        'font-family="sans-serif">',
        f'<rect width="{_WIDTH}" height="{height}" rx="8" fill="#ffffff"/>',
        f'<text x="20" y="31" font-size="18" fill="#1a202c">{title}</text>',
    ]
    for i, step in enumerate(steps):
        lines += _box(step, _TOP + i * (_BOX + _GAP), last=i + 1 == len(steps))
    return "\n".join([*lines, "</svg>"]) + "\n"


def _box(step: str, y: int, *, last: bool) -> list[str]:
    package, _, name = step.partition(".")
    said = (inspect.getdoc(function_of(step)) or "").splitlines()[0]
    said = textwrap.shorten(said.replace("`", ""), 88, placeholder=" …")
    found = [
        f'<rect x="20" y="{y}" width="680" height="{_BOX}" rx="6" fill="#f7fafc" '
        'stroke="#cbd5e0"/>',
        f'<rect x="20" y="{y}" width="130" height="{_BOX}" rx="6" '
        f'fill="{_COLOURS[package]}"/>',
        f'<text x="85" y="{y + 36}" font-size="15" fill="#ffffff" '
        f'text-anchor="middle">{package}</text>',
        f'<text x="166" y="{y + 25}" font-size="14" font-family="monospace" '
        f'fill="#1a202c">{name}</text>',
        f'<text x="166" y="{y + 46}" font-size="13" fill="#4a5568">'
        f"{escape(said)}</text>",
    ]
    if not last:
        x, end = _WIDTH // 2, y + _BOX + _GAP
        found.append(
            f'<path d="M{x} {y + _BOX}V{end - 6}M{x - 5} {end - 8}L{x} {end - 1}'
            f'L{x + 5} {end - 8}" stroke="#718096" stroke-width="2" fill="none"/>'
        )
    return found
