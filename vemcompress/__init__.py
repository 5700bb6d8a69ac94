"""vemcompress: compress pretrained GAN generators with information-theoretic distillation (VEM).

The library's face: `load_generator`, `load_energy_model`, `distill`, `evaluate`, `export_onnx`, `generate` take the
same arguments as the commands and return typed results. They are imported when first used.
"""

from importlib import import_module

__version__ = "0.1.0"

_FACE = {
    "load_generator": "vemcompress.weights.loading",
    "load_energy_model": "vemcompress.weights.energy",
    "distill": "vemcompress.distil",
    "evaluate": "vemcompress.evaluation.run",
    "assess": "vemcompress.assess",
    "export_onnx": "vemcompress.export.onnx",
}
__all__ = [*_FACE, "__version__"]


def __getattr__(name: str):
    if name in _FACE:
        return getattr(import_module(_FACE[name]), name)
    raise AttributeError(f"module 'vemcompress' has no attribute '{name}'")
