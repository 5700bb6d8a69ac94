"""Registries: one list each gives the keys, the union and the default of what a recipe can choose from."""

import ast
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar, Literal

import pytest
from pydantic import TypeAdapter, ValidationError
from toys import toy_teacher

import vemcompress
import vemcompress.recipe
from vemcompress.algorithms import ALGORITHMS, Distillation
from vemcompress.errors import RecipeError
from vemcompress.gans import GANS, AnyGAN
from vemcompress.information import INFORMATION
from vemcompress.networks import GENERATORS
from vemcompress.networks.discriminators import DISCRIMINATORS, AnyDiscriminator
from vemcompress.pruning import PRUNERS
from vemcompress.recipe import AutoStudent, PruneSettings, Recipe, TrainSettings, read
from vemcompress.recipe.reading import TAGS
from vemcompress.recipe.schema import choices
from vemcompress.system.settings import BaseSettings, tag_of, tagged_union

REGISTRIES = {
    "generators": (GENERATORS, GENERATORS.union),
    "discriminators": (DISCRIMINATORS, AnyDiscriminator),
    "gans": (GANS, AnyGAN),
    "information": (INFORMATION, INFORMATION.union),
    "algorithms": (ALGORITHMS, ALGORITHMS.union),
    "pruning": (PRUNERS, PRUNERS.union),
}
RECIPE = Path(vemcompress.recipe.__file__).parent
METHODS = ("algorithms", "pruning", "gans", "information", "networks.generators", "networks.discriminators")


def settings_of(registry: dict) -> list[type[BaseSettings]]:
    return [getattr(kind, "Settings", None) or kind.config_class for kind in registry.values()]


def in_union(union) -> list[type[BaseSettings]]:
    class Holder(BaseSettings):
        table: union

    return choices(Holder, "table")


class Toy(BaseSettings):
    replaces: ClassVar = {"radius": ("area",), "area": ("radius",)}

    name: Literal["toy"] = "toy"
    radius: int | None = None
    area: int | None = None


@pytest.mark.parametrize("name", REGISTRIES)
def test_a_union_has_the_registrys_members_under_the_registrys_keys(name):
    registry, union = REGISTRIES[name]
    kinds = settings_of(registry)
    assert in_union(union) == kinds
    assert [tag_of(kind)[1] for kind in kinds] == list(registry)
    assert len(set(map(id, registry.values()))) == len(registry)


@pytest.mark.parametrize("name", ["algorithms", "information", "gans"])
def test_another_class_in_the_list_is_another_choice(name):
    grown = TypeAdapter(tagged_union([*settings_of(REGISTRIES[name][0]), Toy]))
    assert grown.validate_python({"name": "toy", "radius": 2}) == Toy(radius=2)
    with pytest.raises(ValidationError, match="toy"):
        grown.validate_python({"name": "toi"})


def test_a_list_of_one_class_is_that_class():
    assert tagged_union([Toy]) is Toy


def test_a_recipe_begins_with_the_first_of_each_list():
    assert type(Recipe().algorithm) is settings_of(ALGORITHMS)[0]
    assert type(Recipe().information) is settings_of(INFORMATION)[0]
    assert type(PruneSettings().method) is settings_of(PRUNERS)[0]
    assert choices(Recipe, "student") == [AutoStudent, *settings_of(GENERATORS)]
    assert {
        "algorithm": ("name", next(iter(ALGORITHMS))),
        "information": ("name", next(iter(INFORMATION))),
        "gan": ("name", next(iter(GANS))),
        "student": tag_of(AutoStudent),
        "search": ("method", "auto"),
    } == TAGS


def test_a_changed_key_removes_what_its_class_says_it_replaces():
    assert Toy.under({"radius": 2, "name": "toy"}, {"area": 12}) == {"name": "toy"}
    assert Toy.under({"radius": 2, "area": 12}, {"radius": 2}) == {"radius": 2, "area": 12}
    assert TrainSettings.under({"steps": 3, "lr": 1.0}, {"epochs": 2}) == {"lr": 1.0}


@pytest.mark.parametrize("family", GENERATORS)
def test_vem_has_8_channels_for_resnets_and_32_for_others(family):
    settings = INFORMATION["vem"].Settings()
    facts = SimpleNamespace(teacher=toy_teacher(family), batch=1, size=32)
    resolved = INFORMATION["vem"].resolve(settings, facts)
    others = ("dcgan", "sagan", "stylegan2", "agd", "agd_supernet", "animegan2", "ugatit", "srgan", "srvgg", "rrdb")
    assert resolved.channels == (32 if "unet" in family or family in others else 8)
    assert INFORMATION["vem"].resolve(resolved.model_copy(update={"channels": 5}), facts).channels == 5


@pytest.mark.parametrize(
    ("recipe", "family"), [("omgd_online", "shared_patchgan"), ("pix2pix", "patchgan"), ("cyclegan", "patchgan")]
)
def test_a_part_of_a_discriminator_changes_the_gans_own(recipe, family, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(f'[gan]\nname = "{read(recipe).gan.name}"\n[gan.discriminator]\nwidth = 16\n')
    judge = read(path).gan.discriminator
    assert (judge.family, judge.width) == (family, 16)


def test_a_wrong_choice_is_answered_with_the_list():
    with pytest.raises(RecipeError, match=", ".join(f"'{name}'" for name in INFORMATION)):
        read("omgd", ["information.name=nope"])
    with pytest.raises(RecipeError, match=next(iter(ALGORITHMS))):
        read("omgd", ["algorithm.name=nope"])


@pytest.mark.parametrize("file", [p.name for p in RECIPE.glob("*.py")])
def test_recipes_name_no_method(file):
    tree = ast.parse((RECIPE / file).read_text())
    bodies = [n.body for n in ast.walk(tree) if isinstance(n, ast.Module | ast.ClassDef | ast.FunctionDef)]
    docstrings = {id(body[0].value) for body in bodies if isinstance(body[0], ast.Expr)}
    constants = [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and id(n) not in docstrings]
    imports = [n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)]
    tags = {tag for registry, _ in REGISTRIES.values() for tag in registry}
    assert tags.isdisjoint(value for value in constants if isinstance(value, str))
    assert [m for m in imports if m.startswith(tuple(f"vemcompress.{room}." for room in METHODS))] == []


PACKAGE = Path(vemcompress.__file__).parent
OWN = {
    field: kind
    for kind in ALGORITHMS.values()
    for field in kind.Settings.model_fields.keys() - Distillation.Settings.model_fields.keys() - {"name"}
}


def outside() -> list[Path]:
    """The package but for the algorithms, and the files of `reference/` that write one of them down a second time."""
    plain = {PACKAGE / "reference" / f"{name}.py" for name in ALGORITHMS}
    return [p for p in PACKAGE.rglob("*.py") if p.parent.name != "algorithms" and p not in plain]


def test_nothing_outside_an_algorithm_imports_it_or_reads_its_fields():
    shared, methods = ("vemcompress.algorithms", "vemcompress.algorithms.distillation"), set()
    for path in outside():
        tree, where = ast.parse(path.read_text()), path.relative_to(PACKAGE)
        imports = [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module]
        names = {name.name for n in imports for name in n.names if n.module == "vemcompress.algorithms"}
        methods |= {f"{where}: {kind.__name__}" for kind in ALGORITHMS.values() if kind.__name__ in names}
        modules = [n.module for n in imports if n.module.startswith("vemcompress.algorithms")]
        methods |= {f"{where}: {module}" for module in modules if module not in shared}
        fields = [n for n in ast.walk(tree) if isinstance(n, ast.Attribute) and n.attr in OWN]
        methods |= {f"{where}: {ast.unparse(n)}" for n in fields if ast.unparse(n.value).endswith("algorithm")}
    assert methods == set()
