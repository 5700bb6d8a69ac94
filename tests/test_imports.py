"""The house's order: imports point one way, the face alone knows typer and rich, --help imports no torch."""

import ast
import subprocess
import sys
from pathlib import Path

import vemcompress

PACKAGE = Path(vemcompress.__file__).parent

# From the face down; a module may import from its own row and from those below.
ROWS = [
    ("cli", "__main__"),
    ("console", "seeds", "quickstart.tour"),
    ("bench",),
    ("distil", "teach", "assess", "generate"),
    ("runs",),
    ("export", "quickstart"),
    ("reference", "training"),
    ("resolve", "students", "teachers", "paper"),
    ("recipe",),
    ("evaluation",),
    ("algorithms", "gans", "information", "data", "report", "devices"),
    ("learner", "step", "timing", "losses", "weights"),
    ("networks",),
    ("settings", "errors", "distributed", "launch"),
]


def row_of(module: str) -> int:
    for name in (".".join(module.split(".")[:2]), module.split(".")[0]):
        for depth, row in enumerate(ROWS):
            if name in row:
                return depth
    raise AssertionError(f"{module} has no place in the house; add it to ROWS")


def imports():
    for path in sorted(PACKAGE.rglob("*.py")):
        module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{a.name}" if node.module == "vemcompress" else node.module for a in node.names]
            for name in names:
                yield module, name


def test_imports_point_one_way():
    wrong = [
        f"{module} imports {name}"
        for module, name in imports()
        if module != "__init__" and name.startswith("vemcompress.") and not name.endswith("__version__")
        if row_of(name.removeprefix("vemcompress.")) < row_of(module)
    ]
    assert wrong == []


def test_only_the_face_imports_typer_and_rich():
    named = {(module.split(".")[0], name.split(".")[0]) for module, name in imports()}
    users = {(room, library) for room, library in named if library in ("typer", "rich")}
    assert users == {("cli", "typer"), ("console", "rich")}


def test_help_imports_no_torch():
    code = (
        "import sys; sys.argv = ['vemcompress', '--help']\n"
        "from vemcompress.cli import main\ntry: main()\nfinally: print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "distill" in done.stdout
    loaded = set(done.stdout.splitlines()[-1].split())
    assert not loaded & {"torch", "numpy", "pydantic", "onnxruntime", "PIL"}


def test_weights_are_opened_in_one_room():
    """No pickle anywhere, and torch.load only where it is guarded."""
    users = {}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("torch.load", "pickle.load", "pickle.loads"):
                users[path.relative_to(PACKAGE).as_posix()] = ast.unparse(node)
    assert list(users) == ["weights/safe.py"]
    assert "weights_only=True" in users["weights/safe.py"]
