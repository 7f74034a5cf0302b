"""Can it learn at all? One clean digital neck, no augmentation.

Command: ``python train.py --config configs/overfit.py --workdir runs/overfit``.
Seen on two CPU cores: training Dice 0.897, 0.936, 0.952, 0.957 after 500, 1,000, 1,500
and 2,000 steps; 29 minutes beside another training (some 13 alone).
The neck is large. On a smaller one (seed 100) 0.947 was reached: a level that ends
between two slices, where the output has half the resolution, then counts for more.
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
    """One scan, on the scan's own grid."""
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
    data.spacing_mm = (0.7, 0.7, 3.0)
    data.padding = (16, 16, 8)
    data.padding_mode = "zero"
    data.skip_fitting_grid = True  # no spline where the scan's grid fits
    data.window = (112, 96, 40)  # levels are counted along z: nearly all of it
    data.samples_per_volume = 3
    data.foreground_share = 0.9
    data.workers = 0  # processes that cut windows
    data.ignore_label = -1  # value in masks of what nobody knows; -1 is none
    data.allow_absent = ()  # labels that may occur nowhere
    data.phantom = phantom = ConfigDict()
    phantom.severities = ("clean",)
    phantom.seed = 69  # a man with large muscles: many voxels each
    phantom.train_subjects = 1
    phantom.train_sessions = 1
    phantom.validation_subjects = 0  # 0: training scans are evaluated

    config.augment = augment = ConfigDict()
    augment.margin = (0, 0, 0)
    augment.mirror = False
    augment.exchange_labels = True  # a mirrored muscle is the other side's
    augment.scale_percent = (0.0, 0.0, 0.0)
    augment.rotation_deg = (0.0, 0.0, 0.0)
    augment.elastic_points = 3  # control points
    augment.elastic_sigma_voxels = (6.0, 6.0, 1.0)
    augment.elastic_probability = 0.0
    augment.in_voxels = False  # turns in millimetres
    augment.affine_in_network = 0.0
    augment.update(_OFF)

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
    optimizer.learning_rate = 5e-3
    optimizer.schedule = "cosine"
    optimizer.warmup_steps = 50
    optimizer.epsilon = 1e-8
    optimizer.weight_decay = 0.0
    optimizer.clip_norm = 5.0

    config.train = train = ConfigDict()
    train.loss = "dice_plus_cross_entropy"
    train.batch_size = 1
    train.accumulate = 1  # parts of a batch, one after another
    train.average_decay = 0.99
    train.num_steps = 2000
    train.log_every = 20
    train.checkpoint_every = 100
    train.eval_every = 500
    train.patience = 0  # the schedule ends it

    config.eval = ConfigDict()
    config.eval.train_scans = 2
    config.eval.validation_scans = 10  # at most so many
    return config
