"""The number of reader threads and the memory for images adapt to the machine."""

import pytest

from vemcompress.data import machine


@pytest.fixture
def memory(tmp_path, monkeypatch):
    """A machine with 64 of 128 GiB free, and the file of its container's limit."""
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    (tmp_path / "meminfo").write_text(f"MemTotal: {128 << 20} kB\nMemAvailable: {64 << 20} kB\n")
    monkeypatch.setattr("vemcompress.system.memory._MEMORY", tmp_path / "meminfo")
    monkeypatch.setattr("vemcompress.system.memory._LIMITS", (tmp_path / "memory.max",))
    return tmp_path


def test_a_quarter_of_the_free_memory_keeps_images(memory):
    assert machine.default_cache() == 16 << 30


def test_a_containers_limit_counts_where_it_is_lower(memory):
    (memory / "memory.max").write_text(f"{8 << 30}\n")
    assert machine.default_cache() == 2 << 30
    (memory / "memory.max").write_text("max\n")
    assert machine.default_cache() == 16 << 30


def test_two_gibibytes_if_the_machine_reports_nothing(memory):
    (memory / "meminfo").unlink()
    assert machine.default_cache() == 2 << 30


@pytest.mark.parametrize(("cores", "ranks", "threads"), [(1, 1, 2), (6, 1, 6), (64, 1, 8), (16, 4, 4)])
def test_threads_follow_the_processors_and_the_ranks_that_share_them(monkeypatch, cores, ranks, threads):
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda pid: range(cores), raising=False)
    monkeypatch.setattr("vemcompress.system.launch.local_processes", lambda: ranks)
    assert machine.default_workers() == threads
