"""Compiled programs, a few at a time.

JAX keeps what it has compiled for as long as the process lives: some 900 memory maps
and 60 MB for each size of volume, until the system has no maps left (65,530) and the
process dies. Here the oldest goes when there are more than `MOST` of a kind; if it is
wanted again, it comes from JAX's cache on disk.
"""

import functools
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from cervjax.io.compiled import stamp_new

MOST = 4
"""Programs kept of one function: of as many sizes of volume."""

_kept: OrderedDict[Any, Any] = OrderedDict()  # the one used last comes last


def program(
    run: Callable[..., Any],
    inputs: tuple[Any, ...],
    static: Mapping[str, Any],
    on_compile: Callable[[], object] = lambda: None,
) -> Callable[..., Any]:
    """A function compiled for inputs of these shapes.

    Args:
        run: a pure function of arrays and of the static values.
        inputs: trees of arrays.
        static: hashable keywords of ``run``, part of the program.
        on_compile: called before compiling, if the program is not at hand.

    Returns:
        Takes such inputs, without the static values.
    """
    leaves, tree = jax.tree.flatten(inputs)
    shapes = tuple((jnp.shape(leaf), jnp.result_type(leaf).name) for leaf in leaves)
    key = run, tuple(sorted(static.items())), tree, shapes
    if key not in _kept:
        on_compile()
        alike = [other for other in _kept if other[0] is run]
        for old in alike[: max(len(alike) + 1 - MOST, 0)]:
            _kept.pop(old).clear_cache()
        # A function of its own, whose programs can be dropped without the others'.
        _kept[key] = jax.jit(functools.partial(run, **static))
        _kept[key].lower(*inputs).compile()  # the call finds it
        stamp_new()
    _kept.move_to_end(key)
    return _kept[key]
