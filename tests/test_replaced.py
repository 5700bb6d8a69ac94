"""Files that belong together take their places together, or the earlier ones stay."""

import errno
import os
from pathlib import Path

import pytest

from vemcompress.errors import ExportError, OutputError
from vemcompress.system.files import Replaced


@pytest.fixture
def paths(tmp_path) -> list[Path]:
    """A graph and its weights, of an earlier export."""
    for name in ("m.xml", "m.bin"):
        (tmp_path / name).write_text("earlier")
    return [tmp_path / "m.xml", tmp_path / "m.bin"]


def write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).write_text("new")


def found(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() if path.is_file() else "folder" for path in folder.iterdir()}


def test_all_are_replaced_and_nothing_else_is_left(paths, tmp_path):
    with Replaced(paths) as folder:
        write(folder, "m.xml", "m.bin")
        assert found(tmp_path) == {"m.xml": "earlier", "m.bin": "earlier", folder.name: "folder"}
    assert found(tmp_path) == {"m.xml": "new", "m.bin": "new"}


def test_an_error_inside_is_raised_as_it_is_and_the_earlier_files_stay(paths, tmp_path):
    with pytest.raises(ExportError, match="no such operation"), Replaced(paths) as folder:
        write(folder, "m.xml", "m.bin")
        raise ExportError("no such operation")
    assert found(tmp_path) == {"m.xml": "earlier", "m.bin": "earlier"}


@pytest.mark.parametrize("fails", range(4))
def test_a_rename_that_fails_leaves_the_earlier_files(fails, paths, tmp_path, monkeypatch):
    renames, real = [], Path.replace

    def replace(self, target):
        renames.append(target)
        if len(renames) == fails + 1:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(OutputError), Replaced(paths) as folder:
        write(folder, "m.xml", "m.bin")
    assert found(tmp_path) == {"m.xml": "earlier", "m.bin": "earlier"}


def test_readers_never_see_the_graph_beside_weights_of_another_version(paths, tmp_path, monkeypatch):
    seen, real = [], Path.replace

    def replace(self, target):
        made = real(self, target)
        seen.append({name: text for name, text in found(tmp_path).items() if text != "folder"})
        return made

    monkeypatch.setattr(Path, "replace", replace)
    with Replaced(paths) as folder:
        write(folder, "m.xml", "m.bin")
    assert all(len(set(files.values())) == 1 for files in seen if "m.xml" in files) and len(seen) == 4


def test_a_folder_at_the_place_of_a_file_stays(tmp_path):
    (tmp_path / "m.xml").write_text("earlier")
    (tmp_path / "m.bin").mkdir()
    (tmp_path / "m.bin" / "mine").touch()
    with pytest.raises(OutputError, match=r"m\.xml: cannot write \(m\.bin is a folder\)"):
        with Replaced([tmp_path / "m.xml", tmp_path / "m.bin"]) as folder:
            write(folder, "m.xml", "m.bin")
    assert found(tmp_path) == {"m.xml": "earlier", "m.bin": "folder"} and (tmp_path / "m.bin" / "mine").exists()


def test_a_package_replaces_an_earlier_one_as_a_whole(tmp_path):
    path = tmp_path / "m.mlpackage"
    path.mkdir()
    write(path, "old")
    with Replaced([path]) as folder:
        (folder / path.name).mkdir()
        write(folder / path.name, "Manifest.json")
    assert found(tmp_path) == {"m.mlpackage": "folder"} and found(path) == {"Manifest.json": "new"}


def test_a_full_disk_is_told_of_the_file_that_was_asked_for(paths, tmp_path):
    with pytest.raises(OutputError, match=r"m\.xml: cannot write, the disk is full") as caught, Replaced(paths):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert ".tmp" not in str(caught.value)
    assert found(tmp_path) == {"m.xml": "earlier", "m.bin": "earlier"}


def test_a_converter_that_hides_a_full_disk_is_found_out(paths, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("usage", (), {"free": 100}))
    with pytest.raises(OutputError, match="the disk is full"), Replaced(paths):
        raise RuntimeError("stream error")
