"""Trains the network: ``python train.py --config configs/dixon.py --workdir runs/a``.

Any value of the config can be given, such as ``--config.train.num_steps=2000``. The
same command goes on where a run was stopped.
"""

import sys
from pathlib import Path

from absl import app, flags
from ml_collections import config_flags

_CONFIG = config_flags.DEFINE_config_file("config", None, "file", lock_config=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "checkpoints, metrics and weights")
_INIT = flags.DEFINE_string("init_from", None, "weights to start from (any format)")
flags.mark_flags_as_required(["config", "workdir"])


def main(argv: list[str]) -> None:
    """Runs the training and exits with its status."""
    from cervjax.training.loop import run

    if len(argv) > 1:
        raise app.UsageError(f"not understood: {' '.join(argv[1:])}")
    init = Path(_INIT.value) if _INIT.value else None
    sys.exit(run(_CONFIG.value, Path(_WORKDIR.value or ""), init))


if __name__ == "__main__":
    arguments = [a.replace("--init-from", "--init_from") for a in sys.argv]
    app.run(main, arguments)
