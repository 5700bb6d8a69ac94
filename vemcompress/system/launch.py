"""What torchrun says of this process, from the environment alone: before the processes have met, and without torch."""

import os


def processes() -> int:
    """How many were started; 1 without torchrun."""
    return int(os.environ["WORLD_SIZE"]) if {"RANK", "WORLD_SIZE", "LOCAL_RANK"} <= os.environ.keys() else 1


def number() -> int:
    """Which of them this one is, from 0; the first one talks."""
    return int(os.environ["RANK"]) if processes() > 1 else 0


def local_number() -> int | None:
    """Which of those on this machine; None where there is but one process."""
    return int(os.environ["LOCAL_RANK"]) if processes() > 1 else None


def local_processes() -> int:
    """How many of them are on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", processes())) if processes() > 1 else 1
