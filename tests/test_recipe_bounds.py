"""Recipes from anywhere: every key has bounds, and whatever is wrong gives one sentence quickly."""

import os
import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from toys import toy_plan, toy_teacher

from vemcompress import recipe as recipes
from vemcompress.errors import RecipeError
from vemcompress.networks import GENERATORS, parse_config
from vemcompress.networks.discriminators import DISCRIMINATORS, parse_discriminator_config
from vemcompress.networks.energy import EnergyConfig
from vemcompress.recipe import Recipe
from vemcompress.recipe.resolve import resolve
from vemcompress.recipe.toml import BYTES
from vemcompress.system.keys import as_overrides

CONFIGS = [kind.config_class for kind in (*GENERATORS.values(), *DISCRIMINATORS.values())]


def unbounded(part, path=()):
    """The paths of a JSON schema's numbers, texts, lists and tables that may be of any size."""
    if isinstance(part, list):
        for index, one in enumerate(part):
            yield from unbounded(one, (*path, index))
    if not isinstance(part, dict):
        return
    needs = {
        "integer": (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")),
        "string": (("maxLength",),),
        "array": (("maxItems",),),
        "object": (("properties", "maxProperties"),),
    }
    needs["number"] = needs["integer"]
    if not {"enum", "const"} & part.keys() and isinstance(part.get("type"), str):
        for bounds in needs.get(part["type"], ()):
            if not any(bound in part for bound in bounds):
                yield ".".join(map(str, path)), bounds[0]
    for key, value in part.items():
        if key not in ("default", "enum", "const", "required", "discriminator"):
            yield from unbounded(value, (*path, key))


@pytest.mark.parametrize("kind", [Recipe, EnergyConfig, *CONFIGS])
def test_every_number_text_and_list_of_a_recipe_has_bounds(kind):
    assert list(unbounded(kind.model_json_schema())) == []


def refused(name, overrides=()) -> str:
    began = time.perf_counter()
    with pytest.raises(RecipeError) as caught:
        recipes.read(name, overrides)
    message = str(caught.value)
    assert time.perf_counter() - began < 5
    assert message.isprintable()
    assert len(message) < 1500
    return message


def written(folder, text: str):
    path = folder / "mine.toml"
    path.write_text(text)
    return path


DEEP = 5000
SHAPES = {
    "brackets": "a = " + "[" * DEEP + "]" * DEEP,
    "tables": "a = " + "{b=" * DEEP + "1" + "}" * DEEP,
    "dots": "a" + ".a" * DEEP + " = 1",
    "many dots": "\n".join("a" + f".b{i}" * DEEP + " = 1" for i in range(30)),
    "quoted dots": '"a\\""' + '."\\""' * DEEP + " = 1",
    "a header of dots": "[a" + ".a" * DEEP + "]",
    "digits": "[train]\nsteps = " + "9" * DEEP,
    "hexadecimal digits": "[train]\nsteps = 0x" + "f" * DEEP,
    "keys": "\n".join(f"k{i} = 1" for i in range(200_000)),
    "fewer keys": "\n".join(f"k{i} = 1" for i in range(50_000)),
    "items": f"[data]\nroots = [{'1,' * 400_000}]",
    "a long key": f"{'k' * 900_000} = 1",
    "a control character": '"k\\n\\u001b[2J" = 1',
    "a NUL": '[teacher]\nsource = "a\\u0000b"',
    "a long text": f"description = '{'x' * 900_000}'",
}


@pytest.mark.parametrize("text", SHAPES.values(), ids=SHAPES)
def test_a_hostile_recipe_is_refused_soon(tmp_path, text):
    refused(written(tmp_path, text))


@pytest.mark.parametrize(
    "override",
    [
        "train.batch=" + "[" * DEEP + "]" * DEEP,
        "a" + ".a" * DEEP + "=1",
        "train.batch=" + "9" * DEEP,
        "train.batch=0x" + "f" * DEEP,
        "train.batch=1000000000000",
        "train.steps=1000000000000",
        "information.steps=1000000000000",
        "student.width=1000000000000",
        "data.held_out=1000000000000",
        "train.segmenter=a\0b",
        f"train.segmenter={'a' * 5000}",
    ],
    ids=lambda override: override[:20],
)
def test_an_override_without_bounds_is_refused_soon(override):
    refused("omgd", [override])


TABLES = ["teacher", "student", "data", "gan", "algorithm", "information", "train", "prune", "stages", "paper"]
TAGS = ["gan.name", "gan.discriminator", "gan.discriminator.family", "student.family", "teacher.network"]
TAGS += ["teacher.network.family", "teacher.deep.family", "algorithm.name", "algorithm.adversary", "information.name"]
TAGS += ["algorithm.adversary.discriminator.family", "prune.method", "prune.method.name", "name", "extends"]
VALUES = ["{}", "[]", "1", "1.5", "true", "''", "'nothing'", "[[]]", "[{}]", "{name={}}", "{family=[]}", "{name=1}"]
VALUES += ["1979-05-27", "{name={name={}}}", "[{name='a'}]", "{family={family=1}}", "inf"]


@pytest.mark.parametrize("key", [*TABLES, *TAGS])
def test_a_value_of_another_shape_is_refused_in_a_sentence(tmp_path, key):
    for value in VALUES:
        for name, overrides in (("pix2pix", [f"{key}={value}"]), (written(tmp_path, f"{key} = {value}"), ())):
            try:
                recipes.read(name, overrides)
            except RecipeError as error:
                assert str(error).isprintable()


@pytest.mark.parametrize("name", ["a" * 5000, "a" * 5000 + ".toml", "a\0b", "a\0b.toml", "/dev/null/a.toml", ""])
def test_a_name_that_cannot_be_a_file_is_refused(name):
    refused(name)


def test_a_recipe_is_a_regular_file_of_a_bounded_size(tmp_path):
    os.mkfifo(tmp_path / "fifo.toml")
    (tmp_path / "zero.toml").symlink_to("/dev/zero")
    (tmp_path / "folder.toml").mkdir()
    (tmp_path / "large.toml").write_bytes(b"#" * (BYTES + 1))
    for name in ("fifo", "zero"):
        assert "not a regular file" in refused(tmp_path / f"{name}.toml")
    assert "folder" in refused(tmp_path / "folder.toml")
    assert "more than" in refused(tmp_path / "large.toml")


@pytest.mark.parametrize(
    "shape",
    [
        {"family": "resnet", "width": 4096, "blocks": 64},
        {"family": "resnet", "width": 4, "blocks": 1_000_000_000},
        {"family": "resnet", "width": 4, "blocks": True},
        {"family": "resnet", "widths": 4, "blocks": 3},
        {"family": "resnet", "widths": [4, 4], "blocks": 3},
        {"family": "resnet", "widths": {}, "blocks": 3},
        {"family": "unet", "width": 1_000_000_000_000},
        {"family": "unet", "width": 2048},
        {"family": "deep_unet", "width": 16, "downs": 1000},
        {"family": "deep_unet", "width": 512},
        {"family": "unet", "down": 5},
        {"family": "unet", "down": [4, 4, 4], "up": [4]},
        {"family": "deep_mobile_resnet", "width": 1024},
    ],
)
def test_a_network_is_bounded_before_it_is_built(shape):
    with pytest.raises(ValidationError):
        parse_config(shape)
    refused("omgd", as_overrides({"student": shape}))


def test_a_large_discriminator_is_bounded_too():
    with pytest.raises(ValueError, match="parameters, more than"):
        parse_discriminator_config({"family": "patchgan", "width": 4096, "layers": 8})


def test_a_student_that_follows_its_teacher_is_bounded_too():
    with pytest.raises(RecipeError, match="gives a network that is too large; lower it"):
        toy_plan(toy_teacher("unet"), "student.width=4096")
    plan = recipes.read("omgd", ["student.target_macs=1000000000000000", "data.size=32"])
    assert resolve(plan, toy_teacher("unet"), 3).student.cost(32, 32).parameters < 2e9


def test_epochs_that_are_more_steps_than_a_run_can_have_are_refused():
    with pytest.raises(RecipeError, match=r"lower train\.epochs"):
        resolve(recipes.read("omgd", ["train.epochs=1e6"]), toy_teacher(), 100_000)


PIECES = [
    "[",
    "]",
    "{",
    "}",
    "=",
    ".",
    ",",
    '"',
    "'",
    "\n",
    "#",
    "name",
    "family",
    "1e9",
    "-1",
    "nan",
    "true",
    "\\u0000",
]


@pytest.mark.parametrize("name", ["omgd", "prune_omgd", "paper/horse2zebra_omgd_vem"])
def test_a_damaged_recipe_is_read_or_refused(tmp_path, name):
    text, chance = recipes.find(name).read_text(), random.Random(name)
    for _ in range(60):
        damaged = list(text)
        for _ in range(chance.randint(1, 4)):
            at, length = chance.randrange(len(damaged)), chance.choice((0, 1, 1, 5, 40))
            damaged[at : at + length] = chance.choice(PIECES)
        try:
            recipes.read(written(tmp_path, "".join(damaged)))
        except RecipeError as error:
            assert str(error).isprintable()


KEYS = st.sampled_from([*TABLES, *TAGS, "train.lr", "student.widths", "data.roots", "stages.prune.train", "paper.fid"])
PARTS = st.lists(st.sampled_from([*"[]{}=.,\"'\n 1x", "name=", "'vem'"]), max_size=12).map("".join)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(KEYS, st.sampled_from(VALUES) | PARTS), max_size=3), st.sampled_from(["omgd", "prune_omgd"]))
def test_any_override_is_taken_or_refused(changes, name):
    try:
        recipes.read(name, [f"{key}={value}" for key, value in changes])
    except RecipeError as error:
        assert str(error).isprintable()
