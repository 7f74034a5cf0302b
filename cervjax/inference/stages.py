"""The stages of a scan, and the seconds that each takes."""

import time
from collections.abc import Callable

STAGES = ("read", "prepare", "compile", "network", "measure", "write")
"""Of a scan, in this order. Compiling takes long once for each shape of input."""


class Stopwatch:
    """Seconds by stage: a stage lasts until the next one begins.

    Args:
        on_stage: called with each stage that begins.
    """

    def __init__(self, on_stage: Callable[[str], object] = lambda stage: None):
        self._on_stage = on_stage
        self._began: list[tuple[str, float]] = []

    def begin(self, stage: str) -> None:
        """Ends the stage before, if there is one."""
        self._began.append((stage, time.perf_counter()))
        self._on_stage(stage)

    def stop(self) -> dict[str, float]:
        """Ends the last stage; gives the seconds of all, in their order."""
        ends = [at for _, at in self._began[1:]] + [time.perf_counter()]
        return {
            stage: end - start
            for (stage, start), end in zip(self._began, ends, strict=True)
        }
