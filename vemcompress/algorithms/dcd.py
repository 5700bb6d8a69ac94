"""DCD: discriminator-cooperated distillation (CVPR 2023), which compares feature maps through the teacher's
discriminator.

A connector turns each feature map of teacher and student into an image, and the teacher's discriminator looks at both.
The student learns to produce the same last feature map in the discriminator. It also learns from the teacher's images
by style and feature losses, and from an adversarial loss against the same discriminator. The teacher is trained too:
with Pix2Pix at the same steps, with CycleGAN in alternating phases, as in OMGD.

The published code, poopit/DCD-official, does not run as it is. This implements what it appears to intend:

- Pix2Pix: the hook on the discriminator names one with two branches and never fires, so the comparison is always 0; and
  the student's image alone is given to a discriminator of pairs, which fails. Here both get the right input.
- CycleGAN: a misspelt option stops the run; and the adversarial term uses the teacher's image, which gives the student
  no gradient. Here it uses the student's image. `gan` = 0 omits it, as Pix2Pix's code does.
- The connectors' own initial weights are overwritten by those of all networks, N(0, 0.02), as here.
- CycleGAN's connectors of the teacher are never trained, and their BatchNorms divide by 1; Pix2Pix's are trained with
  the student.

One difference: the published Pix2Pix code updates teacher and discriminator at once; here one is updated after the
other, as in Pix2Pix itself.
"""

from typing import ClassVar, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from vemcompress.algorithms.calibration import Features, calibrated, check_features
from vemcompress.algorithms.distillation import Distillation, Facts, Needs, Parts
from vemcompress.algorithms.match import check_places, sides
from vemcompress.errors import RecipeError
from vemcompress.losses import features as feature_losses
from vemcompress.losses.adversarial import generator_loss
from vemcompress.networks.base import init_weights
from vemcompress.networks.features import FeatureNetwork
from vemcompress.system.settings import Text, Weight
from vemcompress.training.update import Output

PUBLISHED = {"style": 10.0, "feature": 1e4}  # for VGG16 features
# For features other than VGG's: the values of these terms for an untrained student with VGG16, as measured for OMGD.
BLANK = {"style": 0.017, "feature": 6000.0}


class DCD(Distillation):
    """Distils an online teacher that is trained by Pix2Pix or CycleGAN."""

    class Settings(Distillation.Settings):
        """`compare`: weight (lambda_CD) of the mean absolute difference of the discriminator's last feature maps,
        summed over the places. `style`: weight of the style loss; None is the published 10 with VGG16. `feature`:
        weight of the feature loss; None is the published 1e4 with VGG16. `gan`: weight of the adversarial term; None is
        0 with pairs, else 1.

        `features`: the network whose maps the style and feature losses compare. `features_weights`: the file of its
        weights.
        """

        replaces: ClassVar = {"features": ("features_weights", "style", "feature")}

        name: Literal["dcd"] = "dcd"
        compare: Weight = 1.0
        style: Weight | None = None
        feature: Weight | None = None
        gan: Weight | None = None
        features: Features = "vgg16"
        features_weights: Text | None = None

    needs: ClassVar = Needs(teacher="online", takes=("image",), gan=True)
    files: ClassVar = ("features_weights",)

    @classmethod
    def resolve(cls, settings: Settings, facts: Facts) -> Settings:
        check_places("DCD", facts.recipe, facts.teacher, facts.student)
        check_features(settings, tuple(PUBLISHED), facts)
        side = min(min(pair) for pair in sides(facts.teacher, facts.size))
        if facts.judge is not None and side < facts.judge.min_size:
            raise RecipeError(
                f"recipe {facts.recipe}: DCD gives feature maps to the discriminator, which needs "
                f"{facts.judge.min_size} px, and the smallest has {side}; set gan.discriminator.layers=2, or raise "
                "data.size."
            )
        published = PUBLISHED if settings.features == "vgg16" else dict.fromkeys(PUBLISHED, 0.0)
        found = {} if settings.features not in ("vgg16", "none") else dict(published)
        found["gan"] = 0.0 if facts.paired else 1.0
        return settings.but(**{key: value for key, value in found.items() if getattr(settings, key) is None})

    @classmethod
    def calibrate(cls, settings: Settings, features: FeatureNetwork, images: Tensor) -> Settings:
        return calibrated(settings, BLANK, features, images)

    def __init__(self, settings: Settings, parts: Parts):
        super().__init__(settings, parts)
        self.gan = parts.gan
        judges = self.gan.discriminators()
        if len(self.gan.teachers()) > 1:
            raise RecipeError(
                f"gan.name = '{self.gan.settings.name}': DCD needs a GAN with one teacher; set gan.name to pix2pix or "
                "cyclegan."
            )
        self._judge = [next(iter(judges.values()))]  # in a list: it belongs to the GAN and is not a submodule here
        self.teacher.maps = True
        channels = self.judge.config.in_channels
        self.follow(lambda inputs, _: _to_image(inputs, channels))
        self.of_teacher = nn.ModuleList(
            _to_image(self.teacher.generator.tap_channels(tap), channels) for tap in self.teacher_taps
        )
        init_weights(self.of_teacher)
        if not parts.paired:
            self.of_teacher.eval().requires_grad_(False)

    @property
    def judge(self) -> nn.Module:
        """The discriminator of the teacher's images, in its current state."""
        return self._judge[0]

    def student_terms(self, out: Output) -> dict[str, Tensor]:
        settings = self.settings
        with self.autocast(out.student.device):
            theirs = [f(out.teacher_taps[tap]) for f, tap in zip(self.of_teacher, self.teacher_taps, strict=True)]
            mine = self.connectors(out.student_taps)
        distances = [F.l1_loss(self._last(s), self._last(t)) for t, s in zip(theirs, mine, strict=True)]
        terms = {"compare": settings.compare * sum(distances)}
        if self.features is not None:
            terms |= self._perceptual_terms(out)
        if settings.gan:
            scores = self.gan.judge(self.judge, self.gan.shown(out.input, out.student))
            terms["gan"] = settings.gan * generator_loss(self.gan.settings.mode, scores)
        return terms

    def _last(self, image: Tensor) -> Tensor:
        """The discriminator's last feature map of a connector's output."""
        name = self.judge.taps[-1]
        with self.autocast(image.device):
            return self.judge.forward_with_taps(image, (name,))[1][name].float()

    def _perceptual_terms(self, out: Output) -> dict[str, Tensor]:
        layer, (theirs, mine) = self.features.feature, self.maps_of(out.teacher, out.student)
        style, feature = feature_losses.style(theirs, mine), feature_losses.feature(theirs[layer], mine[layer])
        return {"style": self.settings.style * style, "feature": self.settings.feature * feature}

    def learned(self) -> dict[str, nn.Module]:
        learns = {"of_teacher": self.of_teacher} if self.of_teacher.training else {}
        return super().learned() | learns

    def companions(self) -> dict[str, tuple[nn.Module, dict[str, str]]]:
        return super().companions() | {"connectors_of_teacher": (self.of_teacher, {})}


def _to_image(inputs: int, channels: int) -> nn.Sequential:
    """A connector: 1x1 convolution without bias, BatchNorm, ReLU."""
    return nn.Sequential(nn.Conv2d(inputs, channels, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU())
