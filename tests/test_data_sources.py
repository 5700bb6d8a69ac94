"""What `--data` may name."""

import pytest
from toys import find_images

from vemcompress.data.folders import FILE, FLAT, find_test_images
from vemcompress.errors import InputError


def fill(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


def test_an_unpaired_root_gives_its_split_and_a_flat_folder_its_images(tmp_path):
    fill(tmp_path / "set/trainA", "2.jpg", "10.jpg")
    fill(tmp_path / "set/trainB", "b.jpg")
    flat = fill(tmp_path / "flat", "c.png")
    found = find_images([tmp_path / "set", flat, flat / "c.png"])
    assert [p.name for p in found] == ["2.jpg", "10.jpg", "c.png"]
    assert [p.name for p in find_images([tmp_path / "set"], split="trainB")] == ["b.jpg"]


def test_a_split_that_is_not_there_lists_those_that_are(tmp_path):
    fill(tmp_path / "trainB", "b.jpg")
    fill(tmp_path / "valB", "b.jpg")
    with pytest.raises(InputError, match=r"no trainA/ in this folder, which has trainB/, valB/"):
        find_images([tmp_path])


def test_evaluation_falls_back_and_says_to_what(tmp_path):
    fill(tmp_path / "a/testA", "t.jpg")
    fill(tmp_path / "b/valA", "v.jpg")
    fill(tmp_path / "c", "f.jpg")
    roots = [tmp_path / "a", tmp_path / "b", tmp_path / "c", tmp_path / "c/f.jpg"]
    found = find_test_images(roots)
    assert found.used == ("testA", "valA", FLAT, FILE)
    assert [p.name for p in found.paths] == ["t.jpg", "v.jpg", "f.jpg"]


def test_a_split_asked_for_by_name_is_not_replaced(tmp_path):
    fill(tmp_path / "valA", "v.jpg")
    with pytest.raises(InputError, match="no testB/"):
        find_test_images([tmp_path], split="testB")


@pytest.mark.parametrize(("roots", "words"), [([], "no data"), (["absent"], "no such folder")])
def test_nothing_and_absent_roots_are_input_errors(tmp_path, roots, words):
    with pytest.raises(InputError, match=words):
        find_images([tmp_path / root for root in roots])
