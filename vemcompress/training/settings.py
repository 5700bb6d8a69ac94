"""What a recipe says of a run's length, optimiser, precision, and of what it writes down and when."""

from typing import ClassVar, Literal

from pydantic import Field

from vemcompress.system.settings import BaseSettings, Batch, Betas, Epochs, Period, Positive, Seed, Steps, Text


class TrainSettings(BaseSettings):
    """`steps` or `epochs`: how long it trains. `batch`: images of a step, of all processes together. `lr`: the
    student's learning rate, with the `betas` of Adam. `constant`: the share of the steps at the full learning rate,
    before it falls to zero, `decay` at each step, or as published once an epoch. `seed`: of new weights, the images'
    order and all noise. `checkpoint_every`, `sample_every` and `log_every`: at each how many-th step a checkpoint, a
    picture of samples and a line of the log are written.

    `best_by`: what the best checkpoint is picked by, at each checkpoint. "auto" is the fidelity to a frozen teacher
    (SSIM), or the L1 distance to the ground truth where the teacher learns from pairs. `best_on`: the held-out part
    of the training images, or, as the papers did, the test images. `segmenter` and `inception`: files for miou and fid.
    `features` with the file of their `features_weights`: for frechet, where the algorithm has none of its own.

    `precision`: of float32 products on a GPU, see `devices.arithmetic`, or networks in bfloat16 beside losses and
    energies in float32. `compile`: the networks by torch.compile, on a GPU as CUDA graphs.

    `micro_batch`: so many of a batch's images are worked on at a time, on each process, where memory does not hold
    all; None for all at once.

    `teacher_cache`: N > 0 gives each image N fixed views instead of a new crop and flip at each sample, and keeps on
    disk what a frozen teacher makes of them. That is another augmentation than the published one, and a weaker one.

    `strict`: a run that diverges ends with an error, where it would go on with a warning: see `health`.
    """

    replaces: ClassVar = {"steps": ("epochs",), "epochs": ("steps",)}
    exclusive: ClassVar = ("steps", "epochs")

    steps: Steps | None = None
    epochs: Epochs | None = None
    batch: Batch | None = None
    micro_batch: Batch | None = None
    lr: Positive = 2e-4
    betas: Betas = Field((0.5, 0.999), strict=False)
    constant: float = Field(0.5, ge=0, le=1)
    decay: Literal["step", "epoch"] = "step"
    seed: Seed = 0
    precision: Literal["fp32", "tf32", "bf16"] = "fp32"
    compile: bool = False
    checkpoint_every: Period = 1000
    sample_every: Period = 1000
    log_every: Period = 10
    best_by: Literal["auto", "none", "ssim_teacher", "l1_target", "frechet", "fid", "miou"] = "auto"
    best_on: Literal["held_out", "test"] = "held_out"
    segmenter: Text | None = None
    inception: Text | None = None
    features: Literal["none", "vgg16", "squeezenet1_1", "squeezenet1_1_caffe"] = "none"
    features_weights: Text | None = None
    teacher_cache: int = Field(0, ge=0, le=10_000)
    strict: bool = False
