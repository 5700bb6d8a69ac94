"""What one process and several must do alike; called in a test, and run by torchrun: `ranks_toys.py INPUTS OUT`."""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import torch
from gans_toys import CPU, as_batch, batches
from safetensors.torch import save_file
from teach_toys import taught, toy_data
from test_agd import agd
from test_dcd import dcd
from test_dmad import dmad
from test_eval_pairs import Even, Painter, city, street
from test_gan_slimming import slimming
from test_miou_onnx import graph
from test_omgd_online import VEM_SETTINGS, cyclegan_online, features, two_teachers
from torch import Tensor, nn
from torchvision.models import squeezenet1_1
from toys import TOY, random, toy_images, toy_teacher, toy_teacher_file

from vemcompress.algorithms import Parts
from vemcompress.algorithms.gcc import GCC, PUBLISHED
from vemcompress.algorithms.kd import KD
from vemcompress.algorithms.omgd import OMGD
from vemcompress.commands.distill import distill
from vemcompress.commands.search import search
from vemcompress.commands.seeds import distill_seeds, evaluate_seeds
from vemcompress.data.latent_set import LatentSet
from vemcompress.data.sets import test_set
from vemcompress.data.settings import DataSettings
from vemcompress.errors import VemError
from vemcompress.evaluation import evaluate
from vemcompress.evaluation.judge import scorer
from vemcompress.evaluation.onnx_segmenter import OnnxSegmenter
from vemcompress.gans import Pix2Pix
from vemcompress.gans.adversary import Adversary
from vemcompress.gans.teachers import Frozen, Online
from vemcompress.information import build_information
from vemcompress.information.crd import CRD
from vemcompress.information.vem import VEM
from vemcompress.networks.discriminators import PatchGANConfig
from vemcompress.networks.features import squeezenet_features
from vemcompress.networks.norms import synchronise
from vemcompress.system import distributed
from vemcompress.training import compiling
from vemcompress.training.learner import Learner
from vemcompress.training.optimizers import Runner
from vemcompress.training.update import Optimizer

BATCH, STEPS = 4, 3
RUN = (*TOY, "train.batch=4", "data.held_out=3", "train.sample_every=3")


def frozen(information) -> OMGD:
    torch.manual_seed(5)
    parts = Parts(
        teacher=Frozen(toy_teacher("unet", 0, norm="batch")),
        student=toy_teacher("unet", 2, width=2, norm="batch"),
        features=features(),
        information=build_information(information, image_channels=3, height=32, width=32),
        optimizer=Optimizer(2e-4, (0.5, 0.999)),
    )
    settings = OMGD.Settings(ssim=10.0, style=1e4, feature=10.0, tv=1e-3, channel=50.0, recon=10.0)
    return OMGD(settings, parts).double().train()


def against_an_adversary(information) -> KD:
    torch.manual_seed(6)
    parts = Parts(
        teacher=Frozen(toy_teacher("unet", 0, norm="batch")),
        student=toy_teacher("unet", 2, width=2, norm="batch"),
        information=build_information(information, image_channels=3, height=32, width=32),
        optimizer=Optimizer(2e-4, (0.5, 0.999)),
    )
    judge = Adversary.Settings(discriminator=PatchGANConfig(width=4, layers=2, norm="batch"), pool=3)
    return KD(KD.Settings(feature=1.0, adversary=judge, ema=0.5), parts).double().train()


def beside_gcc(information) -> GCC:
    torch.manual_seed(7)
    shape = {"norm": "batch", "downs": 5}
    gan = Pix2Pix(
        Pix2Pix.Settings(discriminator=PatchGANConfig(width=4, layers=2)),
        generator=toy_teacher("unet", 0, width=2, **shape).train(),
    )
    parts = Parts(
        teacher=Online(gan),
        student=toy_teacher("unet", 2, width=2, **shape),
        information=build_information(information, image_channels=3, height=32, width=32),
        optimizer=Optimizer(2e-4, (0.5, 0.999)),
        paired=True,
        gan=gan,
    )
    return GCC(GCC.Settings(**PUBLISHED["pairs"]), parts).double().train()


CASES = {
    "gcc": lambda: beside_gcc(VEM.Settings(**VEM_SETTINGS)),
    "adversary": lambda: against_an_adversary(VEM.Settings(**VEM_SETTINGS)),
    "pix2pix_teachers": lambda: two_teachers(VEM.Settings(**VEM_SETTINGS)),
    "cyclegan": lambda: cyclegan_online(VEM.Settings(**VEM_SETTINGS, start="buffer", buffer=2), pool=3),
    "crd": lambda: frozen(CRD.Settings(memory=3, channels=2, dimension=4)),
    "noise": lambda: frozen(VEM.Settings(**VEM_SETTINGS, start="noise")),
    "agd": lambda: agd(None, "vem", features=features(), pretrain_steps=1, recon=0.5, tv=1e-3).double(),
    "dmad": lambda: dmad("domains").double(),
    "dcd": lambda: dcd("pairs", "unet").double(),
    "gan_slimming": lambda: slimming(rho=0.2),
    "compiled": lambda: two_teachers(VEM.Settings(**VEM_SETTINGS)),
}


def played(learner: Learner, compiled: bool = False) -> dict[str, Tensor]:
    """Some steps as the loop takes them, each rank on its part of the batch: all weights, buffers and logged values."""
    if distributed.ranks() > 1:
        synchronise(learner)
    if compiled:
        compiling.options = lambda device: {"backend": "aot_eager"}
        compiling.compile_networks(learner, CPU)
    distributed.broadcast(learner)
    runner, found, learner.measures = Runner(learner.updates(), CPU), {}, True
    for step, batch in enumerate(batches(STEPS, batch=BATCH), start=1):
        gan = getattr(learner.teacher, "gan", None)
        whole = replace(as_batch(gan, batch), index=(torch.arange(BATCH) + step) % 3)
        whole = replace(whole, second=as_batch(gan, [x.flip(0) for x in batch]))
        mine = whole.map(distributed.mine)
        out, losses = learner(mine, random(step), step), {}
        for update in runner.updates:
            if update.due(step):
                losses |= runner.apply(update, out, step)
        values = distributed.average(torch.stack(list(losses.values())))
        found |= {f"step {step} {name}": value for name, value in zip(losses, values, strict=True)}
    return found | {name: value.clone() for name, value in learner.state_dict().items()}


def normalised() -> dict[str, Tensor]:
    """A BatchNorm's output, gradients and running statistics on the global batch."""
    norm = nn.BatchNorm2d(3)
    nn.init.uniform_(norm.weight, generator=random(1))
    x, wanted = (3 + torch.randn(BATCH, 3, 5, 5, generator=random(seed)) for seed in (2, 3))
    if distributed.ranks() > 1:
        synchronise(norm)
    mine = distributed.mine(x).requires_grad_()
    y = norm(mine)
    ((y - distributed.mine(wanted)) ** 3).mean().backward()
    distributed.average(torch.zeros(1), gradients := [norm.weight.grad, norm.bias.grad])
    found = {"y": distributed.gather(y), "x.grad": distributed.gather(mine.grad) / distributed.ranks()}
    found |= dict(zip(("weight.grad", "bias.grad"), gradients, strict=True))
    found["bf16"] = distributed.gather(norm(mine.bfloat16()))
    return {name: value.detach() for name, value in (found | norm.state_dict()).items()}


def scored(inputs: Path) -> dict:
    """An evaluation with everything in it, and the scores that pick the best checkpoint, of 11 images."""
    images = street(inputs / "city")
    segmenter = OnnxSegmenter(inputs / "segmenter.onnx")
    weights = {"features": "squeezenet1_1", "features_weights": inputs / "squeezenet.safetensors"}
    found = evaluate(Painter(1), Even(0.5), images, real=inputs / "real", segmenter=segmenter, batch=2, **weights)
    torch.manual_seed(0)
    given = {"teacher": Even(0.5), "segmenter": segmenter, "features": squeezenet_features(caffe=True)}
    picked = {by: scorer(by, images, (3, 3), "cpu", **given)(Painter(1)).as_dict() for by in ("ssim_teacher", "miou")}
    picked["frechet"] = scorer("frechet", images, (3, 3), "cpu", **given)(Painter(1)).as_dict()
    vectors = LatentSet(
        images.settings, toy_teacher("dcgan", levels=3).takes, test_set(DataSettings(roots=(str(inputs / "real"),)))
    )
    networks = (toy_teacher("dcgan", seed, levels=3) for seed in (0, 1))
    drawn = evaluate(*networks, vectors, samples=11, batch=2, **weights)
    return {"eval": found.as_dict(), "latent": drawn.as_dict(), "picked": picked}


def made(inputs: Path, out: Path) -> dict:
    """A run, several seeds' runs, a teacher, and what is refused."""
    events, teacher = [], inputs / "teacher.safetensors"

    def run(name: str, *overrides: str, **options):
        chosen = [*RUN, *overrides]
        return distill(teacher, data=inputs / "images", out=out / name, overrides=chosen, device="cpu", **options)

    result = run("run", on_event=events.append).as_dict()
    short = run("short", max_hours=1e-6)
    distill_seeds(
        [1, 2], teacher, data=inputs / "images", out=out / "seeds", overrides=[*RUN, "train.steps=2"], device="cpu"
    )
    refused = {}
    for name, overrides in {"run": (), "indivisible": ("train.batch=3",), "nan": ("train.lr=1e30",)}.items():
        try:
            run(name, *overrides)
        except VemError as error:
            refused[name] = [type(error).__name__, str(error), error.shared]
    seeds = evaluate_seeds(out / "seeds", data=inputs / "images", metrics=["ssim_teacher"], device="cpu").metrics
    teacher = taught({"paired": inputs / "data" / "paired"}, out / "teacher", "train.batch=4", "data.held_out=2")
    how = ["search.by=ssim_teacher", "search.share=0.6", "search.method=evolution"]
    how += ["search.population=3", "search.generations=2", "search.space=auto"]
    searched = search(out / "run", out=out / "searched", overrides=how, device="cpu")
    cyclegan = taught({"unpaired": inputs / "data" / "unpaired"}, out / "cyclegan", "data.held_out=1", gan="cyclegan")
    how = ["search.method=co_evolution", "search.population=3", "search.generations=2", "search.steps=2"]
    evolved = search(cyclegan.run, out=out / "evolved", overrides=how, device="cpu")
    events = [e for e in events if e["event"] in ("plan", "skipped", "checkpoint", "best", "sample")]
    made = {
        "result": result,
        "seeds": seeds["ssim_teacher"].mean,
        "teacher": teacher.losses,
        "short": [short.stopped, short.steps],
        "searched": {"widths": searched.widths, "fitness": searched.fitness, "scored": searched.scored},
        "evolved": [evolved.as_dict()["front"], (out / "evolved/candidates.jsonl").read_text().splitlines()[1:]],
    }
    return made | {"refused": refused, "events": events}


def make_inputs(folder: Path) -> Path:
    toy_teacher_file(folder / "teacher.safetensors")
    toy_data(folder / "data")
    (toy_images(folder / "images", count=9) / "5.png").write_bytes(b"no image")
    (toy_images(folder / "real", count=7, size=32) / "6.png").write_bytes(b"no image")
    city(folder / "city", count=11)
    graph(folder / "segmenter.onnx")
    torch.manual_seed(0)
    save_file(squeezenet1_1(weights=None).features.state_dict(), folder / "squeezenet.safetensors")
    return folder


def everything(inputs: Path, out: Path) -> None:
    """Writes steps-RANK.safetensors, norm-RANK.safetensors and told-RANK.json, with what this rank wrote before."""
    written, writing = [], os.O_WRONLY | os.O_RDWR | os.O_CREAT
    changing = ("os.mkdir", "os.rename", "os.remove", "os.rmdir")

    def hook(event: str, arguments: tuple) -> None:
        changes = event in changing or (event == "open" and arguments[2] & writing)
        if changes and str(arguments[0]).startswith(str(out)):
            written.append(str(arguments[0]))

    if distributed.ranks() > 1:  # it cannot be taken away again
        sys.addaudithook(hook)
    told = made(inputs, out) | scored(inputs)
    told["written"] = list(written)
    save_file(normalised(), out / f"norm-{distributed.rank()}.safetensors")
    torch.Tensor.float = torch.Tensor.double  # only a difference in the mathematics is to show
    steps = {
        f"{case}/{k}": v.contiguous()
        for case, build in CASES.items()
        for k, v in played(build(), case == "compiled").items()
    }
    save_file(steps, out / f"steps-{distributed.rank()}.safetensors")
    (out / f"told-{distributed.rank()}.json").write_text(json.dumps(told, default=str))


if __name__ == "__main__":
    torch.set_num_threads(1)
    with distributed.group(CPU):
        everything(*map(Path, sys.argv[1:]))
