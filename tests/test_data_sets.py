"""One face for all kinds of data: which images are learnt from, held out and shown."""

import numpy as np
import pytest
import torch
from PIL import Image
from toys import tensors, toy_images

from vemcompress.data.sets import test_set as open_test_set
from vemcompress.data.sets import training_set
from vemcompress.data.settings import DataSettings
from vemcompress.errors import InputError


def settings(root, **values) -> DataSettings:
    return DataSettings(roots=(str(root),), size=32, **values)


def labels(folder, count: int = 4) -> None:
    """Photos and label maps of 3 classes, and 7 for void, in train/ and train_label/."""
    toy_images(folder / "train", count, 32)
    (folder / "train_label").mkdir()
    for i in range(count):
        values = np.full((32, 32), i % 3, np.uint8)
        values[:4] = 7
        Image.fromarray(values).save(folder / "train_label" / f"{i}.png")


@pytest.mark.parametrize(("images", "held_out"), [(79, 0), (80, 4), (200, 10), (5000, 64)])
def test_one_training_image_in_twenty_is_held_out_of_sets_that_can_spare_them(tmp_path, images, held_out):
    found = training_set(settings(toy_images(tmp_path, 3)))
    many = found.__class__(found.settings, found.found.__class__(found.paths[:1] * images, ("flat",)))
    learnt, out = many.split_off()
    assert (learnt.count, out.count if out else 0) == (images - held_out, held_out)


def test_held_out_images_are_spread_over_the_list_and_learnt_from_no_more(tmp_path):
    found = training_set(settings(toy_images(tmp_path, 9), held_out=3))
    learnt, out = found.split_off()
    assert [p.stem for p in out.paths] == ["1", "4", "7"]
    assert set(learnt.paths).isdisjoint(out.paths)
    assert learnt.count + out.count == 9


def test_halves_are_the_first_images_and_the_others_and_one_image_has_none(tmp_path):
    found = training_set(settings(toy_images(tmp_path, 5)))
    first, second = found.halves()
    assert ([p.stem for p in first.paths], [p.stem for p in second.paths]) == (["0", "1"], ["2", "3", "4"])
    with pytest.raises(InputError, match="give more images"):
        first.halves()[0].halves()


def test_pictures_show_images_from_all_over_the_list_and_others_where_these_cannot_be_read(tmp_path):
    found = training_set(settings(toy_images(tmp_path, 9)))
    assert [p.stem for p in found.spread(3).paths[:4]] == ["1", "4", "7", "0"]
    for name in ("1", "4", "7"):
        (tmp_path / f"{name}.png").write_bytes(b"no picture")
    assert len(found.spread(3).views((3, 3), 3).inputs) == 3


def test_held_out_pairs_keep_their_partners(tmp_path):
    labels(tmp_path)
    learnt, out = training_set(settings(tmp_path, kind="labels", classes=3, void=7, held_out=1)).split_off()
    for part in (learnt, out):
        assert [p.stem for p in part.found.a] == [p.stem for p in part.found.b]


def test_one_hot_inputs_are_shown_in_their_colours_and_void_in_black(tmp_path):
    labels(tmp_path)
    found = training_set(settings(tmp_path, kind="labels", classes=3, void=7, direction="BtoA"))
    inputs, targets = found.views(found.channels(), 2)
    assert inputs.shape == (2, 3, 32, 32)
    shown = found.picture(inputs)
    assert torch.equal(shown[:, :, :4], torch.full((2, 3, 4, 32), -1.0))
    assert not torch.equal(shown[0, :, 5], shown[1, :, 5])
    assert targets.shape == (2, 3, 32, 32)


def test_two_domains_give_examples_of_what_a_teacher_should_make(tmp_path):
    toy_images(tmp_path / "trainA", 2)
    toy_images(tmp_path / "trainB", 3)
    found = training_set(settings(tmp_path, kind="unpaired", held_out=1))
    learnt, out = found.split_off()
    assert (len(learnt.found.a), len(learnt.found.b), len(out.found.a)) == (1, 3, 1)
    assert out.readable(()) == 3 and out.readable((), inputs_only=True) == 1
    assert found.examples((3, 3), 8).shape == (3, 3, 32, 32)
    a, b = tensors(found.stream((3, 3), 2, 0).batch(0))
    assert a.shape == b.shape == (2, 3, 32, 32)
    assert found.inputs_alone().stream((3, 3), 2, 0).batch(0).input.shape == (2, 3, 32, 32)


def test_test_images_are_the_validation_images_where_there_are_no_others(tmp_path):
    toy_images(tmp_path / "train", 2)
    toy_images(tmp_path / "val", 3, 64)
    for path in (tmp_path / "val").iterdir():
        Image.new("RGB", (64, 32)).save(path)
    assert open_test_set(settings(tmp_path, kind="paired")).count == 3


@pytest.mark.parametrize(("width", "kind", "told"), [(64, "single", 1), (48, "single", 0), (64, "paired", 0)])
def test_single_images_that_look_like_pairs_side_by_side_are_told(tmp_path, width, kind, told):
    Image.new("RGB", (width, 32)).save(tmp_path / "0.png")
    events = []
    training_set(settings(tmp_path, kind=kind), on_event=events.append)
    assert len([e for e in events if "if they are pairs side by side" in e.get("message", "")]) == told
