"""Label maps: from class numbers to the channels that a network gets."""

import numpy as np
import pytest
import torch
from PIL import Image

from vemcompress.data import cityscapes
from vemcompress.data.indices import VOID, holds_numbers, nearest_square
from vemcompress.data.labels import LabelMaps, label_maps
from vemcompress.errors import InputError, RecipeError

MAP = np.array([[0, 1, 2], [2, 3, 1]], np.uint8)


def save(path, values, mode=None):
    image = Image.fromarray(np.asarray(values))
    if mode == "P":
        image.putpalette(np.random.default_rng(0).integers(0, 256, 768, np.uint8).tobytes())
    image.save(path)
    return path


@pytest.mark.parametrize(("dtype", "mode"), [(np.uint8, None), (np.uint8, "P"), (np.uint16, None)])
def test_grey_palette_and_wide_maps_are_read_as_numbers(tmp_path, dtype, mode):
    path = save(tmp_path / "a.png", MAP.astype(dtype), mode)
    labels = LabelMaps(3, void=3).read(path)
    assert labels.dtype == np.uint8 and labels.tolist() == [[0, 1, 2], [2, VOID, 1]]


@pytest.mark.parametrize(("value", "dtype"), [(3, np.uint8), (255, np.uint8), (700, np.uint16)])
def test_a_value_outside_the_classes_names_file_and_value(tmp_path, value, dtype):
    path = save(tmp_path / "odd.png", np.array([[0, 1], [2, value]], dtype))
    with pytest.raises(InputError, match=rf"odd\.png: label value {value} is outside the 3 classes \(0 to 2, void 9\)"):
        LabelMaps(3, void=9).read(path)


@pytest.mark.parametrize(("name", "words"), [("a.jpg", "a JPEG cannot be"), ("a.png", "colour picture")])
def test_a_file_without_exact_numbers_is_no_label_map(tmp_path, name, words):
    path = save(tmp_path / name, np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(InputError, match=words):
        LabelMaps(3).read(path)


def test_one_hot_is_zero_and_one_and_nothing_at_void():
    hot = LabelMaps(3, void=9).one_hot(np.array([[[0, 2], [VOID, 1]]], np.uint8))
    assert hot.dtype == torch.float32 and hot.shape == (1, 3, 2, 2)
    assert hot.sum(1).tolist() == [[[1, 1], [0, 1]]]
    assert hot.argmax(1)[0, 0].tolist() == [0, 2] and hot[0, 1, 1, 1] == 1


def test_a_void_that_is_a_class_keeps_its_channel(tmp_path):
    maps = LabelMaps(4, void=3)
    assert maps.one_hot(maps.read(save(tmp_path / "a.png", MAP))[None])[0, 3].sum() == 1


def test_cityscapes_label_ids_become_train_ids(tmp_path):
    maps = label_maps(ids="cityscapes")
    path = save(tmp_path / "a.png", np.array([[7, 11, 33], [0, 29, 255]], np.uint8))
    assert maps.classes == 19 and maps.channels == 19
    assert maps.read(path).tolist() == [[0, 2, 18], [VOID, VOID, VOID]]
    assert cityscapes.CLASSES[::9] == ("road", "terrain", "bicycle") and len(cityscapes.LABELS) == 34
    with pytest.raises(InputError, match="label value 34 is not one of Cityscapes"):
        maps.read(save(tmp_path / "b.png", np.full((2, 2), 34, np.uint8)))


def test_the_palette_is_voc_s_without_black():
    palette = LabelMaps(20).palette
    assert palette[[0, 1, 14]].tolist() == [[128, 0, 0], [0, 128, 0], [192, 128, 128]]
    assert len(np.unique(palette[:20], axis=0)) == 20 and not palette[VOID].any()


def test_resizing_invents_no_class():
    noise = np.random.default_rng(0).choice(np.array([0, 7, 200], np.uint8), (30, 41))
    assert set(np.unique(nearest_square(noise, 17))) <= {0, 7, 200}


@pytest.mark.parametrize(
    ("values", "mode", "what"),
    [
        ([[0, 3], [11, 255]], None, "grey"),
        ([[0, 200]], "P", "palette"),
        ([[0, 255]], None, None),
        ([[9, 90]], None, None),
    ],
)
def test_maps_are_told_from_pictures(tmp_path, values, mode, what):
    assert holds_numbers([save(tmp_path / "a.png", np.array(values, np.uint8), mode)]) == what


@pytest.mark.parametrize(
    "settings", [{}, {"classes": 0}, {"classes": 256}, {"classes": 3, "void": 256}, {"classes": 3, "ids": "cityscapes"}]
)
def test_impossible_settings_are_recipe_errors(settings):
    with pytest.raises(RecipeError, match=r"data\."):
        label_maps(**settings)
