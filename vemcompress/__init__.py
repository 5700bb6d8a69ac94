"""vemcompress: compress pretrained GAN generators with information-theoretic distillation (VEM).

The library's face: `load_generator`, `load_energy_model`, `teach`, `distill`, `prune`, `evaluate`, `generate` and
`export_onnx` take what the commands take (recipe keys through `overrides`) and return typed results, as do
`distill_seeds` and `evaluate_seeds` over several seeds. They are imported when first used.
"""

from importlib import import_module

__version__ = "0.1.0"

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
    "generate": "vemcompress.commands.generate",
    "export_onnx": "vemcompress.export.onnx",
}
__all__ = [*_FACE, "__version__"]


def __getattr__(name: str):
    if name in _FACE:
        return getattr(import_module(_FACE[name]), name)
    raise AttributeError(f"module 'vemcompress' has no attribute '{name}'")
