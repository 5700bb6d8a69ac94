"""Pairs for enhancement: made of photos by a degradation, of two sizes, cut at random from photos of any size."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vemcompress.data import degrade
from vemcompress.data.enlarged import folded, unfolded
from vemcompress.data.sets import test_set, training_set
from vemcompress.data.settings import DataSettings
from vemcompress.errors import RecipeError


def photos(folder, count=5, width=40, height=24):
    """Smooth pictures, each of another size, none of which is symmetric."""
    folder.mkdir(parents=True)
    for i in range(count):
        small = np.random.default_rng(i).integers(0, 256, (4, 5, 3), dtype=np.uint8)
        Image.fromarray(small).resize((width + i, height + 2 * i), Image.Resampling.BICUBIC).save(folder / f"{i}.png")
    return folder


def settings(root, **values):
    return DataSettings(**{"roots": (str(root),), "size": 8, "load_size": 8, **values})


def batches(images, steps=4, **options):
    stream = images.stream((3, 3), 2, 0, **options)
    return [stream._prepare(step) for step in range(steps)]


def lowered(target):
    """Bicubic by 4, in the test's own way."""
    picture = Image.fromarray(((target + 1) * 127.5).round().byte().permute(1, 2, 0).numpy())
    small = picture.resize((target.shape[2] // 4, target.shape[1] // 4), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(small)).permute(2, 0, 1) / 127.5 - 1


@pytest.mark.parametrize("crop", [None, "random", "square"])
def test_an_input_is_its_target_made_smaller(tmp_path, crop):
    images = training_set(settings(photos(tmp_path / "p"), degrade="bicubic4", crop=crop), scale=4)
    found = batches(images)
    for batch in found:
        assert batch.input.shape == (2, 3, 8, 8) and batch.target.shape == (2, 3, 32, 32)
        for small, large in zip(batch.input, batch.target, strict=True):
            assert torch.allclose(small, lowered(large), atol=1e-6)
    again = batches(images)
    assert all(
        torch.equal(a.target, b.target) and torch.equal(a.index, b.index) for a, b in zip(found, again, strict=True)
    )
    assert found[0].target.std() > 0.1 and not torch.equal(found[0].target, found[1].target)


@given(st.integers(1, 4), st.integers(1, 5), st.integers(1, 5), st.integers(1, 3))
def test_folding_is_undone(scale, height, width, channels):
    image = np.random.default_rng(0).integers(0, 256, (scale * height, scale * width, channels), dtype=np.uint8)
    there = folded(image, scale)
    assert there.shape == (height, width, scale**2 * channels) and np.array_equal(unfolded(there, scale), image)


def pairs_of_two_sizes(root, scale=2):
    """A/ is B/ made smaller, to the pixel."""
    photos(root / "B")
    (root / "A").mkdir()
    for path in (root / "B").iterdir():
        with Image.open(path) as image:
            image = image.crop((0, 0, image.width // scale * scale, image.height // scale * scale))
            image.save(path)
            image.resize((image.width // scale, image.height // scale), Image.Resampling.BOX).save(
                root / "A" / path.name
            )
    return root


@pytest.mark.parametrize("crop", [None, "random"])
def test_both_sides_of_a_pair_are_cut_at_the_same_place(tmp_path, crop):
    root = pairs_of_two_sizes(tmp_path / "pairs")
    more = {"load_size": 10} if crop is None else {}
    images = training_set(settings(root, kind="paired", crop=crop, **more), scale=2)
    for batch in batches(images):
        assert batch.target.shape == (2, 3, 16, 16)
        again = torch.nn.functional.avg_pool2d(batch.target, 2)
        assert (again - batch.input).abs().mean() < (0.01 if crop == "random" else 0.08)


def test_a_pair_of_the_wrong_sizes_is_left_out_and_named(tmp_path):
    root = pairs_of_two_sizes(tmp_path / "pairs")
    Image.new("RGB", (30, 30)).save(root / "A" / "0.png")
    told = []
    stream = training_set(settings(root, kind="paired", crop="random"), scale=2).stream((3, 3), 5, 0, told.append)
    stream._prepare(0)
    stream._report()
    assert [event["path"].endswith("A/0.png") for event in told] == [True] and "differ by a factor of 2" in told[0][
        "reason"
    ]


@pytest.mark.parametrize("crop", [None, "random"])
def test_what_is_measured_is_the_same_in_each_evaluation(tmp_path, crop):
    text = "blur0.5..2+bicubic2+noise10+jpeg30..90"
    images = test_set(settings(photos(tmp_path / "p"), degrade=text, crop=crop), scale=2)
    first, second = images.views((3, 3)), images.views((3, 3))
    assert torch.equal(first.inputs, second.inputs) and torch.equal(first.targets, second.targets)
    assert first.inputs.shape[2:] == (8, 8) and first.targets.shape[2:] == (16, 16)
    assert not torch.equal(first.inputs[0], first.inputs[1])
    if crop == "random":  # the middle of the photo itself
        with Image.open(sorted((tmp_path / "p").iterdir())[0]) as image:
            middle = np.array(image)[4:20, 12:28]
        assert torch.equal(first.targets[0], torch.from_numpy(middle).permute(2, 0, 1) / 127.5 - 1)


def test_fixed_views_are_degraded_alike_each_time_they_are_shown(tmp_path):
    images = training_set(settings(photos(tmp_path / "p", 2), degrade="noise20"))
    shown = batches(images, 4, views=2)
    assert torch.equal(*(batch.input[batch.index.argsort()] for batch in (shown[0], shown[2])))
    assert not torch.equal(*(batch.input[batch.index.argsort()] for batch in (shown[0], shown[1])))


def test_noise_is_as_strong_as_it_says_and_blur_removes_detail():
    random, flat = np.random.default_rng(0), np.full((64, 64, 3), 128, np.uint8)
    noisy = degrade.parse("noise12").apply(flat, random).astype(float)
    assert abs(noisy.std() - 12) < 0.5 and abs(noisy.mean() - 128) < 0.5
    stripes = np.zeros((32, 32, 1), np.uint8)
    stripes[:, ::2] = 255
    assert (
        degrade.parse("blur2").apply(stripes, random).std() < 20 < degrade.parse("jpeg95").apply(stripes, random).std()
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sharpen", "one of bicubic, blur"),
        ("blur99", "from 0 to 32"),
        ("noise20..10", "from 0 to 255"),
        ("bicubic2..4", "one whole number"),
        ("bicubic4+bicubic4", "divides the sides by 16"),
        ("", "must be one of"),
        ("+".join(["blur1"] * 9), "use at most 8"),
    ],
)
def test_an_impossible_degradation_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        DataSettings(degrade=text)


def test_a_degradation_that_does_not_fit_the_generator_is_refused(tmp_path):
    root = photos(tmp_path / "p")
    for text, scale, advice in (("bicubic4", 2, "another generator"), ("noise", 4, "bicubic4")):
        with pytest.raises(RecipeError, match=advice):
            training_set(settings(root, degrade=text), scale=scale)
    with pytest.raises(RecipeError, match="enlarges 4 times needs single images"):
        training_set(settings(root, kind="unpaired"), scale=4)
    for values in (
        {"kind": "paired", "degrade": "blur"},
        {"crop": "random", "load_size": 9},
        {"kind": "labels", "crop": "random"},
    ):
        with pytest.raises(ValueError, match=r"omit it|give only one"):
            settings(root, **values)


@pytest.mark.parametrize("channels", [(1, 3), (3, 1), (4, 4)])
def test_an_input_has_the_networks_channels(tmp_path, channels):
    root = tmp_path / "p"
    root.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 4), dtype=np.uint8)
    Image.fromarray(pixels if 4 in channels else pixels[:, :, :3]).save(root / "a.png")
    images = training_set(settings(root, degrade="jpeg90", size=16, load_size=16, flip=False))
    batch = images.stream(channels, 1, 0)._prepare(0)
    assert (batch.input.shape[1], batch.target.shape[1]) == channels
    if channels[0] == 4:  # each channel by itself, whatever the fourth is
        assert (batch.input - batch.target).abs().mean() < 0.1
    elif channels[0] == 1:
        grey = np.array(Image.fromarray(pixels[:, :, :3]).convert("L")) / 127.5 - 1
        assert (batch.input[0, 0] - torch.from_numpy(grey)).abs().mean() < 0.1
    else:
        assert torch.equal(batch.input[:, 0], batch.input[:, 2])


def test_photos_that_are_enlarged_to_be_the_truth_are_told(tmp_path):
    told = []
    training_set(settings(photos(tmp_path / "p"), degrade="bicubic4"), scale=4, on_event=told.append)
    assert "smaller than 32 px, down to 24" in told[0]["message"]
    training_set(settings(tmp_path / "p", degrade="bicubic2"), scale=2, on_event=lambda event: pytest.fail(str(event)))


def test_another_kind_of_data_takes_the_place_of_a_degradation_and_the_other_way_round(tmp_path):
    from vemcompress.recipe import read

    assert read("srgan", ["data.kind=paired"]).data.degrade is None
    assert read("pix2pix", ["data.degrade=blur"]).data.kind == "single"
    assert read("gcc", ["data.degrade=bicubic4"]).gan.name == "srgan"
    assert read("gcc", ["data.kind=paired"]).gan.name == "pix2pix"
