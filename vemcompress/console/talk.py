"""Notes and progress on stderr while the library works."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from rich.console import Console as Rich

from vemcompress.console.bar import Bar
from vemcompress.console.below import Below, Score
from vemcompress.console.words import (
    duration,
    giga,
    losses,
    macs,
    millions,
    plural,
    size,
    thousands,
    times_fewer,
    which_images,
)
from vemcompress.system.names import printable
from vemcompress.system.quantities import count_text, size_text, time_text

EXPORT = {
    "trace": "exporting the graph, which takes up to a minute",
    "compare": "checking parity with PyTorch, {number} of {checks}",
    "convert": "converting to {format}",
    "calibrate": "calibrating int8",
    "sensitivity": "measuring int8's error in each layer",
    "try": "{method}, {float_layers} layers in float: SSIM {ssim:.4f}",
    "written": "written",
}
FEW = 32  # below this number of training images, a hint is printed


class Talk:
    """`talking` gives the library a callable for its events."""

    def __init__(self, quiet: bool = False):
        self.quiet = quiet
        self.err = Rich(stderr=True, highlight=False, quiet=quiet)
        self._bar: Bar | None = None
        self._below = Below()  # losses and score of the run that is being trained
        self._within: dict[str, str] = {}  # the current run of a matrix, seed and stage

    # -- events --------------------------------------------------------------------------------------------------

    @contextmanager
    def talking(self) -> Iterator[Callable[[dict], None]]:
        """A context in which events are shown, with a progress bar if stderr is a terminal."""
        try:
            yield self._on_event
        finally:
            self._end_bar()

    def note(self, text: str) -> None:
        """Print a line, above the progress bar if there is one."""
        (self._bar.console if self._bar else self.err).print(printable(text), markup=False, soft_wrap=True)

    def _on_event(self, event: dict) -> None:
        if not self.quiet:
            getattr(self, f"_on_{event['event']}", lambda event: None)(event)

    def _on_tensorboard(self, event: dict) -> None:
        self.note(f"watch     tensorboard --logdir {event['path']}")

    def _on_stages(self, event: dict) -> None:
        told = [f"{n} {one['name']} ({one['state']})" for n, one in enumerate(event["stages"], 1)]
        self.note(f"pipeline  {event['recipe']}: {', '.join(told)}")

    def _on_stage(self, event: dict) -> None:
        self._end_bar()
        self.err.print(printable(event["title"]), style="bold", markup=False)
        if event.get("series") in ("seeds", "matrix"):
            self._within = {}
        self._within[event.get("series")] = event.get("short", event["title"])

    def _on_plan(self, event: dict) -> None:
        teacher, student = event["teacher"], event["student"]
        learns = f", trained by {event['gan']} at learning rate {event['gan_lr']:g}" if event["gan"] else ""
        recorded = "parameters" not in teacher
        if recorded:
            self.note("teacher   only its outputs, which are the other sides of the pairs")
        else:
            self.note(
                f"teacher   {teacher['family']}, {millions(teacher['parameters'])} parameters{macs(teacher)}{learns}"
            )
        if event["beside"]:
            self.note("          with " + ", ".join(f"{n} {millions(count)}" for n, count in event["beside"].items()))
        self.note(f"student   {student['family']}, {millions(student['parameters'])} parameters{macs(student)}")
        known = not recorded and teacher["parameters"]
        smaller = f"{times_fewer(known / student['parameters'])} parameters; " if known else ""
        self.note(f"          {smaller}true MACs at {event['size']} px")
        algorithm, information = event["algorithm"], event["information"]
        name = information["name"].upper()
        weight = f", lambda_MI {information['weight']:g}" if "weight" in information else ""
        add_on = "no add-on" if name == "NONE" else f"{name}{weight}"
        features = f", features {event['features']}"
        self.note(f"recipe    {event['recipe']}: {algorithm['name'].upper()}{features}, {add_on}")
        weights = {k: v for k, v in algorithm.items() if isinstance(v, float) and v}
        if weights:
            self.note("          " + ", ".join(f"{k} {v:g}" for k, v in weights.items()))
        drawn = "your images" if event["gan"] else "drawn by the teacher"
        drawn = "your pairs" if recorded else drawn
        self._begun(event, drawn if event["gan"] or event["latent"] or recorded else "the teacher on your images")

    def _on_teaching(self, event: dict) -> None:
        for name, network in event["networks"].items():
            self.note(f"{name:<9} {network['family']}, {millions(network['parameters'])} parameters{macs(network)}")
        judges = ", ".join(f"{name} {millions(count)}" for name, count in event["discriminators"].items())
        self.note(f"          {judges}; true MACs at {event['size']} px")
        weights = {k: v for k, v in event["gan"].items() if isinstance(v, float) and v}
        self.note(f"recipe    {event['recipe']}: {event['gan']['name']}, {event['gan']['mode']}")
        self.note("          " + ", ".join(f"{k} {v:g}" for k, v in weights.items()))
        self._begun(event, "your images")

    def _begun(self, event: dict, shown: str) -> None:
        aside = f" ({event['held_out']} more held out)" if event["held_out"] else ""
        devices = f"{event['ranks']} x {event['device']}" if event["ranks"] > 1 else event["device"]
        data = f"{plural(event['images'], 'image')}{aside}"
        if event["latent"]:
            beside = f" beside {plural(event['images'], 'real image')}" if event["images"] else ""
            data = f"latent vectors of {plural(event['latent'], 'number')}{beside}"
        self.note(
            f"data      {data} at {event['size']} px, batch {event['batch']}, "
            f"{plural(event['steps'], 'step')} on {devices} in {event['precision']}"
        )
        if 0 < event["images"] < FEW and not event["latent"]:
            self.note(f"hint      {plural(event['images'], 'image')} to train on: a few hundred give a better student")
        if event["device"] == "cuda" and event["precision"] == "fp32":
            self.note("hint      fp32 is exact on a GPU; --precision tf32, or bf16 with --compile, is faster")
        self._below = scored_before(event)
        if event["picture"]:
            self.note(f"picture   {event['picture']} ({shown})")
        if event["step"] >= event["steps"]:
            self.note(
                f"nothing to do: this run is complete ({plural(event['step'], 'step')}); raise --steps to continue."
            )
        elif event["continued"]:
            self.note(f"resuming after step {event['step']}")

    def _on_step(self, event: dict) -> None:
        main = losses(event["losses"], event["main"])
        others = [(name, f"{value:.3g}") for name, value in event["losses"].items() if name not in event["main"]]
        self._below = replace(self._below, losses=main + others)
        if self.err.is_terminal:
            self._on_pace(event)
        elif event["seconds_per_step"] and event["step"] % max(1, event["total"] // 20) == 0:
            score = self._below.score
            scored = [f"{score.name} {score.newest}"] if score else []
            told = [f"step {event['step']}/{event['total']}", *_speed(event), *map(" ".join, main), *scored]
            self.note("  ".join(told))

    def _on_pace(self, event: dict) -> None:
        if self.err.is_terminal:
            bar = self._progress("training", event["total"])
            bar.update(event["step"], _speed(event) or ["starting"], below=self._below)

    def _on_score(self, event: dict) -> None:
        before, best = self._below.score, event["best"]
        values = [*(before.values if before else ()), event["value"]]
        self._below = replace(self._below, score=Score(event["metric"], values, best["value"], best["step"]))
        if self._bar is not None and self._title == "training":
            self._bar.below = self._below
            self._bar.refresh()

    def _on_teacher_cache(self, event: dict) -> None:
        kept = f", {size(event['kept'])} already stored" if event["kept"] else ""
        self.note(
            f"cache     the teacher's outputs: up to {size(event['bytes'])} for {event['images']} images x "
            f"{event['views']} views{kept}, {size(event['free'])} free"
        )

    def _on_search(self, event: dict) -> None:
        on = f"{event['images']} of {which_images(event['on'])}"
        macs = isinstance(event["target"], int) and f"{count_text(event['target'])} MACs ({event['convention']})"
        budget = "" if event["target"] is None else f", at most {macs or event['budget']}"
        self.note(f"search    {event['space']}{budget}")
        whole = "" if event["whole"] is None else f"; the whole network has {event['whole']:.4g}"
        self.note(f"          {event['metric']} on {on}{whole}")
        if event["known"]:
            self.note(f"resuming with {event['known']} candidates that are already scored")

    def _on_candidate(self, event: dict) -> None:
        best = f"best {event['widths']}, {event['fitness']:.4g}, {event['cost'] or count_text(event['macs']) + ' MACs'}"
        told = [f"{event['scored']} scored", best]
        if self.err.is_terminal:
            self._progress("generation", event["generations"]).update(event["generation"] - 1, None, told)
        elif event["scored"] % 20 == 0:
            self.note(f"generation {event['generation']}/{event['generations']}  {'  '.join(told)}")

    def _on_batch(self, event: dict) -> None:
        limits = {"memory": "the free memory", "images": "the number of images", "most": "the maximum for auto"}
        needs = "" if event["bytes"] is None else f"; needs about {size(event['bytes'])}"
        free = "" if event["free"] is None else f"; {size(event['free'])} free"
        self.note(f"batch     {event['batch']}, limited by {limits[event['limit']]}{needs}{free}; saved in the recipe")

    def _on_memory(self, event: dict) -> None:
        at = f"batch {event['batch']}"
        if event["micro_batch"]:
            at = f"{event['micro_batch']} images of the {at} at a time"
        less = f"; --micro-batch {event['least_batch']} needs {size(event['least'])}"
        more = less if event["least"] < 0.8 * event["bytes"] else ""
        self.note(f"memory    about {size(event['bytes'])} for networks and activations at {at}{more}")

    def _on_estimate(self, event: dict) -> None:
        self.note(
            f"estimate  {event['seconds_per_step']:.3f} s per step, {duration(event['seconds'])} left, "
            f"{event['memory'] / 2**30:.1f} GiB of memory"
        )

    def _on_phase(self, event: dict) -> None:
        score = event["score"]
        value = f", {score['metric']} {score['value']:.4g}" if score else ""
        what = "the student learns from it" if event["kept"] else "an earlier one is better and is kept"
        self.note(f"teacher   from step {event['step']}{value}: {what}")

    def _on_masks(self, event: dict) -> None:
        if event["number"] % 15 == 1 or event["decided"]:
            sizes = ", ".join(f"{name} {giga(left)} MACs" for name, left in event["macs"].items())
            done = f"; decided: {', '.join(event['decided'])}" if event["decided"] else ""
            self.note(f"masks     step {event['step']}, bound {event['bound']:.3f}: {sizes}{done}")
        for name in event["decided"]:
            target = event["targets"][name]
            if target is not None and event["macs"][name] > target:
                advice = "train longer, or set masks.weight higher, or masks.deviation lower"
                self._on_warning({"message": f"{name} did not reach {giga(target)} MACs; {advice}."})

    def _on_architecture(self, event: dict) -> None:
        cells = ", ".join(f"{count} {kind}" for kind, count in Counter(event["operators"]).items())
        found = f"{count_text(event['macs'])} MACs as the method counts them, cells {cells}"
        self.note(f"found     step {event['step']}: {found}; weight of the MACs {event['weight']:g}")

    def _on_sample(self, event: dict) -> None:
        if self.err.is_terminal:
            self.note(f"sample    {event['path']}")

    def _on_report(self, event: dict) -> None:
        self.note(f"report    {event['path']}")

    def _on_skipped(self, event: dict) -> None:
        self.note(f"skipped   {event['path']}: {event['reason']}")

    def _on_mended(self, event: dict) -> None:
        self.note(f"note      {event['path']}: {event['reason']}")

    def _on_ignored(self, event: dict) -> None:
        if event["kinds"]:
            kinds = ", ".join(f"{kind} ({count})" for kind, count in list(event["kinds"].items())[:5])
            more = ", ..." if len(event["kinds"]) > 5 else ""
            hint = f"; {event['hint']}" if event.get("hint") else ""
            self.note(f"ignored   {event['path']}: {plural(event['files'], 'file')}: {kinds}{more}{hint}")
        if event["folders"]:
            names = ", ".join(f"{name}/" for name in event["folders"][:3]) + (", ..." if event["folders"][3:] else "")
            count = plural(len(event["folders"]), "sub-folder")
            self.note(
                f"ignored   {event['path']}: {count} with images ({names}); data.recursive (--recursive) reads them"
            )

    def _on_warning(self, event: dict) -> None:
        self.note(f"warning   {event['message']}")

    _on_diverged = _on_warning

    def _on_assumed(self, event: dict) -> None:
        self.note(f"assumed   {event['model']}: {event['assumed']}")

    def _on_latent(self, event: dict) -> None:
        self.note(f"data      {event['message']}")

    def _on_data(self, event: dict) -> None:
        direction = f", {event['direction']}" if event["direction"] else ""
        self.note(f"data      {plural(event['images'], 'image')} ({', '.join(event['used'])}{direction})")

    def _on_eval(self, event: dict) -> None:
        if event["stage"] == "unreadable":
            self._on_skipped(event)
        else:
            self._count("generating" if event["stage"] == "generate" else "real images", event)

    def _on_stats(self, event: dict) -> None:
        if event.get("stage") == "unreadable":
            self._on_skipped(event)
        elif event.get("total"):
            self._count("features", event)

    def _on_generated(self, event: dict) -> None:
        self._count("generating", event)

    def _on_judged(self, event: dict) -> None:
        self._count("scoring", event)

    def _on_bench(self, event: dict) -> None:
        if "total" in event:
            self._count("measuring", event)
        elif self.err.is_terminal:
            self.note(f"preparing {event['preparing']}" if "preparing" in event else f"measuring {event['runtime']}")

    def _on_timing(self, event: dict) -> None:
        if not event["done"]:
            where = f"{event['runtime']} {event['version']}, {plural(event['threads'], 'thread')}"
            self.note(f"measuring {plural(event['total'], 'layer shape')} on {where}")
        self._count("measuring", event)

    def _on_measured(self, event: dict) -> None:
        shown = time_text if event["unit"] == "ms" else size_text
        self.note(f"measured  {shown(event['measured'])} for the whole network, predicted {shown(event['predicted'])}")

    def _on_export(self, event: dict) -> None:
        told = EXPORT[event["stage"]].format_map(event)
        if event["stage"] in ("calibrate", "sensitivity"):
            self._count(told, event)
        elif self.err.is_terminal and "total" in event:
            self._progress("export", event["total"]).update(event["done"], [told])
        else:
            self.note(f"export    {told}")

    def _on_demo(self, event: dict) -> None:
        if event["stage"] == "fetch":
            self.note(f"demo      downloading {event['package']} with npm, only once")
        else:
            self.note(f"serving   {event['folder']} at {event['address']} until Ctrl-C")

    def _on_push(self, event: dict) -> None:
        self._end_bar()
        if event["stage"] == "upload":
            self.note(f"uploading to {event['repo']}")
            return
        seen = "private" if event["private"] else "public"
        there = f"a new commit to the {seen} repository" if event["exists"] else f"a new {seen} repository"
        where = event["folder"] or f"{event['repo'] or 'no repository'} on the Hugging Face Hub, {there}"
        self.note(f"files     for {where}:")
        for name, bytes in event["files"].items():
            self.note(f"          {name}, {thousands(bytes)} kB")
        if event["removed"]:
            kept = "" if event["folder"] else ", which stay in the repository's history"
            self.note(f"removes   files of an earlier push{kept}: {', '.join(event['removed'])}")
        for note in event["notes"]:
            self.note(f"note      {note}")

    def _count(self, title: str, event: dict) -> None:
        if self.err.is_terminal:
            self._progress(title, event["total"]).update(event["done"])

    def _progress(self, title: str, total: int) -> Bar:
        if self._bar is None or (self._title, self._bar.total) != (title, total):
            self._end_bar()
            within = [self._within[series] for series in ("matrix", "seeds", "stages") if series in self._within]
            within += [title] if title != "training" or not within else []
            self._bar, self._title = Bar(printable(", ".join(within)), total, self.err), title
            self._bar.start()
        return self._bar

    def _end_bar(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _speed(event: dict) -> list[str]:
    rate = event["seconds_per_step"]
    if not rate:
        return []
    left = f"{duration(event['remaining'])} left"
    return [f"{rate:.3f} s/step", f"{event['images_per_second']:.3g} images/s", left]


def scored_before(event: dict) -> Below:
    """The lines below the bar, with the earlier scores of a resumed run."""
    scores, best = event.get("scores"), event.get("best")  # a dry run has neither
    if not scores or not best:
        return Below()
    values = [score["value"] for score in scores]
    return Below(score=Score(best["metric"], values, best["value"], best["step"]))
