"""StyleGAN2's training beside the published steps, its lazy regularisers, its average, and runs of it."""

import json

import published_stylegan2_steps as oracle
import pytest
import torch
from safetensors.torch import load_file
from toys import random, stop_after, toy_images, toy_teacher

from vemcompress.commands.teach import teach
from vemcompress.errors import Interrupted, RecipeError, UsageError
from vemcompress.gans.sparsity import Penalty, Sparsity
from vemcompress.gans.stylegan2 import StyleGAN2GAN, chance_of
from vemcompress.weights.discriminator import load_discriminator
from vemcompress.weights.loading import load_generator


def test_steps_are_the_published_ones(tmp_path, monkeypatch):
    g, d = oracle.published()
    before = oracle.checkpoint(tmp_path / "before.pt", g, d, g)
    ours, judge = load_generator(before).double().train(), load_discriminator(before).double().train()
    settings = StyleGAN2GAN.Settings(r1_every=oracle.R1_EVERY, path_every=oracle.PATH_EVERY)
    gan = StyleGAN2GAN(settings, generator=ours, discriminator=judge).double().requires_grad_(True)
    batches, _ = oracle.our_steps(gan, gan, monkeypatch)
    after = tmp_path / "after.pt"
    wanted, wanted_judge, mean = oracle.networks_after(after, g.double(), d.double(), batches, oracle.Draws())
    assert gan.path.value.item() == pytest.approx(mean, rel=1e-9)
    oracle.assert_alike(gan.average.average, wanted)
    oracle.assert_alike(judge, wanted_judge)
    for old, new in ((load_generator(before), wanted), (load_discriminator(before), wanted_judge)):
        assert all(not torch.equal(p, q) for p, q in zip(old.parameters(), new.parameters(), strict=True))


def test_regularisers_are_due_at_the_first_of_their_steps():
    gan = StyleGAN2GAN(StyleGAN2GAN.Settings(), generator=toy_teacher("stylegan2", size=8, width=4, latent=4))
    due = {u.name: [step for step in range(1, 34) if u.due(step)] for u in gan.updates()}
    assert due["r1"] == [1, 17, 33] and due["path"] == list(range(1, 34, 4)) and len(due["teacher"]) == 33
    assert list(due) == ["discriminator", "r1", "teacher", "path"]
    plain = StyleGAN2GAN(
        StyleGAN2GAN.Settings(r1=0, path=0), generator=toy_teacher("stylegan2", size=8, width=4, latent=4)
    )
    assert [(u.name, u.optimizer.lr) for u in plain.updates()] == [("discriminator", 2e-3), ("teacher", 2e-3)]


def test_where_styles_are_mixed_does_not_go_with_their_latent_vectors():
    gan = StyleGAN2GAN(StyleGAN2GAN.Settings(), generator=toy_teacher("stylegan2", size=8, width=4, latent=16))
    mixed, lengths = [], []
    for seed in range(1500):
        step = random(seed)
        mixed.append(float(gan.mixing_index(chance_of(step)) < gan.generator.config.layers))
        lengths.append(gan.normal(step, 4, 16)[0, [0, 8]].square().sum().item())
    assert 0.87 < sum(mixed) / len(mixed) < 0.93
    assert abs(torch.corrcoef(torch.tensor([mixed, lengths]))[0, 1]) < 0.1


def test_a_penalty_on_plain_convolutions_is_refused():
    generator = toy_teacher("stylegan2", size=8, width=4, latent=4)
    with pytest.raises(RecipeError, match="a stylegan2 has no plain convolutions"):
        Penalty(Sparsity(), generator)


def test_a_generator_without_w_is_refused():
    with pytest.raises(RecipeError, match="a dcgan has no w"):
        StyleGAN2GAN(StyleGAN2GAN.Settings(), generator=toy_teacher("dcgan"))


SMALL = ("teacher.network.size=8", "teacher.network.width=4", "teacher.network.latent=4", "gan.discriminator.width=4")
SMALL = (*SMALL, "gan.discriminator.family=stylegan2", "teacher.network.mapping=2")
SHORT = ("train.steps=6", "train.batch=4", "train.log_every=1", "train.sample_every=3", "train.checkpoint_every=2")
RUN = (*SMALL, *SHORT, "train.best_by=none", "gan.path_every=2", "gan.r1_every=3", "gan.ema=0.5")


def test_compiling_is_refused_and_not_left_out_silently(tmp_path):
    images = toy_images(tmp_path / "faces", 6)
    with pytest.raises(UsageError, match="--compile: training a StyleGAN2 needs second derivatives"):
        teach(recipe="stylegan2", data=images, out=tmp_path / "run", overrides=(*RUN, "train.compile=true"))


def test_a_run_that_was_stopped_ends_as_an_unbroken_one(tmp_path, one_thread):
    images = toy_images(tmp_path / "faces", 6)
    whole = teach(recipe="stylegan2", data=images, out=tmp_path / "whole", overrides=RUN)
    with pytest.raises(Interrupted):
        teach(recipe="stylegan2", data=images, out=tmp_path / "cut", overrides=RUN, on_event=stop_after(3))
    teach(resume=tmp_path / "cut")
    for name in ("teacher", "discriminator"):
        a, b = (load_file(tmp_path / run / f"{name}.safetensors") for run in ("whole", "cut"))
        assert all(torch.equal(a[key], b[key]) for key in a), name
    lines = [json.loads(line) for line in (tmp_path / "cut" / "metrics.jsonl").read_text().splitlines()]
    assert [("teacher_r1" in line, "teacher_path" in line) for line in lines] == [
        (True, True), (False, False), (False, True), (True, False), (False, True), (False, False),
    ]  # fmt: skip
    assert load_generator(whole.teacher).config.widths == (4,) * 4
