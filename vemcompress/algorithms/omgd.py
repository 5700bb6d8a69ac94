"""OMGD: online multi-granularity distillation (Ren et al., ICCV 2021).

VEM paper, A.2.1, eq. 12-15. Where the paper and the published code differ, this follows the code: the perceptual loss
is a style and a feature term, the connectors f_l are 1x1 convolution, BatchNorm and ReLU, the total variation is a sum,
and there is no pixel term with VGG features.
"""

from typing import ClassVar, Literal

from torch import Tensor, nn

from vemcompress.algorithms.calibration import Features, calibrated, check_features
from vemcompress.algorithms.distillation import Distillation, Facts, Parts
from vemcompress.algorithms.match import paired_places, unmatched
from vemcompress.errors import RecipeError
from vemcompress.losses import features as feature_losses
from vemcompress.losses import image as image_losses
from vemcompress.networks.features import FeatureNetwork
from vemcompress.networks.generators.unet import UNetConfig
from vemcompress.system import distributed
from vemcompress.system.settings import Text, Weight
from vemcompress.training.update import Output

# Target values of the style and feature terms for an untrained student with features other than VGG's, beside the SSIM
# term's 10. The published 1e4 and 10 are tuned for VGG on [0, 1] and do not transfer.
BLANK_STYLE, BLANK_FEATURE = 17.0, 6.0

# lambda_CD for U-Nets, and for ResNets with features other than VGG's. The 500 published for ResNets outweighs the
# other terms until the connectors have learnt the teacher's channel means, which takes thousands of steps: 1,000 steps
# with a CartoonGAN teacher ended at an SSIM of 0.39 with 500, 0.50 with 10 and 0.50 with 0.
OTHER_CHANNEL = 10.0


class OMGD(Distillation):
    """Distils frozen teachers or, as published, teachers that are trained at the same steps or in phases."""

    class Settings(Distillation.Settings):
        """The weights (lambda) follow; None is filled in for the teacher's family. `ssim`: weight of the SSIM loss.
        `style`: weight of the style loss on feature maps. `feature`: weight of the feature loss. `tv`: weight of the
        total variation, which is a sum. `channel`: weight of channel distillation on the networks' own feature maps.
        `recon`: weight of the mean absolute difference of the images. `squared`: weight of their mean squared
        difference, which is not in the paper; large differences, such as of small bright details, count more with it.

        `features`: the network whose maps the style and feature terms compare. `features_weights`: the file of its
        weights.
        """

        replaces: ClassVar = {"features": ("features_weights", "style", "feature", "channel", "recon")}

        name: Literal["omgd"] = "omgd"
        ssim: Weight = 10.0
        style: Weight | None = None
        feature: Weight | None = None
        tv: Weight = 1e-5
        channel: Weight | None = None
        recon: Weight | None = None
        squared: Weight = 0.0
        features: Features = "vgg16"
        features_weights: Text | None = None

    files: ClassVar = ("features_weights",)

    @classmethod
    def resolve(cls, settings: Settings, facts: Facts) -> Settings:
        """Fill in the published weights for the teacher's family. Weights for features other than VGG's stay open until
        they are calibrated.
        """
        vgg, none = settings.features == "vgg16", settings.features == "none"
        teacher, given = facts.teacher, settings.channel
        unet = isinstance(teacher.config, UNetConfig)
        if not teacher.taps and given:
            raise RecipeError(f"algorithm.channel: {teacher.what} has no named feature maps; set it to 0.")
        if teacher.taps and given != 0 and not paired_places(teacher, facts.student):
            advice = "leave student.family at auto, or set algorithm.channel=0 to distil from images alone"
            raise unmatched(facts.recipe, teacher, facts.student, advice)
        check_features(settings, ("style", "feature"), facts)
        channel = 0.0 if not teacher.taps else 500.0 if vgg and not unet else OTHER_CHANNEL
        defaults = {
            "channel": channel,
            "style": 1e4 if vgg else 0.0 if none else None,
            "feature": 10.0 if vgg else 0.0 if none else None,
            "recon": 0.0 if vgg else 10.0,
        }
        return settings.but(**{k: v for k, v in defaults.items() if getattr(settings, k) is None})

    @classmethod
    def calibrate(cls, settings: Settings, features: FeatureNetwork, images: Tensor) -> Settings:
        blank = {"style": BLANK_STYLE, "feature": BLANK_FEATURE}
        return calibrated(settings, blank, features, images)

    def __init__(self, settings: Settings, parts: Parts):
        super().__init__(settings, parts)
        if settings.channel:
            self.follow(connector)

    def student_terms(self, out: Output) -> dict[str, Tensor]:
        """Eq. 12: the named, weighted terms of L_algo, summed over the teachers as published, including the total
        variation.

        Feature maps of the first teacher alone are distilled.
        """
        settings, student = self.settings, out.student
        count, teachers = 1 + len(out.others), out.teachers
        terms = {"ssim": settings.ssim * image_losses.ssim_loss(teachers, student)}
        if self.features is not None:
            terms |= self._perceptual_terms(teachers, student)
        # A sum over the global batch; the ranks' terms are averaged later.
        variation = distributed.ranks() * image_losses.total_variation(student)
        terms["tv"] = settings.tv * count * variation
        if settings.recon:
            terms["recon"] = settings.recon * image_losses.reconstruction(teachers, student)
        if settings.squared:
            terms["squared"] = settings.squared * image_losses.squared(teachers, student)
        if self.connectors:
            with self.autocast(student.device):
                connected = self.connectors(out.student_taps)
            of_teacher = [out.teacher_taps[t] for t in self.teacher_taps]
            terms["channel"] = settings.channel * feature_losses.channel_distillation(of_teacher, connected)
        return terms

    def _perceptual_terms(self, teachers: Tensor, student: Tensor) -> dict[str, Tensor]:
        """Style and feature terms. The student's maps are computed once; those of all teachers are computed in one
        batch without gradient.
        """
        layer, (of_teachers, of_student) = self.features.feature, self.maps_of(teachers, student)
        style = feature_losses.style(of_teachers, of_student)
        feature = feature_losses.feature(of_teachers[layer], of_student[layer])
        return {"style": self.settings.style * style, "feature": self.settings.feature * feature}


def connector(inputs: int, outputs: int) -> nn.Sequential:
    """f_l of eq. 13, always in training mode: 1x1 convolution without bias, BatchNorm, ReLU."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())
