"""The package's own weights, trained further on some twenty scans of your own.

Data: your folder of labelled scans, ``--config.data.root=own/``; masks of muscles are
enough (docs/training.md). A fifth of the people is held out, and shows how good it is.
Command: ``cervjax train --config finetune --workdir runs/own --init-from shipped
--config.data.root=own/``.
Expect: 600 steps of one window; the last stage of the weights, whose windows are of
this size, took 1.4 s a step on two CPU cores.

Grid, padding, normalisation and network are those of the package's weights, which know
no others. They find muscles in full length, and vertebral bodies, which your masks need
not show: for the loss, bodies and background are one class. ``data.masks`` says where
muscles end in yours. "table1": each is drawn at its levels of the paper's Table 1 only;
elsewhere nothing is known of it, and the weights go on cutting it by the bodies that
they find. "as_drawn": a blank is no muscle, wherever it is.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """A short training with small steps."""
    config = ConfigDict()
    config.seed = 0

    config.data = data = ConfigDict()
    data.root = ""  # your folder: BIDS, nnU-Net, or name_dseg beside name_inphase
    data.folds = 5  # people are dealt to so many parts; 0 to train on everybody
    data.fold = 0  # the part that is held out, from 0
    data.num_validation = 0  # instead of folds: so many people are held out
    data.validation_root = ""  # instead of folds: a folder of other people
    data.masks = "table1"  # how muscles are drawn: see below
    data.ignore_label = -1  # value in masks of what nobody knows; -1 is none
    data.allow_absent = ()  # labels that are drawn in no scan: they stay as they are
    data.cache = ""  # folder of prepared volumes; "" is the user's cache folder
    data.spacing_mm = (1.0, 1.0, 3.0)  # the weights'
    data.padding = (8, 8, 4)  # the weights'
    data.padding_mode = "zero"  # the weights'
    data.normalisation = "foreground"  # the weights': cropped to the body, whitened
    data.skip_fitting_grid = True  # the weights'
    data.window = (128, 112, 32)  # voxels; multiples of 8
    data.samples_per_volume = 3
    data.foreground_share = 0.7  # of windows, which lie about a muscle
    data.workers = 0  # processes that cut windows

    config.augment = augment = ConfigDict()
    augment.margin = (8, 8, 2)  # voxels around the window to draw from
    augment.mirror = True  # left-right
    augment.exchange_labels = True  # a mirrored muscle is the other side's
    augment.scale_percent = (8.0, 8.0, 6.0)
    augment.rotation_deg = (6.0, 3.0, 6.0)
    augment.elastic_points = 3  # control points
    augment.elastic_sigma_voxels = (6.0, 6.0, 1.0)
    augment.elastic_probability = 0.7
    augment.in_voxels = False  # turns in millimetres
    augment.affine_in_network = 0.0
    augment.bias_field = 0.2
    augment.low_resolution = (0.3, 0.3, 0.3)
    augment.noise = 0.1
    augment.gamma = 0.15
    augment.intensity_curve = 0.0
    augment.contrast = 0.1
    augment.brightness = 0.1
    augment.channel_mix = 0.1

    # Some windows are changed by these instead, to look like another protocol.
    config.domain_randomisation = other = ConfigDict()
    other.share = 0.0
    other.bias_field = 0.0
    other.low_resolution = (0.0, 0.0, 0.0)
    other.noise = 0.0
    other.gamma = 0.0
    other.intensity_curve = 0.0
    other.contrast = 0.0
    other.brightness = 0.0
    other.channel_mix = 0.0

    config.model = model = ConfigDict()  # the weights'
    model.units = (5, 10, 10)  # units of the three dense blocks
    model.growth = (4, 8, 16)  # features that each unit adds
    model.skips = (12, 24, 24)  # features of the skip connections
    model.stem = 24  # features of the first convolution
    model.downs = (24, 24)  # features of the downsampling convolutions
    model.classes = 22  # background, 14 muscles, bodies of C2 to T1
    model.keep_prob = 1.0
    model.spatial_keep_prob = 1.0
    model.dilations = (1, 1, 1)
    model.debias_statistics = True
    model.dtype = "float32"  # "bfloat16" on accelerators
    model.remat = "nothing"  # "units", "blocks": less memory, more time

    config.optimizer = optimizer = ConfigDict()
    optimizer.name = "adam"
    optimizer.learning_rate = 3e-4  # half of what the weights' last stage began with
    optimizer.schedule = "cosine"
    optimizer.warmup_steps = 30
    optimizer.epsilon = 1e-8
    optimizer.weight_decay = 0.0
    optimizer.clip_norm = 5.0

    config.train = train = ConfigDict()
    train.loss = "dice_plus_cross_entropy"
    train.fixed_statistics = True  # batch norm as it is run, as in the weights' stages
    train.batch_size = 1
    train.accumulate = 1  # parts of a batch, one after another
    train.average_decay = 0.99
    train.num_steps = 600
    train.log_every = 10
    train.checkpoint_every = 50
    train.eval_every = 150
    train.patience = 0  # the schedule ends it
    train.export = "last"  # no scan chooses the weights: folds are honest

    config.eval = ConfigDict()
    config.eval.train_scans = 2
    config.eval.validation_scans = 10  # at most so many
    return config
