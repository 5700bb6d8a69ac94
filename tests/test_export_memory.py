"""Images that do not fit into memory are refused in advance, with the largest size that fits."""

import re
import subprocess
import sys

import pytest
from PIL import Image
from toys import toy_images, toy_teacher_file

from vemcompress.errors import MemoryExhausted
from vemcompress.export import memory
from vemcompress.export.memory import MemoryLimit


@pytest.fixture
def little(monkeypatch):
    """A machine with 64 MiB to spare, and a network that takes 1 KiB a pixel."""
    monkeypatch.setattr(memory, "free_memory", lambda: 64 << 20)
    monkeypatch.setattr(memory, "_growth", lambda run: (run(), 1024 * 64**2)[1])


def test_the_largest_size_that_fits_is_told_and_fits(little):
    tried = []
    found = MemoryLimit(tried.append)
    with pytest.raises(MemoryExhausted, match="use --size") as caught:
        found.check("a.png", 1000, 2000)
    largest = int(re.search(r"--size (\d+) or less", str(caught.value))[1])
    found.check("a.png", largest, 2 * largest)
    with pytest.raises(MemoryExhausted):
        found.check("a.png", largest + 10, 2 * largest + 20)
    assert tried == [64]


def test_small_images_and_unknown_memory_cost_no_try(little, monkeypatch):
    MemoryLimit(lambda side: pytest.fail("tried")).check("a.png", 64, 64)
    monkeypatch.setattr(memory, "free_memory", lambda: None)
    MemoryLimit(lambda side: pytest.fail("tried")).check("a.png", 10**6, 10**6)


MEASURED = """
import gc
import numpy as np
from vemcompress.export import memory

class Garbage:
    def __init__(self):
        self.itself, self.held = self, np.ones(128 << 20, np.uint8)

def run():
    gc.collect()
    return np.ones(512 << 20, np.uint8)

print(memory._growth(run))
gc.disable()
Garbage()
print(memory._growth(run))
"""


@pytest.mark.skipif(not memory.CLEAR.exists(), reason="needs Linux")
def test_what_a_network_takes_is_measured_without_the_garbage_that_is_freed_meanwhile():
    # In a process of its own, because threads of other tests free memory too. Linux adds up its counters of pages now
    # and then: on a machine of many cores they are off by tens of MiB.
    done = subprocess.run([sys.executable, "-c", MEASURED], capture_output=True, text=True, check=True)
    assert [int(line) for line in done.stdout.split()] == pytest.approx([512 << 20] * 2, rel=0.2)


@pytest.mark.parametrize("command", ["generate", "bench", "export"])
def test_a_size_that_no_memory_holds_ends_with_6(command, call, tmp_path):
    teacher = toy_teacher_file(tmp_path / "t.safetensors")
    photos = toy_images(tmp_path / "photos", 1)
    more = {
        "generate": ("-i", photos, "-o", tmp_path / "out"),
        "bench": (),
        "export": ("--onnx", tmp_path / "t.onnx"),
    }
    code, _, err = call(command, teacher, *more[command], "--size", 800_000)
    advice = "use --tile 512, or --size" if command == "generate" else "use --size"
    assert code == 6 and f"GiB are available; {advice}" in " ".join(err.split()) and not (tmp_path / "out").exists()


def test_a_large_photo_is_refused_alike(little, call, tmp_path):
    teacher = toy_teacher_file(tmp_path / "t.safetensors")
    Image.new("RGB", (800, 600)).save(tmp_path / "large.png")
    code, _, err = call("generate", teacher, "-i", tmp_path / "large.png", "-o", tmp_path / "out")
    assert code == 6 and "large.png: 800 x 600 pixels" in err
