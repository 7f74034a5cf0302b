"""A small version that learns on two CPU cores in about two hours.

Data: 60 digital necks, once as ``clinical`` and once as ``hard`` scans, and 6 others
for validation, made on first use (ten minutes).
Command: ``python train.py --config configs/dixon_cpu.py --workdir runs/cpu``.
"""

from ml_collections import ConfigDict

_OFF = {  # changes of intensity, see `cervjax.data.augment_intensity.Intensity`
    "bias_field": 0.0,
    "low_resolution": (0.0, 0.0, 0.0),
    "noise": 0.0,
    "gamma": 0.0,
    "intensity_curve": 0.0,
    "contrast": 0.0,
    "brightness": 0.0,
    "channel_mix": 0.0,
}


def get_config() -> ConfigDict:
    """The paper's training on a coarser grid, with what helps a short run."""
    config = ConfigDict()
    config.seed = 0

    config.data = data = ConfigDict()
    data.root = ""  # a folder of scans with labels; "" makes digital necks
    data.validation_root = ""  # "" takes num_validation participants of root
    data.num_validation = 0  # participants of root; digital necks bring their own
    data.folds = 0  # instead: people are dealt to so many parts, 0 is none
    data.fold = 0  # the part that validates, from 0
    data.cache = ""  # folder of prepared volumes; "" is the user's cache folder
    data.landmarks = ""  # standardisation_models.txt; "" learns them
    data.spacing_mm = (1.0, 1.0, 3.0)
    data.padding = (16, 16, 8)
    data.padding_mode = "zero"
    data.skip_fitting_grid = True  # no spline where the scan's grid fits
    data.window = (112, 96, 40)  # levels are counted along z: nearly all of it
    data.samples_per_volume = 3
    data.foreground_share = 0.7
    data.workers = 0  # processes that cut windows
    data.ignore_label = -1  # value in masks of what nobody knows; -1 is none
    data.allow_absent = ()  # labels that may occur nowhere
    data.phantom = phantom = ConfigDict()
    phantom.severities = ("clinical", "hard")
    phantom.seed = 100
    phantom.train_subjects = 60
    phantom.train_sessions = 1
    phantom.validation_subjects = 6

    config.augment = augment = ConfigDict()
    augment.margin = (8, 8, 2)
    augment.mirror = True  # left-right
    augment.exchange_labels = True  # a mirrored muscle is the other side's
    augment.scale_percent = (8.0, 8.0, 6.0)
    augment.rotation_deg = (5.0, 3.0, 6.0)
    augment.elastic_points = 3  # control points
    augment.elastic_sigma_voxels = (6.0, 6.0, 1.0)
    augment.elastic_probability = 0.7
    augment.in_voxels = False  # turns in millimetres
    augment.affine_in_network = 0.0
    augment.update(_OFF)
    augment.bias_field = 0.2
    augment.low_resolution = (0.5, 0.5, 0.5)
    augment.noise = 0.15
    augment.gamma = 0.15
    augment.contrast = 0.1
    augment.brightness = 0.1
    augment.channel_mix = 0.1

    # Some windows are changed by these instead, to look like another protocol.
    config.domain_randomisation = ConfigDict({"share": 0.0, **_OFF})

    config.model = model = ConfigDict()
    model.units = (5, 10, 10)  # units of the three dense blocks
    model.growth = (4, 8, 16)  # features that each unit adds
    model.skips = (12, 24, 24)  # features of the skip connections
    model.stem = 24  # features of the first convolution
    model.downs = (24, 24)  # features of the downsampling convolutions
    model.keep_prob = 1.0
    model.spatial_keep_prob = 1.0
    model.dilations = (1, 1, 1)
    model.debias_statistics = True
    model.dtype = "float32"  # "bfloat16" on accelerators
    model.remat = "nothing"  # "units", "blocks": less memory, more time

    config.optimizer = optimizer = ConfigDict()
    optimizer.name = "adam"
    optimizer.learning_rate = 3e-3
    optimizer.schedule = "cosine"
    optimizer.warmup_steps = 50
    optimizer.epsilon = 1e-8
    optimizer.weight_decay = 0.0
    optimizer.clip_norm = 5.0

    config.train = train = ConfigDict()
    train.loss = "dice_balanced_cross_entropy"
    train.batch_size = 2
    train.accumulate = 1  # parts of a batch, one after another
    train.average_decay = 0.998
    train.num_steps = 3600
    train.log_every = 20
    train.checkpoint_every = 100
    train.eval_every = 300
    train.patience = 0  # the schedule ends it

    config.eval = ConfigDict()
    config.eval.train_scans = 2
    config.eval.validation_scans = 10  # at most so many
    return config
