"""Network architectures and their building blocks: layers, channel groups, MACs. Nothing here knows losses or
training.
"""

from vemcompress.networks.base import Config, Generator
from vemcompress.networks.generators import GENERATORS, build_generator, parse_config, student_of

__all__ = ["GENERATORS", "Config", "Generator", "build_generator", "parse_config", "student_of"]
