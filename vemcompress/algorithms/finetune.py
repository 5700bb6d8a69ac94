"""Fine-tuning without distillation: the student learns by its own GAN's losses, as a network that was pruned does in
Network Slimming (Liu et al., ICCV 2017) and Co-Evolution (Shu et al., ICCV 2019).

It imitates nobody. The teacher stays as it is and gives images for an information add-on alone.
"""

from typing import ClassVar, Literal

from vemcompress.algorithms.twin import TwinDistillation


class Finetune(TwinDistillation):
    """From any teacher, by the losses of [gan]."""

    class Settings(TwinDistillation.Settings):
        """`online`: "never", or "step" for a teacher that goes on learning beside the student."""

        name: Literal["finetune"] = "finetune"
        online: Literal["step", "never"] = "never"

    imitates: ClassVar = False
