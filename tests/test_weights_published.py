"""Published files give the published networks' images, to 1e-4."""

import os
from pathlib import Path

import published
import pytest
import torch
from published import BATCH, INSTANCE, randomise
from safetensors.torch import load_file, save_file
from torch import nn

from vemcompress.errors import InputError, RecipeError
from vemcompress.weights.loading import load
from vemcompress.weights.recognise import hint
from vemcompress.weights.traced import macs_by_hooks

WIDTHS = (4, 6, 8, 6, 4)
FULL = (8,) * 9
AFFINE = lambda channels: nn.InstanceNorm2d(channels, affine=True)  # noqa: E731
UNTRACKED = lambda channels: nn.BatchNorm2d(channels, track_running_stats=False)  # noqa: E731
WHOLE = (
    ((1, 3), (3, 3), (5, 3)),
    ((1, 2), (3, 2), (5, 2)),
)  # CAT's branches: kernel size and width, dense and depthwise
PRUNED = (((3, 2),), ((1, 4), (5, 1)))


def resnet(**options):
    return published.ResnetGenerator(options.pop("widths", WIDTHS), options.pop("inner", (8,) * 3), **options)


def inception(blocks, *, norm=AFFINE, bias=True):
    return published.InceptionGenerator(WIDTHS, blocks, norm=norm, bias=bias)


CASES = {
    "resnet-9-instance": lambda: resnet(inner=FULL),
    "resnet-6-dropout": lambda: resnet(inner=(8,) * 6, dropout=True),
    "resnet-batch": lambda: resnet(norm=BATCH),
    "resnet-batch-dropout": lambda: resnet(norm=BATCH, dropout=True),
    "resnet-affine": lambda: resnet(norm=AFFINE),
    "resnet-pruned": lambda: resnet(widths=(3, 5, 7, 4, 6), inner=(2, 9, 1)),
    "resnet-labels-to-edges": lambda: resnet(channels=(35, 1)),
    "mobile-instance": lambda: resnet(mobile=True, dropout=True),
    "mobile-without-dropout": lambda: resnet(mobile=True),
    "mobile-batch": lambda: resnet(mobile=True, dropout=True, norm=BATCH),
    "mobile-sub-network": lambda: resnet(mobile=True, dropout=True, widths=(3, 5, 7, 4, 6), inner=(2, 9, 4)),
    "unet-2-batch": lambda: published.UnetGenerator(4, 2),
    "unet-5-batch-dropout": lambda: published.UnetGenerator(4, 5, dropout=True),
    "unet-3-instance": lambda: published.UnetGenerator(4, 3, norm=INSTANCE),
    "unet-4-affine": lambda: published.UnetGenerator(4, 4, norm=AFFINE),
    "unet-edges": lambda: published.UnetGenerator(4, 3, channels=(1, 4)),
    "cut": lambda: published.CutGenerator(4, 9),
    "cut-down-alone": lambda: published.CutGenerator(4, 3, up=False),
    "cut-up-alone": lambda: published.CutGenerator(4, 3, down=False),
    "upsampled": lambda: published.UpsampleGenerator(4, 3),
    "named": lambda: published.NamedGenerator(4, 3),
    "named-grey": lambda: published.NamedGenerator(4, 2, channels=1),
    "cartoongan": lambda: published.CartoonGenerator(4),
    "inception-affine": lambda: inception((WHOLE,) * 3),
    "inception-pruned": lambda: inception((PRUNED, ((), ()), WHOLE, ((), ((3, 2),)))),
    "inception-batch": lambda: inception((WHOLE, PRUNED), norm=BATCH, bias=False),
}


def image(channels: int, size: int = 32) -> torch.Tensor:
    return torch.rand(2, channels, size, size, generator=torch.Generator().manual_seed(1)) * 2 - 1


@torch.no_grad()
def difference(reference: nn.Module, ours: nn.Module, size: int = 32) -> float:
    bgr = isinstance(reference, published.CartoonGenerator)
    x = image(ours.config.in_channels, size)
    expected = reference(x.flip(1)).flip(1) if bgr else reference(x)
    assert expected.std() > 0.01 and expected.abs().median() < 0.99  # a constant image would agree with anything
    return (ours(x) - expected).abs().max().item()


@pytest.mark.parametrize("case", CASES)
def test_published_file_gives_the_published_image(case, tmp_path):
    reference = randomise(CASES[case]())
    path = tmp_path / "latest_net_G.pth"
    torch.save(reference.state_dict(), path)
    loaded = load(path)
    assert difference(reference, loaded.generator) < 1e-4
    assert not loaded.generator.training
    assert loaded.origin.startswith("published:")
    config = loaded.generator.config
    assert macs_by_hooks(loaded.generator, config.in_channels, 32, 64) == config.cost(32, 64)


def test_batch_norm_without_statistics_normalises_by_the_image(tmp_path):
    reference = randomise(inception((WHOLE, PRUNED), norm=UNTRACKED, bias=False)).eval()
    torch.save(reference.state_dict(), tmp_path / "latest_net_G.pth")
    ours, x = load(tmp_path / "latest_net_G.pth").generator, image(3)
    with torch.no_grad():
        expected = torch.cat([reference(one[None]) for one in x])
        assert (ours(x) - expected).abs().max() < 1e-4


@pytest.mark.parametrize("form", ["legacy", "safetensors", "renamed", "half", "channels_last"])
def test_every_container_gives_the_same_weights(form, tmp_path):
    reference = randomise(resnet())
    state, path = reference.state_dict(), tmp_path / "g.pth"
    if form == "legacy":
        torch.save(state, path, _use_new_zipfile_serialization=False)
    elif form == "safetensors":
        save_file(state, path)  # the bytes decide, not the name
    elif form == "renamed":
        path = tmp_path / "g.safetensors"
        torch.save(state, path)
    else:
        cast = reference.half() if form == "half" else reference.to(memory_format=torch.channels_last)
        torch.save(cast.state_dict(), path)
        reference = reference.float()
    generator = load(path).generator
    assert all(p.dtype is torch.float32 and p.is_contiguous() for p in generator.parameters())
    assert difference(reference, generator) < 1e-4


WRAPPERS = {
    "bare": lambda s: s,
    "g_ema before g": lambda s: {"g": {k: v + 1 for k, v in s.items()}, "g_ema": s, "g_optim": {"state": {0: {}}}},
    "netG": lambda s: {"netG": s, "epoch": 3},
    "state_dict in model": lambda s: {"state_dict": {"model": s}},
    "GCC": lambda s: {"G": s, "D": {"model.0.weight": torch.zeros(1)}, "epoch": 7, "cfg": (8, 8), "fid": 50.5},
    "prefixes": lambda s: {f"module._orig_mod.netG.{k}": v for k, v in s.items()},
    "thop": lambda s: s | {"total_ops": torch.zeros(1), "model.1.total_params": torch.zeros(1)},
    "model inside model": lambda s: {f"model.{k}": v for k, v in s.items()},
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_wrappers_and_prefixes_are_opened(wrapper, tmp_path):
    reference = randomise(resnet())
    torch.save(WRAPPERS[wrapper](reference.state_dict()), tmp_path / "g.pt")
    assert difference(reference, load(tmp_path / "g.pt").generator) < 1e-4


@pytest.mark.parametrize("case", ["resnet-9-instance", "mobile-instance", "unet-3-instance"])
def test_old_instance_norm_statistics_are_dropped(case, tmp_path):
    reference = randomise(CASES[case]())
    state = reference.state_dict()
    for name, module in reference.named_modules():
        if isinstance(module, nn.InstanceNorm2d):
            state |= {f"{name}.running_mean": torch.randn(module.num_features), f"{name}.running_var": torch.ones(1)}
    torch.save(state, tmp_path / "old.pth")
    assert difference(reference, load(tmp_path / "old.pth").generator) < 1e-4


def test_batch_norm_statistics_are_kept_and_must_be_there(tmp_path):
    state = randomise(published.UnetGenerator(4, 3)).state_dict()
    without_counts = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    torch.save(without_counts, tmp_path / "before_0.4.1.pth")
    assert load(tmp_path / "before_0.4.1.pth").generator.config.norm == "batch"
    del state["model.model.1.model.2.running_var"]
    torch.save(state, tmp_path / "cut.pth")
    with pytest.raises(InputError, match=r"model\.model\.1\.model\.2\.running_var' is missing"):
        load(tmp_path / "cut.pth")


def test_batch_norm_with_image_statistics_is_training_mode_at_batch_1(tmp_path):
    reference = randomise(published.UnetGenerator(4, 3))
    torch.save(reference.state_dict(), tmp_path / "g.pth")
    generator = load(tmp_path / "g.pth", norm="batch").generator
    x = image(3)[:1]
    with torch.no_grad():
        assert torch.allclose(generator(x), reference.train()(x), atol=1e-4)
    torch.save(randomise(resnet()).state_dict(), tmp_path / "instance.pth")
    with pytest.raises(RecipeError, match="BatchNorm"):
        load(tmp_path / "instance.pth", norm="batch")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s.pop("model.10.conv_block.1.weight"), "missing"),
        (lambda s: s.update({"model.99.weight": torch.zeros(1)}), "model.99.weight' is surplus"),
        (lambda s: s.update({"model.4.weight": torch.zeros(6, 5, 3, 3)}), "6x5x3x3 of float32 and should be 6x4x3x3"),
        (lambda s: s.update({"model.4.weight": torch.zeros(6, 4, 3, 3, dtype=torch.int8)}), "int8"),
        (lambda s: s.update({"model.1.weight": torch.full((4, 3, 7, 7), float("nan"))}), "NaN"),
        (
            lambda s: s.update({"model.2.running_mean": torch.zeros(4), "model.2.weight": torch.ones(4)}),
            "surplus|missing",
        ),
    ],
)
def test_what_does_not_fit_is_named(change, said, tmp_path):
    state = randomise(resnet()).state_dict()
    change(state)
    torch.save(state, tmp_path / "g.pth")
    with pytest.raises(InputError, match=said):
        load(tmp_path / "g.pth")


CUT_OFF = {
    "another filter": lambda s: s["model.7.filt"].mul_(2),
    "a filter of another size": lambda s: s.update({"model.7.filt": torch.ones(8, 1, 5, 5)}),
    "a filter that is a number": lambda s: s.update({"model.7.filt": torch.tensor(1.0)}),
    "a filter of whole numbers": lambda s: s.update({"model.7.filt": torch.ones(8, 1, 3, 3, dtype=torch.int64)}),
    "an unusual number": lambda s: s.update({f"model.{'9' * 5000}.conv_block.1.weight": torch.ones(1)}),
    "an unusual name": lambda s: s.update({"a.b.conv_block.1.weight": torch.ones(1)}),
    "no blocks' place": lambda s: s.update({f"model.40{k[8:]}": s.pop(k) for k in list(s) if "model.12.conv" in k}),
}


@pytest.mark.parametrize("case", CUT_OFF)
def test_another_anti_aliased_form_is_named(case, tmp_path):
    state = randomise(published.CutGenerator(4, 3)).state_dict()
    CUT_OFF[case](state)
    torch.save(state, tmp_path / "g.pth")
    with pytest.raises(InputError, match=r"anti-aliased \(CUT\)"):
        load(tmp_path / "g.pth")


def test_the_upsampled_form_of_grey_images_is_refused(tmp_path):
    torch.save(randomise(published.UpsampleGenerator(4, 2, channels=1)).state_dict(), tmp_path / "g.pth")
    with pytest.raises(InputError, match="1 input channels instead of 3"):
        load(tmp_path / "g.pth")


CONV, UP = nn.Conv2d, nn.ConvTranspose2d
GENERATORS = {
    "grey, few layers": lambda: nn.Sequential(CONV(1, 8, 4, 2, 1), UP(8, 1, 4, 2, 1)),
    "grey without bias": lambda: nn.Sequential(CONV(1, 8, 4, 2, 1, bias=False), UP(8, 1, 4, 2, 1, bias=False)),
    "grey, deep": lambda: nn.Sequential(*(CONV(8 if i else 1, 8, 4, 2, 1) for i in range(4)), UP(8, 1, 4, 2, 1)),
    "grey, last plain": lambda: nn.Sequential(
        CONV(3, 8, 4), CONV(8, 16, 4), UP(16, 8, 4), CONV(8, 1, 4, padding="same")
    ),
    "colour": lambda: nn.Sequential(CONV(3, 8, 4, 2, 1), UP(8, 3, 4, 2, 1)),
    "labels": lambda: nn.Sequential(CONV(35, 8, 4, 2, 1), CONV(8, 16, 4, 2, 1), UP(16, 8, 4, 2, 1), UP(8, 3, 4, 2, 1)),
    "U-Net": lambda: published.UnetGenerator(4, 3, channels=(1, 1)),
    "tutorial": lambda: published.NamedGenerator(4, 1, channels=1),
    "upsampled": lambda: published.UpsampleGenerator(4, 1, channels=1),
}


@pytest.mark.parametrize("case", GENERATORS)
def test_no_generator_is_said_to_be_a_discriminator(case):
    assert hint({f"net.{name}": tensor for name, tensor in GENERATORS[case]().state_dict().items()}) == ""


@pytest.mark.parametrize("inputs", [1, 6, 39])
def test_a_discriminator_is_said_to_be_one(inputs):
    network = nn.Sequential(CONV(inputs, 8, 4, 2, 1), CONV(8, 16, 4, 2, 1), CONV(16, 16, 4, 1, 1), CONV(16, 1, 4, 1, 1))
    assert hint(network.state_dict()) == " (looks like a discriminator)"


UNKNOWN = {
    "StyleGAN of another": {"progression.0.to_rgb.weight": (3, 4, 1, 1)},
    "StyleGAN3": {"synthesis.L0_36_4.weight": (4, 4, 3, 3), "synthesis.L0_36_4.magnitude_ema": (1,)},
    "SAGAN": {"l1.0.module.weight_bar": (4, 4, 4, 4)},
    "a discriminator": {"model.0.weight": (8, 6, 4, 4), "model.8.weight": (1, 16, 4, 4)},
    "DCGAN": {"main.0.weight": (100, 16, 4, 4), "main.12.weight": (8, 3, 4, 4)},
    "not a known generator": {"encoder.0.weight": (8, 3, 3, 3)},
}


@pytest.mark.parametrize("what", UNKNOWN)
def test_unknown_networks_are_listed_with_what_to_do(what, tmp_path):
    torch.save({name: torch.ones(shape) for name, shape in UNKNOWN[what].items()}, tmp_path / "g.pt")
    with pytest.raises(InputError, match=what) as caught:
        load(tmp_path / "g.pt")
    first = next(iter(UNKNOWN[what]))
    assert f"{len(UNKNOWN[what])} tensors, first {first!r}" in str(caught.value)
    if "discriminator" in what:
        assert "Give the generator's file" in str(caught.value)
    else:
        assert "mobile_resnet, unet" in str(caught.value)
        assert "--teacher-class" in str(caught.value)


def test_the_real_cartoongan_teacher(tmp_path):
    folder = os.environ.get("VEMCOMPRESS_TEST_DATA")
    path = Path(folder or tmp_path) / "teachers" / "cartoongan_hayao_fp16.safetensors"
    if not path.exists():
        pytest.skip("VEMCOMPRESS_TEST_DATA has no teachers/cartoongan_hayao_fp16.safetensors")
    reference = published.CartoonGenerator()
    reference.load_state_dict({k: v.float() for k, v in load_file(path).items()})
    loaded = load(path)
    assert difference(reference.eval(), loaded.generator, 64) < 1e-4
    assert sum(p.numel() for p in loaded.generator.parameters()) == 11_129_667
