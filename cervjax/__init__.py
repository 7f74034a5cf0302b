"""Neck muscle fat infiltration and volume from Dixon MRI, in JAX.

Weber et al., Scientific Reports 2021;11:16567.

    result = cervjax.segment("sub-1_inphase.nii.gz", "sub-1_outphase.nii.gz")
    result.table

What is called loads JAX when it is first used; ``import cervjax`` alone is quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from cervjax.about import NOTICE, __version__

if TYPE_CHECKING:
    from cervjax.evaluation.comparison import evaluate
    from cervjax.inference.front import measure, segment
    from cervjax.inference.result import Result
    from cervjax.model.weights import load_weights
    from cervjax.training.loop import train

__all__ = ["NOTICE", "Result", "evaluate", "load_weights", "measure", "segment"]
__all__ += ["train", "__version__"]

_HOMES = {
    "Result": "cervjax.inference.result",
    "evaluate": "cervjax.evaluation.comparison",
    "load_weights": "cervjax.model.weights",
    "measure": "cervjax.inference.front",
    "segment": "cervjax.inference.front",
    "train": "cervjax.training.loop",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
