"""Detects the type of a file from its first bytes; file names are not trusted."""

from pathlib import Path

from vemcompress.errors import InputError
from vemcompress.system.files import open_regular

LARGEST = 16 << 30  # bytes; the largest generators have a few GB
_LEGACY = b"\x80\x02\x8a\x0a"  # torch.save before 1.6: a pickled magic number of ten bytes
CONVERT = (
    "if you trust it, open it beside the model's code, save the generator with torch.save(generator.state_dict(), "
    "'weights.pth'), and give weights.pth"
)

_CONVERT_NVIDIA = (
    "in an environment that you trust and that has its stylegan2-ada-pytorch, open it and "
    "torch.save(content['G_ema'].state_dict(), 'g.pth'), which can be read here"
)
_TENSORFLOW = (
    "is a TensorFlow model ({}), which is not supported: where TensorFlow is installed, convert it to an .onnx file, "
    "`python -m tf2onnx.convert {} --output model.onnx`, and give that"
)


def tensorflow(path: Path, head: bytes = b"") -> str | None:
    """The message for a TensorFlow file that begins with `head`, or for the folder of a SavedModel; None for others."""
    if not head:
        if (path / "saved_model.pb").is_file():
            return _TENSORFLOW.format("SavedModel", f"--saved-model {path}")
        if found := next(iter(sorted(path.glob("*.index"))), None):
            return _checkpoint(found)
        return None
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return _TENSORFLOW.format("Keras, HDF5", f"--keras {path.name}")
    if head[4:8] == b"TFL3":
        return _TENSORFLOW.format("TensorFlow Lite", f"--tflite {path.name}")
    if path.suffix in (".index", ".meta") or ".data-0" in path.name:
        return _checkpoint(path)
    if path.name == "saved_model.pb":
        return _TENSORFLOW.format("SavedModel", f"--saved-model {path.parent}")
    if path.suffix.lower() == ".pb" and head[:1] in (b"\x0a", b"\x08"):
        graph = f"--graphdef {path.name} --inputs INPUT:0 --outputs OUTPUT:0"
        return _TENSORFLOW.format("frozen graph", graph)
    return None


def _checkpoint(path: Path) -> str:
    meta = f"{path.name.rpartition('.')[0]}.meta"
    return _TENSORFLOW.format("checkpoint", f"--checkpoint {meta} --inputs INPUT:0 --outputs OUTPUT:0")


def sniff(path: Path, source: str) -> str:
    """ "safetensors", "zip" or "legacy". Raises InputError (4) with advice for everything else."""
    try:
        if path.is_dir():
            raise InputError(f"{source}: is a folder, not a weight file: give the file in it")
        if not path.exists():
            raise InputError(f"{source}: no such file: check the path")
        with open_regular(path, LARGEST) as file:
            head = file.read(4096)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{source}: cannot be read ({reason}): check the path and its permissions") from error
    if head.startswith(b"PK\x03\x04"):
        return "zip"
    if head.startswith(_LEGACY):
        return "legacy"
    if head[8:9] == b"{":
        return "safetensors"
    raise InputError(f"{source}: {(head and tensorflow(path, head)) or _why_not(head)}")


def _why_not(head: bytes) -> str:
    if not head:
        return "is empty: download or copy it again"
    if head[0] == 0x80 and head[1:2] <= b"\x05":
        # Never opened: NVIDIA's pickles run the source code that they contain, by design.
        if any(word in head for word in (b"dnnlib", b"torch_utils", b"persistence")):
            return f"is an NVIDIA network pickle, which runs code when it is opened, and is refused: {_CONVERT_NVIDIA}"
        return f"is a bare pickle, which can run code when it is opened, and is refused: {CONVERT}"
    start = head.lstrip()[:64].lower()
    if start.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer, not the weights: fetch the file itself with `git lfs pull`"
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "is a web page, not weights: download the file itself again"
    if b"\0" not in head and _is_text(head):
        return "is a text file, not weights: give a .safetensors, .pth, .pt or .onnx file"
    if head.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"7z\xbc\xaf", b"Rar!")):
        return "is a compressed archive, not weights: unpack it first"
    if (head[0] == 8 and 3 <= head[1] < 32 and head[2:3] == b"\x12") or b"pytorch" in head[:64]:
        return "looks like an ONNX model: give it a name that ends in .onnx"
    return f"is not a weight file (it begins with {head[:4].hex(' ')}): give a .safetensors, .pth, .pt or .onnx file"


def _is_text(head: bytes) -> bool:
    try:
        head[:1024].decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start > 1000  # a character cut off at the end
    return True
