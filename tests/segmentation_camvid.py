"""Train a small segmentation network on CamVid's photos and write it as ONNX, for mIoU if DRN is not available.

    python tests/segmentation_camvid.py DATA/camvid --out camvid_segmenter.onnx

DATA/camvid holds train, train_label, test, test_label: photos, and label maps of 11 classes with 11 for void. Photos
are squares of `--size` pixels, as generators draw them. About 10 minutes on one CPU core; the same seed and number of
threads give the same network. It prints mIoU on the test photos against their label maps at full size (256x192), which
is what a perfect generator would score: 41.1, pixel accuracy 77.6, with the defaults on one thread.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from miou_files import evaluate_miou
from torch import Tensor, nn

from vemcompress.data.images import read_image, to_square
from vemcompress.data.indices import VOID, nearest_square
from vemcompress.data.labels import LabelMaps
from vemcompress.data.listing import list_images
from vemcompress.evaluation.onnx_segmenter import open_segmenter
from vemcompress.system.files import write_atomically

CLASSES = ["sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist"]
IGNORE = 11
ZOOM = 4 / 3  # photos are kept so much larger than they are cut
BATCH = 16


class Net(nn.Module):
    """N x 3 x H x W to scores N x classes x H x W: four levels down to 1/16, and their sum on the way up.

    About 520,000 parameters at the default widths. Any size of at least 16 pixels.
    """

    def __init__(self, classes: int = len(CLASSES), widths: tuple[int, ...] = (24, 48, 96, 128), up: int = 48):
        super().__init__()
        pairs = zip((3, *widths), widths, strict=False)
        self.down = nn.ModuleList(nn.Sequential(_conv(i, o, stride=2), _conv(o, o)) for i, o in pairs)
        self.lateral = nn.ModuleList(nn.Conv2d(width, up, 1) for width in widths)
        self.mix = nn.ModuleList(_conv(up, up) for _ in widths)
        self.drop, self.head = nn.Dropout2d(0.1), nn.Conv2d(up, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        maps, h = [], x
        for level in self.down:
            h = level(h)
            maps.append(h)
        y = None
        for m, lateral, mix in reversed(list(zip(maps, self.lateral, self.mix, strict=True))):
            y = mix(lateral(m) if y is None else lateral(m) + F.interpolate(y, m.shape[-2:], mode="bilinear"))
        return F.interpolate(self.head(self.drop(y)), x.shape[-2:], mode="bilinear")


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Module:
    conv = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def read(root: Path, split: str, size: int) -> tuple[Tensor, Tensor, list[Path]]:
    """Photos uint8 N x 3 x size x size, label maps int64 N x size x size (255: void), and the label files."""
    photos, files = list_images(root / split), list_images(root / f"{split}_label")
    assert [p.stem for p in photos] == [p.stem for p in files], f"{root / split} and its label maps do not match"
    maps = LabelMaps(len(CLASSES), IGNORE)
    images = np.stack([to_square(read_image(path), size) for path in photos])
    labels = np.stack([nearest_square(maps.read(path), size) for path in files])
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(labels).long(), files


def batches(images: Tensor, labels: Tensor, size: int, batch: int, rng: np.random.Generator) -> Iterator:
    """One epoch of crops, shuffled, zoomed by up to `ZOOM`, flipped, of changed brightness and contrast."""
    order = rng.permutation(len(images))
    for start in range(0, len(order) - batch + 1, batch):
        chosen = order[start : start + batch]
        # The whole picture, as generators draw it, down to the crop at the size that the photos are kept in.
        side = int(rng.integers(size, images.shape[-1] + 1))
        top, left = rng.integers(0, side - size + 1, 2)
        x = F.interpolate(images[chosen].float() / 255, (side, side), mode="bilinear", antialias=True)
        y = F.interpolate(labels[chosen, None].float(), (side, side), mode="nearest-exact")[:, 0].long()
        x, y = (v[..., top : top + size, left : left + size] for v in (x, y))
        if rng.random() < 0.5:
            x, y = x.flip(-1), y.flip(-1)
        gain, shift = (torch.tensor(rng.uniform(-0.2, 0.2, (batch, 1, 1, 1)), dtype=torch.float32) for _ in range(2))
        yield (x * (1 + gain) + shift / 2).clamp(0, 1), y


def train(images: Tensor, labels: Tensor, size: int, epochs: int, seed: int, lr: float = 4e-3):
    """The network in eval mode, and the photos' mean and deviation that it wants its input normalised by."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    unit = images.float() / 255
    mean, std = unit.mean((0, 2, 3)), unit.std((0, 2, 3))
    counts = torch.bincount(labels[labels != VOID], minlength=len(CLASSES))
    weights = 1 / torch.log(1.02 + counts / counts.sum())  # ENet's (Paszke et al., 2016), for classes of few pixels
    network = Net().train().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), lr, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=epochs * (len(images) // BATCH))
    for epoch in range(epochs):
        losses = []
        for x, y in batches(images, labels, size, BATCH, rng):
            x = (x - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1)
            loss = F.cross_entropy(network(x), y, weights, ignore_index=VOID)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        print(f"epoch {epoch + 1}/{epochs}: loss {np.mean(losses):.4f}", flush=True)
    return network.eval(), mean, std


def export(network: nn.Module, mean: Tensor, std: Tensor, path: Path, size: int) -> None:
    """The network as ONNX with free batch and size; `mean`, `std` and `scale` go into the file's metadata."""
    auto = torch.export.Dim.AUTO
    program = torch.onnx.export(
        network,
        (torch.zeros(2, 3, size, size + 16),),
        input_names=["image"],
        output_names=["scores"],
        dynamic_shapes=({0: auto, 2: auto, 3: auto},),
        external_data=False,
        dynamo=True,
        verbose=False,
    )
    model = program.model_proto
    numbers = {key: ",".join(f"{v:.6f}" for v in values.tolist()) for key, values in (("mean", mean), ("std", std))}
    onnx.helper.set_model_props(model, {"scale": "1", **numbers})
    write_atomically(path, model.SerializeToString())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="the camvid folder")
    parser.add_argument("--out", type=Path, required=True, help="the .onnx file to write")
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--epochs", type=int, default=80)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    images, labels, _ = read(options.data, "train", int(options.size * ZOOM))
    network, mean, std = train(images, labels, options.size, options.epochs, options.seed)
    export(network, mean, std, options.out, options.size)
    photos, _, files = read(options.data, "test", options.size)
    found = evaluate_miou(photos.split(8), files, open_segmenter(options.out), CLASSES, IGNORE)
    print(f"mIoU {100 * found['miou']:.2f}, pixel accuracy {100 * found['pixel_accuracy']:.2f}")
    for name, value in found["iou"].items():
        print(f"{name:>12} {'absent' if value is None else format(100 * value, '.2f')}")


if __name__ == "__main__":
    main()
