"""How the weights in the package were trained, fourth stage.

From the third stage, ``configs/shipped_last.py``: slices of 1.5 mm instead of the
paper's 3. The network answers at half the resolution, so with 3 mm it sees slices in
pairs, and cannot tell well in which of them a level ends.

Command: ``python train.py --config configs/shipped_slices.py --workdir runs/slices
--init-from runs/last``.
"""

from ml_collections import ConfigDict

from configs import shipped_last


def get_config() -> ConfigDict:
    """The third stage with half the slice spacing."""
    config = shipped_last.get_config()
    config.data.phantom.train_subjects = 90
    config.data.spacing_mm = (0.7, 0.7, 1.5)
    config.data.padding = (16, 16, 12)
    config.data.window = (144, 128, 72)
    config.augment.margin = (10, 10, 4)
    config.augment.elastic_sigma_voxels = (8.0, 8.0, 2.0)
    config.train.batch_size = 1
    config.train.num_steps = 3000
    config.train.eval_every = 1000
    config.eval.test_scans = 6
    return config
