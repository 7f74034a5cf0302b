"""Segments and measures a folder of neck Dixon scans; same as ``cervjax infer``."""

import sys

from cervjax.cli import main

if __name__ == "__main__":
    sys.exit(main(["infer", *sys.argv[1:]]))
