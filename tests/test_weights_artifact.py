"""Our weight files: rebuilt without guessing, and written completely or not at all."""

import errno
import json
import os
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from vemcompress.commands.inspect import describe
from vemcompress.errors import InputError, OutputError, UsageError
from vemcompress.networks import build_generator, parse_config
from vemcompress.networks.base import use_image_statistics
from vemcompress.system.files import sha256_file, write_atomically
from vemcompress.weights.artifact import save_generator
from vemcompress.weights.custom import CustomGenerator
from vemcompress.weights.format import SUM
from vemcompress.weights.loading import load, load_generator

CONFIGS = [
    {"family": "resnet", "widths": (3, 5, 7, 4, 6), "blocks": (2, 9), "in_channels": 1, "norm": "batch"},
    {"family": "mobile_resnet", "width": 4, "blocks": 2},
    {"family": "unet", "width": 4, "downs": 3, "out_channels": 1},
    {"family": "cartoongan", "width": 4, "blocks": 2},
]


def network(values: dict = CONFIGS[1]):
    return build_generator(parse_config(values)).eval()


def metadata(path: Path) -> dict[str, str]:
    with safe_open(path, framework="pt") as file:
        return file.metadata()


@pytest.mark.parametrize("values", CONFIGS, ids=lambda values: values["family"])
def test_artifact_rebuilds_the_same_network(values, tmp_path):
    original, path = network(values), tmp_path / "student.safetensors"
    save_generator(path, original)
    loaded = load(path)
    x = torch.rand(1, original.config.in_channels, 16, 16)
    assert loaded.generator.config == original.config
    assert torch.equal(loaded.generator(x), original(x))
    assert loaded.origin == "artifact" and loaded.sha256 == sha256_file(path)


def test_artifact_says_where_it_comes_from_and_what_it_takes(tmp_path):
    teacher = {"source": "hf://a/b", "sha256": "0" * 64, "revision": "c0ffee", "licence": "mit"}
    save_generator(tmp_path / "s.safetensors", network(), recipe="omgd", teacher=teacher, extra={"step": "3"})
    stored = metadata(tmp_path / "s.safetensors")
    assert json.loads(stored["teacher"]) == teacher
    assert json.loads(stored["input"]) | {"multiple": 4} == {
        **{"order": "RGB", "range": [-1, 1], "layout": "NCHW", "channels": 3, "multiple": 4, "min_size": 8}
    }
    assert (stored["format"], stored["format_version"], stored["recipe"], stored["step"]) == (
        *("vemcompress", "1", "omgd", "3"),
    )


def test_a_run_folder_stands_for_its_student(tmp_path):
    save_generator(tmp_path / "student.safetensors", network())
    assert load_generator(tmp_path).family == "mobile_resnet"


def test_image_statistics_survive_saving(tmp_path):
    teacher = network(CONFIGS[2])
    use_image_statistics(teacher)
    save_generator(tmp_path / "t.safetensors", teacher)
    x = torch.rand(2, 3, 16, 16)
    assert torch.equal(load_generator(tmp_path / "t.safetensors")(x), teacher(x))


def test_loading_draws_no_random_numbers(tmp_path):
    save_generator(tmp_path / "s.safetensors", network())
    before = torch.get_rng_state()
    load(tmp_path / "s.safetensors")
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format_version": "2"}, "upgrade vemcompress"),
        ({"format_version": "x"}, "upgrade vemcompress"),
        ({"config": "{"}, "no readable config"),
        ({"config": '{"family": "stylegan9"}'}, "families: resnet"),
        ({"config": '{"family": "mobile_resnet", "width": 8, "blocks": 2}'}, "do not fit"),
    ],
)
def test_an_artifact_that_contradicts_itself_is_refused(change, said, tmp_path):
    path = tmp_path / "s.safetensors"
    save_generator(path, network())
    stated = {key: value for key, value in metadata(path).items() if key != SUM}
    save_file(load_file(path), path, stated | change)
    with pytest.raises(InputError, match=said):
        load(path)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.EIO])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(code, tmp_path, monkeypatch):
    path = tmp_path / "s.safetensors"
    path.write_bytes(b"old")

    def fail(_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OutputError, match=r"s\.safetensors: cannot write"):
        save_generator(path, network())
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_a_full_disk_and_an_absent_folder_are_named(tmp_path):
    with pytest.raises(OutputError, match="does not exist"):
        write_atomically(tmp_path / "absent" / "f", b"x")
    with pytest.raises(OutputError, match="cannot write"):
        write_atomically("/proc/self/f", b"x")


def test_a_new_file_follows_the_umask(tmp_path):
    write_atomically(tmp_path / "f", b"x")
    mask = os.umask(0)
    os.umask(mask)
    assert (tmp_path / "f").stat().st_mode & 0o777 == 0o666 & ~mask


def test_a_custom_network_is_loaded_with_its_class_alone(tmp_path):
    custom = CustomGenerator(torch.nn.Conv2d(3, 3, 1), "net:Net")
    save_generator(tmp_path / "s.safetensors", custom)
    with pytest.raises(InputError, match="is a network of the class net:Net: give --teacher-class"):
        load(tmp_path / "s.safetensors")


@pytest.mark.parametrize(
    ("values", "parameters", "true", "paper", "paper_norm"),
    [
        ({"family": "resnet", "width": 64}, 11.378e6, 49.55e9, 56.80e9, 56.83e9),
        ({"family": "mobile_resnet", "width": 16}, 0.1373e6, 0.955e9, 1.408e9, None),
        ({"family": "mobile_resnet", "width": 64}, 1.987e6, None, 18.31e9, None),
        ({"family": "unet", "width": 64}, 54.414e6, 6.05e9, 18.14e9, None),
        ({"family": "unet", "width": 16}, 3.4045e6, 0.406e9, 1.219e9, None),
    ],
)
def test_description_has_the_published_figures(values, parameters, true, paper, paper_norm, tmp_path):
    save_generator(tmp_path / "s.safetensors", network(values))
    found = describe(load(tmp_path / "s.safetensors"), 256, 256)
    assert found["parameters"] == pytest.approx(parameters, rel=5e-4)
    for column, wanted in {"true": true, "paper": paper, "paper_norm": paper_norm}.items():
        assert wanted is None or found["macs"][column] == pytest.approx(wanted, rel=1e-3)
    assert found["family"] == found["config"]["family"] == values["family"]
    assert found["input"] == {"kind": "image", "shape": [3, 256, 256]}
    assert found["taps"][0] == "down1"
    json.dumps(found)


def test_a_size_that_cannot_be_taken_is_refused(tmp_path):
    save_generator(tmp_path / "s.safetensors", network())
    with pytest.raises(UsageError, match="multiples of 4"):
        describe(load(tmp_path / "s.safetensors"), 254, 256)
