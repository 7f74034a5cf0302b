"""Can it learn at all? One clean digital neck, no augmentation.

Command: ``python train.py --config configs/overfit.py --workdir runs/overfit``.
Seen on two busy CPU cores with 300 steps (six minutes): training Dice 0.77 after 100,
0.84 after 200, 0.86 after 300. 0.95 was not reached yet: it needs more steps.
"""

from ml_collections import ConfigDict

from configs import dixon_cpu


def get_config() -> ConfigDict:
    """The CPU's config for one scan."""
    config = dixon_cpu.get_config()
    config.data.phantom.severities = ("clean",)
    config.data.phantom.train_subjects = 1
    config.data.phantom.test_subjects = 0
    config.augment.mirror = False
    config.augment.elastic_probability = 0.0
    config.augment.rotation_deg = (0.0, 0.0, 0.0)
    config.augment.scale_percent = (0.0, 0.0, 0.0)
    for name in ("bias_field", "gamma", "noise", "contrast", "brightness",
                 "channel_mix", "low_resolution"):  # fmt: skip
        config.augment[name] = 0.0
    config.train.average_decay = 0.0
    config.train.num_steps = 1200
    config.train.eval_every = 100
    return config
