"""bench-step: what it reports, on toy recipes with random weights."""

import json

import pytest
from test_reference import RESNETS, UNETS, VEM

from vemcompress.bench import bench_step
from vemcompress.cli import app
from vemcompress.errors import RecipeError, UsageError
from vemcompress.networks import parse_config

KEYS = {"step_ms", "parts", "flops", "peak_share", "reference_ms", "ratio", "ratio_none"}
TOY_UNETS = [*UNETS, *VEM, "algorithm.features=none", "gan.every=2"]
TOY_RESNETS = [*RESNETS, *VEM, "algorithm.features=none"]


@pytest.fixture(autouse=True)
def small_peak(monkeypatch):
    """The large product takes a second, and these tests are not about it."""
    monkeypatch.setattr("vemcompress.bench.peak.SIDE", {"cpu": 64})
    monkeypatch.setattr("vemcompress.bench.peak.COUNT", {"cpu": 1024})
    monkeypatch.setattr("vemcompress.bench.peak.MAPS", {"cpu": (1, 8, 8, 8)})


def bench(recipe: str, overrides, **options):
    return bench_step(recipe, overrides=overrides, random_weights=True, device="cpu", steps=2, **options)


def test_it_reports_parts_that_make_up_the_step_and_ratios_to_the_plain_one():
    found = bench("omgd_online", TOY_UNETS, against="reference").as_dict()
    assert found.keys() >= KEYS
    assert found["steps"] == 4  # two cycles, in which the teachers learn at every second step
    parts = found["parts"]
    assert parts.keys() >= {"data", "teacher", "discriminator", "langevin", "energy", "student", "optimisers"}
    assert sum(parts.values()) == pytest.approx(found["step_ms"], rel=0.5)
    assert found["ratio"] == pytest.approx(found["step_ms"] / found["reference_ms"])
    assert found["ratio_none"] == pytest.approx(found["step_ms"] / found["reference_none_ms"])
    assert found["random"] == ["images", "teacher"]
    assert found["peak_share"] == pytest.approx(1000 * found["flops"] / found["peak_flops"] / found["step_ms"])


def test_without_an_add_on_both_ratios_are_one():
    overrides = [o for o in TOY_UNETS if not o.startswith("information.")]
    found = bench("omgd_online", [*overrides, "information.name=none"], against="reference")
    assert found.ratio == found.ratio_none
    assert found.information_share == 0


def test_where_teacher_and_student_take_turns_either_phase_is_measured():
    student, teacher = (bench("omgd_cyclegan", TOY_RESNETS, phase=phase) for phase in ("student", "teacher"))
    assert (student.phase, teacher.phase) == ("student", "teacher")
    assert "langevin" in student.parts
    assert "discriminator" not in student.parts
    assert "discriminator" in teacher.parts
    assert "langevin" not in teacher.parts


def test_flops_are_a_forward_of_the_teacher_and_forward_and_backward_of_the_student():
    shape = {"family": "mobile_resnet", "blocks": 3}
    overrides = ["data.size=64", "algorithm.features=none", "information.name=none", "algorithm.channel=0"]
    overrides += [f"{role}.{k}={v}" for role in ("teacher.network", "student") for k, v in shape.items()]
    found = bench("omgd", [*overrides, "teacher.network.width=16", "student.width=8"])
    teacher, student = (parse_config({**shape, "width": width}).cost(64, 64).true for width in (16, 8))
    assert found.flops == pytest.approx(2 * (teacher + 3 * student), rel=0.1)


def test_what_cannot_be_had_is_refused_unless_random_weights_are_allowed():
    with pytest.raises(UsageError, match="--random-weights"):
        bench_step("omgd", device="cpu", steps=1)
    with pytest.raises(UsageError, match="teacher_cache"):
        bench("omgd", ["train.teacher_cache=2"])
    with pytest.raises(RecipeError, match="information"):
        bench("omgd_online", [*TOY_UNETS, "information.start=noise"], against="reference")
    with pytest.raises(UsageError, match="reference"):
        bench_step("omgd", device="cpu", steps=1, against="nothing")


def test_the_command_prints_json(capsys):
    arguments = [
        "bench-step",
        "--recipe",
        "omgd_online",
        "--random-weights",
        "--device",
        "cpu",
        "--steps",
        "1",
        "--json",
    ]
    overrides = [part for override in TOY_UNETS for part in ("--set", override)]
    app([*arguments, "--size", "32", *overrides], standalone_mode=False)
    found = json.loads(capsys.readouterr().out)
    assert found["size"] == 32
    assert found["reference_ms"] is None
    assert found["threads"] >= 1


SMALL = [
    "data.size=32",
    "algorithm.adversary.discriminator.width=2",
    "algorithm.adversary.discriminator.layers=2",
    *VEM,
]


AGD = ["algorithm.features=none", "stages.search.student.width=2", "stages.search.student.cells=4", "train.batch=2"]


@pytest.mark.parametrize(
    ("recipe", "stage", "more"),
    [
        ("gan_compression_fast", None, ["student.width=8"]),
        ("gan_compression_fast", "finetune", ["student.width=8"]),
        ("gan_compression", "supernet", ["stages.teacher.teacher.network.width=64"]),
        ("agd", None, AGD),
        ("agd", "train", AGD),
        ("cat", "distill", ["stages.teacher.teacher.network.width=18", "train.batch=2", "prune.share=0.5"]),
    ],
)
def test_a_stage_is_measured_without_the_stages_before_it(recipe, stage, more):
    overrides = [o for o in SMALL if recipe != "agd" or "adversary" not in o]
    found = bench(recipe, [*overrides, *more], stage=stage, against="reference")
    assert found.ratio_none > 0
    parts = {"agd": {"architecture"} if stage is None else {"student"}}.get(recipe, {"adversary"})
    assert {"langevin"} | parts <= found.parts.keys()


@pytest.mark.parametrize(
    ("recipe", "stage", "message"),
    [
        ("omgd", "finetune", "has no stages; omit --stage"),
        ("gan_compression_fast", "search", "not a stage that distils; choose from supernet, finetune"),
        ("prune_omgd", None, "stage prune prunes a teacher; give it with --teacher"),
    ],
)
def test_a_stage_that_cannot_be_measured_is_refused(recipe, stage, message):
    with pytest.raises(UsageError, match=message):
        bench(recipe, ["algorithm.features=none"] if recipe == "prune_omgd" else [], stage=stage)


def test_gcc_is_measured_from_latent_vectors_and_drawn_images_with_second_batches():
    shapes = ["teacher.network.family=sagan", "teacher.network.width=8", "teacher.network.levels=3", "student.width=8"]
    names = ["algorithm.name=gcc", "gan.name=latent", "data.flip=false", "train.batch=2", "train.steps=10"]
    found = bench("sagan", [*names, *shapes, *VEM], against="reference")
    assert found.random == ["images", "teacher"]
    assert found.parts.keys() >= {"teacher", "discriminator", "student_discriminator", "student", "masks", "langevin"}
    assert found.reference_ms > 0 and found.ratio != found.ratio_none
