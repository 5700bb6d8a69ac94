"""Batches that are made on a device, from images kept there or sent: the stream's own, bit for bit.

Run on the CPU, where all but pinned memory is the same code.
"""

from itertools import islice

import numpy as np
import pytest
import torch
from PIL import Image
from toys import tensors

from vemcompress.data import on_device as module
from vemcompress.data.on_device import DeviceStream, on_device
from vemcompress.data.pair_stream import PairStream, UnpairedStream
from vemcompress.data.pairs import find_pairs
from vemcompress.data.squares import to_tensor
from vemcompress.data.stream import ImageStream
from vemcompress.errors import InputError

CPU = torch.device("cpu")
OPTIONS = {"size": 16, "batch": 3, "seed": 3}
KINDS = ("images", "grey", "paired", "labels", "unpaired")


@pytest.fixture
def root(tmp_path):
    """Seven noise images in each of two folders, and label maps of 0, 1, 2 and void (9)."""
    rng = np.random.default_rng(0)
    for folder, values in (("a", 256), ("b", 256), ("labels", [0, 1, 2, 9])):
        (tmp_path / folder).mkdir()
        for i in range(7):
            shape = (20, 24, 3) if values == 256 else (20, 24)
            Image.fromarray(rng.choice(values, shape).astype(np.uint8)).save(tmp_path / folder / f"{i}.png")
    return tmp_path


def plain(root, kind, **changes):
    options, a, b = {**OPTIONS, **changes}, root / "a", root / "b"
    match kind:
        case "images" | "grey":
            return ImageStream(sorted(a.iterdir()), channels=1 if kind == "grey" else 3, **options)
        case "paired":
            return PairStream(find_pairs([a, b], kind="paired"), channels=(1, 3), **options)
        case "labels":
            labels = find_pairs([a, root / "labels"], kind="labels", classes=3, void=9, direction="BtoA")
            return PairStream(labels, **options)
    return UnpairedStream(find_pairs([a, b], kind="unpaired"), **options)


def equal(found, expected):
    if not torch.equal(found.index, expected.index):
        return False
    found, expected = tensors(found), tensors(expected)
    strides = [[part.stride() for part in parts] for parts in (found, expected)]
    return strides[0] == strides[1] and all(map(torch.equal, found, expected))


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_batches_on_a_device_are_the_streams_bit_for_bit(root, kind, keep):
    expected, found = plain(root, kind), DeviceStream(plain(root, kind, workers=3), CPU, keep=keep)
    iterator = found.iterate(2)
    for step, batch in islice(iterator, 12):
        assert equal(batch, expected.batch(step))
    iterator.close()
    assert equal(found.batch(0), expected.batch(0))
    assert (found.paths, found.epoch_length) == (expected.paths, expected.epoch_length)


def test_every_byte_becomes_the_same_float_as_an_array_and_as_a_tensor():
    values = np.arange(256, dtype=np.uint8).reshape(1, 4, 64, 1)
    assert torch.equal(to_tensor(torch.from_numpy(values)), to_tensor(values))


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_that_is_kept_is_decoded_once_and_takes_no_other_memory(root, kind, monkeypatch):
    stream, read = plain(root, kind), []
    for part in stream.parts:
        monkeypatch.setattr(part, "_load", lambda index, load=part._load: (read.append(index), load(index))[1])
    found = DeviceStream(stream, CPU, keep=True)
    for step in range(40):
        found.batch(step)
    assert len(read) == 7 * len(stream.parts) and stream.nbytes == sum(feed._images.nbytes for feed in found._feeds)
    assert not any(part._cache for part in stream.parts)


@pytest.mark.parametrize("keep", [True, False])
def test_bad_images_are_replaced_and_reported_once_on_a_device_too(root, keep):
    bad, events = root / "b" / "4.png", []
    bad.write_bytes(b"")
    expected, found = plain(root, "paired"), DeviceStream(plain(root, "paired", on_event=events.append), CPU, keep=keep)
    for step in range(8):
        assert equal(found.batch(step), expected.batch(step))
    assert [event["path"] for event in events] == [str(bad)] and list(found.skipped) == [bad]


def test_no_readable_image_is_an_input_error_on_a_device_too(root):
    for path in (root / "a").iterdir():
        path.write_bytes(b"")
    with pytest.raises(InputError, match="none of 7 images"):
        next(DeviceStream(plain(root, "images"), CPU, keep=True).iterate())


def test_only_a_gpu_gets_its_batches_made_there(root):
    stream = plain(root, "images")
    assert on_device(stream, None, "auto") is stream and on_device(stream, CPU, "auto") is stream


@pytest.mark.parametrize(("free", "where", "keep"), [(10, "auto", True), (9.9, "auto", False), (10, "never", False)])
def test_a_set_stays_on_a_gpu_where_it_takes_at_most_a_tenth_of_what_is_free(root, monkeypatch, free, where, keep):
    stream = plain(root, "unpaired")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (int(free * stream.nbytes), 0))
    monkeypatch.setattr(module, "DeviceStream", lambda stream, device, keep: keep)
    assert on_device(stream, torch.device("cuda"), where) is keep


@pytest.mark.gpu
@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_a_gpus_batches_are_the_cpus_bit_for_bit(root, kind, keep):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    expected = plain(root, kind)
    iterator = DeviceStream(plain(root, kind, workers=3), torch.device("cuda"), keep=keep).iterate()
    for step, batch in islice(iterator, 12):
        assert equal(batch.map(torch.Tensor.cpu), expected.batch(step))
    iterator.close()
