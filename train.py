"""Trains the network; same as ``cervjax train``."""

import sys

from cervjax.cli.main import start

if __name__ == "__main__":
    sys.exit(start(["train", *sys.argv[1:]]))
