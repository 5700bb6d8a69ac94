"""eval of generators from latent vectors: equal vectors for all, real images beside them, and what is refused."""

import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from toys import toy_images, toy_teacher

from vemcompress.commands.evaluate import evaluate as assess
from vemcompress.commands.quality import quality
from vemcompress.commands.stats import stats
from vemcompress.data.latent_set import TEST, LatentSet
from vemcompress.data.latents import draw
from vemcompress.data.samples import LatentSamples
from vemcompress.data.sets import test_set
from vemcompress.data.settings import DataSettings
from vemcompress.errors import InputError, RecipeError, UsageError
from vemcompress.evaluation import evaluate, load_extractor
from vemcompress.evaluation.judge import check_by, scorer
from vemcompress.networks.base import Generator
from vemcompress.networks.features import squeezenet_features
from vemcompress.recipe import Recipe
from vemcompress.weights.artifact import save_generator

pytestmark = pytest.mark.usefixtures("no_inception")

SHAPE = {"width": 2, "levels": 3, "latent": 6}  # 32 px
TO_REAL = [f"{name}_squeezenet1_1" for name in ("frechet", "mmd", "precision", "recall")]


def drawer(seed: int = 0, **shape) -> Generator:
    """A toy whose images differ from each other, and from another seed's."""
    network = toy_teacher("dcgan", seed, **SHAPE | shape)
    for module in network.modules():
        if isinstance(module, torch.nn.ConvTranspose2d):
            module.weight.data *= 20
    return network


@pytest.fixture(scope="module")
def squeezenet(squeezenet_weights):
    return {"features": "squeezenet1_1", "features_weights": squeezenet_weights}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Files of a student and its teacher, and a folder of nine real images."""
    folder = tmp_path_factory.mktemp("models")
    for seed, name in enumerate(("student", "teacher")):
        save_generator(folder / f"{name}.safetensors", drawer(seed))
    return folder / "student.safetensors", folder / "teacher.safetensors", toy_images(folder / "real", 9)


def vectors(real: Path | None = None, **options) -> LatentSet:
    settings = DataSettings(size=32, roots=(str(real),) if real else ())
    takes = drawer().takes
    return LatentSet(settings, takes, test_set(settings) if real else None, **options)


class Sees(torch.nn.Module):
    """Keeps what it is fed."""

    def __init__(self, seed: int = 0):
        super().__init__()
        self.network, self.seen = drawer(seed), []

    def forward(self, z):
        self.seen.append(z)
        return self.network(z)


def test_every_network_runs_once_on_the_same_vectors_of_the_seed(models, squeezenet):
    networks = [Sees(0), Sees(1), Sees(2)]
    student, teacher, best = networks
    images = vectors(models[2], purpose=TEST)
    found = evaluate(student, teacher, images, best=best, samples=11, batch=4, seed=3, **squeezenet)
    fed = [torch.cat(network.seen) for network in networks]
    assert all(torch.equal(z, images.vectors(11, 3)) for z in fed)
    assert not torch.equal(fed[0], torch.from_numpy(draw("normal", 6, 3, range(11))))  # which training draws
    assert set(found.metrics) == set(found.best["metrics"]) == {"ssim_teacher", "psnr_teacher", "l1_teacher", *TO_REAL}
    assert set(found.teacher) == set(TO_REAL)
    assert (found.images, found.real_images, found.size) == (11, 9, 32)
    assert found.latents == {"size": 6, "prior": "normal", "seed": 3}


def test_a_student_equal_to_its_teacher_has_the_best_fidelity():
    found = evaluate(Sees(1), Sees(1), vectors(), samples=5)
    assert found.metrics == pytest.approx({"ssim_teacher": 1, "psnr_teacher": 100, "l1_teacher": 0})
    assert evaluate(Sees(0), Sees(1), vectors(), samples=5).metrics["ssim_teacher"] < 0.5


def test_every_figure_says_how_it_was_made(models, squeezenet):
    found = evaluate(Sees(), Sees(1), vectors(models[2]), samples=11, seed=3, **squeezenet)
    assert found.protocol.keys() == found.metrics.keys()
    for name, sentence in found.protocol.items():
        assert "11 " in sentence and "at 32 px (latent vectors of 6 numbers, N(0, 1), seed 3)" in sentence
        if name in TO_REAL:
            assert "to 8 bits by truncation" in sentence and "9 real images (flat folder) at 32 px" in sentence


def test_the_command_scores_files_beside_real_images(models, squeezenet, call):
    student, teacher, real = models
    options = ("--data", real, "--samples", 12, "--features", "squeezenet1_1", "--json")
    code, out, _ = call("eval", student, *options, "--features-weights", squeezenet["features_weights"])
    found = json.loads(out)
    assert (code, found["images"], found["real_images"], set(found["metrics"])) == (0, 12, 9, set(TO_REAL))
    assert "needs the teacher" in found["skipped"]["ssim_teacher"] and found["skipped"]["fid"]
    same = assess(student, teacher=teacher, real=real, samples=12, **squeezenet)
    assert {name: same.metrics[name] for name in TO_REAL} == found["metrics"]
    assert "12 samples, 9 real at 32 px" in call("eval", student, *options[:-1], "--features-weights",
                                                 squeezenet["features_weights"])[1]  # fmt: skip


def test_without_real_images_only_likeness_to_the_teacher_is_measured(models, squeezenet, call):
    student, teacher, _ = models
    weights = ("--features", "squeezenet1_1", "--features-weights", squeezenet["features_weights"])
    code, out, err = call("eval", student, "--teacher", teacher, "--samples", 5, *weights, "--json")
    assert code == 0 and "no real images, so only similarity to the teacher" in err and "--data DIR" in err
    fidelity = {"ssim_teacher", "psnr_teacher", "l1_teacher"}
    to_teacher = {f"{name}_squeezenet1_1_to_teacher" for name in ("frechet", "mmd")}
    assert set(json.loads(out)["metrics"]) == fidelity | to_teacher


def test_the_crop_is_taken_from_real_images_and_told(tmp_path, models, squeezenet):
    """Of images whose middle is a picture of the plain set, and whose rim is not."""
    real = tmp_path / "framed"
    real.mkdir()
    for path in models[2].iterdir():
        framed = Image.new("RGB", (60, 50), "red")
        framed.paste(Image.open(path), (10, 5))
        framed.save(real / path.name)
    plain = assess(models[0], data=models[2], samples=12, **squeezenet)
    cropped = assess(models[0], data=real, samples=12, overrides=["data.crop=40"], **squeezenet)
    whole = assess(models[0], data=real, samples=12, **squeezenet)
    assert cropped.metrics == plain.metrics != whole.metrics
    assert "the square of 40 px in the middle of each, at 32 px" in cropped.protocol[TO_REAL[0]]


def test_statistics_remember_their_crop(tmp_path, models, squeezenet, call):
    told, file = [], tmp_path / "real.npz"
    weights = ("--features", "squeezenet1_1", "--features-weights", squeezenet["features_weights"])
    assert call("stats", models[2], "-o", file, "--size", 32, "--crop", 30, *weights)[0] == 0
    options = {"real": file, "samples": 12, "metrics": TO_REAL[:1], **squeezenet}
    found = assess(models[0], overrides=["data.crop=30"], on_event=told.append, **options)
    same = assess(models[0], overrides=["data.crop=30"], **options | {"real": models[2]})
    assert found.metrics == pytest.approx(same.metrics)
    assert "9 real images, the square of 30 px in the middle of each, at 32 px" in found.protocol[TO_REAL[0]]
    assert not [event for event in told if event["event"] == "warning"]
    assess(models[0], overrides=["data.crop=square"], on_event=told.append, **options)
    said = [event["message"] for event in told if event["event"] == "warning"]
    assert len(said) == 1 and "made of images with crop 30" in said[0] and "stats --crop square" in said[0]


@pytest.mark.parametrize(
    "given", [{"size": 0}, {"size": 5000}, {"size": 32.5}, {"batch": 0}, {"crop": 7}, {"crop": "0000032"}]
)
def test_impossible_sizes_of_statistics_are_refused_from_python(given, tmp_path):
    with pytest.raises(UsageError):
        stats(tmp_path, tmp_path / "x.npz", **given)


@pytest.mark.parametrize("crop", ["7", "round", "-30", "1.5", "9" * 99])
def test_a_crop_that_is_none_is_refused(crop, tmp_path, call):
    code, _, err = call("stats", tmp_path, "-o", tmp_path / "x.npz", "--crop", crop)
    assert code == 2 and "8 to 8192, or square" in err


def test_what_does_not_fit_latent_vectors_is_refused(models, inputs, call):
    student, _, real = models
    data = ("--data", real)
    for arguments, code, says in [
        ((student, *data, "--size", 64), 2, "makes images of 32 px"),
        ((student, *data, "--set", "data.size=64"), 2, "makes images of 32 px"),
        ((student, *data, "--real", real), 2, "by --data and by --real"),
        ((student, *data, "--set", "data.kind=unpaired"), 3, "omit data.kind"),
        ((student,), 2, "nothing to compare the images with"),
        ((student, "--teacher", inputs[0]), 4, "the teacher takes images, and not 6 latent numbers"),
        ((inputs[0], "--data", inputs[1], "--samples", 5), 2, "omit --samples"),
        ((inputs[0],), 2, "no data: give --data"),
        ((student, *data, "--samples", 0), 2, "--samples"),
    ]:
        found, _, err = call("eval", *arguments)
        assert found == code and says in " ".join(err.split()), (arguments, found, err)


def test_a_teacher_of_other_vectors_is_refused():
    other = drawer(latent=7)
    with pytest.raises(InputError, match=r"the teacher takes 7 latent numbers \(normal\).*evaluate a student with its"):
        evaluate(Sees(), other, vectors(), samples=2)


def test_too_few_samples_leave_a_metric_out_or_are_an_error(models, squeezenet):
    found = evaluate(Sees(), None, vectors(models[2]), samples=3, **squeezenet)
    assert set(found.metrics) == set(TO_REAL[:2])
    assert "give at least 4 images" in found.skipped[TO_REAL[2]]
    with pytest.raises(InputError, match="at least 4 images"):
        evaluate(Sees(), None, vectors(models[2]), samples=3, metrics=TO_REAL[2:], **squeezenet)
    with pytest.raises(UsageError, match="at least 1"):
        evaluate(Sees(), None, vectors(models[2]), samples=0, **squeezenet)


def test_images_too_small_for_the_features_leave_their_metrics_out(models, squeezenet):
    small = drawer(levels=2)
    found = assess(small, teacher=small, data=models[2], samples=5, **squeezenet)
    assert "ssim_teacher" in found.metrics and "needs images of at least 17 px" in found.skipped[TO_REAL[0]]
    with pytest.raises(UsageError, match="this model draws 16 px"):
        assess(small, data=models[2], samples=5, metrics=TO_REAL[:1], **squeezenet)


def test_nothing_is_drawn_where_nothing_can_be_measured(models, call):
    code, _, err = call("eval", models[0], "--data", models[2])
    assert code == 8 and "--inception PATH" in err


def test_vectors_are_a_function_of_the_seed_and_not_of_the_batch():
    samples = LatentSamples(vectors(purpose=TEST), 7, seed=2)
    fed = [batch.x for batch in samples.batches(3, torch.device("cpu"), lambda error: None)]
    assert [len(x) for x in fed] == [3, 3, 1]
    assert torch.equal(torch.cat(fed), LatentSamples(vectors(purpose=TEST), 9, seed=2)._vectors[:7])


def test_the_best_is_picked_by_held_out_vectors(models, squeezenet_weights):
    """Fidelity of `least` of them; distances of as many as there are real images, and at least that many."""
    held_out, extractor = vectors(models[2], purpose=1, least=4), load_extractor("squeezenet1_1", squeezenet_weights)
    teacher, student = Sees(1), Sees(0)
    score = scorer("ssim_teacher", held_out, (6, 3), "cpu", teacher=teacher)
    first = score(student)
    assert first == score(student) and (first.images, first.on, len(teacher.seen)) == (4, "vectors", 1)
    assert torch.equal(student.seen[0], held_out.vectors(4))
    assert score(Sees(1)).value == pytest.approx(1)
    frechet = scorer("frechet", held_out, (6, 3), "cpu", features=extractor)(student)
    same = evaluate(student, None, held_out, samples=9, features="squeezenet1_1", features_weights=squeezenet_weights)
    assert frechet.images == 9 and frechet.value == pytest.approx(same.metrics[frechet.name])
    assert scorer("frechet", vectors(models[2], least=12), (6, 3), "cpu", features=extractor)(student).images == 12


def test_what_vectors_cannot_be_picked_by_is_refused(models):
    features = squeezenet_features(caffe=True)
    check_by("ssim_teacher", vectors(), teacher=True)
    check_by("frechet", vectors(models[2]), features=features)
    for by, says in (("frechet", "give --data DIR"), ("l1_target", "latent vectors have none"), ("fid", "--data DIR")):
        with pytest.raises(RecipeError, match=says):
            check_by(by, vectors(), features=features)


def test_a_run_gives_its_teacher_its_data_and_its_best(tmp_path, models, squeezenet):
    """Its real images with their crop; the images of --real need none of the run's."""
    student, teacher, real = models
    data, run, told = tmp_path / "data", tmp_path / "run", []
    (data / "testA").mkdir(parents=True)
    for path in sorted(real.iterdir())[:6]:
        shutil.copy(path, data / "testA")
    recipe = Recipe.model_validate({"teacher": {"source": str(teacher)}, "data": {"roots": (str(data),), "crop": 30}})
    (run / "best").mkdir(parents=True)
    (run / "recipe.toml").write_text(recipe.toml())
    shutil.copy(student, run / "student.safetensors")
    shutil.copy(teacher, run / "best" / "student.safetensors")
    best = {"metric": "ssim_teacher", "value": 1.0, "on": "vectors", "step": 2}
    (run / "best" / "best.json").write_text(json.dumps(best))
    found = assess(run, samples=7, on_event=told.append, **squeezenet)
    assert (found.images, found.real_images, found.best["on"]) == (7, 6, "vectors")
    assert found.best["metrics"]["ssim_teacher"] == pytest.approx(1) and found.metrics["ssim_teacher"] < 0.5
    assert found.best["metrics"][TO_REAL[0]] == pytest.approx(found.teacher[TO_REAL[0]])
    assert "6 real images (testA), the square of 30 px" in found.protocol[TO_REAL[0]]
    assert "warning" not in [event["event"] for event in told]
    shutil.rmtree(data)
    assert assess(run, samples=7, real=real, **squeezenet).real_images == 9


def test_a_runs_quality_is_on_vectors_that_training_does_not_draw(models):
    network, held_out = drawer(1), vectors(purpose=1)
    plan = SimpleNamespace(data=held_out.settings)
    facts = SimpleNamespace(plan=plan, frozen=True, original=network, images=vectors(), held_out=held_out)
    found = quality(facts, drawer(1), torch.device("cpu"))
    assert (found["on"], found["images"]) == ("vectors", 8)
    assert found["metrics"] == pytest.approx({"ssim_teacher": 1, "psnr_teacher": 100})


def test_trained_features_tell_a_trained_dcgans_faces_from_a_random_ones():
    root = Path(os.environ.get("VEMCOMPRESS_TEST_DATA", "/nowhere"))
    if not (root / "teachers" / "dcgan_faces_32").is_dir():
        pytest.skip("VEMCOMPRESS_TEST_DATA names no folder with teachers/dcgan_faces_32, faces_128 and features/")
    weights = root / "features" / "squeezenet1_1_features_caffe.safetensors"
    options = {"features": "squeezenet", "features_weights": weights, "samples": 64}
    real = [str(path) for path in sorted((root / "faces_128").iterdir())[:64]]
    found = assess(root / "teachers" / "dcgan_faces_32" / "generator.pt", data=real, **options)
    random = assess(drawer(latent=100, prior="uniform"), data=real, **options)
    assert found.latents["prior"] == "uniform" and found.size == random.size == 32
    name = "{}_squeezenet1_1_caffe".format
    assert 4 * found.metrics[name("frechet")] < random.metrics[name("frechet")]
    assert found.metrics[name("precision")] > 0.5 < found.metrics[name("recall")]
    assert random.metrics[name("recall")] < 0.1
