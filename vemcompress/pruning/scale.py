"""CAT's criterion: the absolute scales of the norms, with one threshold for all layers (Jin et al., CVPR 2021)."""

from typing import Literal

from torch import Tensor

from vemcompress.errors import UsageError
from vemcompress.networks.base import Generator
from vemcompress.pruning.base import Pruner
from vemcompress.system.settings import Width


class Scale(Pruner):
    """Groups whose norms have no scales are not pruned. The published least width outside residual blocks is 16."""

    class Settings(Pruner.Settings):
        """`signed`: whether scales are compared with their sign, as in GCC; otherwise by absolute value, as in Network
        Slimming and CAT.
        """

        name: Literal["scale"] = "scale"
        by: Literal["threshold", "ratio"] = "threshold"
        least: Width = 16
        signed: bool = False

    def scores(self, network: Generator) -> dict[str, Tensor]:
        tensors = network.state_dict()
        found = {g.name: tensors[g.scale].float() for g in network.groups() if g.scale in tensors}
        if not self.settings.signed:
            found = {name: scales.abs() for name, scales in found.items()}
        if not found:
            teacher = "" if network.styled else ", or a teacher with norm = 'batch' or 'instance_affine'"
            raise UsageError(f"method scale: the norms of this {network.family} have no scales; use l1{teacher}.")
        return found
