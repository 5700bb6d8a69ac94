"""How each figure was made, in one sentence per metric: figures of different protocols must not be compared."""

from vemcompress.evaluation.features import Extractor
from vemcompress.evaluation.kid import SUBSET_SIZE, SUBSETS
from vemcompress.evaluation.plan import SetMetric

_FIDELITY = {
    "ssim": "SSIM (11x11 Gaussian of sigma 1.5, valid region, data range 1)",
    "psnr": "PSNR in dB (data range 1, at most 100 dB an image)",
    "l1": "mean absolute difference",
}
_AGAINST = {"teacher": "the teacher's", "target": "the ground truth"}
_BYTES = "outputs to 8 bits by truncation of (x + 1) / 2 * 255"


def of_fidelity(name: str, images: int, size: int) -> str:
    """The sentence of a fidelity metric over `images` images of `size` x `size` pixels."""
    kind, against = name.split("_")
    return (
        f"{_FIDELITY[kind]} between each output and {_AGAINST[against]}, as floats in [0, 1], each image alone and "
        f"then the mean; {images} images at {size} px."
    )


def of_segmentation(name: str, meter: str, size: int) -> str:
    """The sentence of `miou` or `pixel_accuracy`; `meter` is `Miou.protocol`."""
    made = f"drawn at {size} px; {_BYTES}"
    if name == "miou":
        return f"in 0..100 as the papers print it: {meter.removesuffix('.')}, {made}."
    how = meter.removesuffix(".").partition("; ")[2]
    return f"percent of the labelled pixels whose class is right; {how}, {made}."


def of_set(metric: SetMetric, extractor: Extractor, images: int, size: int, against: str, seed: int) -> str:
    """The sentence of a set distance; `against` says what the images were compared with."""
    if metric.kind == "frechet":
        what = "Frechet distance in float64"
    else:
        what = (
            f"unbiased cubic-kernel MMD in float64, all images at once up to {SUBSET_SIZE}, else the mean of {SUBSETS} "
            f"subsets drawn with seed {seed}"
        )
    return f"{what} of {extractor.protocol}; {_BYTES}; {images} outputs at {size} px against {against}."


def real_images(count: int | None, size: int | None, what: str) -> str:
    """What real images were, for `of_set`; None is what foreign statistics do not tell."""
    number = "an unknown number of" if count is None else str(count)
    return f"{number} {what} at {'their own size' if size is None else f'{size} px'}"
