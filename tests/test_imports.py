"""The house's order: rooms import one way and without circles, the face alone knows typer and rich, --help imports no
torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import vemcompress

PACKAGE = Path(vemcompress.__file__).parent

# The rooms, from the face down to the ground; a room may import from those below it alone.
ROOMS = (
    "__main__",
    "cli",
    "bench",
    "commands",
    "reference",
    "recipe",
    "pruning",
    "algorithms",
    "gans",
    "information",
    "evaluation",
    "export",
    "training",
    "runs",
    "weights",
    "data",
    "networks",
    "losses",
    "console",
    "system",
    "errors",
)


def imports():
    """(module, imported name) of every import in the package, those within functions included."""
    for path in sorted(PACKAGE.rglob("*.py")):
        module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{a.name}" if node.module == "vemcompress" else node.module for a in node.names]
            for name in names:
                yield module, name


def arrows() -> dict[tuple[str, str], list[str]]:
    """Imports from room to room, with the modules that make them."""
    found = {}
    for module, name in imports():
        parts = name.split(".")
        if module != "__init__" and parts[0] == "vemcompress" and parts[1:] != ["__version__"]:
            room, other = module.split(".")[0], parts[1] if len(parts) > 1 else "__init__"
            if room != other and other != "__init__":
                found.setdefault((room, other), []).append(f"{module} imports {name}")
    return found


def test_nothing_lies_loose_at_the_root():
    assert {p.name for p in PACKAGE.glob("*.py")} == {"__init__.py", "__main__.py", "errors.py"}
    rooms = {p.parent.name for p in PACKAGE.glob("*/__init__.py")} | {"__main__", "errors"}
    assert rooms == set(ROOMS)


def test_rooms_import_one_way():
    wrong = [why for (room, other), why in arrows().items() if ROOMS.index(other) < ROOMS.index(room)]
    assert wrong == []


def test_only_the_face_imports_typer_and_rich():
    named = {(module.split(".")[0], name.split(".")[0]) for module, name in imports()}
    users = {(room, library) for room, library in named if library in ("typer", "rich")}
    assert users == {("cli", "typer"), ("console", "rich")}


def loaded_by(code: str) -> set[str]:
    """The packages that a fresh interpreter has after this code."""
    whole = f"import sys\ntry: {code}\nfinally: print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", whole], capture_output=True, text=True)
    return {name.partition(".")[0] for name in done.stdout.splitlines()[-1].split()}


CONVERTERS = {"openvino", "litert_torch", "ai_edge_litert", "coremltools", "ncnn", "pnnx", "executorch"}


@pytest.mark.parametrize("command", [[], ["export"]])
def test_help_imports_no_torch(command):
    code = f"from vemcompress.cli import main; sys.argv = {['vemcompress', *command, '--help']}; main()"
    found = loaded_by(code)
    assert "typer" in found and not found & {"torch", "numpy", "onnxruntime", "PIL", *CONVERTERS}
    assert command or "pydantic" not in found


def test_an_export_imports_no_library_before_its_format_is_known():
    found = loaded_by("import vemcompress.commands.export")
    assert "torch" in found and not found & CONVERTERS


def test_onnx_runtime_reports_nothing_and_keeps_no_identifier(tmp_path):
    code = "import vemcompress.export.exporting, onnxruntime; print(onnxruntime.__version__)"
    environment = {"HOME": str(tmp_path), "TMPDIR": str(tmp_path), "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0 and not {".cache", ".ses"} & {path.name for path in tmp_path.iterdir()}


def test_weights_are_opened_in_one_room():
    """No pickle anywhere, and torch.load only where it is guarded."""
    users = {}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("torch.load", "pickle.load", "pickle.loads"):
                users[path.relative_to(PACKAGE).as_posix()] = ast.unparse(node)
    assert list(users) == ["weights/safe.py"]
    assert "weights_only=True" in users["weights/safe.py"]
