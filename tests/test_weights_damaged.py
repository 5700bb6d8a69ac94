"""Damaged files, special files, Configs of another size, and too little memory."""

import json
import logging
import os
import resource
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from toys import TOY, toy_teacher, toy_teacher_file

from vemcompress.errors import InputError, MemoryExhausted
from vemcompress.evaluation.statistics import load_statistics
from vemcompress.networks.discriminators import build_discriminator, parse_discriminator_config
from vemcompress.networks.energy import EnergyConfig, EnergyModel
from vemcompress.weights import safe
from vemcompress.weights.artifact import artifact_bytes
from vemcompress.weights.discriminator import discriminator_bytes, load_discriminator
from vemcompress.weights.energy import load_energy_model
from vemcompress.weights.format import SUM, safetensors_bytes
from vemcompress.weights.loading import load


def generator() -> bytes:
    return artifact_bytes(toy_teacher(), recipe="omgd")


def discriminator() -> bytes:
    config = parse_discriminator_config({"family": "patchgan", "width": 2})
    return discriminator_bytes(build_discriminator(config))


def energy(channels: int = 2) -> bytes:
    config = EnergyConfig(channels=2, blocks=2)
    stated = config.model_dump_json() if channels == 2 else json.dumps({"channels": channels, "blocks": 2})
    return safetensors_bytes(EnergyModel(config).state_dict(), {"family": "energy", "config": stated})


OURS = {"generator": (generator, load), "discriminator": (discriminator, load_discriminator)}
OURS |= {"energy": (energy, load_energy_model)}


def flipped(data: bytes, position: int, bit: int = 3) -> bytes:
    return data[:position] + bytes([data[position] ^ 1 << bit]) + data[position + 1 :]


@pytest.mark.parametrize("kind", OURS)
def test_a_flipped_bit_in_a_file_of_ours_is_found(kind, tmp_path):
    make, read = OURS[kind]
    data, path = make(), tmp_path / "f.safetensors"
    path.write_bytes(data)
    read(path)
    begin = 8 + int.from_bytes(data[:8], "little")
    places = [
        *range(begin, len(data), max(1, (len(data) - begin) // 20)),
        len(data) - 1,
        data.rindex(b'"family":"') + 11,
    ]
    for position in places:
        path.write_bytes(flipped(data, position))
        with pytest.raises(InputError, match=r"f\.safetensors: is damaged.*copy or download it again"):
            read(path)


def test_a_file_of_the_last_release_is_loaded_and_told_of_at_debug_level_alone(tmp_path, caplog):
    path = toy_teacher_file(tmp_path / "t.safetensors")
    with safe.safe_open(path, framework="pt") as file:
        stated = {key: value for key, value in file.metadata().items() if key != SUM}
    save_file(load_file(path), path, stated)
    with caplog.at_level(logging.DEBUG, "vemcompress"):
        load(path)
    assert [record.levelname for record in caplog.records] == ["DEBUG"] and "without a checksum" in caplog.text


def test_a_damaged_student_says_where_a_whole_one_is(inputs, tmp_path, call):
    teacher, images = inputs
    settings = [part for o in (*TOY, "data.held_out=2") for part in ("--set", o)]
    run = tmp_path / "run"
    given = ["--teacher", teacher, "--data", images, "--out", run, "--device", "cpu"]
    assert call("distill", *given, *settings)[0] == 0
    last, best = run / "student.safetensors", run / "best/student.safetensors"
    whole = last.read_bytes()
    for path in (last, best):
        path.write_bytes(flipped(path.read_bytes(), path.stat().st_size - 2))
    code, _, err = call("inspect", best)
    assert code == 4 and f"use the last one instead, {last}" in err
    code, _, err = call("inspect", run)
    assert code == 4 and f"`vemcompress distill --resume {run}` writes it again" in err
    assert call("distill", "--resume", run, "--device", "cpu")[0] == 0
    assert last.read_bytes() == whole


def test_flipped_bits_in_a_pth_are_found(tmp_path):
    path = tmp_path / "g.pth"
    torch.save({"a": torch.full((64, 64), 0.5)}, path)
    data = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo("g/data/0")
    for position in range(info.header_offset + 200, info.header_offset + info.file_size, 1500):
        path.write_bytes(flipped(data, position))
        with pytest.raises(InputError, match=r"'g/data/0' does not match its CRC"):
            safe.read_state(path)


def test_a_pth_without_sums_is_loaded(tmp_path):
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"a": torch.ones(3)}, tmp_path / "g.pth")
    finally:
        torch.serialization.set_crc32_options(before)
    assert safe.read_state(tmp_path / "g.pth").tensors["a"].eq(1).all()


HUGE = [
    {"family": "mobile_resnet", "width": 4, "blocks": 10**9},
    {"family": "resnet", "width": 10**12, "blocks": 1},
    {"family": "resnet", "widths": [64, 128, 256, 128, 64], "blocks": [256] * 64},
    {"family": "unet", "width": 512, "downs": 12},
    {"family": "cartoongan", "width": 4, "blocks": 1e300},
]


@pytest.mark.parametrize("config", HUGE, ids=lambda config: f"{config['family']} {config.get('width', 'widths')}")
def test_a_config_that_its_tensors_cannot_be_of_builds_nothing(config, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.nn.Module, "__init__", lambda *_: pytest.fail("a network was built"))
    metadata = {"format": "vemcompress", "format_version": "1", "config": json.dumps(config)}
    save_file({"w": torch.zeros(100)}, tmp_path / "s.safetensors", metadata)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match="do not fit its config: it"):
        load(tmp_path / "s.safetensors")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10  # kB


def test_an_energy_model_of_another_size_is_refused(tmp_path):
    (tmp_path / "energy.safetensors").write_bytes(energy(channels=100_000))
    with pytest.raises(InputError, match="not an energy model"):
        load_energy_model(tmp_path / "energy.safetensors")


@pytest.mark.parametrize("read", [load, load_statistics, load_discriminator, load_energy_model])
@pytest.mark.parametrize("what", ["fifo", "device"])
def test_what_is_no_regular_file_neither_hangs_nor_fills_memory(read, what, tmp_path):
    path = tmp_path / "s.npz"
    os.mkfifo(path) if what == "fifo" else path.symlink_to("/dev/zero")
    with pytest.raises(InputError, match=r"not a regular file|no energy model"):
        read(path)


def test_memory_that_is_missing_is_no_damage(tmp_path, call):
    entry = {"w": {"dtype": "F32", "shape": [1 << 30], "data_offsets": [0, 4 << 30]}}
    text = json.dumps(entry).encode()
    path = tmp_path / "large.safetensors"
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + (4 << 30))
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGESIZE")
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 30), before[1]))
    try:
        code, _, err = call("inspect", path)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    assert code == 6 and "memory" in err and "damaged" not in err


SAID = [
    RuntimeError("could not create a primitive"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried ..."),
    RuntimeError("std::bad_alloc"),
    MemoryError(),
]


@pytest.mark.parametrize("error", SAID, ids=lambda error: type(error).__name__ + str(error)[:12])
def test_a_failed_allocation_is_exit_6(error, tmp_path, monkeypatch, call):
    def fail(*_, **__):
        raise error

    torch.save({"a": torch.ones(3)}, tmp_path / "g.pth")
    with monkeypatch.context() as patch:
        patch.setattr(torch, "load", fail)
        with pytest.raises(MemoryExhausted, match="not enough memory to read it"):
            safe.read_state(tmp_path / "g.pth")
    path = toy_teacher_file(tmp_path / "t.safetensors")
    monkeypatch.setattr("vemcompress.commands.inspect.describe", fail)
    code, _, err = call("inspect", path)
    assert code == 6 and err.startswith("error: out of memory: ")


def test_a_failed_allocation_in_training_is_exit_6(inputs, tmp_path, monkeypatch, call):
    def fail(*_, **__):
        raise RuntimeError("could not create a primitive")

    monkeypatch.setattr(torch.nn.Conv2d, "forward", fail)
    given = ["--teacher", inputs[0], "--data", inputs[1], "--out", tmp_path / "run", "--device", "cpu"]
    code, _, err = call("distill", *given, *(part for o in TOY for part in ("--set", o)))
    assert code == 6 and "out of memory: lower train.batch" in err
