"""Facts about an exported .onnx file for the demo page, and the texts that the page shows."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx

from vemcompress.console.words import millions
from vemcompress.data.indices import class_colours
from vemcompress.errors import InputError
from vemcompress.export.graph import without_traces
from vemcompress.system.private import last_name, metadata_without_folders
from vemcompress.system.quantities import count_text
from vemcompress.weights.graphs.counting import cost_of_graph
from vemcompress.weights.graphs.latent_session import TRUNCATION, OnnxLatents
from vemcompress.weights.graphs.pixels import COLOURS
from vemcompress.weights.graphs.session import OnnxModel, open_onnx
from vemcompress.weights.ranges import RANGES

SIZES = (128, 192, 256, 384, 512, 768, 1024)  # choices for the longer side, in pixels
LARGEST_FIRST = 512  # the largest size that is selected at first
QUICK = 2e9  # MACs of a picture that takes less than about a second on one thread of WebAssembly


def page_facts(path: Path) -> dict[str, Any]:
    """Kind, input, sizes, cost and origin of an exported graph, as plain values. Raises InputError (4) for a file that
    vemcompress did not export, or whose input is not photos, and the errors of `open_onnx`."""
    model = open_onnx(path, latents=True)
    if model.assumed or model.dtype == np.float16:
        raise InputError(
            f"{path}: was not exported by vemcompress, or takes float16; give an .onnx file that `vemcompress export` "
            "wrote, or the run that it came from."
        )
    said = model.session.get_modelmeta().custom_metadata_map
    facts = _of_latents(path, model) if isinstance(model, OnnxLatents) else _of_photos(path, model)
    facts |= {
        "kind": model.kind,
        "input": model.session.get_inputs()[0].name,
        "dtype": np.dtype(model.dtype).name,
        "layout": model.layout,
        "range": RANGES[said["range"]],
        "bytes": path.stat().st_size,
        "family": said.get("family", "custom"),
    }
    places = {name: said.get(name, "unknown") for name in ("source", "teacher_source")}
    facts |= {name: "" if place == "unknown" else last_name(place) for name, place in places.items()}
    return facts | {"licence": said.get("licence", "unknown")}


def for_browsers(data: bytes) -> bytes:
    """The graph for visitors: its metadata names no folders of this machine, and an optional input `truncation` becomes
    a required one, because ONNX Runtime Web does not support default values of inputs."""
    model = without_traces(onnx.ModelProto.FromString(data))
    said = metadata_without_folders({entry.key: entry.value for entry in model.metadata_props})
    onnx.helper.set_model_props(model, said)
    for tensor in [tensor for tensor in model.graph.initializer if tensor.name == TRUNCATION]:
        model.graph.initializer.remove(tensor)
    return model.SerializeToString()


def told(facts: dict[str, Any], title: str) -> dict[str, Any]:
    """The facts, with the page's title and the lines of text that it shows."""
    latent = facts["kind"] == "latent"
    at = "" if latent else f" for {facts['macs_size'][1]} × {facts['macs_size'][0]} px"
    taken = f"{facts['latent']} numbers" if latent else f"photos, {_channels(facts['channels'])}"
    given = f"{facts['sides'][1]} × {facts['sides'][0]} px" if latent else _given(facts)
    lines = {
        "Network": facts["family"],
        "Parameters": millions(facts["parameters"]),
        "Computation": f"{count_text(facts['macs'])} multiplications{at}",
        "Input": taken,
        "Output": given,
        "File": f"{facts['file']}, {facts['bytes'] / 1000:,.0f} kB",
        "Source": facts["source"],
        "Teacher": facts["teacher_source"],
        "Licence": "not stated" if facts["licence"] == "unknown" else facts["licence"],
    }
    return facts | {"title": title, "shown": [[name, text] for name, text in lines.items() if text]}


def _of_photos(path: Path, model: OnnxModel) -> dict[str, Any]:
    multiple, least = (int(model.metadata[name]) for name in ("multiple", "min_size"))  # of uint8 too
    sides = model.fixed_size or (-(-max(least, 128) // multiple) * multiple,) * 2
    cost = cost_of_graph(path, lambda: model.prepare(np.zeros((1, *sides, model.channels), np.uint8)))
    outputs = model.session.get_outputs()[0].shape[1 if model.layout == "NCHW" else 3]
    sizes = [model.fixed_size[1]] if model.fixed_size else _sizes(multiple, least)
    per_pixel = cost.true / (sides[0] * sides[1])
    quick = [size for size in sizes if size <= LARGEST_FIRST and size**2 * per_pixel <= QUICK]
    size = quick[-1] if quick else sizes[0]
    sides = model.fixed_size or (size, size)
    return {
        "channels": model.channels,
        "colours": None if outputs in COLOURS else class_colours(outputs).tolist(),
        "multiple": model.multiple,
        "min_size": model.min_size,
        "scale": model.scale,
        "only": model.fixed_size,
        "sizes": sizes,
        "size": size,
        "parameters": cost.parameters,
        "macs": round(per_pixel * sides[0] * sides[1]),
        "macs_size": sides,
    }


def _sizes(multiple: int, least: int) -> list[int]:
    """The choices for the size that need no padding; if there are none, the smallest permitted size."""
    return [size for size in SIZES if size >= least and size % multiple == 0] or [-(-least // multiple) * multiple]


def _of_latents(path: Path, model: OnnxLatents) -> dict[str, Any]:
    cost = cost_of_graph(path, lambda: model.prepare(np.zeros((1, model.size), np.float32)))
    optional = model.session.get_overridable_initializers()
    return {
        "latent": model.size,
        "prior": model.prior,
        "truncation": any(value.name == TRUNCATION for value in optional),
        "sides": model.sides,
        "parameters": cost.parameters,
        "macs": cost.true,
    }


def _channels(count: int) -> str:
    return {1: "in grey", 3: "in colour", 4: "in colour with transparency"}[count]


def _given(facts: dict[str, Any]) -> str:
    what = "pictures" if facts["colours"] is None else f"{len(facts['colours'])} classes, each in a colour"
    return f"{what}, {facts['scale']} times as large" if facts["scale"] > 1 else f"{what} of the same size"
