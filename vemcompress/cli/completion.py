"""Shell completion of recipe names, run folders and model files. It opens no file."""

import os
from collections.abc import Callable
from pathlib import Path

MODELS = (".safetensors", ".pth", ".pt", ".ckpt", ".bin", ".onnx", ".tflite", ".xml", ".param", ".pte")


def recipes(incomplete: str) -> list[str]:
    from vemcompress.system.installed import recipes as known

    return [name for name in known() if name.startswith(incomplete)] + _paths(incomplete, (".toml",), lambda _: False)


def runs(incomplete: str) -> list[str]:
    return _paths(incomplete, (), _is_run)


def models(incomplete: str) -> list[str]:
    """Run folders, and files."""
    return _paths(incomplete, MODELS, _is_run)


def _is_run(folder: Path) -> bool:
    names = ("recipe.toml", "stages.json", "seeds.json", "matrix.json")
    return any(os.path.isfile(folder / name) for name in names)  # noqa: PTH113 (Path.is_file raises PermissionError)


def _paths(incomplete: str, endings: tuple[str, ...], whole: Callable[[Path], bool]) -> list[str]:
    """Files of these endings, and folders, whose names begin so; with a slash those that are not `whole` by
    themselves."""
    start, slash, begun = incomplete.rpartition("/")
    try:
        inside = sorted(Path(start + slash or ".").iterdir())
        found = [path for path in inside if path.name.startswith(begun) and (begun or not path.name.startswith("."))]
        folders = {path.name: whole(path) for path in found if os.path.isdir(path)}  # noqa: PTH112
    except OSError:
        return []
    files = [path.name for path in found if path.name not in folders and path.name.endswith(endings or ("\0",))]
    return [start + slash + name for name in [*(f + "/" * (not folders[f]) for f in folders), *files]]
