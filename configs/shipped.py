"""How the weights in the package were trained, second stage.

The first stage is ``configs/dixon_cpu.py``: 1 mm voxels and a loss that favours small
muscles, which learns fast but draws outlines too wide. From there, the paper's voxels
and a loss without favour, so that volumes and fat come out unbiased.

Data: as there, prepared at the paper's voxel size (10 GB on disk).
Command: ``python train.py --config configs/shipped.py --workdir runs/shipped
--init-from runs/cpu``.
"""

from ml_collections import ConfigDict

from configs import dixon_cpu


def get_config() -> ConfigDict:
    """The CPU's config on a finer grid, with a proper scoring rule."""
    config = dixon_cpu.get_config()
    config.data.spacing_mm = (0.7, 0.7, 3.0)
    config.data.window = (144, 128, 40)
    config.data.foreground_share = 0.6
    config.augment.margin = (10, 10, 2)
    config.augment.elastic_sigma_voxels = (8.0, 8.0, 1.0)
    config.augment.low_resolution = (0.7, 0.7, 0.7)
    config.optimizer.learning_rate = 2e-3
    config.train.loss = "dice_plus_cross_entropy"
    config.train.average_decay = 0.999
    config.train.num_steps = 3500
    config.train.eval_every = 500
    return config
