"""How the weights in the package were trained, fifth stage.

From the fourth stage, ``configs/shipped_slices.py``: windows as wide as all muscles
together, so that the spine, by whose levels a muscle is drawn, is in view of the
trapezius too; and every fifth window looks like one contrast of another protocol in
thick slices.

Command: ``python train.py --config configs/shipped_whole.py --workdir runs/whole
--init-from runs/slices``.
"""

from ml_collections import ConfigDict

from configs import shipped_slices


def get_config() -> ConfigDict:
    """The fourth stage with wide windows and foreign contrasts."""
    config = shipped_slices.get_config()
    config.data.window = (208, 160, 72)
    config.data.foreground_share = 0.9
    config.foreign.share = 0.2
    config.foreign.bias_field = 0.4
    config.foreign.low_resolution = (0.7, 0.7, 4.0)
    config.foreign.noise = 0.15
    config.foreign.tone = 0.25
    config.foreign.contrast = 0.1
    config.foreign.brightness = 0.1
    config.foreign.channel_mix = 1.0
    config.optimizer.learning_rate = 1e-3
    config.train.num_steps = 1800
    config.train.eval_every = 600
    return config
