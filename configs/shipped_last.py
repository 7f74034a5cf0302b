"""How the weights in the package were trained, third stage.

From the second stage, ``configs/shipped.py``: scans without noise as well, and less
blur, so that outlines get sharper.

Command: ``python train.py --config configs/shipped_last.py --workdir runs/last
--init-from runs/shipped``.
"""

from ml_collections import ConfigDict

from configs import shipped


def get_config() -> ConfigDict:
    """The second stage with all three severities."""
    config = shipped.get_config()
    config.data.phantom.severities = ("clinical", "hard", "clean")
    config.augment.low_resolution = (0.3, 0.3, 0.3)
    config.optimizer.learning_rate = 1.5e-3
    config.train.num_steps = 2500
    config.train.eval_every = 1250
    config.eval.test_scans = 12
    return config
