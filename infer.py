"""Segments and measures a folder of neck Dixon scans; same as ``cervjax infer``."""

import sys

from cervjax.cli.main import start

if __name__ == "__main__":
    sys.exit(start(["infer", *sys.argv[1:]]))
