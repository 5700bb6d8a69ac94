"""The processes started by torchrun, as the environment describes them: before they connect, and without torch."""

import os


def processes() -> int:
    """The number of processes; 1 without torchrun."""
    return int(os.environ["WORLD_SIZE"]) if {"RANK", "WORLD_SIZE", "LOCAL_RANK"} <= os.environ.keys() else 1


def number() -> int:
    """The number of this process, from 0. Process 0 prints messages."""
    return int(os.environ["RANK"]) if processes() > 1 else 0


def local_number() -> int | None:
    """The number of this process on its machine; None if there is only one process."""
    return int(os.environ["LOCAL_RANK"]) if processes() > 1 else None


def local_processes() -> int:
    """The number of processes on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", processes())) if processes() > 1 else 1
