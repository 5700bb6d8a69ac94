"""Settings of [train]: length, optimiser, precision, checkpoints and logs of a run."""

from typing import ClassVar, Literal

from pydantic import Field

from vemcompress.system.settings import (
    AutoBatch,
    BaseSettings,
    Batch,
    Betas,
    Epochs,
    Period,
    Positive,
    Seed,
    Steps,
    Text,
)


class TrainSettings(BaseSettings):
    """`steps`: optimiser steps of the student; give these or epochs. `epochs`: passes over the training images.
    `batch`: images per step, of all processes together; "auto" is the largest power of two up to 64 that fits into
    memory, and the recipe of the run has its number. `lr`: the student's learning rate. `betas`: the betas of the
    student's Adam. `constant`: the share of the steps at the full learning rate; after it the rate falls linearly
    to zero. `decay`: when the rate falls, at each "step" or, as published, once an "epoch". `seed`: seed of new
    weights, the order of the images and all noise. `checkpoint_every`: steps between two checkpoints.
    `sample_every`: steps between two pictures of samples. `log_every`: steps between two lines of the log.

    `best_by`: the score that selects the best checkpoint. "auto" is the fidelity to a frozen teacher (SSIM), or the L1
    distance to the ground truth if the teacher is trained on pairs. `best_on`: the images for that score: the held-out
    part of the training images or, as in the papers, the test images. `segmenter`: the file of the segmentation network
    for miou. `inception`: the file of Inception's weights for fid. `features`: the feature network for frechet, if the
    algorithm has none. `features_weights`: the file of its weights.

    `precision`: "fp32", or "tf32" for faster float32 products on a GPU, or "bf16" for networks in bfloat16 with losses
    and energies in float32. `compile`: whether networks are compiled by torch.compile, on a GPU as CUDA graphs.

    `micro_batch`: how many images each process computes at a time, to save memory; None for the whole batch at once.

    `teacher_cache`: if N > 0, each image has N fixed views instead of a new crop and flip each time, and the outputs of
    a frozen teacher for them are kept on disk. This augmentation is weaker than the published one.

    `strict`: whether a run that diverges ends with an error; otherwise it continues with a warning.
    """

    replaces: ClassVar = {"steps": ("epochs",), "epochs": ("steps",)}
    exclusive: ClassVar = ("steps", "epochs")

    steps: Steps | None = None
    epochs: Epochs | None = None
    batch: AutoBatch | None = None
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
