"""How the run folders in release-0.1.0.tar.xz were made: by that release, stopped after step 5 of 8.

    python tests/golden/keep.py FILE

Paths in them begin with ROOT in place of the folder that held the data, which `curves.make_data` makes again.
"""

import os
import shutil
import signal
import sys
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from curves import SMALL, TRAIN, make_data, start

import vemcompress

STOPPED = ("frozen-vem", "online-vem", "phases-vid", "phases-judged", "teach-pix2pix", "teach-cyclegan")
SEEDS = [1, 2]
LEFT_OUT = shutil.ignore_patterns(".lock", "*.png", "timing.jsonl", "step-000004")


def stop_at(step: int, run: int = 1):
    """Told of events, sends SIGTERM after a step of the run of that number."""
    seen = []

    def on_event(event: dict) -> None:
        seen.append(event["event"])
        if event["event"] == "step" and event["step"] == step and seen.count("plan") in (0, run):
            os.kill(os.getpid(), signal.SIGTERM)

    return on_event


def main() -> None:
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder:
        root, kept = Path(folder, "made"), Path(folder, "kept")
        for case in STOPPED:
            _interrupted(lambda case=case: start(case, root, on_event=stop_at(5)))
        data, none = make_data(root / "data"), (*TRAIN, *SMALL, "information.name=none")
        options = {"data": data["single"], "overrides": none, "device": "cpu", "on_event": stop_at(5, run=2)}
        _interrupted(lambda: vemcompress.distill_seeds(SEEDS, data["teacher"], out=root / "seeds", **options))
        for name in (*STOPPED, "seeds"):
            shutil.copytree(root / name, kept / name, ignore=LEFT_OUT)
        for path in (*kept.rglob("*.toml"), *kept.rglob("environment.json")):
            path.write_text(path.read_text().replace(str(root), "ROOT"))
        with tarfile.open(sys.argv[1], "w:xz") as archive:
            archive.add(kept, ".")


def _interrupted(action) -> None:
    try:
        action()
    except vemcompress.errors.Interrupted as error:
        print(error)


if __name__ == "__main__":
    main()
