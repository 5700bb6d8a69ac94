"""CycleGAN's image pool: what it returns, what it keeps, and what a checkpoint holds of it."""

import torch
from safetensors.torch import load
from toys import random

from vemcompress.gans.pool import ImagePool
from vemcompress.weights.format import safetensors_bytes


def numbered(*numbers: int) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float32).view(-1, 1, 1, 1).expand(-1, 3, 2, 2)


def first_pixels(images: torch.Tensor) -> list[int]:
    return images[:, 0, 0, 0].int().tolist()


def test_a_pool_fills_first_and_returns_what_it_is_given():
    pool = ImagePool(3)
    assert first_pixels(pool.query(numbered(1, 2), random())) == [1, 2]
    assert first_pixels(pool.query(numbered(3), random())) == [3]
    assert first_pixels(pool.images) == [1, 2, 3]


def test_a_full_pool_returns_an_image_or_swaps_it_for_a_stored_one():
    pool, generator = ImagePool(4), random()
    pool.query(numbered(0, 1, 2, 3), generator)
    swapped, places, count = 0, set(), 400
    for number in range(4, 4 + count):
        before = first_pixels(pool.images)
        returned = first_pixels(pool.query(numbered(number), generator))[0]
        after = first_pixels(pool.images)
        if returned == number:
            assert after == before
        else:
            place = before.index(returned)
            assert after == [number if i == place else x for i, x in enumerate(before)]
            swapped, places = swapped + 1, places | {place}
    assert 0.4 < swapped / count < 0.6
    assert places == {0, 1, 2, 3}


def test_what_a_batch_stores_may_come_back_within_it():
    pool = ImagePool(1)
    pool.query(numbered(0), random())
    returned = first_pixels(pool.query(numbered(*range(1, 30)), random()))
    kept = first_pixels(pool.images)
    assert sorted(returned + kept) == list(range(30))
    assert returned != list(range(1, 30))


def test_a_pool_keeps_constants_of_its_own():
    pool = ImagePool(2)
    image = torch.zeros(1, 3, 2, 2, requires_grad=True)
    returned = pool.query(image * 1, random())
    assert not returned.requires_grad
    returned += 5
    assert first_pixels(pool.images) == [0]


def test_a_pool_of_size_zero_keeps_nothing():
    pool = ImagePool(0)
    assert first_pixels(pool.query(numbered(1, 2), random())) == [1, 2]
    assert len(pool) == 0


def test_a_restored_pool_goes_on_as_the_saved_one():
    saved, restored = ImagePool(3), ImagePool(3)
    for count in (0, 2, 1):
        if count:
            saved.query(numbered(*range(count)), random())
        restored.load_state_dict(load(safetensors_bytes(saved.state_dict())))
        assert torch.equal(restored.images, saved.images)
    a, b = (pool.query(numbered(*range(10, 20)), random(1)) for pool in (saved, restored))
    assert torch.equal(a, b)
    assert torch.equal(restored.images, saved.images)


def test_a_pool_draws_from_pytorchs_own_generator_where_none_is_given():
    pools = ImagePool(2), ImagePool(2)
    for pool in pools:
        torch.manual_seed(0)
        pool.query(numbered(*range(8)))
    assert torch.equal(pools[0].images, pools[1].images)
