"""What nnU-Net's ``dataset.json`` says of channels 0000, 0001, ...

Water and fat taken for echoes would give an MFI some 10 points off, without a word.
"""

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path


def channel_role(path: Path, number: str, words: Mapping[str, tuple[str, str]]) -> str:
    """The role of an image by its channel; "" where none is told.

    Args:
        path: the image; ``dataset.json`` lies beside its folder, or in it.
        number: of the channel, such as "0001".
        words: role and partner of words, lower case.
    """
    folder = path.parent.resolve()
    names = _names(folder.parent) or _names(folder)
    told = _plain(names.get(int(number), ""))
    return next((role for word, (role, _) in words.items() if _plain(word) == told), "")


@lru_cache(64)
def _names(folder: Path) -> dict[int, str]:
    """By number; nothing where there is no such file, or a damaged one."""
    try:
        content = json.loads((folder / "dataset.json").read_bytes())
        names = content.get("channel_names") or content.get("modality") or {}
        return {int(k): str(v) for k, v in names.items()}
    except (OSError, ValueError, AttributeError, TypeError, RecursionError):
        return {}


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", "", name.casefold())
