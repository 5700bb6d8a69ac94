"""The data and the tour of `vemcompress quickstart`: scenes drawn by code, and a teacher trained on them."""

from pathlib import Path

TEACHER = Path(__file__).parent / "teacher.safetensors"
