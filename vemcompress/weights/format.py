"""How a .safetensors file says that it is ours."""

import vemcompress
from vemcompress.errors import InputError

FORMAT = "vemcompress"
FORMAT_VERSION = 1


def signature(family: str) -> dict[str, str]:
    """What the metadata of every artifact says."""
    return {
        "format": FORMAT,
        "format_version": str(FORMAT_VERSION),
        "vemcompress": vemcompress.__version__,
        "family": family,
    }


def is_artifact(metadata: dict[str, str]) -> bool:
    """Whether a .safetensors file says that it is ours."""
    return metadata.get("format") == FORMAT


def check_version(metadata: dict[str, str], source: str) -> None:
    """Raises InputError for an artifact that a later vemcompress wrote."""
    version = metadata.get("format_version", "")
    if not (version.isascii() and version.isdecimal() and 1 <= int(version[:9]) <= FORMAT_VERSION):
        raise InputError(
            f"{source}: artifact of format {version!r:.20}, and this is vemcompress {vemcompress.__version__}, which "
            f"reads up to {FORMAT_VERSION}: upgrade vemcompress"
        )
