"""What the paper's software did where it differs from the paper's words.

NiftyNet 0.6.0, for faithful comparison. Data, size and sources of the values as in
``configs/dixon.py``; lines marked NiftyNet are other values than there.
Command: ``python train.py --config configs/dixon_niftynet.py --workdir runs/a``.
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
    """NiftyNet's values."""
    config = ConfigDict()
    config.seed = 0  # own; NiftyNet seeds nothing

    config.data = data = ConfigDict()
    data.root = ""  # a folder of scans with labels; "" makes digital necks
    data.validation_root = ""  # "" takes num_validation participants of root
    data.num_validation = 0  # participants of root; digital necks bring their own
    data.folds = 0  # instead: people are dealt to so many parts, 0 is none
    data.fold = 0  # the part that validates, from 0
    data.cache = ""  # folder of prepared volumes; "" is the user's cache folder
    data.landmarks = ""  # standardisation_models.txt; "" learns them
    data.spacing_mm = (0.7, 0.7, 3.0)  # M: pixdim
    data.padding = (90, 60, 8)  # M: volume padding
    data.padding_mode = "minimum"  # NiftyNet: each line's own
    data.skip_fitting_grid = False  # NiftyNet: the spline runs on its own grid
    data.window = (360, 240, 32)  # M: spatial window size
    data.samples_per_volume = 3  # M
    data.foreground_share = 0.0  # M: uniform sampling
    data.workers = 0  # own: processes that cut windows
    data.ignore_label = -1  # value in masks of what nobody knows; -1 is none
    data.allow_absent = ()  # own: labels that may occur nowhere
    data.phantom = phantom = ConfigDict()  # own
    phantom.severities = ("clinical",)
    phantom.seed = 1
    phantom.train_subjects = 17  # M: 17 participants
    phantom.train_sessions = 2  # M: two scans each
    phantom.validation_subjects = 18  # M: 18 scans of others

    config.augment = augment = ConfigDict()
    augment.margin = (16, 16, 4)  # own: voxels around the window to draw from
    augment.mirror = True  # M: left-right
    augment.exchange_labels = False  # NiftyNet: flips leave left and right as they are
    augment.scale_percent = (2.5, 2.5, 2.5)  # M: anisotropic scaling
    augment.rotation_deg = (2.5, 2.5, 5.0)  # M: about LR, AP, SI
    augment.elastic_points = 3  # M: control points
    augment.elastic_sigma_voxels = (10.0, 10.0, 10.0)  # NiftyNet: 30 mm across slices
    augment.elastic_probability = 0.5  # N
    augment.in_voxels = True  # NiftyNet: rotations shear, "x" turns about SI
    augment.affine_in_network = 0.1  # NiftyNet
    augment.update(_OFF)

    # Some windows are changed by these instead, to look like another protocol.
    config.domain_randomisation = ConfigDict({"share": 0.0, **_OFF})

    config.model = model = ConfigDict()
    model.units = (5, 10, 10)  # N: units of the three dense blocks
    model.growth = (4, 8, 16)  # N: features that each unit adds
    model.skips = (12, 24, 24)  # N: features of the skip connections
    model.stem = 24  # N: features of the first convolution
    model.downs = (24, 24)  # N: features of the downsampling convolutions
    model.keep_prob = 1.0  # N
    model.spatial_keep_prob = 1.0  # M names batch-wise spatial dropout; N: off
    model.dilations = (1, 1, 1)  # M names dilation; N: none
    model.debias_statistics = True  # N
    model.dtype = "float32"  # "bfloat16" on accelerators
    model.remat = "nothing"  # "units", "blocks": less memory, more time

    config.optimizer = optimizer = ConfigDict()
    optimizer.name = "tensorflow_adam"  # NiftyNet: epsilon outside the bias correction
    optimizer.learning_rate = 1e-3  # M
    optimizer.schedule = "constant"  # M; or "cosine"
    optimizer.warmup_steps = 0
    optimizer.epsilon = 1e-8  # N
    optimizer.weight_decay = 0.0  # NiftyNet: no L2 reached the loss
    optimizer.clip_norm = 0.0  # own: 0 is off

    config.train = train = ConfigDict()
    train.loss = "dice_hinge"  # M
    train.batch_size = 3  # M
    train.accumulate = 1  # own: parts of a batch, one after another
    train.average_decay = 0.0  # own: moving average of the weights
    train.num_steps = 100_000  # M
    train.log_every = 20  # own
    train.checkpoint_every = 500  # own
    train.eval_every = 2000  # own
    train.patience = 10  # M: until validation Dice is flat: evaluations without gain

    config.eval = ConfigDict()
    config.eval.train_scans = 4  # own: unaugmented training scans (the paper's check)
    config.eval.validation_scans = 18  # own: at most so many
    return config
