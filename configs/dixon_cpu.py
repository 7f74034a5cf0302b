"""A small version that learns on two CPU cores in about two hours.

Data: 60 digital necks, once as ``clinical`` and once as ``hard`` scans, and 6 others to
be judged by, made on first use (ten minutes).
Command: ``python train.py --config configs/dixon_cpu.py --workdir runs/cpu``.
"""

from ml_collections import ConfigDict

from configs import dixon


def get_config() -> ConfigDict:
    """The paper's config, coarser, with what helps a short run."""
    config = dixon.get_config()
    config.data.phantom.severities = ("clinical", "hard")
    config.data.phantom.seed = 100
    config.data.phantom.train_subjects = 60
    config.data.phantom.train_sessions = 1
    config.data.phantom.test_subjects = 6
    config.data.spacing_mm = (1.0, 1.0, 3.0)
    config.data.padding = (16, 16, 8)
    config.data.window = (112, 96, 40)  # levels are counted along z: nearly all of it
    config.data.foreground_share = 0.7
    config.augment.margin = (8, 8, 2)
    config.augment.elastic_sigma_voxels = (6.0, 6.0, 1.0)
    config.augment.elastic_probability = 0.7
    config.augment.rotation_deg = (5.0, 3.0, 6.0)
    config.augment.scale_percent = (8.0, 8.0, 6.0)
    config.augment.bias_field = 0.2
    config.augment.gamma = 0.15
    config.augment.noise = 0.15
    config.augment.contrast = 0.1
    config.augment.brightness = 0.1
    config.augment.channel_mix = 0.1
    config.augment.low_resolution = (0.5, 0.5, 0.5)
    config.optimizer.learning_rate = 3e-3
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup_steps = 50
    config.optimizer.weight_decay = 0.0
    config.optimizer.clip_norm = 5.0
    config.train.loss = "dice_balanced_cross_entropy"
    config.train.batch_size = 2
    config.train.average_decay = 0.998
    config.train.num_steps = 3600
    config.train.checkpoint_every = 100
    config.train.eval_every = 300
    config.train.patience = 0  # the schedule ends it
    config.eval.train_scans = 2
    config.eval.test_scans = 10
    return config
