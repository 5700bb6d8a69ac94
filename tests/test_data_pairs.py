"""Pairs, label maps and domains: which images belong together, and that they stay together."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from toys import tensors

from vemcompress.data.pair_stream import PairStream, UnpairedStream, test_pairs
from vemcompress.data.pairs import find_pairs
from vemcompress.errors import InputError, RecipeError

BOTH = {"size": 16, "batch": 2, "seed": 3}


def picture(path, value=0, width=20, height=20):
    """Noise of [value, value + 20), so that a picture can be known by its mean."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(value).integers(value, value + 20, (height, width, 3), np.uint8)
    Image.fromarray(noise).save(path)
    return noise


def label_map(path, values, size=(20, 20)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(0).choice(np.array(values, np.uint8), size)).save(path)


def fill(folder, names, width=20):
    for i, name in enumerate(names):
        picture(folder / name, 20 * i, width=width)


@pytest.fixture
def same(tmp_path):
    """Five pairs of equal halves, by name; each pair has a brightness of its own."""
    for i in range(5):
        noise = picture(tmp_path / f"{i}.png", 40 * i)
        Image.fromarray(np.concatenate([noise, noise], axis=1)).save(tmp_path / f"{i}.png")
    return tmp_path


def level(images):
    return [round((x.mean().item() + 1) * 127.5 // 40) for x in images]


@pytest.mark.parametrize(("direction", "left"), [("AtoB", 0), ("BtoA", 1)])
def test_side_by_side_images_are_cut_in_two(tmp_path, direction, left):
    whole = picture(tmp_path / "train/a.png", width=40)
    pairs = find_pairs(tmp_path, direction=direction)
    assert (pairs.kind, pairs.count, pairs.used, pairs.side_by_side) == ("paired", 1, ("train",), True)
    assert np.array_equal(pairs.read(0)[left], whole[:, :20]) and np.array_equal(pairs.read(0)[1 - left], whole[:, 20:])


def test_an_odd_width_names_the_file_before_the_run_begins(tmp_path):
    fill(tmp_path, ["a.png", "b.png"], width=40)
    picture(tmp_path / "wrong.png", width=41)
    with pytest.raises(InputError, match=r"wrong\.png: 41 px wide"):
        find_pairs(tmp_path, kind="paired")


def test_an_odd_width_that_only_rotation_brings_is_found_in_reading(tmp_path):
    exif = Image.Exif()
    exif[274] = 6  # a quarter turn
    Image.new("RGB", (40, 21)).save(tmp_path / "lying.jpg", exif=exif)
    with pytest.raises(InputError, match=r"lying\.jpg: 21 px wide"):
        find_pairs(tmp_path, kind="paired").read(0)


def test_photos_are_not_taken_for_pairs(tmp_path):
    fill(tmp_path, ["a.png"], width=20)
    with pytest.raises(InputError, match="not twice as wide as high"):
        find_pairs(tmp_path)
    assert find_pairs(tmp_path, kind="paired").count == 1


@pytest.mark.parametrize(
    "a, b",
    [("train", "train_label"), ("A/train", "B/train"), ("train/A", "train/B"), ("trainA", "trainB"), ("A", "B")],
)
def test_two_folders_are_joined_by_name(tmp_path, a, b):
    fill(tmp_path / a, ["2.png", "10.png"])
    fill(tmp_path / b, ["10.jpg", "2.jpg"])
    pairs = find_pairs(tmp_path, split="trainA", kind="paired")
    assert [p.name for p in pairs.a] == ["2.png", "10.png"] and [p.name for p in pairs.b] == ["2.jpg", "10.jpg"]
    assert pairs.used == (f"{a} + {b}",) and not pairs.side_by_side
    assert find_pairs([tmp_path / a, tmp_path / b]).b == pairs.b


def test_images_without_a_partner_are_counted_and_named(tmp_path):
    fill(tmp_path / "a", ["1.png", "2.png", "3.png", "4.png", "5.png"])
    fill(tmp_path / "b", ["5.png", "6.png"])
    with pytest.raises(InputError, match=r"4 of 5 and 1 of 2 .*\(a/1.png, a/2.png, a/3.png, \.\.\.\)") as caught:
        find_pairs([tmp_path / "a", tmp_path / "b"])
    assert "data.kind" not in str(caught.value)  # no recipe has it yet


def test_two_images_of_one_name_are_refused(tmp_path):
    fill(tmp_path / "a", ["1.png", "1.jpg"])
    fill(tmp_path / "b", ["1.png"])
    with pytest.raises(InputError, match="have the same name"):
        find_pairs([tmp_path / "a", tmp_path / "b"])


def test_domains_are_unpaired_unless_pairs_are_asked_for(tmp_path):
    fill(tmp_path / "trainA", ["1.png", "2.png", "3.png"])
    fill(tmp_path / "trainB", ["1.png", "2.png"])
    domains = find_pairs(tmp_path, direction="BtoA")
    assert domains.kind == "unpaired" and domains.count == 3 and len(domains.inputs) == 2
    with pytest.raises(InputError, match="1 of 3 and 0 of 2"):
        find_pairs(tmp_path, kind="paired")


def test_evaluation_falls_back_and_says_to_what(tmp_path):
    fill(tmp_path / "one/val", ["a.png"], width=40)
    fill(tmp_path / "two/test", ["b.png"], width=40)
    pairs = find_pairs([tmp_path / "one", tmp_path / "two"], split="testA")
    assert pairs.used == ("val", "test") and [p.name for p in pairs.a] == ["a.png", "b.png"]


def test_sets_of_different_kinds_are_not_mixed(tmp_path):
    fill(tmp_path / "one/train", ["a.png"], width=40)
    fill(tmp_path / "two/trainA", ["b.png"])
    fill(tmp_path / "two/trainB", ["b.png"])
    with pytest.raises(InputError, match="layout differs"):
        find_pairs([tmp_path / "one", tmp_path / "two"])


def test_cityscapes_own_folders_need_no_settings(tmp_path):
    for name in ("bonn_1", "ulm_2"):
        city = name.split("_")[0]
        picture(tmp_path / f"leftImg8bit/val/{city}/{name}_leftImg8bit.png")
        label_map(tmp_path / f"gtFine/val/{city}/{name}_gtFine_labelIds.png", [7, 33, 0])
        picture(tmp_path / f"gtFine/val/{city}/{name}_gtFine_color.png", 40)
    pairs = find_pairs(tmp_path, split="test", direction="BtoA")
    assert (pairs.kind, pairs.count, pairs.used) == ("labels", 2, ("val",))
    assert pairs.labels.classes == 19 and pairs.channels == (19, 3)
    assert set(np.unique(pairs.ground_truth(0))) == {0, 18, 255}
    colour = find_pairs(tmp_path, split="val", kind="paired")
    assert colour.b[0].name == "bonn_1_gtFine_color.png"


def test_cityscapes_labels_as_input_show_the_colours_of_all_labels_as_published(tmp_path):
    picture(tmp_path / "leftImg8bit/val/bonn/bonn_1_leftImg8bit.png")
    label_map(tmp_path / "gtFine/val/bonn/bonn_1_gtFine_labelIds.png", [7, 9, 0])
    pairs = find_pairs(tmp_path, split="test", direction="BtoA", label_input="colour")
    shown = {tuple(colour) for colour in pairs.read(0)[0].reshape(-1, 3).tolist()}
    assert shown == {(128, 64, 128), (250, 170, 160), (0, 0, 0)}  # road, parking (never scored), unlabeled
    assert set(np.unique(pairs.ground_truth(0))) == {0, 255}


def test_labels_may_lie_on_either_side(tmp_path):
    label_map(tmp_path / "trainA/a.png", [0, 1])
    picture(tmp_path / "trainB/a.jpg")
    pairs = find_pairs(tmp_path, kind="labels", classes=2)
    assert pairs.labels_are_input and pairs.channels == (2, 3)


@pytest.mark.parametrize("kind", ["paired", "unpaired"])
def test_class_numbers_are_not_taken_for_pictures(tmp_path, kind):
    picture(tmp_path / "train/a.png")
    label_map(tmp_path / "train_label/a.png", [0, 1, 2])
    with pytest.raises(InputError, match="train_label: these are maps of class numbers"):
        find_pairs(tmp_path, kind=kind)


def test_a_label_outside_the_classes_is_found_before_the_run_begins(tmp_path):
    for i in range(3):
        picture(tmp_path / f"train/{i}.png")
        label_map(tmp_path / f"train_label/{i}.png", [0, 5] if i == 2 else [0, 1])
    with pytest.raises(InputError, match=r"2\.png: label value 5 is outside the 4 classes"):
        find_pairs(tmp_path, classes=4)


@pytest.mark.parametrize("settings", [{"direction": "AtoC"}, {"kind": "single"}])
def test_a_direction_or_kind_that_does_not_exist_is_a_recipe_error(tmp_path, settings):
    with pytest.raises(RecipeError, match="is not known"):
        find_pairs(tmp_path, **settings)


@pytest.mark.parametrize(
    ("roots", "words"),
    [([], "no data"), (["absent"], "no such file"), (["set"], "has trainB/"), (["set", "set"], "more than once")],
)
def test_what_is_not_there_is_an_input_error(tmp_path, roots, words):
    fill(tmp_path / "set/trainB", ["a.png"])
    with pytest.raises(InputError, match=words):
        find_pairs([tmp_path / root for root in roots])


def test_a_pair_shares_its_crop_and_flip(same):
    stream = PairStream(find_pairs(same), **BOTH)
    for step in range(20):
        left, right = tensors(stream.batch(step))
        assert torch.equal(left, right)
    assert left.shape == (2, 3, 16, 16) and left.min() >= -1


def test_a_batch_depends_on_seed_and_step_alone(same):
    pairs = find_pairs(same)
    ahead, plain = PairStream(pairs, workers=3, **BOTH).iterate(4), PairStream(pairs, cache_bytes=0, **BOTH)
    for expected in range(4, 9):
        step, batch = next(ahead)
        assert step == expected and all(map(torch.equal, tensors(batch), tensors(plain.batch(step))))
    ahead.close()
    assert not torch.equal(plain.batch(4).input, PairStream(pairs, **{**BOTH, "seed": 4}).batch(4).input)


def test_an_unreadable_half_replaces_the_pair_and_is_reported_once(tmp_path):
    fill(tmp_path / "a", [f"{i}.png" for i in range(0, 10)])
    fill(tmp_path / "b", [f"{i}.png" for i in range(0, 10)])
    (tmp_path / "b/4.png").write_bytes(b"cut")
    events = []
    stream = PairStream(find_pairs([tmp_path / "a", tmp_path / "b"]), on_event=events.append, **BOTH)
    batches = [tensors(stream.batch(step)) for step in range(10)]
    assert [e["path"] for e in events] == [str(tmp_path / "b/4.png")] and len(stream.skipped) == 1
    assert all((a.mean() - b.mean()).abs() < 0.02 for a, b in batches)


def labelled(tmp_path, sizes=(20, 20)):
    """Photos whose red channel is 20 times the class of every pixel."""
    for i in range(3):
        label_map(tmp_path / f"train_label/{i}.png", [0, 1, 2, 9], sizes)
        numbers = np.asarray(Image.open(tmp_path / f"train_label/{i}.png"))
        (tmp_path / "train").mkdir(exist_ok=True)
        Image.fromarray(np.stack([numbers * 20] * 3, axis=2)).save(tmp_path / f"train/{i}.png")
    return tmp_path


def test_one_hot_labels_stay_on_their_pixels(tmp_path):
    pairs = find_pairs(labelled(tmp_path), classes=3, void=9, direction="BtoA")
    hot, photo = tensors(PairStream(pairs, load_size=20, **BOTH).batch(5))
    classes = ((photo[:, 0] + 1) * 127.5 / 20).round().long()
    assert hot.shape == (2, 3, 16, 16) and torch.equal(hot.sum(1), (classes != 9).float())
    assert torch.equal(hot.argmax(1)[classes != 9], classes[classes != 9])


def test_labels_as_colours_and_as_targets_are_pictures(tmp_path):
    root = labelled(tmp_path)
    colours = test_pairs(find_pairs(root, classes=3, void=9, direction="BtoA", label_input="colour"), 20)[0]
    target = test_pairs(find_pairs(root, classes=3, void=9, direction="AtoB"), 20)[1]
    assert torch.equal(colours, target) and set(target.unique().tolist()) == {-1.0, float(np.float32(128 / 127.5) - 1)}


def test_label_maps_keep_their_classes_when_they_are_resized(tmp_path):
    pairs = find_pairs(labelled(tmp_path, (31, 27)), classes=3, void=9, direction="BtoA")
    hot, _ = tensors(PairStream(pairs, **BOTH).batch(0))
    assert set(hot.unique().tolist()) == {0, 1}


@pytest.mark.parametrize("channels", [(3, 3), (35, 3)])
def test_a_network_of_other_channels_is_a_recipe_error(tmp_path, channels):
    pairs = find_pairs(labelled(tmp_path), classes=11, direction="BtoA")
    with pytest.raises(RecipeError, match=f"have 11 channels, but the network needs {channels[0]}"):
        PairStream(pairs, channels=channels, **BOTH)


def test_grey_networks_get_grey_pairs(same):
    left, right = tensors(PairStream(find_pairs(same), channels=(1, 3), **BOTH).batch(0))
    assert left.shape[1] == 1 and right.shape[1] == 3


def test_the_second_domain_is_drawn_and_augmented_on_its_own(same, tmp_path):
    for path in list(same.iterdir()):
        picture(tmp_path / "other" / path.name, 40 * int(path.stem))
    pairs = find_pairs([same, tmp_path / "other"], kind="unpaired")
    stream = UnpairedStream(pairs, **{**BOTH, "batch": 5})
    epoch = [tensors(stream.batch(step)) for step in range(4)]
    assert all(sorted(level(a)) == [0, 1, 2, 3, 4] for a, _ in epoch)
    drawn = [level(b) for _, b in epoch]
    assert any(sorted(b) != [0, 1, 2, 3, 4] for b in drawn) and len({tuple(b) for b in drawn}) > 1
    again = UnpairedStream(pairs, **{**BOTH, "batch": 5, "cache_bytes": 0}).iterate(2)
    assert all(map(torch.equal, tensors(next(again)[1]), epoch[2]))
    again.close()
    assert stream.epoch_length == 1


def test_two_domains_share_no_crop(tmp_path):
    fill(tmp_path / "a", ["1.png"])
    fill(tmp_path / "b", ["1.png"])
    stream = UnpairedStream(find_pairs([tmp_path / "a", tmp_path / "b"], kind="unpaired"), load_size=20, **BOTH)
    assert any(not torch.equal(*tensors(stream.batch(step))) for step in range(5))


def test_domains_pass_over_what_cannot_be_read(tmp_path):
    fill(tmp_path / "a", ["1.png", "2.png"])
    fill(tmp_path / "b", ["1.png", "2.png"])
    (tmp_path / "b/1.png").write_bytes(b"")
    events = []
    stream = UnpairedStream(
        find_pairs([tmp_path / "a", tmp_path / "b"], kind="unpaired"), on_event=events.append, **BOTH
    )
    for step in range(6):
        stream.batch(step)
    assert len(events) == 1 and list(stream.skipped) == [tmp_path / "b/1.png"]


def test_test_pairs_are_whole_and_leave_out_bad_ones(same):
    (same / "1.png").write_bytes(b"")
    pairs = find_pairs(same, kind="paired", direction="BtoA")
    inputs, targets = test_pairs(pairs, 20, count=2)
    assert level(inputs) == [0, 2] and torch.equal(inputs, targets)
    for path in same.iterdir():
        path.write_bytes(b"")
    with pytest.raises(InputError, match="none of 5 pairs"):
        test_pairs(pairs, 20)


@pytest.fixture
def data():
    if not os.environ.get("VEMCOMPRESS_TEST_DATA"):
        pytest.skip("VEMCOMPRESS_TEST_DATA is not set")
    return Path(os.environ["VEMCOMPRESS_TEST_DATA"])


def test_real_facades_learn_photos_from_labels(data):
    pairs = find_pairs(data / "facades", direction="BtoA")
    labels, photos = test_pairs(pairs, 64, count=8)
    assert pairs.count == 400 and find_pairs(data / "facades", split="test").count == 106
    blue = labels.mean((0, 2, 3))  # the labels' walls are blue, photos are not
    assert blue[2] - blue[0] > 0.5 > (photos.mean((0, 2, 3))[2] - photos.mean((0, 2, 3))[0]).abs()


def test_real_street_scenes_have_their_sky_above_their_road(data):
    pairs = find_pairs(data / "camvid", classes=11, void=11, direction="BtoA")
    hot, photos = tensors(PairStream(pairs, size=64, batch=8, seed=0).batch(0))
    assert pairs.count == 367 and hot.shape == (8, 11, 64, 64) and photos.shape == (8, 3, 64, 64)
    sky, road = hot[:, 0].mean((0, 2)), hot[:, 3].mean((0, 2))
    assert sky[:16].mean() > 10 * sky[48:].mean() and road[48:].mean() > 10 * road[:16].mean()
    assert photos[(hot[:, :1] > 0).expand_as(photos)].mean() > photos.mean() + 0.3
