"""Fine-tuning without distillation: the student is trained by its own GAN's losses, as after pruning in Network
Slimming (Liu et al., ICCV 2017) and Co-Evolution (Shu et al., ICCV 2019).

The teacher is not imitated. It stays fixed and gives images only to the information add-on.
"""

from typing import ClassVar, Literal

from vemcompress.algorithms.twin import TwinDistillation


class Finetune(TwinDistillation):
    """Trains a student by the losses of [gan], beside any teacher."""

    class Settings(TwinDistillation.Settings):
        """`online`: "never" for a fixed teacher, or "step" for a teacher that is trained beside the student."""

        name: Literal["finetune"] = "finetune"
        online: Literal["step", "never"] = "never"

    imitates: ClassVar = False
