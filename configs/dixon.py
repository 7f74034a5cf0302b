"""The paper's training: Weber et al., Sci Rep 2021;11:16567, Methods.

Data: Dixon scans of the neck with labels; by default digital necks in the paper's
numbers (17 people twice to learn from, 18 others to be judged by), made on first use.
Command: ``python train.py --config configs/dixon.py --workdir runs/a``.
Expect: 100,000 steps of 3 windows; on two CPU cores some 14 s a step, so weeks: this is
for accelerators (``configs/dixon_cpu.py`` is for CPUs). The paper's own test Dice on
patients: 0.41 (trapezius) to 0.79 (MFSS). Not run to its end here.

Sources: M = the paper's Methods, N = NiftyNet's default where the paper is silent,
own = neither.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The paper's values, line by line, each with its source."""
    config = ConfigDict()
    config.seed = 0  # own; NiftyNet seeds nothing

    config.data = data = ConfigDict()
    data.root = ""  # a folder of scans with labels; "" makes digital necks
    data.test_root = ""  # held-out scans; "" takes num_test participants of root
    data.num_test = 0  # participants of root held out; the necks bring their own
    data.cache = ""  # prepared volumes; "" is the user's cache folder
    data.landmarks = (
        ""  # standardisation_models.txt; "" learns them on the training set
    )
    data.spacing_mm = (0.7, 0.7, 3.0)  # M: pixdim
    data.padding = (90, 60, 8)  # M: volume padding
    data.padding_mode = "zero"  # M: "zero padded"
    data.skip_fitting_grid = True  # own: no spline where the scan's grid fits
    data.window = (360, 240, 32)  # M: spatial window size
    data.samples_per_volume = 3  # M
    data.foreground_share = 0.0  # M: uniform sampling
    data.workers = 0  # own: processes that cut windows
    data.allow_absent = ()  # own: labels that may occur nowhere
    data.phantom = ConfigDict()  # own
    data.phantom.severities = ("clinical",)
    data.phantom.seed = 1
    data.phantom.train_subjects = 17  # M: 17 participants
    data.phantom.train_sessions = 2  # M: two scans each
    data.phantom.test_subjects = 18  # M: 18 scans of others

    config.augment = augment = ConfigDict()
    augment.margin = (16, 16, 4)  # own: voxels around the window to draw from
    augment.mirror = True  # M: left-right
    augment.exchange_labels = True  # own: a mirrored muscle is the other side's
    augment.scale_percent = (2.5, 2.5, 2.5)  # M: anisotropic scaling
    augment.rotation_deg = (2.5, 2.5, 5.0)  # M: about LR, AP, SI
    augment.elastic_points = 3  # M: control points
    augment.elastic_sigma_voxels = (10.0, 10.0, 2.33)  # M: 10; own: 7 mm on every axis
    augment.elastic_probability = 0.5  # N
    augment.in_voxels = False  # own: turns in millimetres
    augment.affine_in_network = 0.0  # own: validation without it; N: 0.1
    augment.bias_field = 0.0  # the following are not the paper's
    augment.gamma = 0.0
    augment.noise = 0.0
    augment.tone = 0.0
    augment.contrast = 0.0
    augment.brightness = 0.0
    augment.low_resolution = (0.0, 0.0, 0.0)
    augment.channel_mix = 0.0
    config.foreign = foreign = ConfigDict()  # own: some windows look otherwise
    foreign.share = 0.0  # of windows, changed by these instead of the above
    foreign.bias_field = 0.0
    foreign.gamma = 0.0
    foreign.noise = 0.0
    foreign.tone = 0.0
    foreign.contrast = 0.0
    foreign.brightness = 0.0
    foreign.low_resolution = (0.0, 0.0, 0.0)
    foreign.channel_mix = 0.0

    config.model = model = ConfigDict()
    model.keep_prob = 1.0  # N
    model.spatial_keep_prob = 1.0  # M names batch-wise spatial dropout; N: off
    model.dilations = (1, 1, 1)  # M names dilation; N: none
    model.debias_statistics = True  # N
    model.dtype = "float32"  # "bfloat16" on accelerators
    model.remat = "nothing"  # "units", "blocks": less memory, more time

    config.optimizer = optimizer = ConfigDict()
    optimizer.name = "adam"  # M
    optimizer.learning_rate = 1e-3  # M
    optimizer.schedule = "constant"  # M; or "cosine"
    optimizer.warmup_steps = 0
    optimizer.epsilon = 1e-8  # N
    optimizer.weight_decay = 1e-5  # M: L2
    optimizer.clip_norm = 0.0  # own: 0 is off

    config.train = train = ConfigDict()
    train.loss = "dice_hinge"  # M
    train.batch_size = 3  # M
    train.accumulate = 1  # own
    train.average_decay = 0.0  # own: moving average of the weights
    train.num_steps = 100_000  # M
    train.log_every = 20  # own
    train.checkpoint_every = 500  # own
    train.eval_every = 2000  # own
    train.patience = 10  # M: until validation Dice is flat: evaluations without gain

    config.eval = ConfigDict()
    config.eval.train_scans = 4  # own: unaugmented training scans (the paper's check)
    config.eval.test_scans = 18  # own: at most so many held-out scans
    return config
