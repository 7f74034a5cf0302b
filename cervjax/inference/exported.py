"""The network as StableHLO with its recipe: to be run by JAX alone, without cervjax.

The program has its weights in it and takes a prepared volume of one size. What is to be
done before and after is in ``recipe.json``; `examples/run_exported.py` does it.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array, export

from cervjax.about import NOTICE, __version__
from cervjax.anatomy import LEVEL_CLASSES, MUSCLES, NUM_CLASSES
from cervjax.inference.test_time_augmentation import averaged_logits, logit_steps
from cervjax.inference.tiling import bucket_shape
from cervjax.inference.types import Size
from cervjax.io.written import written_together
from cervjax.model.card import Tta
from cervjax.model.dense_vnet import INPUT_CHANNELS
from cervjax.model.weights import Weights
from cervjax.preprocessing import foreground
from cervjax.preprocessing.histogram import CHANNELS

PROGRAM, STABLEHLO, RECIPE = "network.jax_export", "network.mlirbc", "recipe.json"
"""For `jax.export.deserialize`, for other readers of StableHLO, and what is around."""
PLATFORMS = ("cpu", "cuda", "tpu")


class Model(NamedTuple):
    """An exported network.

    Attributes:
        program: of `jax.export.Exported.serialize`.
        stablehlo: the same as portable bytecode of StableHLO.
        recipe: what it takes and gives, and what is done before and after.
    """

    program: bytes
    stablehlo: bytes
    recipe: dict[str, Any]

    def save(self, out: Path) -> None:
        """Writes the three files into a folder, made if need be.

        Raises:
            OthersFileError: a file of that name is there that cervjax has not written.
        """
        text = json.dumps(self.recipe, indent=1) + "\n"
        with written_together(out) as part:
            (part / PROGRAM).write_bytes(self.program)
            (part / STABLEHLO).write_bytes(self.stablehlo)
            (part / RECIPE).write_text(text, "utf-8")


def export_network(
    weights: Weights,
    size: tuple[int, ...],
    *,
    tta: Tta | None = None,
    platforms: Sequence[str] = PLATFORMS,
) -> Model:
    """Exports a network with its weights, for volumes of one size.

    Args:
        weights: network and card.
        size: voxels (x, y, z) that the prepared volumes have at most; grows to the size
            that ``cervjax infer`` runs them in, so that labels are the same.
        tta: versions that are averaged; None is the weights' own.
        platforms: that the program is for: cpu, cuda, rocm or tpu.

    Raises:
        ValueError: the weights are run window by window, as NiftyNet's.
        ModuleNotFoundError: flatbuffers is not installed.
    """
    import flatbuffers  # noqa: F401  that JAX needs it is known before any work

    card = weights.card
    if card.mode != "whole":
        raise ValueError(
            f"the weights {card.name} are run window by window, with NiftyNet's "
            "borders and order; only weights for whole volumes can be exported"
        )
    tta = card.tta if tta is None else tta
    bucket = bucket_shape(size)
    example = jax.ShapeDtypeStruct((1, *bucket, INPUT_CHANNELS), np.float32)

    def run(image: Array) -> Array:
        logits = averaged_logits(
            weights.variables, image, network=weights.network, tta=tta
        )
        return logits[0]

    exported = export.export(jax.jit(run), platforms=tuple(platforms))(example)
    recipe = _recipe(weights, bucket, tta, platforms)
    recipe["output"]["shape"] = list(exported.out_avals[0].shape)
    return Model(
        bytes(exported.serialize()), bytes(exported.mlir_module_serialized), recipe
    )


def _recipe(
    weights: Weights, size: Size, tta: Tta, platforms: Sequence[str]
) -> dict[str, Any]:
    card, recipe = weights.card, weights.card.recipe
    classes = {0: "background"} | {m.label: m.key for m in MUSCLES}
    if card.architecture.classes > NUM_CLASSES:
        classes |= {number: f"body {name}" for name, number in LEVEL_CLASSES.items()}
    return {
        "generated_by": {"cervjax": __version__, "jax": jax.__version__},
        "limits": [card.limits, NOTICE],
        "weights": {
            "name": card.name,
            "sha256": weights.sha256,
            "source": card.source,
            "licence": card.licence,
        },
        "platforms": list(platforms),
        "input": {
            "shape": [1, *size, INPUT_CHANNELS],
            "axes": "batch, x, y, z in RAS, channel",
            "channels": list(CHANNELS),
            "spacing_mm": list(recipe.spacing_mm),
            "padding": list(recipe.padding),
            "padding_mode": recipe.padding_mode,
            "normalisation": recipe.normalisation,
            "foreground": _constants() if recipe.normalisation == "foreground" else {},
            "landmarks": {k: list(v) for k, v in recipe.landmarks.items()},
            "cutoff": list(recipe.cutoff),
        },
        "output": {
            "what": f"logits, the mean of {tta} version(s) of the volume",
            "axes": "x, y, z, class",
            "voxels_per_logit": list(logit_steps(tta)),
            "classes": {str(number): name for number, name in classes.items()},
        },
    }


def _constants() -> dict[str, Any]:
    """Of `foreground`, by their names there."""
    names = ("FOREGROUND_SHARE", "BRIGHTEST", "VOID_SHARE", "OVER_AIR", "SMOOTH_MM")
    names += ("COLUMN_SHARE", "MARGIN_MM")
    return {name.lower(): getattr(foreground, name) for name in names}
