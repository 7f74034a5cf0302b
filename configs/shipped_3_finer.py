"""How the weights in the package were trained, stage 3 of 4: finer voxels.

Voxels of 1 x 1 x 3 mm and wider windows; all else as in stage 2.

Command: ``python train.py --config configs/shipped_3_finer.py --workdir runs/3
--init-from runs/2``.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The finest voxels."""
    config = ConfigDict()
    config.seed = 0

    config.tissue_maps = maps = ConfigDict()
    maps.count = 152  # digital necks to train on
    maps.validation = 8
    maps.seed = 4100
    maps.anatomies = ()  # names of people; () draws from all, and mixes of two
    maps.without = ()  # people whose necks, and mixes with them, are left out
    maps.images = ()  # (outlines, image, voxel of their origin) of real people
    maps.images_share = 0.2  # of the steps, where there are images

    config.contrast = contrast = ConfigDict()
    contrast.dixon = 0.4  # share of true Dixon pairs
    contrast.unordered = 0.45  # of the others: tissues drawn wholly at random
    contrast.alike = 0.35  # of the others: only fat stands out
    contrast.shift_mm = (50.0, 45.0, 32.0)
    contrast.slope = 0.7  # log gain from front to back
    contrast.loss = 0.0  # probability that the coils lose one side
    contrast.texture = 0.12
    contrast.snr = (6.0, 120.0)
    contrast.clip = 0.3
    contrast.blank_air = 0.35

    config.data = data = ConfigDict()
    data.cache = ""  # folder of tissue maps; "" is the user's cache folder
    data.root = ""
    data.spacing_mm = (1.0, 1.0, 3.0)
    data.padding = (8, 8, 4)
    data.window = (128, 112, 32)

    config.augment = augment = ConfigDict()
    augment.mirror = True  # left-right
    augment.exchange_labels = True  # a mirrored muscle is the other side's
    augment.scale_percent = (15.0, 15.0, 12.0)
    augment.rotation_deg = (15.0, 6.0, 8.0)
    augment.elastic_points = 3  # control points
    augment.elastic_sigma_voxels = (10.0, 10.0, 3.0)
    augment.elastic_probability = 0.8
    augment.in_voxels = False  # turns in millimetres
    augment.affine_in_network = 0.0
    augment.bias_field = 0.0
    augment.low_resolution = (0.3, 0.3, 0.3)
    augment.noise = 0.0
    augment.gamma = 0.35
    augment.intensity_curve = 0.0
    augment.contrast = 0.0
    augment.brightness = 0.0
    augment.channel_mix = 0.0

    config.model = model = ConfigDict()
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
    optimizer.learning_rate = 7e-4
    optimizer.schedule = "cosine"
    optimizer.warmup_steps = 100
    optimizer.epsilon = 1e-8
    optimizer.weight_decay = 0.0
    optimizer.clip_norm = 5.0

    config.train = train = ConfigDict()
    train.loss = "dice_plus_cross_entropy"
    train.fixed_statistics = True  # batch norm as it is run
    train.batch_size = 1
    train.accumulate = 1  # parts of a batch, one after another
    train.average_decay = 0.995
    train.num_steps = 2200
    train.log_every = 20
    train.checkpoint_every = 200
    train.eval_every = 550
    train.patience = 0  # the schedule ends it

    config.eval = ConfigDict()
    config.eval.train_scans = 0
    config.eval.validation_scans = 8  # at most so many
    return config
