"""GAN-Slimming: whole iterations against a plain one, the proximal step, 8 bits, and the pipeline."""

from copy import deepcopy

import pytest
import torch
from gans_toys import CPU, assert_same_weights
from toys import TOY, random, stop_after, toy_images, toy_teacher, toy_teacher_file

from vemcompress import recipe as recipes
from vemcompress.algorithms import Parts
from vemcompress.algorithms.gan_slimming import GANSlimming
from vemcompress.commands.distill import distill
from vemcompress.data.batch import Batch
from vemcompress.errors import Interrupted, RecipeError
from vemcompress.gans.adversary import Adversary
from vemcompress.gans.teachers import Frozen
from vemcompress.information.base import Information
from vemcompress.networks.base import with_scales
from vemcompress.networks.discriminators import PatchGANConfig
from vemcompress.networks.quantised import activation_of_8_bits, forward_of_8_bits, weight_of_8_bits
from vemcompress.recipe.resolve import resolve
from vemcompress.training.optimizers import Runner
from vemcompress.training.update import Optimizer
from vemcompress.weights.features import random_features
from vemcompress.weights.loading import load

STEPS, LR = 3, 1e-3


def slimming(**settings) -> GANSlimming:
    torch.manual_seed(5)
    adversary = Adversary.Settings(
        lr=LR, pooled=True, discriminator=PatchGANConfig(width=2, layers=2, norm="instance_affine")
    )
    settings = GANSlimming.Settings(**{"content": 2e-3, "style": 3e-6, "adversary": adversary} | settings)
    features = random_features("squeezenet1_1_caffe").double()
    parts = Parts(
        teacher=Frozen(toy_teacher("resnet", 0)),
        student=toy_teacher("resnet", 1),
        information=Information(),
        optimizer=Optimizer(LR, (0.5, 0.999)),
        features=features,
    )
    algorithm = GANSlimming(settings, parts).double().train()
    learned = (algorithm.student, algorithm.adversary.discriminator)
    biases = [p for network in learned for n, p in network.named_parameters() if n.endswith("bias")]
    with torch.no_grad():
        for bias in biases:  # those before norms learn by their decay alone, which of 0 would be rounding
            bias.add_(torch.rand(bias.shape, generator=random(2), dtype=torch.double) + 0.1)
        for scale in algorithm.scales:
            scale.mul_(torch.rand(scale.shape, generator=random(1), dtype=torch.double) * 0.2)
    return algorithm


def trained(algorithm: GANSlimming, given: list[torch.Tensor]) -> list[dict[str, float]]:
    runner, log = Runner(algorithm.updates(), CPU), []
    for step, x in enumerate(given, start=1):
        runner.schedule(*algorithm.clock(step, STEPS), 1.0)
        out, losses = algorithm(Batch(x), random(step), step), {}
        for update in runner.updates:
            losses |= runner.apply(update, out, step)
        log.append({name: value.item() for name, value in losses.items()})
    return log


def batches() -> list[torch.Tensor]:
    shape = (STEPS, 2, 3, 32, 32)
    return list(torch.rand(shape, generator=random(7), dtype=torch.double) * 2 - 1)


@pytest.fixture
def double(monkeypatch):
    """Also where the losses ask for float32."""
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)


def gram(x: torch.Tensor) -> torch.Tensor:
    b, c, h, w = x.shape
    x = x.reshape(b, c, h * w)
    return x @ x.transpose(1, 2) / (c * h * w)


def test_iterations_are_the_published_ones(double):
    """Perceptual and adversarial loss; Adam with decay on all but the scales; SGD with momentum and soft threshold on
    the scales of the norms that a trunk does not have; then the discriminator. Rates along a cosine."""
    algorithm, rho = slimming(rho=0.2), 0.2
    teacher, student = deepcopy(algorithm.teacher.generator), deepcopy(algorithm.student)
    judge, features = deepcopy(algorithm.adversary.discriminator), algorithm.features
    names = [n for n, _ in student.named_parameters()]
    trunk = ("down2_norm", *(f"blocks.{i}.norm2" for i in range(3)))
    scales = [n for n in names if "norm" in n and n.endswith("weight") and not n.startswith(trunk)]
    assert len(scales) == 2 + 3 + 2  # stem, down1; within each block; up1, up2
    parameters = dict(student.named_parameters())
    rest = [parameters[n] for n in names if n not in scales and not n.startswith(trunk)]
    gammas = [parameters[n] for n in scales]
    adam = torch.optim.Adam(rest, lr=LR, betas=(0.5, 0.999), weight_decay=1e-3)
    sgd = torch.optim.SGD(gammas, lr=0.1, momentum=0.5)
    judges = torch.optim.Adam(judge.parameters(), lr=LR, betas=(0.5, 0.999), weight_decay=1e-3)
    expected = []
    for step, x in enumerate(batches()):
        factor = 0.5 * (1 + torch.cos(torch.tensor(torch.pi * step / STEPS, dtype=torch.double))).item()
        for optimizer, rate in ((adam, LR), (sgd, 0.1), (judges, LR)):
            optimizer.param_groups[0]["lr"] = rate * factor
        with torch.no_grad():
            wanted = teacher(x)
        image = student(x)
        theirs, mine = features(wanted), features(image)
        content = 20 * 2e-3 * (mine[0] - theirs[0]).abs().mean()
        style = 20 * 3e-6 * sum(((gram(a) - gram(b)) ** 2).mean() for a, b in zip(mine, theirs, strict=True))
        gan = ((judge(image).mean((1, 2, 3)) - 1) ** 2).mean()
        zero = torch.cat([g.detach() for g in gammas]).eq(0).double().mean().item()
        for optimizer in (adam, sgd):
            optimizer.zero_grad()
        (content + style + gan).backward()
        adam.step()
        sgd.step()
        with torch.no_grad():
            for g in gammas:
                g.copy_(torch.sign(g) * (g.abs() - rho * 0.1 * factor).clamp(min=0))
        judges.zero_grad()
        real = 0.5 * ((judge(wanted).mean((1, 2, 3)) - 1) ** 2).mean()
        fake = 0.5 * (judge(image.detach()).mean((1, 2, 3)) ** 2).mean()
        (real + fake).backward()
        judges.step()
        expected.append(
            {"content": content, "style": style, "gan": gan, "zero_scales": zero}
            | {"adversary_fake": fake, "adversary_real": real}
        )
    found = trained(algorithm, batches())
    for mine, wanted in zip(found, expected, strict=True):
        assert mine == pytest.approx({k: float(torch.as_tensor(v).detach()) for k, v in wanted.items()}, rel=1e-6)
    assert_same_weights(algorithm.student, student)
    assert_same_weights(algorithm.adversary.discriminator, judge)
    assert found[-1]["zero_scales"] > 0


def test_scales_of_a_student_without_any_change_no_image():
    network, x = toy_teacher("resnet"), torch.randn(1, 3, 32, 32)
    scaled = with_scales(network)
    assert scaled.config.norm == "instance_affine"
    assert torch.allclose(scaled(x), network(x), atol=1e-6)
    assert with_scales(scaled) is scaled


def test_without_sparsity_the_scales_have_no_update_of_their_own():
    algorithm = slimming(sparse=False)
    assert len(algorithm.scales) == 0
    names = [update.name for update in algorithm.updates()]
    assert names == ["student", "adversary"]
    assert not algorithm.updates()[0].own


# -- 8 bits ----------------------------------------------------------------------------------------------------------


def test_weights_of_8_bits_are_multiples_of_a_127th_of_the_largest():
    w = torch.tensor([[-2.54, 0.011], [0.009, 1.0]], requires_grad=True)
    found = weight_of_8_bits(w)
    assert torch.allclose(found, torch.tensor([[-2.54, 0.02], [0.0, 1.0]]))
    found.sum().backward()
    assert w.grad.eq(1).all()


def test_activations_of_8_bits_are_cut_and_have_257_values():
    x = torch.tensor([-1.0, 0.007, 0.009, 1.0, 5.0], requires_grad=True)
    found = activation_of_8_bits(x)
    assert found.tolist() == [0.0, 0.0, 4 / 256, 1.0, 4.0]
    found.sum().backward()
    assert x.grad.tolist() == [0, 1, 1, 1, 0]
    assert len(activation_of_8_bits(torch.linspace(-1, 5, 10_001)).unique()) == 257


def test_the_first_convolutions_input_is_not_rounded():
    network, seen = toy_teacher("resnet"), {}
    hooks = [
        getattr(network, name).register_forward_hook(lambda m, args, out, name=name: seen.update({name: args[0]}))
        for name in ("stem", "down1")
    ]
    x = torch.randn(1, 3, 32, 32)
    image, _ = forward_of_8_bits(network, x)
    assert torch.equal(seen["stem"], x)
    assert torch.equal(seen["down1"], activation_of_8_bits(seen["down1"]))
    for hook in hooks:
        hook.remove()
    assert not torch.allclose(image, network(x), atol=1e-4)
    assert torch.equal(network(x), toy_teacher("resnet")(x))  # nothing is left of it


def test_a_student_of_8_bits_learns_its_own_weights(double):
    algorithm = slimming(bits=8)
    before = algorithm.student.stem.weight.detach().clone()
    trained(algorithm, batches()[:1])
    assert not torch.equal(algorithm.student.stem.weight, before)


# -- the pipeline ----------------------------------------------------------------------------------------------------

SQUEEZE = [
    "algorithm.features=squeezenet1_1_caffe",
    "algorithm.adversary.discriminator.width=2",
    "algorithm.adversary.discriminator.layers=2",
    "algorithm.rho=5",
]
PIPE = [o for o in TOY if not o.startswith(("student.", "algorithm.features"))] + SQUEEZE


@pytest.fixture
def squeezenet(tmp_path):
    path = tmp_path / "squeezenet.pth"
    torch.save(random_features("squeezenet1_1_caffe").layers.state_dict(), path)
    return f"algorithm.features_weights={path}"


def test_the_pipeline_begins_as_the_teacher_and_ends_smaller(tmp_path, squeezenet, one_thread):
    teacher, data = toy_teacher_file(tmp_path / "t.safetensors"), toy_images(tmp_path / "photos", 4)
    options = {"data": data, "recipe": "gan_slimming", "overrides": [*PIPE, squeezenet, "train.batch=2"]}
    result = distill(teacher, out=tmp_path / "run", **options)
    slim, pruned = result.stages["slim"], result.stages["prune"]
    assert slim.parameters > pruned.after["parameters"] == result.stages["finetune"].parameters
    whole, student = load(teacher).generator, load(tmp_path / "run").generator
    assert student.config.norm == "instance_affine" and student.config.widths[2] == whole.config.widths[2]  # the trunk
    begun = recipes.read(tmp_path / "run" / "1-slim" / "recipe.toml")
    assert begun.student.source == "teacher"
    with pytest.raises(Interrupted):
        distill(teacher, out=tmp_path / "again", on_event=stop_after(5), **options)
    distill(resume=tmp_path / "again")
    whole, again = (load(tmp_path / name).generator.state_dict() for name in ("run", "again"))
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_latent_generators_are_refused():
    plan = recipes.read("gan_slimming")
    plan = recipes.of_stage(plan, plan.stages[0]).but(student=recipes.AutoStudent(width=4))
    network = toy_teacher("dcgan", levels=2)
    with pytest.raises(RecipeError, match="with image input"):
        resolve(plan, network, 3)


def test_the_teachers_images_are_the_real_ones_also_beside_a_ground_truth(double):
    algorithm = slimming()
    x, truth = batches()[0], torch.zeros(2, 3, 32, 32, dtype=torch.double)
    judge = algorithm.updates()[-1]
    plain, paired = (algorithm(Batch(x, target=t), random(1)) for t in (None, truth))
    found = [judge.terms(out)["adversary_real"].item() for out in (plain, paired)]
    assert found[0] == pytest.approx(found[1])


def test_an_average_of_scales_is_refused_while_they_are_drawn_to_zero():
    plan = recipes.read("gan_slimming", ["algorithm.ema=0.9"])
    network = toy_teacher("resnet")
    slim, tuned = (recipes.of_stage(plan, plan.stages[i]) for i in (0, 2))
    with pytest.raises(RecipeError, match="an average of scales is never exactly zero"):
        resolve(slim, network, 3, network)
    resolve(tuned, network, 3, network)
