"""The stream of training batches: determined by seed and step, whatever happens around it."""

import os
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from toys import find_images

from vemcompress.data.stream import ImageStream, test_batch
from vemcompress.errors import InputError, RecipeError


@pytest.fixture
def paths(tmp_path):
    """Seven noise images of odd sizes, each darker than the next."""
    rng = np.random.default_rng(0)
    for i in range(7):
        noise = rng.integers(30 * i, 30 * i + 30, (20 + i, 24, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / f"{i}.png")
    return sorted(tmp_path.iterdir())


def stream(paths, **changes):
    return ImageStream(paths, **{"size": 16, "batch": 2, "seed": 3, **changes})


def shades(batch):
    """Which image each sample of a batch comes from."""
    return [int((x.mean().item() + 1) * 127.5 // 30) for x in batch]


def test_a_batch_depends_on_seed_and_step_alone(paths):
    ahead, fresh = stream(paths), stream(paths, cache_bytes=0)
    batches = [ahead.batch(step).input for step in range(9)]
    assert torch.equal(batches[6], fresh.batch(6).input)
    assert not torch.equal(batches[6], stream(paths, seed=4).batch(6).input)
    assert batches[0].shape == (2, 3, 16, 16) and batches[0].dtype == torch.float32


def test_every_epoch_is_another_permutation(paths):
    s = stream(paths, batch=7)
    first, second = shades(s.batch(0).input), shades(s.batch(1).input)
    assert sorted(first) == sorted(second) == list(range(7))
    assert first != second
    assert s.epoch_length == 1


def test_prefetching_from_a_step_yields_the_same_batches_and_stops_when_closed(paths):
    s, plain = stream(paths, workers=3), stream(paths)
    iterator = s.iterate(start_step=5)
    for expected in range(5, 14):
        step, batch = next(iterator)
        assert step == expected and torch.equal(batch.input, plain.batch(step).input)
    iterator.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("vemcompress-data")]


def test_values_span_minus_one_to_one_and_whole_images_are_untouched(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    picture[0, 0], picture[0, 1] = 0, 255
    Image.fromarray(picture).save(tmp_path / "a.png")
    batch = stream([tmp_path / "a.png"], batch=1, crop=False, flip=False).batch(0).input
    assert batch.min() == -1 and batch.max() == 1
    assert torch.equal(((batch[0] + 1) * 127.5).round().byte().permute(1, 2, 0), torch.from_numpy(picture))


def test_crops_and_flips_vary_and_reach_every_offset(tmp_path):
    ramp = np.repeat(np.arange(18, dtype=np.uint8)[None, :, None] * 10, 18, 0).repeat(3, 2)
    Image.fromarray(ramp).save(tmp_path / "a.png")
    s = stream([tmp_path / "a.png"], load_size=18, batch=1)
    edges = [((s.batch(k).input[0, 0, 0] + 1) * 12.75).round()[[0, -1]].tolist() for k in range(60)]
    assert {tuple(e) for e in edges} == {(a, a + 15) for a in range(3)} | {(a + 15, a) for a in range(3)}


def test_each_image_has_its_fixed_views_and_every_epoch_shows_the_next(paths):
    s = stream(paths, views=2, batch=7)
    seen = {}
    for epoch in range(6):
        batch = s.batch(epoch).input
        keys = s.keys(epoch)
        assert sorted(keys) == [2 * image + epoch % 2 for image in range(7)]
        assert shades(batch) == [key // 2 for key in keys]
        for key, image in zip(keys, batch, strict=True):
            assert torch.equal(seen.setdefault(key, image), image)
    assert len({image.numpy().tobytes() for image in seen.values()}) == len(seen) == 14
    other = stream(paths, views=2, batch=7, seed=4)
    assert not all(
        torch.equal(image, seen[key]) for key, image in zip(other.keys(0), other.batch(0).input, strict=True)
    )


def test_keys_are_of_the_images_that_were_used(paths):
    bad = stream(paths, batch=7)._order(0).tolist()[2]
    paths[bad].write_text("not an image")
    s = stream(paths, batch=7, views=1)
    batch = s.batch(0)
    assert shades(batch.input) == s.keys(0) == batch.index.tolist()
    assert bad not in s.keys(0)


def test_the_cache_stays_below_its_limit(paths):
    one = 18 * 18 * 3
    s = stream(paths, cache_bytes=3 * one + 1)
    for step in range(8):
        s.batch(step)
    assert sum(a.nbytes for a in s._cache.values()) == 3 * one


def test_bad_images_are_replaced_by_the_next_of_the_order_and_reported_once(paths):
    order = stream(paths, batch=7)._order(0).tolist()
    bad = paths[order[2]]
    bad.write_text("not an image")
    events = []
    s = stream(paths, batch=7, on_event=events.append)
    assert shades(s.batch(0).input) == [*order[:2], order[3], *order[3:]]
    s.batch(1)
    assert list(s.skipped) == [bad] and [e["path"] for e in events] == [str(bad)]
    assert torch.equal(s.batch(1).input, stream(paths, batch=7).batch(1).input)


def test_no_readable_image_is_an_input_error_in_the_prefetching_too(paths):
    for path in paths:
        path.write_bytes(b"")
    with pytest.raises(InputError, match="none of 7 images"):
        next(stream(paths).iterate())
    with pytest.raises(InputError, match="none of 7 images"):
        test_batch(paths, 16)


def test_grey_streams_have_one_channel(paths):
    assert stream(paths, channels=1).batch(0).input.shape == (2, 1, 16, 16)
    with pytest.raises(InputError, match="35") as caught:
        stream(paths, channels=35)
    assert "data.kind" not in str(caught.value)  # no recipe has it yet


@pytest.mark.parametrize("changes", [{"load_size": 8}, {"load_size": 20, "crop": False}])
def test_impossible_sizes_are_recipe_errors(paths, changes):
    with pytest.raises(RecipeError):
        stream(paths, **changes)


def test_test_batch_is_fixed_and_leaves_out_bad_images(paths):
    paths[1].write_bytes(b"")
    events = []
    batch = test_batch(paths, 16, count=3, on_event=events.append)
    assert batch.shape == (3, 3, 16, 16) and shades(batch) == [0, 2, 3]
    assert events[0]["reason"] == "the file is empty"


def test_real_photos_stream():
    data = os.environ.get("VEMCOMPRESS_TEST_DATA")
    if not data:
        pytest.skip("VEMCOMPRESS_TEST_DATA is not set")
    paths = find_images([Path(data) / "horse2zebra"])
    batch = ImageStream(paths, size=64, batch=4, seed=0).batch(1).input
    assert len(paths) == 247 and batch.shape == (4, 3, 64, 64) and batch.std() > 0.2
