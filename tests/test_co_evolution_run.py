"""Co-Evolution as a pipeline and as a command: what it gives, interruptions, and what it refuses."""

import json

import pytest
import torch
from teach_toys import taught, toy_pairs
from torch import nn
from toys import toy_images, toy_teacher_file

import vemcompress
from vemcompress import recipe as recipes
from vemcompress.cli import app
from vemcompress.commands.search import search
from vemcompress.errors import RecipeError, UsageError
from vemcompress.networks.groups import cut
from vemcompress.pruning import SEARCHES
from vemcompress.pruning.genome import Genome, parse_bits
from vemcompress.weights.loading import load

HOW = ["data.size=32", "data.held_out=2", "search.population=3", "search.generations=3", "search.steps=2"]
TUNE = ["train.steps=2", "train.batch=2", "train.best_by=none", "information.channels=2", "information.steps=2"]


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """Two domains and a run that taught a CycleGAN on them, pairs, and a generator alone."""
    folder = tmp_path_factory.mktemp("given")
    for domain, count in (("A", 6), ("B", 7)):
        toy_images(folder / "data" / f"train{domain}", count)
    taught({"unpaired": folder / "data"}, folder / "teacher", "teacher.network.blocks=2", gan="cyclegan")
    toy_pairs(folder / "pairs", 6)
    toy_teacher_file(folder / "alone.safetensors")
    return folder


def pruned(given, out, *more: str, teacher="teacher", **options):
    overrides = [*HOW, *TUNE, *more]
    options = {"data": given / "data", "recipe": "co_evolution", "device": "cpu", **options}
    teacher = given / teacher if isinstance(teacher, str) else teacher
    return vemcompress.distill(teacher, out=out, overrides=overrides, **options)


def table(run):
    return [json.loads(line) for line in (run / "candidates.jsonl").read_text().splitlines()][1:]


@pytest.fixture(scope="module")
def whole(given):
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    result = pruned(given, given / "whole")
    torch.set_num_threads(before)
    return result


def test_the_students_are_the_best_of_the_last_generation_with_the_teachers_weights(given, whole):
    run = given / "whole/2-search"
    rows = [row for row in table(run) if row["generation"] == 2]
    for direction, theirs, ours in (("a", "teacher", "student"), ("b", "generator_b", "student_b")):
        best = max((row for row in rows if row["direction"] == direction), key=lambda row: row["fitness"])
        teacher = load(given / f"teacher/{theirs}.safetensors").generator
        genome = Genome.of(teacher.groups())
        expected = cut(teacher, genome.kept(parse_bits(best["bits"], genome.bits))).state_dict()
        found = load(run / f"{ours}.safetensors").generator.state_dict()
        assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
        if direction == "a":
            assert (best["widths"], best["fitness"]) == (whole.stages["search"].widths, whole.stages["search"].fitness)
            assert best["macs"] == whole.stages["search"].after["macs"]["paper"]
    assert (run / "candidates.png").is_file() and whole.stages["search"].target is None


def test_fine_tuning_begins_with_both_students_and_the_teachers_discriminators(given, whole):
    assert list(whole.stages) == ["search", "finetune"] and whole.skipped == {"teacher": "the teacher is given"}
    plan = recipes.read(given / "whole/3-finetune/recipe.toml")
    home = given.resolve()
    assert plan.student.source == str(home / "whole/2-search/student.safetensors")
    assert plan.algorithm.start == {
        "generator_b": str(home / "whole/2-search/student_b.safetensors"),
        "discriminator_a": str(home / "teacher/discriminator_a.safetensors"),
        "discriminator_b": str(home / "teacher/discriminator_b.safetensors"),
    }
    assert load(given / "whole").generator.config == load(given / "whole/2-search").generator.config
    assert plan.information.name == "vem"


class Stop(Exception):
    pass


@pytest.mark.parametrize("scored", [2, 8])
def test_an_interrupted_search_ends_with_the_same_table_and_students(given, whole, tmp_path, one_thread, scored):
    def stop(event):
        if event["event"] == "candidate" and event["scored"] == scored:
            raise Stop

    with pytest.raises(Stop):
        pruned(given, tmp_path / "run", on_event=stop)
    run, first = tmp_path / "run/2-search", given / "whole/2-search"
    assert len(table(run)) == scored and not (run / "student.safetensors").exists()
    vemcompress.distill(resume=tmp_path / "run", until="search", device="cpu")
    for name in ("candidates.jsonl", "student_b.safetensors", "student.safetensors"):
        assert (run / name).read_bytes() == (first / name).read_bytes(), name


def test_a_search_without_a_pipeline_is_a_run_that_can_be_stopped_and_resumed(given, tmp_path, capsys):
    arguments = ["search", str(given / "teacher"), "--data", str(given / "data"), "--out", str(tmp_path / "run")]
    arguments += ["--device", "cpu", "--json", *(part for one in HOW for part in ("--set", one))]
    app([*arguments, "--set", "search.method=co_evolution", "--max-hours", "1e-9"], standalone_mode=False)
    stopped = json.loads(capsys.readouterr().out)
    assert (stopped["stopped"], stopped["student"], stopped["scored"]) == ("max_hours", None, 1)
    found = search(resume=tmp_path / "run", device="cpu")
    assert found.stopped is None and load(found.student).generator.config.widths[0] <= 4
    assert search(resume=tmp_path / "run", device="cpu") == found


def test_a_budget_is_kept_by_both_students_and_a_teacher_is_taught_where_none_is_given(given, tmp_path):
    own = ["teacher.network.width=4", "teacher.network.blocks=1", "gan.discriminator.width=2", "train.steps=2"]
    overrides = [*HOW, *TUNE, *own, "search.share=0.2", "search.epochs=0", "search.generations=1"]
    overrides = [one for one in overrides if one != "search.steps=2"]
    options = {"data": given / "data", "recipe": "co_evolution", "overrides": overrides, "device": "cpu"}
    result = vemcompress.distill(out=tmp_path / "run", **options)
    assert list(result.stages) == ["teacher", "search", "finetune"]
    target = result.stages["search"].target
    for name in ("student", "student_b"):
        student = load(tmp_path / f"run/2-search/{name}.safetensors").generator
        assert student.config.cost(32, 32).paper <= target


# -- what is refused -------------------------------------------------------------------------------------------------

REFUSED = {
    "a population of one": (("search.population=1",), {}, RecipeError, "population"),
    "steps and epochs": (("search.epochs=1",), {}, RecipeError, "steps and epochs exclude each other"),
    "more than all": (("search.mutants=0.9",), {}, RecipeError, "add up to more than 1"),
    "another search's key": (("search.by=fid",), {}, RecipeError, "unknown key 'by' in .search."),
    "no images to judge by": (("data.held_out=0",), {}, RecipeError, "stage search: .* none are held out"),
    "a budget that cannot be": (("search.target_macs=1000",), {}, UsageError, "smallest candidate has"),
    "no discriminators": (
        (), {"teacher": "alone.safetensors"}, RecipeError,
        "stage search: .*needs the teacher's generator_b and discriminator_a and discriminator_b too",
    ),
    "no way back": (
        ("gan.name=pix2pix", "data.kind=paired"), {"data": "pairs"}, RecipeError,
        "stage search: .*co_evolution prunes both generators of a CycleGAN, but this recipe has pix2pix; set gan.name",
    ),
    "no channel groups": (
        (), {"teacher": nn.Conv2d(3, 3, 3, padding=1)}, RecipeError, "your own class cannot be searched",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_searched_is_told_before_a_folder_is_made(case, given, tmp_path):
    overrides, options, error, message = REFUSED[case]
    options = options | ({"data": given / options["data"]} if "data" in options else {})
    with pytest.raises(error, match=message):
        pruned(given, tmp_path / "run", *overrides, **options)
    assert not (tmp_path / "run").exists()


def test_a_stage_that_searches_the_teacher_takes_no_student(tmp_path):
    path = tmp_path / "mine.toml"
    stages = '[[stages]]\nname = "a"\ndo = "distill"\n[[stages]]\nname = "b"\ndo = "search"\nstudent = "a"\n'
    path.write_text(f'[search]\nmethod = "co_evolution"\n{stages}')
    with pytest.raises(RecipeError, match="stage b: searches the teacher's own networks and needs no student"):
        recipes.read(path)


def test_another_search_keeps_what_all_of_them_have(tmp_path):
    assert list(SEARCHES) == ["auto", "evolution", "exhaustive", "co_evolution"]
    path = tmp_path / "mine.toml"
    path.write_text('[search]\nmethod = "evolution"\nshare = 0.4\nmutate = 0.3\npopulation = 9\n')
    found = recipes.read(path, ["search.method=exhaustive"]).search
    assert (found.method, found.share, found.mutate, found.population) == ("exhaustive", 0.4, 0.3, 9)
    found = recipes.read(path, ["search.method=co_evolution"]).search
    assert (found.method, found.share, found.population, found.generations) == ("co_evolution", 0.4, 9, 50)
    with pytest.raises(RecipeError, match=r"'best' is not possible for search.*co_evolution"):
        recipes.read(path, ["search.method=best"])
