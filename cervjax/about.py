"""What every output carries: the version and the limits of use."""

from importlib.metadata import PackageNotFoundError, version

NOTICE = "Research use only. Not for clinical use."
"""Carried by every output."""

try:
    __version__ = version("cervjax")
except PackageNotFoundError:  # a bare checkout on the path
    __version__ = "0+unknown"
