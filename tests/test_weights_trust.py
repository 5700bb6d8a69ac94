"""Which code may run: a user's class is imported only if the user names it, or from files trusted before."""

import os
import py_compile
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from toys import TOY, toy_images, toy_teacher_file

from vemcompress import distill, load_generator
from vemcompress import recipe as recipes
from vemcompress.errors import InputError
from vemcompress.weights import trust
from vemcompress.weights.loading import load

NET = """
from torch import nn
from pieces.parts import Conv
open("proof", "a").close()
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.c = Conv(3, 3, 3, 1, 1)
    def forward(self, x):
        return self.c(x).tanh()
"""
WEIGHTS = {"c.weight": torch.zeros(3, 3, 3, 3), "c.bias": torch.zeros(3)}


def forget() -> None:
    """What a new process does not know."""
    for name in ("net", "pieces", "pieces.parts"):
        sys.modules.pop(name, None)
    Path("proof").unlink(missing_ok=True)


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A working folder with net.py, which imports pieces/parts.py, and weights for its class; nothing is trusted."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    Path("net.py").write_text(NET)
    Path("pieces").mkdir()
    Path("pieces/__init__.py").touch()
    Path("pieces/parts.py").write_text("from torch.nn import Conv2d as Conv\n")
    torch.save(WEIGHTS, "net.pth")
    yield tmp_path
    forget()


def refused() -> bool:
    """Whether a class that is not named is refused, and that before any of the user's code runs."""
    forget()
    try:
        load("net.pth", class_path="net:Net")
    except InputError as error:
        assert "--teacher-class net:Net" in str(error) or "--teacher-class" in str(error)
        return not Path("proof").exists()
    return False


def test_a_class_is_imported_only_where_it_is_named_or_was_trusted(own):
    assert refused()
    load_generator("net.pth", class_path="net:Net")
    assert not refused() and Path("proof").exists()
    store = own / "config/vemcompress/trusted.json"
    assert store.stat().st_mode & 0o777 == 0o600
    store.write_text("[" * 100_000)
    assert refused()


def change(file: str, text: str):
    return lambda: Path(file).write_text(text)


def linked(folder: str) -> None:
    """The package in another place, changed, and a link to it."""
    Path(folder, "parts.py").write_text("from torch.nn import Conv2d as Conv, Linear\n")
    Path("pieces").symlink_to(folder)


def bytecode_of_another() -> None:
    """A planted __pycache__ that passes for net.py's: same time, same size."""
    source = Path("net.py")
    about, whole = source.stat(), source.read_text()
    source.write_text('raise SystemExit("planted")'.ljust(len(whole)))
    os.utime(source, ns=(about.st_atime_ns, about.st_mtime_ns))
    py_compile.compile("net.py")
    source.write_text(whole)
    os.utime(source, ns=(about.st_atime_ns, about.st_mtime_ns))


@pytest.mark.parametrize(
    "happens",
    [
        change("net.py", NET + "\n"),
        change("pieces/__init__.py", "\n"),
        change("pieces/parts.py", "from torch.nn import Conv2d as Conv, Linear\n"),
        lambda: (Path("net").mkdir(), Path("net/__init__.py").write_text(NET)),
        lambda: Path("pieces").rename("../pieces_of_others") and linked("../pieces_of_others"),
    ],
    ids=["its file", "the package", "what it imports", "another in its place", "a link that leads out"],
)
def test_files_that_are_not_those_that_were_trusted_are_refused(own, happens):
    load_generator("net.pth", class_path="net:Net")
    happens()
    assert refused()


def test_only_the_source_that_was_trusted_runs(own):
    load_generator("net.pth", class_path="net:Net")
    bytecode_of_another()
    assert not refused()


def test_a_function_of_a_trusted_file_runs_only_after_the_user_named_it(own):
    Path("net.py").write_text(NET + "def made():\n    open('called', 'a').close()\n    return Net()\n")
    load_generator("net.pth", class_path="net:Net")
    forget()
    with pytest.raises(InputError, match="--teacher-class net:made"):
        load("net.pth", class_path="net:made")
    assert not Path("called").exists()
    load_generator("net.pth", class_path="net:made")
    forget()
    assert load("net.pth", class_path="net:made").generator is not None and Path("called").exists()


def test_a_failed_class_is_not_trusted(own):
    with pytest.raises(InputError, match="does not fit"):
        Path("net.py").write_text(NET.replace("self.c =", "self.d ="))
        load_generator("net.pth", class_path="net:Net")
    forget()
    Path("net.py").write_text(NET + "1 / 0")
    with pytest.raises(InputError, match="ZeroDivisionError"):
        load_generator("net.pth", class_path="net:Net")
    assert refused()


def test_trust_that_cannot_be_kept_is_told_and_no_failure(own, caplog):
    Path("config").write_text("a file")
    load_generator("net.pth", class_path="net:Net")
    assert "could not be saved" in caplog.text
    assert refused()


def test_another_rank_than_the_first_writes_nothing(own, monkeypatch):
    monkeypatch.setattr(trust.launch, "number", lambda: 1)
    load_generator("net.pth", class_path="net:Net")
    assert not Path("config").exists()


@pytest.mark.parametrize("table", ["teacher", "student", "stages.prune.teacher"])
def test_overrides_name_classes(table):
    assert recipes.classes_named([f"{table}.class_path=a:B", "train.steps=3"]) == {"a:B"}
    assert recipes.classes_named([f"{table}={{class_path='a:B'}}", "broken"]) == set()


@pytest.mark.parametrize("way", ["recipe", "stages", "stage's own", "student", "prune stage", "seeds"])
def test_a_recipe_does_not_run_code(own, call, way):
    teacher = toy_teacher_file(own / "toy.safetensors") if way in ("stage's own", "student") else "net.pth"
    one, more = '[[stages]]\nname = "one"\ndo = "distill"\n', ["--seeds", "1,2"] if way == "seeds" else []
    text = '[teacher]\nclass_path = "net:Net"\n' + {
        "stages": one,
        "prune stage": f'[[stages]]\nname = "cut"\ndo = "prune"\n{one}student = "cut"\n',
    }.get(way, "")
    if way == "student":
        text = f'[student]\nsource = "{own / "net.pth"}"\nclass_path = "net:Net"\n'
    if way == "stage's own":
        text = one + 'recipe.teacher.class_path = "net:Net"\n'
    Path("r.toml").write_text(text)
    settings = [o for o in TOY if not (o.startswith("student.") and way in ("student", "prune stage"))]
    given = ["--teacher", teacher, "--recipe", "r.toml", "--data", toy_images(Path("images")), "--out", "run"]
    settings = [part for setting in settings for part in ("--set", setting)]
    code, _, err = call("distill", *given, "--device", "cpu", *settings, *more)
    assert code == 4 and "--teacher-class net:Net" in err, err
    assert not Path("proof").exists()


def test_teach_and_the_library_do_not_run_a_recipe_s_code(own, call):
    images = toy_images(Path("images"))
    Path("gan.toml").write_text('extends = "pix2pix"\n[teacher]\nclass_path = "net:Net"\n')
    code, _, err = call("teach", "--teacher", "net.pth", "--recipe", "gan.toml", "--data", images, "--out", "run")
    assert code == 4 and "--teacher-class net:Net" in err
    Path("r.toml").write_text('[teacher]\nclass_path = "net:Net"\n')
    given = {"data": images, "recipe": "r.toml", "device": "cpu"}
    with pytest.raises(InputError, match="--teacher-class net:Net"):
        distill("net.pth", out="run", overrides=TOY, **given)
    assert not Path("proof").exists()
    distill("net.pth", out="run", overrides=[*TOY, "teacher.class_path=net:Net", "train.steps=1"], **given)


def test_a_run_folder_does_not_run_code(own, call):
    images, settings = toy_images(Path("images")), [part for o in TOY for part in ("--set", o)]
    given = ["--teacher", "net.pth", "--teacher-class", "net:Net", "--data", images, "--out", "run", "--device", "cpu"]
    assert call("distill", *given, *settings)[0] == 0
    again = ("distill", "--resume", "run", "--steps", 7, "--device", "cpu")
    scored = ("eval", "run", "--metric", "ssim_teacher", "--device", "cpu")
    forget()
    assert call(*scored)[0] == 0  # the user has trusted it
    trust._store().unlink()
    for command in (again, scored):
        forget()
        code, _, err = call(*command)
        assert code == 4 and "--teacher-class net:Net" in err and not Path("proof").exists()
        assert call(*command, "--teacher-class", "net:Net")[0] == 0
        trust._store().unlink()
    code, _, err = call(*again, "--teacher-class", "net:Other")
    assert code == 2 and "teacher.class_path cannot change" in err
    recipe = Path("run/recipe.toml")
    forged = recipe.read_text().replace("net:Net", "os:abort")
    recipe.write_text(forged[: forged.index("# SHA-256")])  # as of a release that kept no sum
    for command in (again, scored):
        done = subprocess.run([sys.executable, "-m", "vemcompress", *map(str, command)], capture_output=True, text=True)
        assert done.returncode == 4 and "--teacher-class os:abort" in done.stderr
