"""A search as a command and as a stage: its table, its student, interruptions, and what it refuses."""

import json
from collections import Counter

import pytest
import torch
from toys import TOY, toy_images, toy_teacher, toy_teacher_file

import vemcompress
from vemcompress import recipe as recipes
from vemcompress.cli import app
from vemcompress.commands.search import search
from vemcompress.errors import InputError, RecipeError, UsageError
from vemcompress.networks.groups import cut
from vemcompress.networks.subnets import SPACE, Space
from vemcompress.weights.artifact import save_generator
from vemcompress.weights.loading import load

OPTIONS = [o for o in TOY if not o.startswith("algorithm")] + [
    "student.width=8",
    "data.held_out=2",
    "algorithm.adversary.discriminator.width=2",
    "algorithm.adversary.discriminator.layers=2",
]
HOW = ["search.by=ssim_teacher", "search.method=evolution", "search.population=4", "search.generations=3"]


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """A supernet's run, and the folder of everything."""
    folder = tmp_path_factory.mktemp("given")
    toy_teacher_file(folder / "t.safetensors", family="mobile_resnet", width=8)
    overrides = [*OPTIONS, "algorithm.name=gan_compression", "algorithm.space=auto", "train.steps=2"]
    vemcompress.distill(
        folder / "t.safetensors",
        data=toy_images(folder / "images", 6),
        out=folder / "supernet",
        recipe="kd",
        overrides=overrides,
        device="cpu",
    )
    return folder


def found(given, out, *more: str, **options):
    options = {"target_macs": 1_000_000, "device": "cpu", **options}
    return search(given / "supernet", out=out, overrides=[*HOW, *more], **options)


def table(run):
    return [json.loads(line) for line in (run / "candidates.jsonl").read_text().splitlines()]


def test_the_student_is_the_best_sub_network_of_the_table(given, tmp_path):
    result = found(given, tmp_path / "run")
    identity, *rows = table(tmp_path / "run")
    best = max(rows, key=lambda row: row["fitness"])
    assert (result.widths, result.fitness) == (best["widths"], best["fitness"])
    assert all(row["macs"] <= 1_000_000 for row in rows) and len(rows) == result.scored
    supernet, small = load(given / "supernet").generator, load(tmp_path / "run").generator
    expected = cut(supernet, Space.of(supernet.config, "auto").widths(tuple(map(int, result.widths.split("_")))))
    x = torch.rand(1, 3, 32, 32) * 2 - 1
    assert torch.equal(small(x), expected.eval()(x))
    assert small.config.cost(32, 32).macs()["paper_norm"] == best["macs"] == result.after["macs"]["paper_norm"]
    assert result.front[-1][0] == result.widths and (tmp_path / "run/candidates.png").is_file()
    assert identity["fitness"] == ["ssim_teacher", "none", "held_out", 2]


def test_an_interrupted_search_goes_on_without_scoring_twice(given, tmp_path):
    whole = found(given, tmp_path / "whole")

    class Stop(Exception):
        pass

    def stop(event):
        if event["event"] == "candidate" and event["scored"] == 5:
            raise Stop

    with pytest.raises(Stop):
        found(given, tmp_path / "run", on_event=stop)
    assert len(table(tmp_path / "run")) == 6 and not (tmp_path / "run/student.safetensors").exists()
    scored = Counter()
    with (tmp_path / "run/candidates.jsonl").open("a") as file:
        file.write('{"widths": "8_8')  # a kill cut it short
    again = search(resume=tmp_path / "run", device="cpu", on_event=lambda event: scored.update([event["event"]]))
    assert scored["candidate"] == whole.scored - 5
    assert (again.widths, again.fitness, again.front) == (whole.widths, whole.fitness, whole.front)
    assert search(resume=tmp_path / "run", device="cpu") == again  # there is nothing left to do


def test_the_time_is_over_and_the_rest_is_left_for_later(given, tmp_path):
    stopped = found(given, tmp_path / "run", max_hours=1e-9)
    assert (stopped.stopped, stopped.student, stopped.scored) == ("max_hours", None, 1)
    assert search(resume=tmp_path / "run", device="cpu").stopped is None


def test_a_table_of_another_search_is_refused_and_a_damaged_line_is_told(given, tmp_path):
    found(given, tmp_path / "run")
    (tmp_path / "run/student.safetensors").unlink()
    path, events = tmp_path / "run/candidates.jsonl", []
    identity, *rows = path.read_text().splitlines(keepends=True)
    path.write_text(identity + rows[0] + "{broken\n" + "".join(rows[1:]))
    search(resume=tmp_path / "run", device="cpu", on_event=events.append)
    assert any("line 3 is damaged" in event.get("message", "") for event in events)
    path.write_text(identity.replace('"supernet": "', '"supernet": "0') + "".join(rows))
    (tmp_path / "run/student.safetensors").unlink()
    with pytest.raises(InputError, match=r"belongs to another search \(other supernet\)"):
        search(resume=tmp_path / "run", device="cpu")


@pytest.mark.parametrize(
    ("options", "more", "error", "message"),
    [
        ({"target_macs": 1000}, (), UsageError, "smallest candidate has"),
        ({"target_macs": 10**12}, (), UsageError, "nothing to search"),
        ({}, ("search.space=channels-32",), RecipeError, "widths of stem must be from 1 to 8"),
        ({}, ("data.held_out=0",), RecipeError, "none are held out"),
        ({}, ("search.by=frechet",), RecipeError, "search.by 'frechet' needs"),
        ({}, ("search.by=miou",), RecipeError, "search.by 'miou' needs"),
    ],
)
def test_what_cannot_be_searched_is_refused_before_a_folder_is_made(given, tmp_path, options, more, error, message):
    with pytest.raises(error, match=message):
        found(given, tmp_path / "run", *more, **options)
    assert not (tmp_path / "run").exists()


def test_a_run_that_is_no_supernet_is_refused_before_its_images_are_read(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.toml").write_text(recipes.read("omgd", TOY).toml())
    with pytest.raises(UsageError, match=r"is not a supernet, because it was trained without algorithm\.space"):
        search(tmp_path / "run", target_macs=1000, data=[tmp_path / "nowhere"], out=tmp_path / "out")


def test_the_weights_alone_can_be_searched_and_a_pipeline_is_not_a_supernet(given, tmp_path, capsys):
    result = search(
        given / "supernet/student.safetensors",
        target_macs=1_000_000,
        data=given / "images",
        out=tmp_path / "run",
        overrides=["data.size=32", "data.held_out=2", *HOW],
        device="cpu",
    )
    assert result.scored and (tmp_path / "run/student.safetensors").is_file()
    (tmp_path / "stages").mkdir()
    recipe = (given / "supernet/recipe.toml").read_text()
    stage = '\n[[stages]]\nname = "a"\ndo = "distill"\n'
    (tmp_path / "stages/recipe.toml").write_text(recipe[: recipe.index("# SHA-256")] + stage)
    with pytest.raises(UsageError, match="has stages"):
        search(tmp_path / "stages", target_macs=1_000_000, out=tmp_path / "x", device="cpu")
    with pytest.raises(UsageError, match="no supernet"):
        search(out=tmp_path / "x", device="cpu")
    arguments = ["search", str(given / "supernet"), "--target-macs", "1M", "--out", str(tmp_path / "cli"), "--json"]
    app([*arguments, *(part for o in HOW for part in ("--set", o)), "--device", "cpu"], standalone_mode=False)
    assert json.loads(capsys.readouterr().out)["metric"] == "ssim_teacher"


def test_a_pipeline_searches_its_supernet_and_trains_what_is_found_on(given, tmp_path):
    overrides = [*OPTIONS, *HOW, "train.steps=2", "train.best_by=none"]
    result = vemcompress.distill(
        given / "t.safetensors",
        data=given / "images",
        out=tmp_path / "run",
        recipe="gan_compression_fast",
        overrides=overrides,
        device="cpu",
    )
    assert list(result.stages) == ["supernet", "search", "finetune"]
    last, before = load(tmp_path / "run").generator, load(tmp_path / "run/2-search").generator
    assert last.config == before.config
    adversary = (tmp_path / "run/1-supernet/adversary.safetensors").resolve()
    assert str(adversary) in (tmp_path / "run/3-finetune/recipe.toml").read_text()
    again = vemcompress.distill(resume=tmp_path / "run", device="cpu")
    assert again.stages["search"] == result.stages["search"]
    anew = {"data": given / "images", "out": tmp_path / "new", "recipe": "gan_compression_fast", "device": "cpu"}
    with pytest.raises(UsageError, match=r"stage search: .*smallest candidate"):
        vemcompress.distill(given / "t.safetensors", overrides=[*overrides, "search.share=0.01"], **anew)
    with pytest.raises(RecipeError, match=r"stage search: search\.by 'fid' needs real images"):
        vemcompress.distill(given / "t.safetensors", overrides=[*OPTIONS, "train.steps=2"], **anew)
    assert not (tmp_path / "new").exists()


def stages(teacher, images, out, recipe, *more: str, **options):
    own = [o for o in OPTIONS if recipe != "gan_compression" or not o.startswith("student.width")]
    overrides = [*own, *HOW, "train.steps=2", "train.best_by=none", *more]
    return vemcompress.distill(
        teacher, data=images, out=out, recipe=recipe, overrides=overrides, device="cpu", **options
    )


@pytest.fixture(scope="module")
def listed(given):
    """A pipeline up to its supernet, whose widths are the user's."""
    own = ("stages.supernet.algorithm.space=[[8, 4]]", "search.share=0.5")
    out = given / "listed"
    stages(given / "t.safetensors", given / "images", out, "gan_compression_fast", *own, until="supernet")
    return out


def test_only_widths_that_the_supernet_has_learned_are_searched(given, listed, tmp_path):
    whole = vemcompress.distill(resume=listed, until="search", device="cpu")
    assert table(listed / "2-search")[0]["space"] == [[8, 4]] * 8
    assert set(whole.stages["search"].widths.split("_")) <= {"8", "4"}
    options = {"target_macs": 3_000_000, "data": given / "images", "device": "cpu"}
    how = ["data.size=32", "data.held_out=2", *HOW]
    search(listed / "1-supernet/student.safetensors", out=tmp_path / "run", overrides=how, **options)
    assert table(tmp_path / "run")[0]["space"] == [[8, 4]] * 8
    with pytest.raises(RecipeError, match="the supernet was not trained with stem at 2, 3, 6"):
        search(listed / "1-supernet", out=tmp_path / "other", overrides=[*how, "search.space=auto"], **options)


def test_the_full_pipeline_searches_what_its_supernet_learns(given, tmp_path):
    images = tmp_path / "images"
    for domain in "AB":
        toy_images(images / f"train{domain}", 6)

    def full(*more):
        own = ("prune.width=4", *more)
        return stages(given / "t.safetensors", images, tmp_path / "run", "gan_compression", *own)

    with pytest.raises(RecipeError, match=r"stage supernet: .*widths of stem must be from 1 to 4"):
        full("stages.supernet.algorithm.space=[[8, 2]]")
    with pytest.raises(UsageError, match=r"stage search: .*smallest candidate"):
        full("stages.supernet.algorithm.space=[[4, 2]]", "search.share=0.01")
    with pytest.raises(UsageError, match=r"stage transfer: width 16: needs 16 channels in stem, but .* has 8"):
        full("prune.width=16")
    assert not (tmp_path / "run").exists()
    full("stages.supernet.algorithm.space=[[4, 2]]")
    (run,) = tmp_path.glob("run/*-search")
    assert table(run)[0]["space"] == [[4, 2]] * 8


def test_a_space_for_all_stages_that_what_is_found_cannot_have_is_refused_at_once(given, tmp_path):
    with pytest.raises(RecipeError, match=r"stage finetune: .*algorithm\.space: the space's widths of"):
        more = ("algorithm.space=[[8, 4]]", "search.share=0.5")
        stages(given / "t.safetensors", given / "images", tmp_path / "new", "gan_compression_fast", *more)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(("share", "changes"), [((), []), (("search.share=0.6",), ["search.share=0.2"])])
def test_a_pipeline_goes_on_in_the_middle_of_its_search_also_to_a_tighter_budget(given, tmp_path, share, changes):
    class Stop(Exception):
        pass

    def stop(event):
        if event["event"] == "candidate" and event["scored"] == 3:
            raise Stop

    more = (given / "t.safetensors", given / "images", tmp_path / "run", "gan_compression_fast")
    with pytest.raises(Stop):
        stages(*more, *share, on_event=stop)
    lines, scored = table(tmp_path / "run/2-search"), Counter()
    assert len(lines) == 4
    count = lambda event: scored.update([event["event"]])  # noqa: E731
    again = vemcompress.distill(resume=tmp_path / "run", device="cpu", overrides=changes, on_event=count)
    assert table(tmp_path / "run/2-search")[:4] == lines
    result = again.stages["search"]
    assert scored["candidate"] == result.scored - sum(row["macs"] <= result.target for row in lines[1:])
    assert result.after["macs"]["paper_norm"] <= result.target
    with pytest.raises(UsageError, match="applies to no unfinished stage"):
        vemcompress.distill(resume=tmp_path / "run", device="cpu", overrides=["search.share=0.3"])


@pytest.mark.parametrize("said", ["5", '[["a"]]', "null", "[5]", "[[1.5]]", "{", '"x"'])
def test_a_file_whose_learned_widths_are_damaged_is_refused_in_a_sentence(said, tmp_path):
    file = tmp_path / "s.safetensors"
    save_generator(file, toy_teacher("mobile_resnet", width=8), extra={SPACE: said})
    with pytest.raises(UsageError, match="--widths"):
        load(file, widths="8_4_6_2_3_8_4_2")


def test_only_the_student_of_a_run_is_said_to_be_a_supernet(given, tmp_path):
    overrides = [*OPTIONS, "algorithm.name=gan_compression", "algorithm.space=auto", "train.steps=1"]
    overrides += ["teacher.network.width=4", "teacher.network.blocks=3", "gan.discriminator.width=2"]
    overrides += ["gan.discriminator.layers=2", "teacher.network.family=mobile_resnet", "gan.name=cyclegan"]
    overrides += ["data.kind=unpaired", "algorithm.best_teacher=latest"]
    data = tmp_path / "data"
    for split in ("trainA", "trainB"):
        toy_images(data / split, 4)
    overrides = [one for one in overrides if not one.startswith("algorithm.best")]
    vemcompress.distill(data=data, out=tmp_path / "run", recipe="kd", overrides=overrides, device="cpu")
    assert load(tmp_path / "run/student.safetensors").is_supernet
    assert not load(tmp_path / "run/teacher.safetensors").is_supernet


def test_widths_give_a_sub_network_of_a_supernet_for_every_command(given, tmp_path, capsys):
    supernet, file = given / "supernet", given / "supernet/student.safetensors"
    widths = "8_4_6_2_3_8_4_2"
    small = vemcompress.load_generator(supernet, widths=widths)
    whole = load(supernet)
    assert whole.is_supernet and small.config.widths == (8, 8, 24, 8, 2)
    expected = cut(whole.generator, small.config.widths_by_group())
    x = torch.rand(1, 3, 32, 32) * 2 - 1
    assert torch.equal(small(x), expected.eval()(x))
    told = json.loads(shown(capsys, "inspect", file, "--widths", widths, "--json"))
    assert told["parameters"] == small.config.cost(32, 32).parameters
    shown(capsys, "export", supernet, "--widths", widths, "--onnx", tmp_path / "small.onnx")
    shown(capsys, "generate", file, "--widths", widths, "-i", given / "images", "-o", tmp_path / "pictures")
    found = shown(capsys, "eval", supernet, "--widths", widths, "--data", given / "images", "--size", 32, "--json")
    assert "ssim_teacher" in json.loads(found)["metrics"]
    with pytest.raises(UsageError, match="--widths: widths 8_4_6_2_3_8_4_5: up2 cannot be 5; it can be 8, 6, 4, 3, 2"):
        load(file, widths="8_4_6_2_3_8_4_5")
    with pytest.raises(UsageError, match="has 9 entries, and this network needs 8"):
        load(file, widths="8_4_6_2_3_8_4_2_2")


def test_a_supernet_without_widths_says_that_it_is_one(given, capsys):
    app(["inspect", str(given / "supernet/student.safetensors")], standalone_mode=False)
    assert "a supernet, at its full width; --widths selects a sub-network" in capsys.readouterr().err


def shown(capsys, *arguments) -> str:
    app([*map(str, arguments)], standalone_mode=False)
    return capsys.readouterr().out
