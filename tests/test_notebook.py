"""docs/notebook.ipynb: its code runs, here with few steps, and its outputs are small and have no machine names."""

import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
from PIL import Image

import vemcompress

PAGE = Path(__file__).parents[1] / "docs" / "notebook.ipynb"
CELLS = json.loads(PAGE.read_text())["cells"]
CODE = ["".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "code"]

pytestmark = pytest.mark.usefixtures("one_thread")


def test_its_outputs_are_there_small_and_of_no_machine():
    assert PAGE.stat().st_size < 500_000
    outputs = [output for cell in CELLS if cell["cell_type"] == "code" for output in cell["outputs"]]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 5
    assert not [output for output in outputs if output["output_type"] == "error"]
    texts = json.dumps([{k: v for k, v in out.get("data", out).items() if k != "image/png"} for out in outputs])
    assert not re.search(r"/(tmp|home|root|work|usr)/|\b0x[0-9a-f]{6}", texts)


def test_its_code_runs(tmp_path, monkeypatch, capsys):
    """Without Matplotlib, which is for the notebook alone."""
    plt = MagicMock()
    plt.subplots.return_value = MagicMock(), (MagicMock(), MagicMock())
    monkeypatch.setitem(sys.modules, "matplotlib", MagicMock(pyplot=plt))
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", plt)
    monkeypatch.chdir(tmp_path)
    code = "\n".join(CODE)
    for text, other in (("STEPS = 1000", "STEPS = 4"), ("count=240", "count=8"), ('log_every": 20', 'log_every": 1')):
        assert text in code, text
        code = code.replace(text, other)
    code = code.replace("size=96", "size=32")
    names: dict = {}
    exec(compile(code, str(PAGE), "exec"), names)
    found = SimpleNamespace(**names)
    assert found.result.steps == 4 and [one["step"] for one in found.losses] == [1, 2, 3, 4]
    assert isinstance(found.second, vemcompress.DistillResult) and found.exported.path.is_file()
    assert isinstance(found.side_by_side(found.days, found.images), Image.Image)
    out = capsys.readouterr().out
    assert "ssim_teacher: " in out and "UsageError: 'stepz'" in out
