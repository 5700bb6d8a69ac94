"""docs/deploy.md: the names, shapes, types and ranges of its snippets are those of real exports, and those of its
languages that can be run here give images."""

import functools
import json
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from export_toys import toy
from PIL import Image

from vemcompress.errors import ExportError
from vemcompress.export.exporting import export
from vemcompress.export.formats import FORMATS

PAGE = (Path(__file__).parents[1] / "docs" / "deploy.md").read_text()
DEVICES = (Path(__file__).parents[1] / "docs" / "devices.md").read_text()
SIDE = 32  # of the toy's files; the page's are of another size
ENDS = re.compile(r"(?://|#) (\w+: (?:uint8|float32) .+)")
POSITIONS = {"litert", "executorch"}  # their snippets find inputs by position
SILENT = re.compile(r"\.\w+$|[:/ -]|^(CPU|CPUExecutionProvider|RGB|uint8)$|^(student|tflite|pte|onnx|openvino)$")

# Where a snippet tells its runtime the type of the input; the others have one type, or take an array's.
TYPES = {
    ("onnx", "kotlin"): r"OnnxJavaType\.(\w+)\)",
    ("onnx", "swift"): r"elementType: \.(\w+)",
    ("onnx", "cpp"): r"CreateTensor<(\w+)>",
    ("onnx", "js"): r'Tensor\("(\w+)"',
    ("openvino", "cpp"): r"element::(\w+)",
    ("litert", "kotlin"): r"write(\w+)\(",
    ("executorch", "swift"): r"Tensor<(\w+)>\(planes",
}
BYTES = re.compile(r"u?(int)?8(_t)?", re.I)


@dataclass(frozen=True)
class Snippet:
    """A block of code, with the command above it that makes its file."""

    form: str
    uint8: bool
    file: str
    size: int | None
    language: str
    code: str

    @property
    def id(self) -> str:
        return f"{self.form}-{self.language}"


def snippets() -> list[Snippet]:
    found, command = [], None
    for language, code in re.findall(r"```(\w+)\n(.*?)```", PAGE, re.S):
        words = shlex.split(code) if language == "bash" else []
        if words[1:2] == ["export"]:
            options = dict(zip(words, [*words[1:], ""], strict=True))
            side = int(options["--size"]) if "--size" in options else None
            command = options["--format"], "--uint8" in words, options["-o"], side
        elif language != "bash" and command:
            found.append(Snippet(*command, language, code))
    return found


SNIPPETS = snippets()
RUN = [snippet for snippet in SNIPPETS if snippet.language == "python"]


@functools.cache
def exported(form: str, uint8: bool, folder: Path) -> dict[str, str]:
    """What a toy's file says of itself, and where it lies; skips where the format's library is not installed."""
    try:
        FORMATS[form].check("fp32", uint8)  # not importorskip: OpenVINO would report to a web service
    except ExportError as error:
        pytest.skip(str(error))
    torch.set_num_threads(1)
    result = export(toy("mobile_resnet"), folder / f"{form}{uint8}", formats=(form,), uint8=uint8, size=SIDE)[0]
    about = dict(result.metadata)
    beside = FORMATS[form].described(result.path)
    if beside.exists():
        assert {key: str(value) for key, value in json.loads(beside.read_text()).items()}.items() >= about.items()
    return about | {"path": str(result.path)}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exports")
    return lambda snippet: exported(snippet.form, snippet.uint8, folder)


def test_every_format_has_a_snippet():
    assert {snippet.form for snippet in SNIPPETS} == set(FORMATS)
    assert {snippet.language for snippet in SNIPPETS} == {"kotlin", "swift", "cpp", "python", "js"}


def test_the_table_of_formats_is_what_the_formats_say():
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in DEVICES.splitlines() if line.startswith("| `")]
    assert [row[0].strip("`") for row in rows] == list(FORMATS)
    for name, files, library, sizes, layout, precisions, uint8, run in rows:
        form = FORMATS[name.strip("`")]
        written = [re.match(r"[a-z]+(.*)", path.name)[1] for path in form.files(Path(f"x{form.suffix}"))]
        assert files.split(", ") == [re.sub(r".*(\.json)$", r"\1", suffix) for suffix in written]
        assert library.rpartition(", ")[2] == (f"`{form.extra}`" if form.extra else "none")
        assert (sizes == "one image of `--size`") == form.fixes_size
        assert (layout == "NHWC") == form.last
        assert tuple(precisions.split(", ")) == form.precisions
        assert uint8.startswith("yes") == form.takes_uint8
        assert (run == "yes") == (form.name != "coreml")


@pytest.mark.parametrize("snippet", SNIPPETS, ids=lambda s: s.id)
def test_a_snippet_names_the_ends_that_the_file_has(snippet, made):
    facts = made(snippet)
    ends = [re.sub(rf"\b{SIDE}\b", str(snippet.size), facts[end]) for end in ("input", "output")]
    assert ENDS.findall(snippet.code) == ends
    names = {end.partition(":")[0] for end in ends}
    used = {text for text in re.findall(r'"([^"\n]*)"', snippet.code) if not SILENT.search(text)}
    assert used == (set() if snippet.form in POSITIONS or not used else names)
    code = ENDS.sub("", snippet.code)
    shapes = re.findall(r"\{?\b1, (\w+), (\w+), (\w+)\b", code)
    assert {"N x " + " x ".join(shape).replace("height", "H").replace("width", "W") for shape in shapes} <= {
        re.search(r"(1|N)( x \w+){3}", end)[0].replace("1 x", "N x", 1) for end in ends
    }
    assert len({int(number) for number in re.findall(r"\b\d{3}\b", code)} - {127, 255} - {snippet.size}) == 0


@pytest.mark.parametrize("snippet", SNIPPETS, ids=lambda s: s.id)
def test_a_snippets_type_and_range_are_the_files(snippet, made):
    facts = made(snippet)
    code = re.sub(r"//.*|#.*", "", snippet.code)
    assert ("127.5" in code or "floats(" in code) == (facts["range"] == "-1..1")
    found = re.search(TYPES.get((snippet.form, snippet.language), "$"), code)
    kind = facts["input"].split()[1]
    assert not found[0] or (BYTES.fullmatch(found[1]) is not None) == (kind == "uint8")
    assert set(re.findall(r"planes = (true|false)", code)) <= {"true" if facts["layout"] == "NCHW" else "false"}


def test_xcodes_class_has_the_ends_of_the_core_ml_file(made):
    """Xcode's class has a method's label and a property for the names."""
    code = next(s.code for s in SNIPPETS if s.form == "coreml" and "Student(" in s.code)
    label, result = re.search(r"prediction\((\w+):.*\)\.(\w+)$", code, re.M).groups()
    facts = made(next(s for s in SNIPPETS if s.form == "coreml"))
    assert (label, result) == (facts["input_name"], facts["output_name"])


def put(made, snippet: Snippet, folder: Path) -> None:
    """The toy's file under the page's name, and a photo whose sides are no multiples of what the network takes."""
    for path in FORMATS[snippet.form].files(Path(made(snippet)["path"])):
        shutil.copyfile(path, (folder / snippet.file).with_suffix(path.suffix))
    levels = np.random.default_rng(0).integers(0, 256, (31, 45, 3), dtype=np.uint8)
    Image.fromarray(levels).save(folder / "photo.jpg")


@pytest.mark.parametrize("snippet", RUN, ids=lambda s: s.id)
def test_the_python_runs(snippet, made, tmp_path):
    put(made, snippet, tmp_path)
    code = "import sys; sys.modules['openvino_telemetry'] = None\n" + snippet.code  # no reports from a test
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    drawn = np.asarray(Image.open(tmp_path / "drawn.png"))
    assert drawn.shape == (31, 45, 3) and drawn.std() > 1


STUB = """
globalThis.ImageData = class { constructor(data, width, height) { Object.assign(this, { data, width, height }) } };
const ort = {
  Tensor: class { constructor(type, data, dims) { Object.assign(this, { type, data, dims }) } },
  InferenceSession: { create: async (file) => ({ run: async (feeds) => {
    const [[name, x]] = Object.entries(feeds);
    if (file !== "%(file)s" || name !== "%(given)s" || x.type !== "%(type)s") throw new Error("wrong ends");
    return { "%(drawn)s": { data: x.data.map((level) => 255 - level), dims: x.dims } };
  } }) },
};
"""
CHECK = """
const data = Uint8ClampedArray.from(Array.from({ length: 24 }, (_, i) => (i % 4 < 3 ? i : 255)));
const found = await draw({ data, width: 3, height: 2 });
console.log(JSON.stringify([found.width, found.height, [...found.data]]));
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="Node.js is not installed")
def test_the_javascript_runs(made, tmp_path):
    """With ONNX Runtime Web's face, and the ends of the real file."""
    snippet = next(s for s in SNIPPETS if s.language == "js")
    facts = made(snippet)
    (given, kind), drawn = facts["input"].split()[0:2], facts["output"].partition(":")[0]
    ends = {"given": given[:-1], "type": kind, "drawn": drawn, "file": snippet.file}
    code = snippet.code.replace('import * as ort from "onnxruntime-web";', STUB % ends) + CHECK
    (tmp_path / "page.mjs").write_text(code)
    done = subprocess.run(["node", "page.mjs"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    width, height, levels = json.loads(done.stdout)
    assert (width, height) == (3, 2) and levels[:8] == [255, 254, 253, 255, 251, 250, 249, 255] and len(levels) == 24
