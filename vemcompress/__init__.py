"""vemcompress makes pretrained GAN generators small. It distils a generator into a smaller student,
measures what was lost, and exports the student for a device.

A worked example. `netG.pth` is a generator (CycleGAN, pix2pix, StyleGAN2, ..., or an nn.Module of
your own), and `photos/` and `test_photos/` are folders of input images:

    import vemcompress

    # A teacher is an nn.Module. Images are B x 3 x H x W in [-1, 1], RGB.
    teacher = vemcompress.load_generator("netG.pth")
    run = vemcompress.distill(teacher, data="photos/", out="runs/small", steps=2000, progress=True)
    print(run.student, run.parameters, run.losses)  # the file, the count, the losses of the last step
    scores = vemcompress.evaluate("runs/small", data="test_photos/", teacher=teacher)
    print(scores.metrics)  # {"ssim_teacher": ..., ...}
    vemcompress.export_onnx("runs/small", "student.onnx")  # compared with PyTorch
    vemcompress.generate("student.onnx", "photos/", "pictures/")
    student = vemcompress.load_generator("runs/small")  # a run folder stands for its student

What each function does:

    load_generator      open a file, run folder or Hub address as an nn.Module
    load_energy_model   open VEM's energy model of a run
    teach               train a teacher if you have none
    distill             train a small student from a teacher
    distill_seeds       the same with several seeds
    evaluate_seeds      score these runs, with mean and spread
    distill_matrix      train one student per recipe, add-on and seed
    prune               remove the least important channels
    search              search a supernet for its best sub-network
    evaluate            score a run beside its teacher
    stats               store the statistics of real images for `evaluate`
    compare             put runs in one table
    report              write a run as an HTML page
    inspect             say what a file is: family, parameters, MACs
    bench_models        measure latency, file size and memory
    generate            run photos through a model, or draw from latent vectors
    export_model        write ONNX, OpenVINO, LiteRT, ExecuTorch, ncnn or Core ML files
    export_onnx         write one .onnx file
    demo                write a web page that runs a model in the browser
    push                publish a model on the Hugging Face Hub
    init                write a commented recipe

They accept what the commands of the same name accept. Keys of a recipe are keyword arguments
(`steps=2000`), or go into `overrides` ({"information.name": "vem"}). `help(vemcompress.distill)`
explains each argument.

Results: functions that train or search write a run folder, `out`, with
student.safetensors (or teacher.safetensors), recipe.toml, metrics.jsonl (losses), samples/,
checkpoints/, best/ and report.html. Each function returns a dataclass with paths and figures;
`as_dict()` gives plain values.

Progress: `progress=True` shows what the command line shows. `on_event` takes a function that is
called with each event, a dict such as {"event": "step", "step": 10, "total": 2000, ...};
`vemcompress.StepEvent` and its siblings type them.

Errors: what a user can cause raises a subclass of `vemcompress.errors.VemError`. Its message says
what happened, where, and what to do:

    UsageError          arguments that are wrong, or do not fit together
    RecipeError         a recipe that is wrong, or does not fit the teacher
    InputError          weights or data that are missing, unreadable or unsafe
    NumericalError      NaN or Inf in a loss
    MemoryExhausted     not enough memory
    ExportError         an export that failed, or differs from PyTorch
    NetworkError        the Hub or a download cannot be reached
    OutputError         a file cannot be written
    Interrupted         Ctrl-C or SIGTERM, after saving
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from vemcompress import errors

if TYPE_CHECKING:
    from vemcompress.commands.bench import BenchResult as BenchResult
    from vemcompress.commands.bench import bench_models as bench_models
    from vemcompress.commands.compare import CompareResult as CompareResult
    from vemcompress.commands.compare import compare as compare
    from vemcompress.commands.demo import DemoResult as DemoResult
    from vemcompress.commands.demo import demo as demo
    from vemcompress.commands.distill import PipelineResult as PipelineResult
    from vemcompress.commands.distill import distill as distill
    from vemcompress.commands.distilling import DistillResult as DistillResult
    from vemcompress.commands.dry import DryRun as DryRun
    from vemcompress.commands.evaluate import evaluate as evaluate
    from vemcompress.commands.export import Exported as Exported
    from vemcompress.commands.export import export_model as export_model
    from vemcompress.commands.export import export_onnx as export_onnx
    from vemcompress.commands.generate import generate as generate
    from vemcompress.commands.init import InitResult as InitResult
    from vemcompress.commands.init import init as init
    from vemcompress.commands.inspect import Inspection as Inspection
    from vemcompress.commands.inspect import inspect as inspect
    from vemcompress.commands.matrix import MatrixResult as MatrixResult
    from vemcompress.commands.matrix import distill_matrix as distill_matrix
    from vemcompress.commands.pictures import GenerateResult as GenerateResult
    from vemcompress.commands.prune import PruneResult as PruneResult
    from vemcompress.commands.prune import prune as prune
    from vemcompress.commands.push import PushResult as PushResult
    from vemcompress.commands.push import push as push
    from vemcompress.commands.report import ReportResult as ReportResult
    from vemcompress.commands.report import report as report
    from vemcompress.commands.search import search as search
    from vemcompress.commands.searching import SearchResult as SearchResult
    from vemcompress.commands.seeds import SeedsEvaluation as SeedsEvaluation
    from vemcompress.commands.seeds import SeedsResult as SeedsResult
    from vemcompress.commands.seeds import Spread as Spread
    from vemcompress.commands.seeds import distill_seeds as distill_seeds
    from vemcompress.commands.seeds import evaluate_seeds as evaluate_seeds
    from vemcompress.commands.stats import StatsResult as StatsResult
    from vemcompress.commands.stats import stats as stats
    from vemcompress.commands.teach import TeachResult as TeachResult
    from vemcompress.commands.teach import teach as teach
    from vemcompress.evaluation.report import Evaluation as Evaluation
    from vemcompress.export.result import ExportResult as ExportResult
    from vemcompress.system.events import AnyEvent as AnyEvent
    from vemcompress.system.events import BestEvent as BestEvent
    from vemcompress.system.events import CheckpointEvent as CheckpointEvent
    from vemcompress.system.events import CountEvent as CountEvent
    from vemcompress.system.events import FileEvent as FileEvent
    from vemcompress.system.events import SkippedEvent as SkippedEvent
    from vemcompress.system.events import StageEvent as StageEvent
    from vemcompress.system.events import StepEvent as StepEvent
    from vemcompress.system.events import WarningEvent as WarningEvent
    from vemcompress.weights.energy import load_energy_model as load_energy_model
    from vemcompress.weights.loading import load_generator as load_generator

__version__ = "0.1.0"

# Without this, ONNX Runtime stores an identifier in the home folder and reports every session to a web service.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

_FACE = {
    "load_generator": "vemcompress.weights.loading",
    "load_energy_model": "vemcompress.weights.energy",
    "distill": "vemcompress.commands.distill",
    "teach": "vemcompress.commands.teach",
    "prune": "vemcompress.commands.prune",
    "search": "vemcompress.commands.search",
    "evaluate": "vemcompress.commands.evaluate",
    "distill_seeds": "vemcompress.commands.seeds",
    "evaluate_seeds": "vemcompress.commands.seeds",
    "distill_matrix": "vemcompress.commands.matrix",
    "compare": "vemcompress.commands.compare",
    "generate": "vemcompress.commands.generate",
    "export_model": "vemcompress.commands.export",
    "export_onnx": "vemcompress.commands.export",
    "demo": "vemcompress.commands.demo",
    "push": "vemcompress.commands.push",
    "report": "vemcompress.commands.report",
    "init": "vemcompress.commands.init",
    "inspect": "vemcompress.commands.inspect",
    "bench_models": "vemcompress.commands.bench",
    "stats": "vemcompress.commands.stats",
}
_TYPES = {  # types of results and events, for annotations
    "DistillResult": "vemcompress.commands.distilling",
    "PipelineResult": "vemcompress.commands.distill",
    "DryRun": "vemcompress.commands.dry",
    "TeachResult": "vemcompress.commands.teach",
    "PruneResult": "vemcompress.commands.prune",
    "SearchResult": "vemcompress.commands.searching",
    "SeedsResult": "vemcompress.commands.seeds",
    "SeedsEvaluation": "vemcompress.commands.seeds",
    "Spread": "vemcompress.commands.seeds",
    "MatrixResult": "vemcompress.commands.matrix",
    "CompareResult": "vemcompress.commands.compare",
    "Evaluation": "vemcompress.evaluation.report",
    "GenerateResult": "vemcompress.commands.pictures",
    "Exported": "vemcompress.commands.export",
    "ExportResult": "vemcompress.export.result",
    "DemoResult": "vemcompress.commands.demo",
    "PushResult": "vemcompress.commands.push",
    "ReportResult": "vemcompress.commands.report",
    "InitResult": "vemcompress.commands.init",
    "Inspection": "vemcompress.commands.inspect",
    "BenchResult": "vemcompress.commands.bench",
    "StatsResult": "vemcompress.commands.stats",
    "AnyEvent": "vemcompress.system.events",
    "StepEvent": "vemcompress.system.events",
    "CountEvent": "vemcompress.system.events",
    "StageEvent": "vemcompress.system.events",
    "CheckpointEvent": "vemcompress.system.events",
    "BestEvent": "vemcompress.system.events",
    "FileEvent": "vemcompress.system.events",
    "WarningEvent": "vemcompress.system.events",
    "SkippedEvent": "vemcompress.system.events",
}
__all__ = [  # a literal list, because type checkers read it
    "__version__",
    "bench_models",
    "compare",
    "demo",
    "distill",
    "distill_matrix",
    "distill_seeds",
    "errors",
    "evaluate",
    "evaluate_seeds",
    "export_model",
    "export_onnx",
    "generate",
    "init",
    "inspect",
    "load_energy_model",
    "load_generator",
    "prune",
    "push",
    "report",
    "search",
    "stats",
    "teach",
]


if not TYPE_CHECKING:  # otherwise a type checker would accept any name as an attribute

    def __getattr__(name: str) -> Any:
        if module := _FACE.get(name) or _TYPES.get(name):
            return getattr(import_module(module), name)
        raise AttributeError(f"module 'vemcompress' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
