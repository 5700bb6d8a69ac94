"""Peak memory of an exported file in its runtime, measured in a separate process.

    python -m vemcompress.export.footprint FORMAT FILE INPUT.npy THREADS

This prints the peak growth of the process in bytes, from before the file is opened until it has run three times. It
includes the weights, what the runtime derives from them, and the feature maps of one image, but not the libraries.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from vemcompress.export.memory import CLEAR, of_process

RUNS, SECONDS = 3, 120


def peak_memory(form: str, file: Path, given: np.ndarray, threads: int) -> int | None:
    """Peak memory in bytes of `file` (in the format `form`) for the input `given`; None if it cannot be measured."""
    if not CLEAR.exists():
        return None
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder, "x.npy"), given)
        command = [sys.executable, "-m", __name__, form, str(file), f"{folder}/x.npy", str(threads)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=True)
            return int(done.stdout.splitlines()[-1])
        except (subprocess.SubprocessError, ValueError, IndexError):
            return None


def _measured(form: str, file: Path, given: np.ndarray, threads: int) -> int:
    from vemcompress.export.formats import FORMATS

    FORMATS[form].check("fp32", False)  # imports the runtime
    CLEAR.write_text("5")  # reset the peak (Linux)
    before = of_process("VmRSS")
    opened = FORMATS[form].open(file, threads)
    for _ in range(RUNS):
        opened.run(given)
    return max(0, of_process("VmHWM") - before)


if __name__ == "__main__":
    print(_measured(sys.argv[1], Path(sys.argv[2]), np.load(sys.argv[3]), int(sys.argv[4])))
