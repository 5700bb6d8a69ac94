"""Images that were there when a run began and are gone: few are passed over, many end the run, which can go on."""

import pytest
from toys import TOY, toy_images, toy_teacher_file

from vemcompress.commands.distill import distill
from vemcompress.data.listing import list_images
from vemcompress.data.pair_stream import PairStream, UnpairedStream
from vemcompress.data.pairs import find_pairs
from vemcompress.data.stream import ImageStream
from vemcompress.errors import InputError

OPTIONS = {"size": 16, "batch": 1, "seed": 0, "cache_bytes": 0, "workers": 2}


def streams(root, count):
    """By kind of data, with the folder whose images may go."""
    a, b = toy_images(root / "a", count, 16), toy_images(root / "b", count, 16)
    return {
        "single": lambda: ImageStream(list_images(a), **OPTIONS),
        "paired": lambda: PairStream(find_pairs([a, b], kind="paired"), **OPTIONS),
        "unpaired": lambda: UnpairedStream(find_pairs([a, b], kind="unpaired"), **OPTIONS),
    }


def lose(folder, count):
    for path in list_images(folder)[:count]:
        path.unlink()


@pytest.mark.parametrize("kind", ["single", "paired", "unpaired"])
def test_more_than_a_tenth_lost_ends_the_batches_at_once(kind, tmp_path):
    stream = streams(tmp_path, 20)[kind]()
    batches = stream.iterate()
    next(batches)
    lose(tmp_path / ("a" if kind == "single" else "b"), 15)
    with pytest.raises(InputError, match=r"\d+ of 20 images that existed .*--resume"):
        for _ in range(40):
            next(batches)


@pytest.mark.parametrize(("count", "lost"), [(20, 2), (5, 1)])
def test_a_few_lost_are_passed_over(count, lost, tmp_path):
    stream = streams(tmp_path, count)["single"]()
    lose(tmp_path / "a", lost)
    for step in range(2 * count):
        stream.batch(step)
    assert len(stream.skipped) == lost


def test_files_that_never_were_images_are_not_lost(tmp_path):
    make = streams(tmp_path, 10)["single"]
    for path in list_images(tmp_path / "a")[:6]:
        path.write_bytes(b"no image")
    stream = make()
    stream._vanished._since += 1  # they are older than the run
    for step in range(20):
        stream.batch(step)
    assert len(stream.skipped) == 6


def test_files_that_are_spoilt_meanwhile_are_lost(tmp_path):
    stream = streams(tmp_path, 10)["single"]()
    stream._vanished._since -= 1
    for path in list_images(tmp_path / "a")[:6]:
        path.write_bytes(b"")
    with pytest.raises(InputError, match="can no longer be read"):
        for step in range(20):
            stream.batch(step)


def test_a_run_whose_data_vanish_ends_with_4_and_goes_on_when_they_are_back(tmp_path, monkeypatch):
    monkeypatch.setattr("vemcompress.data.stream.default_cache", lambda: 0)
    teacher, images = toy_teacher_file(tmp_path / "t.safetensors"), toy_images(tmp_path / "d", 20)

    def vanish(event):
        if event["event"] == "checkpoint" and event["step"] == 3:
            images.rename(tmp_path / "gone")

    overrides = (*TOY, "train.steps=12", "train.batch=1", "data.workers=2")
    made = {"data": images, "overrides": overrides, "device": "cpu"}
    with pytest.raises(InputError, match=r"d: 20 of 20 images that existed") as caught:
        distill(teacher, out=tmp_path / "run", on_event=vanish, **made)
    assert caught.value.exit_code == 4 and (tmp_path / "run" / "checkpoints" / "step-000003").is_dir()
    (tmp_path / "gone").rename(images)
    assert distill(resume=tmp_path / "run", device="cpu").steps == 12
    distill(teacher, out=tmp_path / "whole", **made)
    one, other = ((tmp_path / run / "student.safetensors").read_bytes() for run in ("run", "whole"))
    assert one == other


def test_what_cannot_be_read_is_told_once_and_counted_as_told(tmp_path):
    teacher, images = toy_teacher_file(tmp_path / "t.safetensors"), toy_images(tmp_path / "d", 6)
    (images / "junk.png").write_bytes(b"no image")
    whole = (images / "5.png").read_bytes()
    (images / "5.png").write_bytes(whole[: len(whole) // 2])
    told = []
    overrides = (*TOY, "train.steps=9", "train.batch=2", "data.held_out=2")
    result = distill(
        teacher, data=images, out=tmp_path / "run", overrides=overrides, device="cpu", on_event=told.append
    )
    skipped = [event["path"] for event in told if event["event"] == "skipped"]
    assert sorted(skipped) == [str(images / "5.png"), str(images / "junk.png")] and result.skipped_images == 2
    assert next(event for event in told if event["event"] == "data")["images"] == 5
