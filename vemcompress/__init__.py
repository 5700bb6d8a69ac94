"""vemcompress: compress pretrained GAN generators with information-theoretic distillation (VEM).

The library's face: `load_generator`, `load_energy_model`, `teach`, `distill`, `prune`, `search`, `evaluate`,
`generate`, `export_model`, `export_onnx`, `report`, `demo` and `push` take what the commands take (recipe keys by name,
or through `overrides`) and return typed results, as do `distill_seeds` and `evaluate_seeds` over several seeds,
`distill_matrix` over recipes and add-ons too, and `compare` over any runs. They are imported when first used.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vemcompress.commands.compare import compare
    from vemcompress.commands.demo import demo
    from vemcompress.commands.distill import distill
    from vemcompress.commands.evaluate import evaluate
    from vemcompress.commands.export import export_model
    from vemcompress.commands.generate import generate
    from vemcompress.commands.matrix import distill_matrix
    from vemcompress.commands.prune import prune
    from vemcompress.commands.push import push
    from vemcompress.commands.report import report
    from vemcompress.commands.search import search
    from vemcompress.commands.seeds import distill_seeds, evaluate_seeds
    from vemcompress.commands.teach import teach
    from vemcompress.export.exporting import export_onnx
    from vemcompress.weights.energy import load_energy_model
    from vemcompress.weights.loading import load_generator

__version__ = "0.1.0"

# ONNX Runtime, once imported, else keeps an identifier in the home folder and reports every session to a web service.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

_FACE = {
    "load_generator": "vemcompress.weights.loading",
    "load_energy_model": "vemcompress.weights.energy",
    "distill": "vemcompress.commands.distill",
    "teach": "vemcompress.commands.teach",
    "prune": "vemcompress.commands.prune",
    "search": "vemcompress.commands.search",
    "evaluate": "vemcompress.commands.evaluate",
    "distill_seeds": "vemcompress.commands.seeds",
    "evaluate_seeds": "vemcompress.commands.seeds",
    "distill_matrix": "vemcompress.commands.matrix",
    "compare": "vemcompress.commands.compare",
    "generate": "vemcompress.commands.generate",
    "export_model": "vemcompress.commands.export",
    "export_onnx": "vemcompress.export.exporting",
    "demo": "vemcompress.commands.demo",
    "push": "vemcompress.commands.push",
    "report": "vemcompress.commands.report",
}
__all__ = [  # written out, as type checkers read it
    "__version__",
    "compare",
    "demo",
    "distill",
    "distill_matrix",
    "distill_seeds",
    "evaluate",
    "evaluate_seeds",
    "export_model",
    "export_onnx",
    "generate",
    "load_energy_model",
    "load_generator",
    "prune",
    "push",
    "report",
    "search",
    "teach",
]


def __getattr__(name: str) -> Any:
    if name in _FACE:
        return getattr(import_module(_FACE[name]), name)
    raise AttributeError(f"module 'vemcompress' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
