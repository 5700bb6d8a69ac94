"""The code in a model card: how to run the model with this package, or with ONNX Runtime alone."""

from vemcompress.export.sides import usual_side
from vemcompress.networks.base import ImageInput, LatentInput

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # Pillow's image mode by number of channels
_IMPORTS = ("import numpy as np", "from PIL import Image")
Takes = ImageInput | LatentInput


def on_the_command_line(address: str, takes: Takes, class_path: str | None) -> str:
    """A command that generates images. `address` is that of the weights on the Hub, hf://user/repo/file."""
    own = f" --teacher-class {class_path}" if class_path else ""
    what = "--samples 16 --grid" if takes.kind == "latent" else "--input photo.jpg"
    return f"vemcompress generate {address}{own} {what} --out result.png"


def with_vemcompress(address: str, takes: Takes, gives: int, class_path: str | None) -> str:
    """Load the model from the Hub and generate an image with PyTorch."""
    own = f', class_path="{class_path}"' if class_path else ""
    lines = ["import torch", "from vemcompress import load_generator", ""]
    lines += [f'generator = load_generator("{address}"{own})', *_input(takes)]
    name = "z" if takes.kind == "latent" else "x"
    return "\n".join([*_IMPORTS, *lines, f"y = generator(torch.from_numpy({name})).detach().numpy()", _save(gives)])


def with_onnx_runtime(graph: str, takes: Takes, gives: int) -> str:
    """Generate an image from the exported float32 graph, without PyTorch."""
    name = "z" if takes.kind == "latent" else "x"
    lines = ["import onnxruntime", "", f'session = onnxruntime.InferenceSession("{graph}")', *_input(takes)]
    return "\n".join([*_IMPORTS, *lines, f'(y,) = session.run(["y"], {{"{name}": {name}}})', _save(gives)])


def _side(takes: ImageInput) -> int:
    """The side of the example's photo."""
    return usual_side(takes.only, takes.least, takes.multiple)


def _input(takes: Takes) -> list[str]:
    if takes.kind == "latent":
        drawn = f"normal(size=(1, {takes.size}))" if takes.prior == "normal" else f"uniform(-1, 1, (1, {takes.size}))"
        return [f'z = np.random.default_rng(0).{drawn}.astype("float32")']
    side, channels = _side(takes), takes.channels
    if channels not in _MODES:
        return [f'x = np.zeros((1, {channels}, {side}, {side}), "float32")  # your input, in [-1, 1]']
    return [
        f'photo = Image.open("photo.jpg").convert("{_MODES[channels]}").resize(({side}, {side}))',
        f'pixels = np.asarray(photo, "float32").reshape(1, {side}, {side}, {channels})',
        "x = (pixels / 127.5 - 1).transpose(0, 3, 1, 2)",
    ]


def _save(gives: int) -> str:
    if gives not in _MODES:
        return 'Image.fromarray(y[0].argmax(0).astype("uint8")).save("result.png")  # the class of each pixel'
    image = "y[0, 0]" if gives == 1 else "y[0].transpose(1, 2, 0)"
    return f'Image.fromarray((({image} + 1) * 127.5).clip(0, 255).round().astype("uint8")).save("result.png")'
