"""Training on a batch in parts gives the same result as training on the whole batch."""

from copy import deepcopy

import pytest
import torch
from test_reference import SIZE, cagc
from toys import random, stop_after, toy_images, toy_teacher

from vemcompress.commands.distill import distill
from vemcompress.commands.teach import teach
from vemcompress.data.batch import Batch
from vemcompress.errors import Interrupted, RecipeError
from vemcompress.gans.stylegan2 import StyleGAN2GAN
from vemcompress.recipe import TrainSettings
from vemcompress.system.distributed import Part, current, shares, working_on
from vemcompress.training.footprint import footprint
from vemcompress.training.stepper import Stepper, check_parts

CPU, STEPS, VEM = torch.device("cpu"), 4, ("information.channels=4", "information.steps=3", "information.weight=0.2")


def test_parts_keep_the_groups_of_the_discriminator_together_and_make_up_the_whole():
    whole = torch.arange(16)
    parts = [Part(n, 2, 4).of(whole) for n in range(2)]
    groups = {tuple(whole.view(4, -1)[:, k].tolist()) for k in range(4)}
    assert {tuple(part.view(4, -1)[:, k].tolist()) for part in parts for k in range(2)} == groups
    assert torch.cat([Part(n, 4, 4).of(torch.arange(8)) for n in range(4)]).tolist() == list(range(8))
    assert Part(1, 2, 4).of(torch.zeros(3, 16, 5), 1).shape == (3, 8, 5)


def test_what_is_drawn_for_a_part_is_its_share_of_what_is_drawn_for_all():
    gan = StyleGAN2GAN(StyleGAN2GAN.Settings(), generator=toy_teacher("stylegan2", size=8, width=4, latent=4))
    whole = gan.normal(random(1), 8, 3)
    for part in (Part(n, 2, 4) for n in range(2)):
        with working_on(part):
            assert shares() == 2 and torch.equal(gan.normal(random(1), 4, 3), part.of(whole))
    assert current() == Part()


@pytest.mark.parametrize("add_on", [VEM, ("information.name=vid",)])
def test_parts_learn_what_the_whole_batch_learns(add_on, monkeypatch):
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    # path lengths are compared with the mean of their own part, so that their weight is small here
    plan, algorithm = cagc(*add_on, "train.batch=8", "algorithm.adversary.path=1e-6", "algorithm.adversary.r1_every=2")
    plan = plan.but(train=plan.train.but(batch=8))
    whole, split = algorithm.double(), deepcopy(algorithm).double()
    steppers = [
        Stepper(learner, plan.train.but(micro_batch=micro), CPU, 10) for learner, micro in ((whole, None), (split, 4))
    ]
    draws = random(7)
    for step in range(1, STEPS + 1):
        z, x = torch.randn(8, 128, generator=draws), torch.rand(8, 3, SIZE, SIZE, generator=draws) * 2 - 1
        losses, others = (stepper(Batch(z.double(), real=x.double()), step) for stepper in steppers)
        assert losses.keys() == others.keys()
        for name, value in losses.items():
            if name != "path":
                assert others[name].item() == pytest.approx(value.item(), rel=1e-4, abs=1e-7), (step, name)
    for (name, p), (_, q) in zip(whole.named_parameters(), split.named_parameters(), strict=True):
        assert torch.allclose(p, q, atol=1e-5), name
    assert whole.own.path.value.item() == pytest.approx(split.own.path.value.item(), rel=1e-6)


@pytest.mark.parametrize(
    ("changes", "batch", "micro", "said"),
    [
        ({}, 16, 2, "micro_batch 2: the discriminator compares groups of 4 images"),
        ({"splits": False}, 16, 4, "the losses of this recipe need the whole batch"),
    ],
)
def test_parts_that_cannot_be_are_refused(changes, batch, micro, said):
    gan = StyleGAN2GAN(StyleGAN2GAN.Settings(), generator=toy_teacher("stylegan2", size=8, width=4, latent=4))
    for name, value in changes.items():
        setattr(gan, name, value)
    with pytest.raises(RecipeError, match=said):
        check_parts(gan, TrainSettings(batch=batch, micro_batch=micro))


def test_an_add_on_that_compares_a_batchs_images_is_told_before_anything_is_built():
    with pytest.raises(RecipeError, match="micro_batch 4: the add-on crd compares all images of a batch"):
        cagc("information.name=crd", "train.batch=8", "train.micro_batch=4")


def test_methods_that_compare_a_batchs_images_are_not_split():
    for override in ("information.name=crd", "algorithm.relation=30"):
        _, algorithm = cagc(override, "train.batch=8")
        assert not algorithm.splits
    assert cagc("information.name=none")[1].splits


def test_what_a_step_takes_grows_with_its_images_and_parts_take_less():
    gan = StyleGAN2GAN(StyleGAN2GAN.Settings(), generator=toy_teacher("stylegan2", size=32, width=8, latent=4))
    before = {name: p.clone() for name, p in gan.state_dict().items()}
    batch = Batch(torch.randn(4, 4, generator=random(0)), real=torch.zeros(4, 3, 32, 32))
    found = footprint(gan, batch, random(1))
    maps = sum(8 * conv_side**2 for conv_side in gan.generator.noise_sides) * 4  # bytes of an image's maps
    assert 2 * maps < found.image < 20 * maps and found.image_in_parts < found.image
    assert found.of(8) - found.of(4) == 4 * found.image and found.of(8, True) < found.of(8)
    weights = sum(p.numel() for p in gan.parameters()) * 4
    assert found.fixed > 4 * sum(p.numel() for p in gan.generator.parameters()) * 4 and found.fixed > weights
    assert all(torch.equal(p, before[name]) for name, p in gan.state_dict().items())
    assert all(p.grad is None for p in gan.parameters())


SMALL = ("teacher.network.size=8", "teacher.network.width=4", "teacher.network.latent=4", "gan.discriminator.width=4")
SMALL = (*SMALL, "gan.discriminator.family=stylegan2", "teacher.network.mapping=2", "train.best_by=none")
RUN = (*SMALL, "train.steps=4", "train.batch=8", "train.micro_batch=4", "train.checkpoint_every=2", "train.log_every=1")


def test_a_run_in_parts_resumes_and_other_recipes_are_refused(tmp_path, one_thread):
    images = toy_images(tmp_path / "faces", 10)
    events = []
    teach(recipe="stylegan2", data=images, out=tmp_path / "whole", overrides=RUN, on_event=events.append)
    (told,) = (event for event in events if event["event"] == "memory")
    assert (told["batch"], told["micro_batch"], told["least_batch"]) == (8, 4, 4) and 0 < told["least"] <= told["bytes"]
    assert [event["event"] for event in events].index("memory") < [event["event"] for event in events].index("step")
    with pytest.raises(Interrupted):
        teach(recipe="stylegan2", data=images, out=tmp_path / "cut", overrides=RUN, on_event=stop_after(2))
    teach(resume=tmp_path / "cut")
    whole, cut = ((tmp_path / run / "teacher.safetensors").read_bytes() for run in ("whole", "cut"))
    assert whole == cut
    with pytest.raises(RecipeError, match="micro_batch 3 does not divide the 8 images"):
        teach(recipe="stylegan2", data=images, out=tmp_path / "odd", overrides=(*RUN, "train.micro_batch=3"))
    assert not (tmp_path / "odd").exists()
    with pytest.raises(RecipeError, match="the losses of this recipe need the whole batch"):
        distill(
            toy_teacher("resnet"), data=toy_images(tmp_path / "a", 4), out=tmp_path / "run", batch=2, micro_batch=1,
            size=32, width=2, overrides=("algorithm.features=none", "train.steps=2"),
        )  # fmt: skip
