"""What goes into a segmentation besides scan and weights, and what comes out."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Literal, NamedTuple, Self, get_args

import numpy as np
from jaxtyping import Float32, UInt8

from cervjax.anatomy import NUM_CLASSES
from cervjax.inference.levels import SliceLevels
from cervjax.inference.verdict import Verdict
from cervjax.io.dixon import Measured
from cervjax.model.card import LevelsRule, Mode, ModelCard, Tta
from cervjax.model.dense_vnet import SIZE_MULTIPLE

Stitch = Literal["logits", "labels"]
Size = tuple[int, int, int]
"""Voxels along x, y and z."""


class Segmentation(NamedTuple):
    """A label map and how sure the network was.

    Attributes:
        labels: uint8 (x, y, z), 0-14; straight from a network that finds levels, its
            classes.
        confidence: float32 (x, y, z), the largest class probability.
        levels: of the slices, if the network finds levels.
        verdict: whether it is a neck that the network knows, likewise.
        opinions: labels as one side, or one member of an ensemble, has them: what
            test-time augmentation and ensembles put together; empty without these.
    """

    labels: UInt8[np.ndarray, "x y z"]
    confidence: Float32[np.ndarray, "x y z"]
    levels: SliceLevels | None = None
    verdict: Verdict | None = None
    opinions: tuple[UInt8[np.ndarray, "x y z"], ...] = ()

    def each(self, change: Callable[[np.ndarray], np.ndarray]) -> "Segmentation":
        """With labels and opinions changed alike."""
        changed = tuple(map(change, self.opinions))
        return self._replace(labels=change(self.labels), opinions=changed)


@dataclass(frozen=True)
class Settings:
    """How the network is run.

    Attributes:
        mode: the whole volume at once, or a sliding window.
        window: voxels of a window, multiples of 8.
        border: voxels cut from every side of a window.
        predict_border: keep a window's border where it is the volume's own.
        stitch: what windows are put together from: "logits", which are then decoded at
            the scan's voxels, or "labels" (NiftyNet), which are carried over from the
            nearest voxel. A whole volume has logits.
        tta: versions of the volume that test-time augmentation averages: 1, itself; 2,
            and its mirror image; 4, and both moved by a slice.
        levels_rule: "paper", each muscle at its levels of Table 1, or "none", muscles
            in their full length; for networks that find levels.
        batch_size: windows that the network gets at once.
        max_memory_gb: what the network may take; None means what is free.
        measure_on: what fat is measured on where a scan has both, see `read_scan`.

    Raises:
        ValueError: a value is out of range, or settings contradict each other.
    """

    mode: Mode = "whole"
    window: Size = (360, 240, 32)
    border: Size = (8, 8, 8)
    predict_border: bool = False
    stitch: Stitch = "logits"
    tta: Tta = 1
    levels_rule: LevelsRule = "paper"
    batch_size: int = 1
    max_memory_gb: float | None = None
    measure_on: Measured = "echoes"

    def __post_init__(self) -> None:
        """Refuses settings that cannot be run."""
        for name, allowed in (
            ("mode", get_args(Mode)),
            ("stitch", get_args(Stitch)),
            ("levels_rule", get_args(LevelsRule)),
            ("tta", get_args(Tta)),
            ("measure_on", get_args(Measured)),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"{name} must be one of {allowed}, got {getattr(self, name)!r}"
                )
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")
        check_window(self.window, self.border)
        if self.mode == "whole" and self.stitch == "labels":
            raise ValueError("a whole volume is not stitched from labels: use logits")

    @classmethod
    def of_card(cls, card: ModelCard, **overrides: Any) -> Self:
        """The weights' own settings, so that nobody gets other numbers unawares.

        Weights that ask for a sliding window get NiftyNet's, which puts labels
        together; all others put logits together.

        Args:
            card: the weights'.
            overrides: fields of `Settings`; None leaves the weights' or the default.

        Raises:
            ValueError: as `Settings`; or full length is asked of weights without it.
        """
        given = {name: value for name, value in overrides.items() if value is not None}
        if given.get("levels_rule") == "none" and card.architecture.classes <= (
            NUM_CLASSES
        ):
            raise ValueError(
                f"levels_rule 'none': the weights {card.name} have learnt muscles at "
                "the paper's levels only; leave --levels-rule out, or give weights "
                "that find vertebral levels"
            )
        mode = given.get("mode", card.mode)
        niftynet = mode == card.mode == "sliding_window"
        defaults = {
            "mode": mode,
            "stitch": "labels" if niftynet else "logits",
            "tta": card.tta,
            "levels_rule": card.levels_rule,
        }
        return cls(**{**defaults, **given})

    def effective(self) -> dict[str, Any]:
        """The settings that the result depends on, by name: the run's identity.

        Without those of the windows for a whole volume, and without those of speed and
        memory.
        """
        left_out = {"batch_size", "max_memory_gb"}
        if self.mode == "whole":
            left_out |= {"window", "border", "predict_border", "stitch"}
        names = (field.name for field in fields(self))
        return {name: getattr(self, name) for name in names if name not in left_out}


def check_window(window: tuple[int, ...], border: tuple[int, ...]) -> None:
    """Raises ValueError for a window that the network cannot use or nothing is kept of.

    Args:
        window: voxels along each axis.
        border: voxels cut from both its ends.
    """
    if any(n <= 0 or n % SIZE_MULTIPLE for n in window):
        raise ValueError(
            f"window sizes must be multiples of {SIZE_MULTIPLE}, got {window}"
        )
    if any(b < 0 or 2 * b >= n for b, n in zip(border, window, strict=True)):
        raise ValueError(f"border {border} leaves nothing of the window {window}")
