"""How the weights in the package were trained, sixth and last stage.

From the fifth stage, ``configs/shipped_whole.py``, on other people. A muscle's ends are
those slices of the scan whose middle, on the spine's axis, lies within its levels. Here
no augmentation breaks that rule: slices stay flat, and are turned in their own plane
only (people's own tilt is in their scans). They are stretched along the neck all the
more, so that the discs tell the level, not the neck's proportions.

Command: ``python train.py --config configs/shipped_levels.py --workdir runs/levels
--init-from runs/whole``.
"""

from ml_collections import ConfigDict

from configs import shipped_whole


def get_config() -> ConfigDict:
    """The fifth stage with ends of levels that stay true to the spine."""
    config = shipped_whole.get_config()
    config.data.phantom.seed = 300
    config.data.phantom.train_subjects = 100
    config.data.phantom.severities = ("clinical", "hard")
    config.augment.rotation_deg = (0.0, 0.0, 6.0)
    config.augment.elastic_sigma_voxels = (8.0, 8.0, 0.0)
    config.augment.scale_percent = (8.0, 8.0, 14.0)
    config.augment.margin = (10, 10, 6)
    config.train.num_steps = 900
    config.train.eval_every = 450
    return config
