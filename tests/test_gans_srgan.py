"""SRGAN: whole steps against a plain program, the image's error alone at first, perceptual terms, what is refused."""

import pytest
import torch
import torch.nn.functional as F
from gans_toys import copies, steps
from test_data_enlarged import photos
from torchvision.models import squeezenet1_1
from toys import logged, random

import vemcompress
from vemcompress.data.batch import Batch
from vemcompress.errors import RecipeError
from vemcompress.gans import GANS, Start, build_gan
from vemcompress.gans.srgan import OTHER, SRGAN
from vemcompress.networks import build_generator, parse_config
from vemcompress.networks.discriminators.srgan import SRGANDiscriminatorConfig
from vemcompress.networks.features import squeezenet_lpips
from vemcompress.networks.lpips import LPIPS

SHAPE = {"family": "srgan", "width": 4, "blocks": 1, "scale": 2}


def gan(**settings) -> SRGAN:
    torch.manual_seed(3)
    values = {"discriminator": SRGANDiscriminatorConfig(width=2), "features": "none", "pretrain": 2, "lr": 2e-4}
    values |= {"betas": (0.5, 0.999), **settings}
    return SRGAN(SRGAN.Settings(**values), generator=build_generator(parse_config(SHAPE))).double()


def given(count: int):
    generator = random(7)
    shapes = (2, 3, 8, 8), (2, 3, 16, 16)
    return [tuple(torch.rand(s, generator=generator, dtype=torch.double) * 2 - 1 for s in shapes) for _ in range(count)]


def test_steps_are_those_of_a_plain_program():
    ours = gan()
    generator, judge = copies(ours.generator, ours.discriminator)
    of_g, of_d = (torch.optim.Adam(n.parameters(), lr=2e-4, betas=(0.5, 0.999)) for n in (generator, judge))
    log = steps(ours, given(4))
    for step, (small, large) in enumerate(given(4), start=1):
        image = generator(small)
        losses = {}
        if step > 2:
            of_d.zero_grad()
            fake, real = judge(image.detach()), judge(large)
            halves = [F.softplus(scores).mean() / 2 for scores in (fake, -real)]
            sum(halves).backward()
            of_d.step()
            losses |= {"teacher_d_fake": halves[0].item(), "teacher_d_real": halves[1].item()}
        of_g.zero_grad()
        terms = {"teacher_recon": ((image - large) / 2).square().mean()}
        if step > 2:
            terms["teacher_gan"] = 1e-3 * F.softplus(-judge(image)).mean()
        sum(terms.values()).backward()
        of_g.step()
        losses |= {name: value.item() for name, value in terms.items()}
        assert log[step - 1] == pytest.approx(losses, rel=1e-6)
    small, large = given(1)[0]  # biases before a norm have a gradient of rounding alone, and change no image
    assert torch.allclose(ours.generator(small), generator(small), rtol=1e-6)
    assert torch.allclose(ours.discriminator(large), judge(large), rtol=1e-6)


def test_a_perceptual_term_is_the_distance_of_features_times_its_weight():
    ours = gan(pretrain=0, pixel="l1")
    torch.manual_seed(0)
    trunk = squeezenet_lpips(caffe=True)
    trunk.layers.load_state_dict(squeezenet1_1(weights=None).features[: len(trunk.layers)].state_dict())
    distance = LPIPS(trunk).double()
    ours.equip(distance)
    small, large = torch.rand(1, 3, 16, 16).double(), torch.rand(1, 3, 32, 32).double()
    terms = ours.generator_terms("teacher", ours(Batch(small, target=large), random(1)))
    image = ours.generator(small)
    assert terms["teacher_perceptual"].item() == pytest.approx(OTHER * distance(large, image).item(), rel=1e-6)
    assert terms["teacher_recon"].item() == pytest.approx((image - large).abs().mean().item() / 2)
    assert ours.twin(ours.generator, Start("x", {}, {})).features is distance


@pytest.mark.parametrize("name", ["pix2pix", "cyclegan"])
def test_gans_of_one_size_refuse_a_generator_that_enlarges(name):
    with pytest.raises(RecipeError, match="enlarges them 2 times; set it to srgan"):
        build_gan(GANS[name].Settings(), parse_config(SHAPE), Start("r", {}, {}), seed=0, size=64)


def teach(root, out, steps, **more):
    overrides = ["data.size=8", "teacher.network.width=4", "teacher.network.blocks=1", "gan.discriminator.width=2"]
    overrides += ["gan.pretrain=3", "gan.features=none", "train.batch=2", f"train.steps={steps}"]
    overrides += [
        "train.checkpoint_every=2",
        "train.log_every=1",
        "train.constant=1.0",
        "data.held_out=2",
        *more.pop("overrides", []),
    ]
    if "resume" in more:
        return vemcompress.teach(resume=more["resume"], overrides=[f"train.steps={steps}"], device="cpu")
    return vemcompress.teach(recipe="srgan", data=root, out=out, overrides=overrides, device="cpu")


def test_a_teacher_of_photos_made_small_is_taught_resumed_and_distilled(tmp_path, one_thread, no_inception):
    root = photos(tmp_path / "photos", 6, 50, 40)
    whole = teach(root, tmp_path / "whole", 6)
    teach(root, tmp_path / "parts", 4)
    teach(root, tmp_path / "parts", 6, resume=tmp_path / "parts")
    files = [(tmp_path / run / "teacher.safetensors").read_bytes() for run in ("whole", "parts")]
    assert files[0] == files[1]
    assert ["teacher_gan" in entry for entry in logged(tmp_path / "whole")] == [False] * 3 + [True] * 3
    assert "l1_target" in str(whole.best)

    for recipe, more in {"omgd": [], "gcc": ["gan.name=srgan", "gan.features=none", "gan.pretrain=0"]}.items():
        overrides = ["algorithm.features=none"] if recipe == "omgd" else ["prune.share=0.95", "data.flip=true"]
        overrides += [*more, "information.channels=2", "information.steps=1", "train.batch=2", "train.steps=2"]
        out = tmp_path / recipe
        vemcompress.distill(tmp_path / "whole", data=root, out=out, recipe=recipe, overrides=overrides, device="cpu")
        found = vemcompress.evaluate(out, device="cpu")
        assert found.metrics["psnr_y_target"] > 3 and found.size == 32


def test_photos_made_small_are_a_teacher_by_themselves_and_an_onnx_file_of_the_student_is_one(
    tmp_path, one_thread, no_inception
):
    root = photos(tmp_path / "photos", 6, 50, 40)
    short = ["data.degrade=bicubic2", "data.size=16", "algorithm.features=none", "train.batch=2", "train.steps=2"]
    short += ["information.channels=2", "information.steps=1"]
    alone = ["data.kind=single", "student.family=srvgg", "student.width=2", "student.blocks=1", "student.scale=2"]
    vemcompress.distill(data=root, out=tmp_path / "a", recipe="pairs", overrides=[*short, *alone], device="cpu")
    vemcompress.export_onnx(str(tmp_path / "a"), tmp_path / "a.onnx")
    more = [*short, "student.width=2"]
    vemcompress.distill(tmp_path / "a.onnx", data=root, out=tmp_path / "b", overrides=more, device="cpu")
    found = vemcompress.evaluate(tmp_path / "b", device="cpu")
    assert {"ssim_teacher", "psnr_y_target"} <= found.metrics.keys() and found.size == 32
