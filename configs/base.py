"""Every setting there is, with the published recipe's values (MMGen on ImageNet at 256 x 256) where it has one.

Other files in this folder start from this one and change a few lines. Any value can be changed on the
command line: --config.optim.learning_rate=3e-4
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.seed = 0  # of parameters, data order, noise: a run is a function of its config

    config.distributed = ConfigDict()  # training on several hosts: the same command on each
    # "": TPU hosts find each other, elsewhere one process; "auto": also SLURM, MPI, Kubernetes; "none": one process;
    # or host:port of the first process, with the next two settings.
    config.distributed.coordinator = ""
    config.distributed.processes = 1  # how many there are
    config.distributed.process = 0  # number of this one, the only setting that may differ between hosts

    config.data = ConfigDict()
    config.data.dir = "data/tiles"  # folder of a TFDS data set of tiles
    config.data.latents = ""  # folder that mmgen_jax.encode wrote; training reads it instead of the tiles
    config.data.image_size = 256  # height and width of its images, in pixels
    config.data.modalities = ("rgb", "depth", "normal", "mask")  # any of them, in this order
    config.data.train_split = "train"  # TFDS slicing works: "train[:90%]"
    config.data.test_split = "test"  # where sampling and evaluation take their conditions from
    config.data.flip = True  # mirror half of the tiles, all modalities alike
    config.data.workers = 0  # reading processes; 0 reads in threads of the training process
    config.data.max_damaged = 0.001  # share of records that may be damaged and are replaced; 0 stops at the first

    config.autoencoder = ConfigDict()
    config.autoencoder.name = "identity"  # "identity" (pixels), "patch_pca" (fitted on tiles) or "kl" (pretrained)
    config.autoencoder.path = ""  # kl: diffusers folder, weights file or hub id; it is kept in the workdir
    config.autoencoder.dtype = "float32"  # kl: of its products, "float32" or "bfloat16"
    config.autoencoder.chunk = 16  # kl: images at once, on all devices; each takes 0.11 GB at 256 pixels, decoded 0.24
    config.autoencoder.factor = 8  # pixels per latent position, each way
    config.autoencoder.components = (4, 4, 4, 4)  # patch_pca: latent channels of each modality
    config.autoencoder.whitening = 0.5  # patch_pca: 1 = unit variance in each channel, 0 = as in pixels

    config.features = ConfigDict()  # of rgb by DINOv2, to align the model's tokens with
    config.features.source = "none"  # "none", "stored" (with data.latents) or "online" (computed in every step)
    config.features.path = ""  # DINOv2: weights file, transformers folder or hub id; for "online" and for encode
    config.features.dtype = "bfloat16"  # of DINOv2's products

    config.encode = ConfigDict()  # python -m mmgen_jax.encode: tiles -> data.latents
    config.encode.dtype = "float16"  # as stored: "float16" or "bfloat16"
    config.encode.batch = 32  # tiles computed at once
    config.encode.features = False  # also store the features of DINOv2: most of the bytes
    config.encode.rgb = False  # also store the rgb pixels, so that features can be computed online
    config.encode.mirror = False  # also store each tile mirrored, as latents cannot be
    config.encode.shard = 4096  # tiles in one file, the unit of restarting

    config.model = ConfigDict()
    config.model.depth = 28  # blocks; this and the next four lines are XL/2
    config.model.width = 1152  # numbers per token
    config.model.heads = 16  # attention heads
    config.model.encoder_depth = 8  # representation alignment reads the tokens after this block
    config.model.patch = 2  # latent positions per token, each way
    config.model.mlp_ratio = 4.0  # hidden width of the MLPs over width
    config.model.projector_width = 2048  # hidden width of the alignment projector
    config.model.feature_width = 0  # width of the features (768 for ViT-B); 0 = no projector, no alignment
    config.model.dtype = "float32"  # of matrix products: "float32" or "bfloat16"; parameters are float32
    config.model.remat = "none"  # computed again for the backward pass: "none", "names" (all but products) or "full"
    config.model.attention = "auto"  # "xla", "pallas" (a kernel for TPUs), or "auto": the fastest for these shapes
    config.model.unroll = 1  # blocks per iteration of the scan over depth; depth = no loop
    config.model.precondition = False  # True: network output scaled by the data's variance, still a velocity

    config.mesh = ConfigDict()  # how devices share the work; their product is the number of devices, one may be -1
    config.mesh.data = -1  # samples are split; every device of this axis has all weights
    config.mesh.fsdp = 1  # samples and weights, averages and moments are split; gathered block by block
    config.mesh.tensor = 1  # heads and MLP of every block are split

    config.objective = ConfigDict()
    config.objective.path = "linear"  # "linear" or "cosine" (without precondition, and not for euler_maruyama)
    config.objective.time = "uniform"  # distribution of t: "uniform" or "logit_normal"
    # Rows (share of the batch, given, t of the given, supervised). given: "none", "one" (any single one),
    # "any" (any non-empty proper subset) or names as "rgb+depth"; supervised: "all", "drop" (all, but for
    # randomly dropped pairs of sample and modality) or names.
    config.objective.mix = (
        (0.50, "none", 0.00, "rgb"),
        (0.25, "none", 0.00, "drop"),
        (0.25, "one", 0.01, "drop"),
    )
    config.objective.loss_weights = (1.0, 0.2, 0.1, 0.1)  # of each modality's velocity loss
    config.objective.alignment_weight = 0.5  # of representation alignment, where there are features
    config.objective.label_dropout = 0.1  # share of samples trained with the null class

    config.optim = ConfigDict()
    config.optim.learning_rate = 1e-4  # after warmup
    config.optim.warmup_steps = 0  # linear from 0
    config.optim.decay_steps = 0  # linear to 0 over this many last steps
    config.optim.b1 = 0.9
    config.optim.b2 = 0.999
    config.optim.eps = 1e-8
    config.optim.weight_decay = 0.0
    config.optim.moment_dtype = "float32"  # of the first moment, "float32" or "bfloat16"; the second is float32
    config.optim.clip_norm = 1.0  # of the whole gradient
    config.optim.ema_decay = 0.9999  # of the averaged parameters that sampling uses
    config.optim.ema_ramp = 1.0  # above 1: decay = min(ema_decay, (1 + step) / (ema_ramp + step))

    config.train = ConfigDict()
    config.train.batch = 256  # samples of a step, over all hosts and devices
    config.train.accumulate = 1  # parts of the batch that are computed one after another
    config.train.steps = 600_000
    config.train.log_every = 100
    config.train.save_every = 5_000  # checkpoints
    config.train.keep = 2  # newest checkpoints that stay
    config.train.keep_best = 1  # besides, those of the lowest mean loss since the line of the log before them
    config.train.sample_every = 10_000  # grids of samples in workdir/samples; 0 = none
    config.train.max_skipped = 0  # steps, since the start or resumption, that may be not finite before a run stops
    config.train.spike_factor = 5.0  # losses above this many times their median of the last 100 steps are logged
    config.train.init_from = ""  # workdir or bundled model whose averaged parameters a new run starts from

    config.sample = ConfigDict()
    config.sample.task = "category"  # "category", or what is given: "rgb", "depth", "rgb+mask", ...
    config.sample.class_id = ""  # index or name; empty = no class
    config.sample.n = 8  # samples
    config.sample.batch = 32  # samples computed at once
    config.sample.solver = "euler_maruyama"  # a name of mmgen_jax.sampling.SOLVERS
    config.sample.steps = 250
    config.sample.guidance = 1.0  # classifier-free guidance; 1 = none
    config.sample.guidance_interval = (0.0, 1.0)  # times t at which guidance acts
    config.sample.given_time = 0.005  # t at which given modalities are held
    config.sample.seed = 0
    config.sample.checkpoint = -1  # step of the checkpoint; -1 = the newest
    config.sample.index = 0  # first sample of data.test_split to take conditions from
    config.sample.images = ConfigDict({"rgb": "", "depth": "", "normal": "", "mask": ""})  # or files (PNG, JPEG, NPY)

    config.evaluate = ConfigDict()
    config.evaluate.n = 512  # held-out scenes
    config.evaluate.samples = 256  # generated scenes, balanced over the classes; 0 = none
    config.evaluate.batch = 64  # scenes computed at once
    config.evaluate.draws = 1  # predictions averaged per scene
    config.evaluate.steps = 10  # of the solver, for predictions from rgb
    config.evaluate.solver = "euler"
    return config
