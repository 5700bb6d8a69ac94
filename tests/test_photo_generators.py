"""AnimeGANv2, fast neural style, U-GAT-IT and pix2pixHD as teachers: sizes, students, a step of OMGD, masks, ONNX."""

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from toys import TOY, random

from vemcompress import recipe as recipes
from vemcompress.algorithms.match import paired_places
from vemcompress.commands.parts import distillation
from vemcompress.data.batch import Batch
from vemcompress.errors import ExportError, UsageError
from vemcompress.export.exporting import export_onnx
from vemcompress.networks import build_generator, parse_config
from vemcompress.networks.base import Generator
from vemcompress.networks.generators.resnet import MobileResNetConfig
from vemcompress.networks.groups import masked
from vemcompress.networks.joint_norms import AdaptiveNorm, LayerInstanceNorm, LayerNorm2d
from vemcompress.recipe.resolve import resolve
from vemcompress.training.optimizers import Runner

SHAPES = {
    "fast neural style": {"family": "fast_neural_style", "width": 8, "blocks": 2},
    "AnimeGANv2": {"family": "animegan2", "width": 4, "blocks": 3},
    "U-GAT-IT light": {"family": "ugatit", "width": 4, "blocks": 2},
    "U-GAT-IT full": {"family": "ugatit", "width": 4, "blocks": 2, "full_size": 32},
    "pix2pixHD": {"family": "resnet", "width": 4, "blocks": 3, "downs": 4, "in_channels": 35},
    "pix2pixHD local": {"family": "local_enhancer", "width": 4, "blocks": 3, "downs": 3, "in_channels": 35},
}


def teacher_of(name: str) -> Generator:
    torch.manual_seed(0)
    return build_generator(parse_config(SHAPES[name])).eval()


def noise(teacher: Generator, *sides: int, count: int = 1) -> torch.Tensor:
    return torch.rand(count, teacher.in_channels, *sides, generator=random(1)) * 2 - 1


@pytest.mark.parametrize(
    ("config", "parameters"),
    [
        ({"family": "fast_neural_style", "width": 32}, 1_679_235),
        ({"family": "resnet", "width": 64, "downs": 4, "in_channels": 36}, 182_546_755),  # as pix2pixHD prints it
    ],
)
def test_published_widths_have_the_published_parameters(config, parameters):
    assert parse_config(config).cost(256, 256).parameters == parameters


@pytest.mark.parametrize("name", SHAPES)
def test_omgd_fits_itself_to_the_teacher_by_width_and_by_budget(name):
    teacher = teacher_of(name)
    size = ["data.size=64"] if name != "U-GAT-IT full" else []
    toy = [o for o in TOY if o != "student.width=4"] + size
    assert len(paired_places(teacher, build_generator(teacher.config.student(4)))) == len(set(teacher.places)) >= 3
    for override in ("student.width=4", "student.target_macs=20000000"):
        plan = resolve(recipes.read("omgd", [*toy, override]), teacher, 10)
        assert plan.algorithm.channel == 10  # feature maps are distilled
        student = build_generator(plan.student).eval()
        x = noise(teacher, plan.data.size, plan.data.size)
        assert student(x).shape == teacher(x).shape and student.takes.only is None
    assert plan.student.cost(plan.data.size, plan.data.size).true <= 20_000_000
    wider = plan.student.student(5)
    assert (wider.family, wider.of_width(6).student(5)) == (plan.student.family, wider)


def test_the_students_of_pix2pixhd_go_down_to_the_same_size():
    found = {name: teacher_of(name).config.student(8) for name in ("pix2pixHD", "pix2pixHD local")}
    assert all(isinstance(config, MobileResNetConfig) and config.downs == 4 for config in found.values())


@pytest.mark.parametrize("name", SHAPES)
def test_a_step_moves_the_student_towards_its_teacher(name):
    teacher = teacher_of(name)
    size = "data.size=64" if name.startswith("pix2pixHD") else "data.size=32"
    plan = resolve(recipes.read("omgd", [*TOY, size, "train.lr=1e-3"]), teacher, 3)
    algorithm = distillation(plan, teacher).train()
    runner, x = Runner(algorithm.updates(), torch.device("cpu")), noise(teacher, plan.data.size, plan.data.size)
    before = {n: v.clone() for n, v in algorithm.state_dict().items()}
    found = []
    for step in range(1, 4):
        out = algorithm(Batch(x), random(step), step)
        for update in runner.updates:
            runner.apply(update, out, step)
        found.append(F.l1_loss(out.student, out.teacher).item())
    assert found[-1] < found[0]
    moved = {n.split(".")[0] for n, v in algorithm.state_dict().items() if not torch.equal(v, before[n])}
    assert moved == {"student", "connectors", "information"}


@pytest.mark.parametrize("name", SHAPES)
def test_every_tap_can_be_read_and_leaves_the_image_as_it_is(name):
    network = teacher_of(name)
    x = noise(network, network.takes.only or 64, network.takes.only or 64, count=2)
    image, taps = network.forward_with_taps(x, network.taps)
    assert torch.equal(image, network(x)) and set(network.places) <= set(network.taps) == set(taps)
    assert {n: tap.shape[1] for n, tap in taps.items()} == {n: network.tap_channels(n) for n in network.taps}


@pytest.mark.parametrize("name", ["AnimeGANv2", "U-GAT-IT light"])
def test_a_mask_learns_through_norms_over_all_channels(name):
    network = teacher_of(name)
    masks = {g.name: torch.ones(g.size, requires_grad=True) for g in network.groups()}
    masked(network, masks, noise(network, 32, 32))[0].square().mean().backward()
    assert all(mask.grad is not None and mask.grad.abs().max() > 0 for mask in masks.values())


def test_layer_norm_is_pytorchs_group_norm_of_one_group():
    ours, theirs = LayerNorm2d(6), torch.nn.GroupNorm(1, 6)
    with torch.no_grad():
        ours.weight.normal_(), ours.bias.normal_()
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 6, 5, 7) * 3 + 2
    assert torch.allclose(ours(x), theirs(x), atol=1e-5)
    half = ours(x.bfloat16())
    assert half.dtype is torch.bfloat16 and torch.allclose(half.float(), theirs(x), atol=0.05)


def test_adaptive_norm_mixes_unbiased_instance_and_layer_norm():
    norm, own = AdaptiveNorm(2), LayerInstanceNorm(2)
    x = torch.tensor([[[[1.0, 3.0]], [[5.0, 9.0]]]])  # variances 2 and 8, of all 35 / 3; means 2 and 7, of all 4.5
    gamma, beta = torch.tensor([[2.0, 3.0]]), torch.tensor([[0.5, -1.0]])
    instance = torch.tensor([[-1.0, 1.0], [-2.0, 2.0]]) / torch.tensor([[2.0], [8.0]]).sqrt()
    layer = torch.tensor([[-3.5, -1.5], [0.5, 4.5]]) / (35 / 3) ** 0.5
    wanted = (0.9 * instance + 0.1 * layer) * gamma.T + beta.T
    assert torch.allclose(norm(x, gamma, beta).view(2, 2), wanted, atol=1e-4)
    assert torch.allclose(own(x).view(2, 2), layer, atol=1e-4)  # rho begins at 0


def test_rho_is_used_as_loaded_and_kept_within_bounds_where_it_learns():
    norm, x, ones = AdaptiveNorm(2).eval(), torch.randn(1, 2, 3, 3), torch.ones(1, 2)
    norm.rho.data.fill_(1.5)
    before = norm(x, ones, ones)
    assert norm.rho.max() == 1.5
    after = norm.train()(x, ones, ones)
    assert norm.rho.max() == 1 and not torch.allclose(before, after)
    after.sum().backward()
    assert norm.rho.grad is not None


@pytest.mark.parametrize("name", ["AnimeGANv2", "U-GAT-IT light", "U-GAT-IT full", "pix2pixHD local"])
def test_the_exported_graph_gives_the_same_image_at_other_sizes(name, tmp_path):
    network, path = teacher_of(name), tmp_path / "x.onnx"
    export_onnx(network, path)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    only = network.takes.only
    sides = {"AnimeGANv2": (33, 47)}.get(name, (48, 80) if not name.startswith("pix") else (96, 160))
    x = noise(network, *((only, only) if only else sides), count=4)
    with torch.no_grad():
        expected = network(x).numpy()
    assert expected.std() > 0.001
    assert np.abs(session.run(None, {"x": x.numpy()})[0] - expected).max() <= 1e-4


def test_a_network_of_one_size_has_no_uint8_graph_and_takes_no_other_size(tmp_path):
    with pytest.raises(ExportError, match="only images of 32 px"):
        export_onnx(teacher_of("U-GAT-IT full"), tmp_path / "x.onnx", uint8=True)
    with pytest.raises(UsageError, match="not 64 x 64"):
        export_onnx(teacher_of("U-GAT-IT full"), tmp_path / "x.onnx", size=64)


@pytest.mark.parametrize(
    "bad",
    [
        {"family": "resnet", "widths": [4, 8, 16, 16, 8, 4]},
        {"family": "resnet", "width": 4, "downs": 6},
        {"family": "resnet", "widths": [4, 8, 16, 8, 4], "downs": 2},
        {"family": "deep_mobile_resnet", "width": 4, "downs": 3},
        {"family": "fast_neural_style", "width": 4, "padding": "zero"},
        {"family": "ugatit", "width": 4, "full_size": 30},
        {"family": "animegan2", "width": 4, "widths": [4] * 13},
        {"family": "local_enhancer", "width": 4, "local_blocks": 0},
    ],
)
def test_an_impossible_shape_is_refused(bad):
    with pytest.raises(ValueError):
        parse_config(bad)


@pytest.mark.parametrize("name", SHAPES)
def test_another_width_keeps_the_rest(name):
    config = parse_config(SHAPES[name] | {"width": 8})
    assert parse_config(SHAPES[name] | {"width": 4}).of_width(8) == config
