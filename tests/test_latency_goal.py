"""Latency and file size as goals of prune, distil and search. Times come from a fake clock: none is measured here."""

import json

import numpy as np
import onnxruntime
import pytest
import torch
from toys import TOY, toy_images, toy_teacher, toy_teacher_file

import vemcompress
from vemcompress import recipe as recipes
from vemcompress.commands import sizing
from vemcompress.commands.search import search
from vemcompress.errors import NetworkError, RecipeError, UsageError
from vemcompress.export.browser.runtime import fetched_runtime
from vemcompress.export.goals import runtimes
from vemcompress.export.goals.goal import met
from vemcompress.export.goals.kinds import LatencyGoal, SizeGoal, Wanted
from vemcompress.export.goals.layers import Layer, example, recorded
from vemcompress.export.goals.runtimes import RUNTIMES, Runtime
from vemcompress.export.goals.subjects import OfGroups, OfSpace, OfWidth
from vemcompress.export.goals.table import Table
from vemcompress.export.goals.works import work_of
from vemcompress.networks import GENERATORS, parse_config
from vemcompress.networks.groups import cut
from vemcompress.networks.subnets import Space
from vemcompress.system.quantities import milliseconds, size_in_bytes
from vemcompress.weights.artifact import save_generator
from vemcompress.weights.loading import load

OPTIONS = [o for o in TOY if not o.startswith(("algorithm", "student"))]


class Fake(Runtime):
    """A layer takes 1 ms for each 1,000 numbers that go into it; a whole network `slower` times the sum of its own, in
    the place of a measurement."""

    name = "fake"
    folds = frozenset({"batch_norm"})

    def __init__(self):
        self.measured, self.wholes, self.slower = [], 0, lambda number: 1.25

    def version(self) -> str:
        return "1"

    def times(self, works, threads, told):
        self.measured += works
        told(len(works))
        return [float(sum(np.prod(shape) for shape in work.inputs) / 1000) for work in works]

    def whole(self, network, size, threads, on_event=None):
        self.wholes += 1
        return self.slower(self.wholes) * fake_sum(network, size)


def fake_sum(network, size) -> float:
    layers = [layer for layer in recorded(network, example(network, size, size, "cpu")) if layer.kind not in Fake.folds]
    return float(sum(np.prod(shape) for layer in layers for shape in work_of(layer).inputs) / 1000)


@pytest.fixture
def fake(monkeypatch, tmp_path):
    clock = Fake()
    monkeypatch.setitem(RUNTIMES, "fake", clock)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(sizing, "_chosen", {})
    return clock


@pytest.fixture
def sizes(monkeypatch):
    """Files are 1,000 bytes and what the parameters take, and are not exported."""
    monkeypatch.setattr(SizeGoal, "_measure", lambda goal, n: 1000 + 4 * sum(p.numel() for p in n.parameters()))


# -- layers, and the table of their times --------------------------------------------------------------------------


@pytest.mark.parametrize("family", [family for family in GENERATORS if "agd" not in family])
def test_layers_at_other_widths_are_those_of_the_cut_network(family):
    network = toy_teacher(family)
    subject = OfGroups(network, 64)
    widths = {name: max(1, width - 1 - i % 2) for i, (name, width) in enumerate(subject.widths.items())}
    small = cut(network, widths)
    assert subject.layers(widths) == recorded(small, example(small, 64, 64, "cpu"))
    assert subject.parameters(widths) == sum(p.numel() for p in small.parameters())


@pytest.mark.parametrize("family", ["mobile_resnet", "animegan2", "sagan", "local_enhancer"])
def test_a_layer_is_the_same_work_in_pytorch_and_as_a_graph(family):
    network = toy_teacher(family)
    for layer in set(recorded(network, example(network, 32, 32, "cpu"))):
        work = work_of(layer)
        given = work.tensors()
        session = onnxruntime.InferenceSession(work.graph(), providers=["CPUExecutionProvider"])
        seen = session.run(None, {f"x{i}": x.numpy() for i, x in enumerate(given)})[0]
        assert np.allclose(seen, work.run(*given).numpy(), atol=1e-4), layer


@pytest.mark.parametrize("name", RUNTIMES)
def test_every_runtime_times_a_layer(name):
    if name == "openvino":
        pytest.importorskip("openvino", reason="pip install 'vemcompress[openvino]'")
    layers = recorded(toy_teacher(), torch.zeros(1, 3, 16, 16))[:3]
    told = []
    assert all(ms > 0 for ms in RUNTIMES[name].times([work_of(layer) for layer in layers], 1, told.append))
    assert told == [3]


def test_a_prediction_is_the_sum_of_the_table_times_what_whole_networks_say(fake):
    network = toy_teacher("mobile_resnet", width=8)
    subject = OfGroups(network, 32)
    goal = LatencyGoal(subject, 1.0, Table("fake", 1))
    half = {name: width // 2 for name, width in subject.widths.items()}
    assert goal.cost(half) == pytest.approx(fake_sum(cut(network, half), 32))
    goal.calibrate(subject.widths)
    assert goal.cost(half) == pytest.approx(1.25 * fake_sum(cut(network, half), 32))
    assert goal.predicted  # what had been predicted before the network was measured


def test_shapes_are_measured_once_and_found_again_in_the_cache(fake):
    layers, events = recorded(toy_teacher(), torch.zeros(1, 3, 32, 32)), []
    total = Table("fake", 1, events.append).time(layers)
    count = len({layer for layer in layers if layer.kind != "batch_norm"})
    assert len(fake.measured) == count < len(layers)
    assert {"event": "timing", "done": 0, "total": count}.items() <= events[0].items()
    assert Table("fake", 1).time(layers) == total and len(fake.measured) == count


@pytest.mark.parametrize(
    "content", [b"{", b"[]", b'{"form": 1}', b'{"form": 1, "about": {}, "times": {"conv 1": "x"}}']
)
def test_a_damaged_cache_is_told_and_measured_anew(fake, content):
    layers, events = recorded(toy_teacher(), torch.zeros(1, 3, 32, 32)), []
    table = Table("fake", 1)
    total = table.time(layers)
    table.path.write_bytes(content)
    assert Table("fake", 1, events.append).time(layers) == total
    assert "is damaged" in events[0]["message"] and Table("fake", 1).times == table.times


def test_a_user_without_a_home_folder_has_no_cache_and_is_told(fake, monkeypatch):
    def unknown(*_):
        raise KeyError("uid not found")

    monkeypatch.setattr("pwd.getpwuid", unknown)
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    events = []
    Table("fake", 1, events.append).time(recorded(toy_teacher(), torch.zeros(1, 3, 32, 32)))
    assert "set HOME or XDG_CACHE_HOME" in events[-1]["message"]
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(NetworkError, match="npm is not installed"):
        fetched_runtime(events.append)


def test_a_cache_that_cannot_be_written_does_no_harm(fake, tmp_path):
    (tmp_path / "cache").write_text("a file in its place")
    events = []
    Table("fake", 1, events.append).time(recorded(toy_teacher(), torch.zeros(1, 3, 32, 32)))
    assert events[-1]["event"] == "warning"
    assert "measures the layers again" in events[-1]["message"]


# -- the choice, and its correction --------------------------------------------------------------------------------


class OfNumbers:
    """Candidates are widths: a layer of so many channels."""

    size = 8

    def layers(self, width):
        return [layer_of(width)]

    def network(self, width):
        return width


def layer_of(width):
    return Layer("norm", (width, width, 10, 100))  # 1 ms a channel


def numbers(fake, most, monkeypatch, whole):
    monkeypatch.setattr(LatencyGoal, "_measure", lambda goal, width: whole(width))
    goal = LatencyGoal(OfNumbers(), most, Table("fake", 1))
    goal.table.measure(map(layer_of, range(1, 200)))

    def choose(budget):
        fitting = [width for width in range(1, 200) if goal.cost(width) <= budget]
        if not fitting:
            raise UsageError("below the smallest")
        return max(fitting)

    return goal, choose


def test_a_choice_that_is_measured_too_slow_is_made_again_by_that_ratio(fake, monkeypatch):
    goal, choose = numbers(fake, 100.0, monkeypatch, lambda width: 1.5 * width)
    width, report = met(goal, choose)
    assert width == 65 and report["measured"] == 97.5 and report["tries"] == 2  # 98 / 1.5
    assert report["predicted"] == pytest.approx(97.5) and report["error"] == pytest.approx(0)


def test_a_first_choice_that_is_much_too_fast_is_made_again(fake, monkeypatch):
    goal, choose = numbers(fake, 100.0, monkeypatch, lambda width: 0.8 * width)
    width, report = met(goal, choose)
    assert (width, report["measured"], report["tries"]) == (125, 100.0, 2)


def test_a_machine_that_misses_each_prediction_is_reported_after_three_more_tries(fake, monkeypatch):
    calls = []
    goal, choose = numbers(fake, 100.0, monkeypatch, lambda width: calls.append(width) or 101.0 + len(calls))
    with pytest.raises(UsageError, match="the last of 4 choices has 105 ms on fake with 1 thread at 8 px"):
        met(goal, choose)
    assert len(calls) == 4


def test_a_size_is_the_parameters_and_what_a_file_has_beside_them(sizes):
    network = toy_teacher()
    goal = Wanted(size=100_000).of(OfGroups(network, 32))
    goal.calibrate(goal.subject.widths)
    half = {name: width // 2 for name, width in goal.subject.widths.items()}
    assert goal.cost(half) == 1000 + 4 * cut(network, half).config.cost(32, 32).parameters


def test_a_space_is_predicted_by_its_genes_as_by_its_layers(fake):
    config = parse_config({"family": "mobile_resnet", "width": 8, "blocks": 3})
    space = Space.of(config, [[8, 4, 3]])
    goal = Wanted(latency=1.0, on="fake").of(OfSpace(space, 32))
    goal.tabulate()
    count = len(fake.measured)
    for entries in (space.smallest, space.largest, (8, 3, 4, 3, 8, 4, 3, 8)):
        whole = goal.subject.network(entries)
        assert goal.sum(entries) == pytest.approx(fake_sum(whole, 32)) == goal.table.time(goal.subject.layers(entries))
    assert len(fake.measured) == count


# -- prune -----------------------------------------------------------------------------------------------------------


def pruned(tmp_path, family="mobile_resnet", **options):
    path = tmp_path / "teacher.safetensors"
    save_generator(path, toy_teacher(family, width=16))
    options = {"size": 32, "on": "fake", "threads": 1} | options
    options = {key: value for key, value in options.items() if value is not None}
    return vemcompress.prune(path, out=tmp_path / "small.safetensors", **options)


@pytest.mark.parametrize("family", ["mobile_resnet", "unet", "sagan"])
def test_a_pruned_network_is_as_fast_as_was_asked_for(fake, tmp_path, family):
    whole = 1.25 * fake_sum(toy_teacher(family, width=16), 32)
    size = {"size": None} if family == "sagan" else {}
    result = pruned(tmp_path, family, target_latency=0.7 * whole, **size)
    loaded = load(tmp_path / "small.safetensors")
    assert 0.6 * whole < 1.25 * fake_sum(loaded.generator, 32) <= 0.7 * whole
    found = result.goal
    assert found["measured"] == pytest.approx(1.25 * fake_sum(loaded.generator, 32)) and found["before"] == whole
    assert (found["runtime"], found["threads"], found["target"]) == ("fake", 1, 0.7 * whole) and found["machine"]
    assert json.loads(loaded.metadata["goal"]) == found


def test_a_pruned_network_keeps_multiples_of_channels(fake, tmp_path):
    whole = 1.25 * fake_sum(toy_teacher("mobile_resnet", width=16), 32)
    result = pruned(tmp_path, target_latency=whole / 2, multiple=8)
    assert all(kept % 8 == 0 for kept, _ in result.widths.values())
    assert any(kept < size for kept, size in result.widths.values()) and result.goal["measured"] <= whole / 2
    by_macs = pruned(tmp_path, target_macs=result.before["macs"]["true"] // 2, multiple=4, on=None, threads=None)
    assert all(kept % 4 == 0 for kept, _ in by_macs.widths.values())
    assert by_macs.after["macs"]["true"] <= result.before["macs"]["true"] // 2


def test_a_pruned_network_is_as_small_as_was_asked_for(sizes, tmp_path):
    result = pruned(tmp_path, target_size="20KB", on=None, threads=None)
    assert 15_000 < 1000 + 4 * result.after["parameters"] == result.goal["measured"] <= 20_000


def test_a_size_is_measured_of_an_exported_file():
    network = toy_teacher()
    goal = Wanted(size=1).of(OfGroups(network, 32))
    assert 0 < goal.measured(goal.subject.widths) - goal.sum(goal.subject.widths) < 100_000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target_latency": 0}, "target_latency: 0: a time must be above 0"),
        ({"target_latency": "-3ms"}, "above 0"),
        ({"target_latency": "soon"}, "soon: write a time such as 20ms"),
        ({"target_latency": 5, "target_macs": 10}, "not target_macs and target_latency"),
        (
            {"target_latency": 5, "on": "phone"},
            "runtime 'phone' is not known; choose from onnxruntime,",
        ),
        ({"target_latency": 5, "threads": 4096}, "threads 4096: this process may use"),
        ({"target_macs": 10**6}, "on: needs a target_latency"),
        ({"target_latency": 1e-3}, "needs at least"),
        ({"target_latency": "1000s"}, "meets it already"),
        ({"target_latency": 5, "method": "zeros"}, "omit --target-latency"),
    ],
)
def test_what_cannot_be_pruned_to_is_refused(fake, tmp_path, options, message):
    with pytest.raises(UsageError, match=message):
        pruned(tmp_path, **options)
    assert not (tmp_path / "small.safetensors").exists()


def test_the_prune_command_tells_target_prediction_and_measurement(fake, call, tmp_path):
    file = toy_teacher_file(tmp_path / "t.safetensors", family="mobile_resnet", width=16)
    whole = 1.25 * fake_sum(load(file).generator, 32)
    how = ("--target-latency", f"{whole / 2}ms", "--on", "fake", "--threads", 1, "--size", 32)
    code, out, err = call("prune", file, "-o", tmp_path / "s.safetensors", *how)
    assert code == 0, err
    assert "layer shapes on fake 1, 1 thread" in err and "measured of" in out and "predicted" in out
    code, _, err = call("prune", file, "-o", tmp_path / "s.safetensors", "--target-latency", "fast")
    assert code == 2 and "--target-latency fast: write a time" in err.replace(": fast", " fast")
    assert call("prune", file, "-o", tmp_path / "s.safetensors", *how, "--on", "phone")[0] == 2


# -- distil ----------------------------------------------------------------------------------------------------------


def distilled(inputs, out, *more, **keys):
    teacher, images = inputs
    keys = {"on": "fake", "threads": 1} | keys
    keys = {key: value for key, value in keys.items() if value is not None}
    return vemcompress.distill(
        teacher, data=images, out=out, recipe="kd", overrides=[*OPTIONS, *more], device="cpu", **keys
    )


def student(inputs, width):
    config = load(inputs[0]).generator.config.student(width)
    return OfWidth(lambda _: config, 32).network(width)


def test_the_student_is_the_widest_that_is_fast_enough(fake, inputs, tmp_path):
    target = 1.25 * fake_sum(student(inputs, 6), 32) * 1.03
    result = distilled(inputs, tmp_path / "run", target_latency=f"{target}ms")
    config = load(tmp_path / "run").generator.config
    assert config == student(inputs, 6).config and result.goal["width"] == 6
    assert (result.goal["target"], result.goal["measured"]) == (target, pytest.approx(target / 1.03))
    assert json.loads(load(tmp_path / "run").metadata["goal"])["measured"] == result.goal["measured"]


def test_a_resumed_run_measures_nothing_and_tells_the_same(fake, inputs, tmp_path):
    target = 1.25 * fake_sum(student(inputs, 5), 32) * 1.03
    first = distilled(inputs, tmp_path / "run", target_latency=target)
    plan = recipes.read(tmp_path / "run/recipe.toml")
    assert plan.student == student(inputs, 5).config
    before = fake.wholes, len(fake.measured)
    again = vemcompress.distill(resume=tmp_path / "run", steps=8, device="cpu")
    assert (fake.wholes, len(fake.measured)) == before
    assert again.goal == first.goal and again.steps == 8


def test_the_width_is_a_multiple_where_that_is_asked_for(fake, inputs, tmp_path):
    target = 1.25 * fake_sum(student(inputs, 7), 32)
    assert distilled(inputs, tmp_path / "run", target_latency=target, multiple=4).goal["width"] == 4
    macs = student(inputs, 7).config.cost(32, 32).true
    distilled(inputs, tmp_path / "macs", target_macs=macs, multiple=3, on=None, threads=None)
    assert load(tmp_path / "macs").generator.config == student(inputs, 6).config


def test_the_runs_of_several_seeds_have_one_width(fake, inputs, tmp_path):
    target = 1.25 * fake_sum(student(inputs, 4), 32) * 1.03
    teacher, images = inputs
    how = {"recipe": "kd", "overrides": OPTIONS, "device": "cpu", "target_latency": target, "on": "fake", "threads": 1}
    vemcompress.distill_seeds([1, 2], teacher, data=images, out=tmp_path / "runs", **how)
    wholes = fake.wholes
    assert wholes <= 3 and {load(path).generator.config.widths[0] for path in tmp_path.glob("runs/seed-*")} == {4}


def test_a_student_is_as_small_as_was_asked_for(sizes, inputs, tmp_path):
    target = 1000 + 4 * student(inputs, 6).config.cost(32, 32).parameters
    result = distilled(inputs, tmp_path / "run", target_size=target, on=None, threads=None)
    assert result.goal["width"] == 6 and result.goal["measured"] == target


def test_a_target_below_width_1_says_what_that_needs(fake, inputs, call, tmp_path):
    needed = 1.25 * fake_sum(student(inputs, 1), 32)
    with pytest.raises(UsageError, match=f"a latency target below what width 1 needs, {needed:.4g} ms on fake with 1"):
        distilled(inputs, tmp_path / "run", target_latency=needed * 0.9)
    assert not (tmp_path / "run").exists()
    teacher, images = inputs
    options = [part for option in OPTIONS for part in ("--set", option)]
    how = ("--teacher", teacher, "--data", images, "--recipe", "kd", "--out", tmp_path / "run", *options)
    code, _, err = call("distill", *how, "--target-latency", "0.001ms", "--on", "fake")
    assert code == 2 and "below what width 1 needs" in err
    assert call("distill", *how, "--target-latency", "0ms")[0] == 2


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (["student.target_latency=0"], r"target_latency in \[student\] .*must be above 0"),
        (["student.target_size='much'"], "write a size such as 500KB"),
        (["student.target_latency=5", "student.target_macs=10"], "target_macs and target_latency exclude each other"),
        (["student.target_latency=5", "student.on='phone'"], "choose from onnxruntime, torch, openvino"),
        (["student.threads=2"], "threads needs a target_latency"),
        (["student.multiple=8"], "multiple needs one of target_macs, target_latency, target_size"),
    ],
)
def test_a_recipe_that_asks_for_what_cannot_be_is_refused(override, message):
    with pytest.raises(RecipeError, match=message):
        recipes.read("omgd", override)


def test_a_target_takes_the_place_of_what_a_lower_layer_said(tmp_path):
    (tmp_path / "a.toml").write_text(
        'extends = "omgd"\n[student]\ntarget_latency = "20ms"\non = "torch"\nthreads = 1\n'
    )
    plan = recipes.read(tmp_path / "a.toml")
    assert plan.student.wanted == Wanted(20.0, None, "torch", 1)
    assert recipes.read(tmp_path / "a.toml", ["student.target_macs=1000"]).student.wanted == Wanted()
    assert recipes.read("omgd", ["student.width=6"]).student.width == 6
    assert recipes.read("prune_omgd", ["prune.target_size='2MB'"]).prune.wanted == Wanted(size=2_000_000)


def test_a_pipeline_prunes_to_a_latency(fake, inputs, tmp_path):
    whole = 1.25 * fake_sum(load(inputs[0]).generator, 32)
    teacher, images = inputs
    overrides = [*(o for o in TOY if not o.startswith("student")), f"prune.target_latency={whole * 0.7}"]
    overrides += ["prune.on='fake'", "prune.threads=1"]
    how = {"recipe": "prune_omgd", "overrides": overrides, "device": "cpu"}
    result = vemcompress.distill(teacher, data=images, out=tmp_path / "run", until="prune", **how)
    assert result.stages["prune"].goal["measured"] <= whole * 0.7
    assert vemcompress.distill(resume=tmp_path / "run/1-prune", device="cpu").goal == result.stages["prune"].goal


# -- search ----------------------------------------------------------------------------------------------------------

HOW = ["search.by=ssim_teacher", "search.method=evolution", "search.population=4", "search.generations=3"]


@pytest.fixture(scope="module")
def supernet(tmp_path_factory):
    folder = tmp_path_factory.mktemp("given")
    toy_teacher_file(folder / "t.safetensors", family="mobile_resnet", width=8)
    adversary = [f"algorithm.adversary.discriminator.{key}=2" for key in ("width", "layers")]
    own = ["student.width=8", "data.held_out=2", "algorithm.name=gan_compression", "algorithm.space=auto"]
    overrides = [o for o in OPTIONS if "steps=6" not in o] + [*own, *adversary, "train.steps=1"]
    images = toy_images(folder / "images", 6)
    how = {"recipe": "kd", "overrides": overrides, "device": "cpu"}
    vemcompress.distill(folder / "t.safetensors", data=images, out=folder / "supernet", **how)
    return folder / "supernet"


def middle(supernet) -> float:
    network = load(supernet).generator
    space = OfSpace(Space.of(network.config, "auto"), 32)
    return 1.25 * sum(fake_sum(space.network(e), 32) for e in (space.space.smallest, space.space.largest)) / 2


def test_a_search_under_a_latency_plots_it_and_gives_what_meets_it(fake, supernet, tmp_path):
    target = middle(supernet)
    how = {"target_latency": target, "on": "fake", "threads": 1, "overrides": HOW, "device": "cpu"}
    result = search(supernet, out=tmp_path / "run", **how)
    small = load(tmp_path / "run")
    assert 1.25 * fake_sum(small.generator, 32) == pytest.approx(result.goal["measured"]) and result.target is None
    assert result.goal["measured"] <= target < result.goal["before"]
    rows = [json.loads(line) for line in (tmp_path / "run/candidates.jsonl").read_text().splitlines()][1:]
    assert all(row["predicted_ms"] <= target for row in rows)
    assert result.goal["front"] == sorted(result.goal["front"]) and len(result.goal["front"]) == len(result.front)
    assert json.loads(small.metadata["goal"]) == result.goal
    assert search(resume=tmp_path / "run", device="cpu") == result


def test_an_interrupted_search_predicts_as_it_did_though_the_machine_has_changed(fake, supernet, tmp_path):
    class Stop(Exception):
        pass

    def stop(event):
        if event["event"] == "candidate" and event["scored"] == 5:
            raise Stop

    how = {"target_latency": middle(supernet), "on": "fake", "threads": 1, "overrides": HOW, "device": "cpu"}
    whole = search(supernet, out=tmp_path / "whole", **how)
    with pytest.raises(Stop):
        search(supernet, out=tmp_path / "run", on_event=stop, **how)
    measured = len(fake.measured)
    fake.times = lambda works, threads, told: [1e6] * len(works)
    for path in (tmp_path / "cache/vemcompress/latency").iterdir():
        path.unlink()
    again = search(resume=tmp_path / "run", device="cpu")
    assert (again.widths, again.front, len(fake.measured)) == (whole.widths, whole.front, measured)


def test_the_next_best_is_taken_where_the_best_is_measured_too_slow(fake, supernet, tmp_path):
    how = {"target_latency": middle(supernet), "on": "fake", "threads": 1, "overrides": HOW, "device": "cpu"}
    best = search(supernet, out=tmp_path / "a", **how)
    fake.wholes = 0
    fake.slower = lambda number: 1.25 if number < 3 else 1.25 * 1.05 * how["target_latency"] / best.goal["measured"]
    other = search(supernet, out=tmp_path / "b", **how)
    assert other.goal["measured"] <= how["target_latency"] and other.goal["tries"] > 1
    assert other.fitness <= best.fitness and other.widths != best.widths


def test_a_search_by_size_or_below_the_smallest(fake, sizes, supernet, tmp_path):
    network = load(supernet).generator
    bytes = 4 * network.config.cost(32, 32).parameters
    result = search(supernet, out=tmp_path / "run", target_size=bytes // 2, overrides=HOW, device="cpu")
    assert 1000 + 4 * result.after["parameters"] == result.goal["measured"] <= bytes // 2
    with pytest.raises(UsageError, match=r"a target of 0\.001 ms: the smallest candidate has"):
        search(supernet, out=tmp_path / "x", target_latency=1e-3, on="fake", overrides=HOW, device="cpu")
    with pytest.raises(UsageError, match="exclude each other"):
        search(supernet, out=tmp_path / "x", target_latency=5, target_macs=10**6, overrides=HOW, device="cpu")


# -- how times and sizes are written ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "found"), [("20ms", 20.0), ("0.5s", 500.0), (20, 20.0), ("7.5", 7.5), ("1e2 ms", 100.0), (" 3 S", 3000.0)]
)
def test_times(said, found):
    assert milliseconds(said) == found


@pytest.mark.parametrize(
    ("said", "found"),
    [("500KB", 500_000), ("2MB", 2_000_000), ("1.5mb", 1_500_000), ("512KiB", 524_288), ("1MiB", 2**20), (4000, 4000)],
)
def test_sizes(said, found):
    assert size_in_bytes(said) == found


@pytest.mark.parametrize("said", ["", "ms", "20 min", "nan", float("nan"), float("inf"), True, "1e999", None, "-1", 0])
def test_what_is_no_time_or_size_is_refused(said):
    for parse in (milliseconds, size_in_bytes):
        with pytest.raises(ValueError, match=r"write a|must be"):
            parse(said)


def test_layers_run_in_turns_until_each_has_had_its_time(monkeypatch):
    clock = iter(range(10**6))
    monkeypatch.setattr(runtimes.time, "perf_counter", lambda: next(clock) / 1000)  # each run takes 1 ms
    calls = []
    assert runtimes._in_turns([lambda: calls.append("a"), lambda: calls.append("b")]) == pytest.approx([1.0, 1.0])
    assert calls[:38] == ["a", "b"] * 19 and 20 <= calls.count("a") <= 21
