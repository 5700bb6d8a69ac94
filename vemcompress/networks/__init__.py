"""Architectures, and what they are built of: layers, channels, costs. It knows neither losses nor training."""

from vemcompress.networks.base import Config, Generator
from vemcompress.networks.generators import GENERATORS, build_generator, parse_config, student_of

__all__ = ["GENERATORS", "Config", "Generator", "build_generator", "parse_config", "student_of"]
