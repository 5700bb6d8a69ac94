"""Masks of what images show: BiSeNet in its published layout, ONNX segmenters, folders, and CAGC's score with them."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from toys import random, toy_teacher

from vemcompress.commands.prune import prune
from vemcompress.errors import InputError, UsageError
from vemcompress.evaluation import segmenters
from vemcompress.evaluation.masks import MaskSettings, SegmentedMasks, open_masks
from vemcompress.evaluation.segmenters import BiSeNetSegmenter, Segmenter, load_segmenter
from vemcompress.networks.bisenet import BiSeNet
from vemcompress.pruning import PRUNERS
from vemcompress.pruning.content import noise_loss
from vemcompress.weights.artifact import save_generator
from vemcompress.weights.loading import load_generator

WIDTHS = (4, 8, 12, 16)


def narrow() -> BiSeNet:
    torch.manual_seed(2)
    network = BiSeNet(widths=WIDTHS).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 1.5)
            module.weight.data.normal_(1, 0.3)
            module.bias.data.normal_(0, 0.3)
    return network


def published(t: dict, x: torch.Tensor) -> torch.Tensor:
    """BiSeNet by the names of its file alone."""

    def bn(x, name):
        found = (t[f"{name}.{leaf}"] for leaf in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, *found)

    def cbr(x, name):
        weight = t[f"{name}.conv.weight"]
        return F.relu(bn(F.conv2d(x, weight, padding=weight.shape[2] // 2), f"{name}.bn"))

    def block(x, name, stride):
        h = F.relu(bn(F.conv2d(x, t[f"{name}.conv1.weight"], stride=stride, padding=1), f"{name}.bn1"))
        h = bn(F.conv2d(h, t[f"{name}.conv2.weight"], padding=1), f"{name}.bn2")
        if f"{name}.downsample.0.weight" in t:
            x = bn(F.conv2d(x, t[f"{name}.downsample.0.weight"], stride=stride), f"{name}.downsample.1")
        return F.relu(x + h)

    def arm(x, name):
        x = cbr(x, f"{name}.conv")
        attention = F.adaptive_avg_pool2d(x, 1)
        return x * torch.sigmoid(bn(F.conv2d(attention, t[f"{name}.conv_atten.weight"]), f"{name}.bn_atten"))

    h = F.relu(bn(F.conv2d(x, t["cp.resnet.conv1.weight"], stride=2, padding=3), "cp.resnet.bn1"))
    h, maps = F.max_pool2d(h, 3, 2, 1), []
    for n in (1, 2, 3, 4):
        for i in (0, 1):
            h = block(h, f"cp.resnet.layer{n}.{i}", 2 if n > 1 and i == 0 else 1)
        maps.append(h)
    _, eighth, sixteenth, last = maps
    mean = cbr(F.adaptive_avg_pool2d(last, 1), "cp.conv_avg")
    context = arm(last, "cp.arm32") + F.interpolate(mean, last.shape[2:], mode="nearest")
    context = cbr(F.interpolate(context, sixteenth.shape[2:], mode="nearest"), "cp.conv_head32")
    context = arm(sixteenth, "cp.arm16") + context
    context = cbr(F.interpolate(context, eighth.shape[2:], mode="nearest"), "cp.conv_head16")
    fused = cbr(torch.cat((eighth, context), 1), "ffm.convblk")
    weights = F.relu(F.conv2d(F.adaptive_avg_pool2d(fused, 1), t["ffm.conv1.weight"]))
    fused = fused * torch.sigmoid(F.conv2d(weights, t["ffm.conv2.weight"])) + fused
    scores = F.conv2d(cbr(fused, "conv_out.conv"), t["conv_out.conv_out.weight"])
    return F.interpolate(scores, x.shape[2:], mode="bilinear", align_corners=True)


@torch.no_grad()
def test_bisenet_computes_what_its_names_say():
    network, x = narrow(), torch.randn(2, 3, 64, 96, generator=random(1))
    torch.testing.assert_close(network(x), published(network.state_dict(), x))


def test_bisenet_has_the_published_size():
    with torch.device("meta"):
        network = BiSeNet()
    assert sum(p.numel() for p in network.parameters()) == 13_300_416 and network.classes == 19


def test_bisenets_file_is_recognised_and_checked(tmp_path, monkeypatch):
    monkeypatch.setattr(segmenters, "BiSeNet", lambda: BiSeNet(widths=WIDTHS))
    network = narrow()
    torch.save(network.state_dict(), tmp_path / "79999_iter.pth")
    found = load_segmenter(tmp_path / "79999_iter.pth")
    assert isinstance(found, BiSeNetSegmenter)
    images = torch.rand(1, 3, 40, 40, generator=random(0))
    torch.testing.assert_close(found(images), BiSeNetSegmenter(network)(images))
    state = network.state_dict()
    state.pop("ffm.conv1.weight")
    torch.save(state, tmp_path / "damaged.pth")
    with pytest.raises(InputError, match=r"not the weights of BiSeNet for 19 classes: 'ffm.conv1.weight' is missing"):
        load_segmenter(tmp_path / "damaged.pth")


class Quarters(Segmenter):
    """Classes 0, 1, 16 and 18 in the quarters of images, which it wants at 32 px."""

    name, classes, protocol, side = "quarters", 19, "quarters", 32

    def __init__(self):
        self.seen = []

    def __call__(self, images):
        self.seen.append(images)
        labels = torch.zeros(len(images), 32, 32, dtype=torch.int64)
        labels[:, :16, 16:], labels[:, 16:, :16], labels[:, 16:, 16:] = 1, 16, 18
        return F.one_hot(labels, 19).permute(0, 3, 1, 2).float()


@pytest.mark.parametrize("batch", [1, 3])
def test_content_is_what_is_no_background_whatever_the_batch(batch):
    segmenter = Quarters()
    masks = SegmentedMasks(segmenter, (0, 16))
    images = torch.randn(batch, 3, 8, 8, generator=random(0)) * 3
    found = masks(images)
    assert found.shape == (batch, 1, 8, 8) and found.dtype == torch.float32
    assert (found[:, 0, :, 4:] == 1).all() and (found[:, 0, :, :4] == 0).all()
    (seen,) = segmenter.seen
    torch.testing.assert_close(seen, F.interpolate((images.clamp(-1, 1) + 1) / 2, (32, 32), mode="bilinear"))


def test_classes_that_the_segmenter_lacks_are_refused():
    with pytest.raises(InputError, match="has classes from 0 to 18, and background names 19"):
        SegmentedMasks(Quarters(), (0, 19))


@torch.no_grad()
def test_faces_have_their_published_background_and_others_class_0():
    assert SegmentedMasks(BiSeNetSegmenter(narrow())).background == (0, 16)
    assert SegmentedMasks(Quarters()).background == (0,)


def test_noise_falls_on_the_mask_alone():
    image = torch.zeros(2, 3, 8, 8, requires_grad=True)
    mask = torch.zeros(2, 1, 8, 8)
    mask[0, :, :4] = 1
    (gradient,) = torch.autograd.grad(noise_loss(image, 0.5, random(0), mask), image)
    assert (gradient != 0)[0, :, :4].any() and not gradient[0, :, 4:].any() and not gradient[1].any()


def stylegan2():
    torch.manual_seed(3)
    return toy_teacher("stylegan2", size=16, width=4, latent=8, mapping=2)


def drawn(call, folder, network, *more, samples=3):
    save_generator(folder / "g.safetensors", network)
    code, _, err = call(
        "generate", folder / "g.safetensors", "--samples", samples, "--seed", 5, "--out", folder / "faces", *more
    )
    assert code == 0, err
    return folder / "faces"


def with_masks(folder, size=16, value=255):
    for n, image in enumerate(sorted(folder.glob("seed5_*.png"))):
        mask = np.zeros((size, size), np.uint8)
        mask[: n + 1] = value
        Image.fromarray(mask).save(folder / f"{image.stem}_mask.png")
    return folder


def test_a_folder_of_masks_belongs_to_the_images_that_generate_drew(call, tmp_path):
    network = stylegan2()
    folder = with_masks(drawn(call, tmp_path, network))
    masks = open_masks(MaskSettings(masks=str(folder)), network)
    assert masks.vectors.shape == (3, 8) and masks.known.sum((1, 2, 3)).tolist() == [16, 32, 48]
    picture = torch.from_numpy(np.array(Image.open(folder / "seed5_000001.png"))).permute(2, 0, 1) / 127.5 - 1
    with torch.no_grad():
        assert torch.allclose(network(masks.vectors[1:2])[0].clamp(-1, 1), picture, atol=0.01)


def test_a_folders_content_decides_the_scores(call, tmp_path):
    network = stylegan2()
    folder = with_masks(drawn(call, tmp_path, network))
    kind = PRUNERS["content"]
    found = kind(kind.Settings(masks=str(folder), seed=1)).scores(network)
    draws, expected = random(1), torch.zeros(4)
    z = open_masks(MaskSettings(masks=str(folder)), network).vectors
    image = network(z)
    pattern = torch.randint(0, 2, (3, 1, 16, 16), generator=draws) * 2.0 - 1
    gone = (torch.rand(3, 1, 16, 16, generator=draws) < 0.05).float()
    for n in range(3):
        gone[n, :, n + 1 :] = 0
    loss = ((pattern - image).abs() * gone).sum()
    expected = torch.autograd.grad(loss, network.convs[2].weight)[0].abs().mean((0, 2, 3))
    assert expected.min() > 0 and torch.allclose(found["conv2"], expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda folder: None, "has no masks, which are called seed0_000000_mask.png"),
        (lambda folder: with_masks(folder, size=8), "is 8 x 8 px, and the generator's images are 16 x 16"),
        (lambda folder: with_masks(folder, value=0), "its masks are all black"),
        (lambda folder: [with_masks(folder), (folder / "seed5_000002.png").unlink()], "seed5_000002.png is not beside"),
    ],
)
def test_folders_that_are_no_masks_are_refused(call, tmp_path, spoil, said):
    network = stylegan2()
    spoil(folder := drawn(call, tmp_path, network))
    with pytest.raises(InputError, match=said):
        open_masks(MaskSettings(masks=str(folder)), network)


def test_masks_of_other_images_are_refused(call, tmp_path):
    folder = with_masks(drawn(call, tmp_path, stylegan2()))
    other = stylegan2()
    for conv in other.convs:
        torch.nn.init.normal_(conv.weight)
    with pytest.raises(InputError, match="is not the image that this generator draws for that vector, so the masks"):
        open_masks(MaskSettings(masks=str(folder)), other)


def test_the_command_takes_masks_and_samples_of_methods_that_have_them(call, tmp_path):
    folder = with_masks(drawn(call, tmp_path, stylegan2()))
    common = "prune", tmp_path / "g.safetensors", "--ratio", 0.5, "-o", tmp_path / "small.safetensors"
    code, _, err = call(*common, "--method", "content", "--masks", folder)
    assert code == 0, err
    assert load_generator(tmp_path / "small.safetensors").config.widths == (2,) * 6
    code, _, err = call(*common, "--method", "l1", "--masks", folder)
    assert code == 2 and "method l1: has no masks; omit it, or use one of content." in err
    code, _, err = call(*common, "--method", "l1", "--samples", 4)
    assert code == 2 and "use one of content, diversity, l1_out, l1_style" in err
    code, _, err = call(*common, "--method", "content", "--masks", tmp_path / "none.onnx")
    assert code == 4 and "none.onnx" in err


def test_images_that_are_judged_are_told(tmp_path):
    save_generator(tmp_path / "g.safetensors", stylegan2())
    events = []
    arguments = {"out": tmp_path / "s.safetensors", "ratio": 0.5, "method": "l1_out", "samples": 25}
    prune(tmp_path / "g.safetensors", **arguments, on_event=events.append)
    told = [(event["done"], event["total"]) for event in events if event["event"] == "judged"]
    assert told == [(10, 25), (20, 25), (25, 25)]
    with pytest.raises(UsageError, match="samples 0: use at least 1 image"):
        prune(tmp_path / "g.safetensors", **arguments | {"samples": 0})
