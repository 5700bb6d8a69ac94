"""The YAML header of a model card: licence, task, base model and tags. The Hub uses it to list and filter models."""

import re

from huggingface_hub import ModelCardData

from vemcompress.errors import VemError
from vemcompress.system.names import printable
from vemcompress.weights.hub import is_hub, parse

# The Hub's identifiers of licences. Any other licence is "other", with its name in license_name.
_KNOWN = re.compile(
    r"apache-2\.0|mit|isc|zlib|ncsa|unlicense|wtfpl|pddl|odc-by|bsd|bsd-[23]-clause|cc0-1\.0|cc-by-(2\.[05]|[34]\.0)|"
    r"cc-by-sa-[34]\.0|cc-by-nc-[234]\.0|cc-by-nd-4\.0|cc-by-nc-nd-[34]\.0|cc-by-nc-sa-[234]\.0|openrail|"
    r"creativeml-openrail-m|bigscience-openrail-m|mpl-2\.0|gpl-[23]\.0|lgpl-(2\.1|3\.0)|agpl-3\.0|epl-[12]\.0|"
    r"eupl-1\.[12]|afl-3\.0|artistic-2\.0|bsl-1\.0|ofl-1\.1"
)


def header(kind: str, teacher: dict[str, str], licence: str | None, *, has_onnx: bool) -> str:
    """The header, with its lines of dashes.

    `kind` is the kind of the network's input, "image" or "latent". `teacher` is the teacher's record in the metadata of
    the weights. `licence` is the user's, and replaces the one in that record.
    """
    told = stated(teacher, licence).lower()
    known = told if _KNOWN.fullmatch(told) else None
    slug = re.sub(r"[^a-z0-9.-]+", "-", told).strip("-.")[:60]
    data = ModelCardData(
        license=known or "other",
        license_name=None if known else slug or "unknown",
        library_name="vemcompress",
        pipeline_tag="unconditional-image-generation" if kind == "latent" else "image-to-image",
        base_model=repository(teacher.get("source", "")),
        tags=["vemcompress", "gan", "knowledge-distillation", *(["onnx"] if has_onnx else [])],
    )
    return f"---\n{data.to_yaml().strip()}\n---"


def stated(teacher: dict[str, str], licence: str | None) -> str:
    """The licence of the network, or "" if none is recorded."""
    return printable(licence or teacher.get("licence", "")).strip()


def repository(source: str) -> str | None:
    """The teacher's repository on the Hub, or None if it came from elsewhere."""
    try:
        return parse(source).repo if is_hub(source) else None
    except VemError:
        return None
