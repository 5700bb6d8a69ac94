"""The quickstart's scenes, and the teacher that was trained on them."""

import numpy as np
import pytest
import torch

from vemcompress import recipe as recipes
from vemcompress.commands.quickstart import TEACHER, teacher
from vemcompress.commands.quickstart.scenes import draw_pair, write_pairs
from vemcompress.commands.quickstart.shapes import Light, Shape, gradient, rasterise
from vemcompress.data.images import read_image
from vemcompress.data.listing import list_images
from vemcompress.networks.generators.resnet import ResNetConfig
from vemcompress.recipe.resolve import resolve
from vemcompress.weights.loading import load_generator


def test_a_scene_is_determined_by_its_seed():
    day, night = draw_pair(5, 64)
    again = draw_pair(5, 64)
    assert day.shape == night.shape == (64, 64, 3) and day.dtype == night.dtype == np.uint8
    assert (day == again[0]).all() and (night == again[1]).all()
    assert np.abs(day.astype(int) - draw_pair(6, 64)[0]).mean() > 10


@pytest.mark.parametrize("size", [64, 96, 128])
def test_every_night_is_dark_with_lights_and_no_day_is_like_another(size):
    days, nights = zip(*(draw_pair(seed, size) for seed in range(8)), strict=True)
    assert min(day.mean() for day in days) > 110 and max(night.mean() for night in nights) < 90
    assert min(night.max() for night in nights) > 200
    apart = [np.abs(a.astype(int) - b).mean() for i, a in enumerate(days) for b in days[:i]]
    assert min(apart) > 10


def test_the_same_scene_is_drawn_at_every_size():
    large, small = draw_pair(3, 128)[1], draw_pair(3, 64)[1]
    shrunk = large.reshape(64, 2, 64, 2, 3).mean((1, 3))
    assert np.abs(shrunk - small).mean() < 6


def test_a_light_whose_source_is_covered_is_not_seen():
    sky, light = gradient((0, 0, 0), (0, 0, 0), 0.5, 32), Light(0.5, 0.5, 0.2, (90, 90, 90), (0.5, 0.5))
    lit = Shape("rectangle", [(0.4, 0.4), (0.6, 0.6)], (9, 9, 9), (255, 220, 120))
    wall = Shape("rectangle", [(0.3, 0.3), (0.7, 0.7)], (9, 9, 9), (9, 9, 9))
    assert rasterise(sky, [lit], [light], night=True)[2, 16].sum() > 0
    assert rasterise(sky, [lit, wall], [light], night=True)[2, 16].sum() == 0


def test_written_pairs_are_the_scenes_by_day_and_by_night(tmp_path):
    days = write_pairs(tmp_path, "train", count=3, seed=40, size=64)
    nights = list_images(tmp_path / "trainB")
    assert list_images(tmp_path / "trainA") == days and [path.name for path in nights] == [path.name for path in days]
    day, night = draw_pair(42, 64)
    assert (read_image(days[2]) == day).all() and (read_image(nights[2]) == night).all()


def test_training_a_teacher_lowers_its_losses():
    losses = []
    config = ResNetConfig(width=4, blocks=1)
    args = {"seed": 0, "drawn": 4, "sizes": (32,), "config": config}
    made = teacher.train(40, on_step=lambda step, terms, averaged: losses.append(terms["l1"]), **args)
    assert len(losses) == 40 and np.mean(losses[-5:]) < 0.8 * losses[0]
    assert not made.training and made.config == config


def test_the_embedded_teacher_turns_unseen_days_into_nights():
    assert TEACHER.stat().st_size < 3_500_000
    generator = load_generator(TEACHER)
    day, night = teacher.to_float(teacher.pairs(teacher.TEST_SEED, 8, 96)).unbind(1)
    with torch.inference_mode():
        error = (generator(day) - night).abs().mean()
    assert error < 0.05 and error < 0.1 * (day - night).abs().mean()


def test_the_quickstarts_recipe_has_the_settings_that_were_measured():
    """Without any one of these its windows stay dark or its edges are blurred, which takes minutes to see."""
    generator = load_generator(TEACHER)
    plan = resolve(recipes.read("quickstart"), generator, 400)
    assert plan.student.family == "unet" and plan.data.load_size == plan.data.size
    assert plan.algorithm.squared > plan.algorithm.recon > 0 and plan.train.steps * plan.train.batch >= 4400
    large, small = (config.cost(96, 96) for config in (generator.config, plan.student))
    assert 10 * small.parameters < large.parameters and 10 * small.true < large.true
