"""Neck muscle fat infiltration and volume from Dixon MRI, in JAX.

Weber et al., Scientific Reports 2021;11:16567.
"""

from importlib.metadata import PackageNotFoundError, version

NOTICE = "Research use only. Not for clinical use."
"""Carried by every output."""

try:
    __version__ = version("cervjax")
except PackageNotFoundError:  # a bare checkout on the path
    __version__ = "0+unknown"
