"""Tissue maps that are made in no time: blocks of all muscles and bodies."""

import numpy as np

from cervjax.anatomy import LEVEL_CLASSES, MUSCLES
from cervjax.phantom.tissue_map import TissueMap
from cervjax.phantom.tissues import CODES


def make_tiny_map(seed, index, anatomies=()):
    """In place of `make_tissue_map`: 24 x 24 x 16 voxels, other ones for each neck."""
    rng = np.random.default_rng([seed, index, len(anatomies)])
    codes = np.full((24, 24, 16), CODES["muscle"] << 8, np.uint16)
    for m in MUSCLES:
        x = 14 if m.side == "right" else 2
        k = (m.label - 1) // 2
        codes[x : x + 8, 2 + 3 * k : 5 + 3 * k] = CODES[str(m.label)] << 8
    for i, name in enumerate(reversed(LEVEL_CLASSES)):
        codes[10:14, 8:16, 1 + 2 * i : 3 + 2 * i] = CODES[f"marrow {name}"] << 8
    codes += rng.integers(0, 30, codes.shape).astype(np.uint16)  # of 255: fat
    return TissueMap(codes, None, (anatomies or ("standard",))[0])
