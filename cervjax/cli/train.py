"""``cervjax train``: trains the network; the same command resumes a run."""

import argparse
import sys
from pathlib import Path

from cervjax.cli.flags import SOME_FAILED

HELP = "train the network, or go on training"

EXAMPLES = """\
cervjax train --config dixon_cpu --workdir runs/a
cervjax train --config my_config.py --workdir runs/b --init-from runs/a
cervjax train --config dixon --workdir runs/c --config.train.num_steps=2000
cervjax train --config finetune --workdir runs/own --init-from shipped \
  --config.data.root=own/"""

TAKES_REST = True  # --config.KEY=VALUE


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    parser.add_argument(
        "--config",
        required=True,
        metavar="NAME|FILE",
        help="one of the package's configs, or a Python file with get_config(); its "
        "values can be changed, as --config.train.num_steps=2000",
    )
    parser.add_argument(
        "--workdir",
        required=True,
        type=Path,
        help="folder of this run; a run in it is resumed",
    )
    parser.add_argument(
        "--init-from",
        metavar="WEIGHTS",
        help="weights to start from: shipped (the package's own), or as --weights of "
        "infer",
    )


def run(args: argparse.Namespace) -> int:
    """Trains, and returns the exit status: 143 after a signal, 1 if it diverged."""
    from cervjax.data.cache import DataError
    from cervjax.io.nifti import NiftiError
    from cervjax.io.scans import PairingError
    from cervjax.io.written import OthersFileError
    from cervjax.model.weights import WeightsError
    from cervjax.training.checkpoint import CheckpointMismatch, DamagedCheckpoint
    from cervjax.training.config import ConfigError, load_config
    from cervjax.training.loop import train
    from cervjax.training.run import Diverged

    of_users = (
        ConfigError,
        DataError,
        NiftiError,
        OthersFileError,
        PairingError,
        WeightsError,
        CheckpointMismatch,
        DamagedCheckpoint,
    )
    try:
        return train(load_config(args.config, args.rest), args.workdir, args.init_from)
    except Diverged as error:
        if args.debug:
            raise
        print(f"cervjax: error: {error}", file=sys.stderr)
        return SOME_FAILED
    except of_users:
        raise  # becomes one line
    except ValueError as error:  # a fault of the program: with its traceback
        raise RuntimeError("a fault of cervjax; please report it") from error
