"""What the paper's software did, where it differs from the paper's words.

NiftyNet 0.6.0; for faithful comparison. Data, command and size: as
``configs/dixon.py``, with ``--config configs/dixon_niftynet.py``.
"""

from ml_collections import ConfigDict

from configs import dixon


def get_config() -> ConfigDict:
    """The paper's config with NiftyNet's ways."""
    config = dixon.get_config()
    config.data.padding_mode = "minimum"  # each line's own
    config.data.skip_fitting_grid = False  # the spline runs on its own grid
    config.augment.exchange_labels = False  # flips leave left and right as they are
    config.augment.in_voxels = True  # rotations shear, "x" turns about SI
    config.augment.rotation_deg = (2.5, 2.5, 5.0)  # the ini's x, y, z, as given
    config.augment.elastic_sigma_voxels = (10.0, 10.0, 10.0)  # 30 mm across slices
    config.augment.affine_in_network = 0.1
    config.optimizer.name = "tensorflow_adam"  # epsilon outside the bias correction
    config.optimizer.weight_decay = 0.0  # none reached the loss
    return config
