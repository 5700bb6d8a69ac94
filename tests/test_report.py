"""`vemcompress report`: one file that shows a run, whatever lies in its folder; and in a real headless Chromium."""

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from teach_toys import TRAIN, UNET, toy_pairs
from toys import TOY

import vemcompress
from vemcompress.commands import report as command
from vemcompress.commands.distill import distill
from vemcompress.commands.report import report
from vemcompress.commands.seeds import distill_seeds
from vemcompress.commands.teach import teach
from vemcompress.data.images import save_png
from vemcompress.errors import InputError
from vemcompress.runs.pictures import Layout, sheet_of, to_uint8
from vemcompress.runs.report import sheets
from vemcompress.runs.report.curves import POINTS, curve, thinned
from vemcompress.runs.report.tables import count

pytestmark = pytest.mark.usefixtures("one_thread")

STEPS = [*TOY, "train.steps=4", "train.sample_every=2", "data.held_out=1", "train.checkpoint_every=2"]
ATTACK = "</pre><script>document.title='taken'</script><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def made(inputs, tmp_path_factory):
    """A run of four steps with two sample sheets, and the events of its making."""
    events, out = [], tmp_path_factory.mktemp("made") / "run"
    distill(inputs[0], data=inputs[1], out=out, overrides=STEPS, device="cpu", on_event=events.append)
    return out, events


@pytest.fixture
def run(made, tmp_path):
    return Path(shutil.copytree(made[0], tmp_path / "run"))


class Page(HTMLParser):
    """The elements of a page, and its text."""

    def __init__(self, path: Path):
        super().__init__()
        self.elements: list[tuple[str, dict]] = []
        self.text = ""
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data

    def of(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.elements if name == tag]


def test_a_run_writes_its_page_at_its_end_and_tells_where(made):
    run, events = made
    assert {"event": "report", "path": str(run / "report.html")} in events
    page = Page(run / "report.html")
    expected = (
        "Score that picks the best checkpoint",
        "ssim_teacher",
        "fewer parameters",
        "mobile_resnet",
        "MACs, paper + norm",
        "step 4 of 4",
        "Best checkpoint",
        "langevin",
    )
    assert [words for words in expected if words not in page.text] == []
    assert [image["data-step"] for image in page.of("img") if "data-step" in image] == ["2", "4"]
    assert len(page.of("polyline")) >= 5
    assert [option["value"] for option in page.of("option") if "selected" in option] == ["1", "2"]


def test_a_sheet_is_made_once_the_score_of_its_step_is_known(made):
    told = [(event["event"], event["step"]) for event in made[1] if event["event"] in ("score", "checkpoint", "sample")]
    assert [told.index(("checkpoint", step)) < told.index(("sample", step)) for step in (2, 4)] == [True, True]
    assert [one for one in told if one[0] != "checkpoint"] == [("score", 2), ("sample", 2), ("score", 4), ("sample", 4)]


def test_a_page_loads_nothing_from_elsewhere(made):
    page = Page(made[0] / "report.html")
    told = [value for _, attributes in page.elements for key, value in attributes.items() if key in ("src", "href")]
    assert told and all(value.startswith("data:image/webp;base64,") for value in told)
    (policy,) = [meta["content"] for meta in page.of("meta") if "http-equiv" in meta]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    assert not page.of("link") and all("style" not in attributes for _, attributes in page.elements)


def test_what_a_hostile_folder_says_stays_text(run):
    recipe = (run / "recipe.toml").read_text().replace('name = "omgd"', f'name = "{ATTACK}"', 1)
    (run / "recipe.toml").write_text(recipe)
    environment = json.loads((run / "environment.json").read_text())
    environment["teacher"] |= {"family": ATTACK, "source": ATTACK, "parameters": "many", "macs": [ATTACK]}
    environment |= {"warnings": [ATTACK, "\u202eturned"], "diverged": {"loss": {"message": ATTACK}}, "packages": 3}
    (run / "environment.json").write_text(json.dumps(environment))
    with (run / "metrics.jsonl").open("a") as log:
        log.writelines(json.dumps({"step": step, ATTACK: 1.0}) + "\n" for step in (5, 6))
    evaluation = {"metrics": {ATTACK: 1.0}, "protocol": {"fid": ATTACK}, "images": ATTACK, "skipped": [1]}
    (run / "evaluation.json").write_text(json.dumps({"sha256": "0", "evaluation": evaluation}))
    measured = {"size": 3, "runtimes": {ATTACK: {"p50_ms": ATTACK}, "torch": 1}}
    (run / "latency.json").write_text(json.dumps({"machine": ATTACK, "models": {ATTACK: measured, "student": [1]}}))
    report(run)
    page = Page(run / "report.html")
    assert len(page.of("script")) == 1 and all("onerror" not in attributes for _, attributes in page.elements)
    assert ATTACK in page.text and "\u202e" not in page.text and "\ufffdturned" in page.text


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe", b"[1, 2]", b'{"teacher": 3, "best": [1], "evaluation": "x"}', b"null"]
)
def test_damaged_parts_are_left_out_with_a_sentence(run, content):
    names = ("environment.json", "evaluation.json", "best/best.json", "metrics.jsonl", "timing.jsonl", "recipe.toml")
    for name in (*names, "latency.json", "samples/step-000002.png", "samples/step-000004.png", "run.json"):
        (run / name).write_bytes(content)
    found = report(run)
    assert found.pictures == 0 and "samples/step-000004.png cannot be read" in " ".join(found.missing)
    assert all(sentence in Page(run / "report.html").text for sentence in found.missing)


@pytest.mark.parametrize("kept", ["recipe.toml", "metrics.jsonl", "environment.json"])
def test_what_is_left_of_a_run_is_shown(run, kept):
    for path in run.iterdir():
        if path.name != kept:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert report(run).bytes == (run / "report.html").stat().st_size


def test_no_run_is_4_and_so_is_a_link_that_leads_out(call, run, tmp_path):
    (tmp_path / "photos").mkdir()
    for what in ("photos", "nothing"):
        code, out, err = call("report", tmp_path / what)
        assert (code, out) == (4, "") and what in err
    (tmp_path / "secret").write_text("secret")
    (run / "recipe.toml").unlink()
    (run / "recipe.toml").symlink_to(tmp_path / "secret")
    with pytest.raises(InputError, match="link"):
        report(run)


def test_the_command_writes_where_it_is_told(call, run, tmp_path):
    (run / "report.html").unlink()
    code, out, _ = call("report", run, "-o", tmp_path / "a.html", "--json")
    assert code == 0 and json.loads(out)["path"] == str(tmp_path / "a.html") and json.loads(out)["pictures"] == 2
    assert (tmp_path / "a.html").stat().st_size == json.loads(out)["bytes"] and not (run / "report.html").exists()
    code, out, _ = call("report", run)
    assert code == 0 and str(run / "report.html") in out
    assert vemcompress.report is report
    assert call("report", run, "-o", tmp_path)[0] == 2
    assert call("report", run, "-o", tmp_path / "absent" / "a.html")[0] == 9


def test_an_evaluation_renews_the_pages_that_are_there(run, inputs):
    events, around = [], run.parent / "seeds.json"
    around.write_text('{"seeds": [1], "done": []}')
    (run.parent / "report.html").write_text("old")
    assert "step 4; features" not in Page(run / "report.html").text
    vemcompress.evaluate(run, data=inputs[1], metrics=["ssim_teacher"], device="cpu", on_event=events.append)
    assert "step 4; features" in Page(run / "report.html").text
    assert "<html" in (run.parent / "report.html").read_text()
    told = [event["path"] for event in events if event["event"] == "report"]
    assert told == [str(run / "report.html"), str(run.parent / "report.html")]
    (run / "report.html").unlink()
    vemcompress.evaluate(run, data=inputs[1], device="cpu")
    assert not (run / "report.html").exists()


def test_the_latency_of_a_run_is_kept_and_shown_on_its_page(call, run):
    assert "Latency" not in Page(run / "report.html").text
    code, _, err = call("bench", run, "--runtime", "torch", "--size", 32, "--repeats", 2, "--no-memory")
    assert code == 0, err
    kept = json.loads((run / "latency.json").read_text())
    assert kept["models"]["student"]["runtimes"]["torch"]["p50_ms"] > 0
    assert "Latency" in Page(run / "report.html").text


def test_a_page_that_cannot_be_written_fails_no_run(inputs, tmp_path, monkeypatch):
    def broken(run):
        raise RuntimeError("no page\ntoday")

    monkeypatch.setattr(command, "report", broken)
    events, options = [], {"overrides": STEPS, "device": "cpu"}
    result = distill(inputs[0], data=inputs[1], out=tmp_path / "run", on_event=events.append, **options)
    assert result.steps == 4
    assert [e["message"] for e in events if "no page today" in e.get("message", "")]


def test_a_runs_warnings_are_kept_and_shown_also_after_a_resume(inputs, tmp_path):
    wide = [*STEPS, "student.width=32"]  # larger than its teacher
    distill(inputs[0], data=inputs[1], out=tmp_path / "run", overrides=wide, device="cpu")
    distill(resume=tmp_path / "run", overrides=["train.steps=5"], device="cpu")
    warnings = json.loads((tmp_path / "run" / "environment.json").read_text())["warnings"]
    assert [told for told in warnings if "not smaller" in told] == [warnings[0]] and len(set(warnings)) == len(warnings)
    assert "the student is not smaller than its teacher" in Page(tmp_path / "run" / "report.html").text


def test_a_taught_teacher_has_a_page_without_a_student(tmp_path):
    data = toy_pairs(tmp_path / "pairs", 4)
    overrides = [*TRAIN, "train.sample_every=2", *UNET]
    teach(data=data, out=tmp_path / "run", recipe="pix2pix", overrides=overrides, device="cpu")
    page = Page(tmp_path / "run" / "report.html")
    assert "A teacher, recipe pix2pix" in page.text and "fewer parameters" not in page.text
    assert len(page.of("select")) == 2 and "ground truth" in page.text
    headings = [page.text.index(f"Losses of {network}") for network in ("discriminators", "the teacher")]
    assert headings == sorted(headings) and page.text.index("Schedule") > headings[1]


def test_seeds_have_one_table_with_their_mean(inputs, tmp_path):
    distill_seeds([1, 2], inputs[0], data=inputs[1], out=tmp_path / "runs", overrides=STEPS, device="cpu")
    page = Page(tmp_path / "runs" / "report.html")
    assert "mean ± std" in page.text and "2 seeds of one recipe, 2 done" in page.text
    assert [link["href"] for link in page.of("a")] == ["seed-1/report.html", "seed-2/report.html"]


def test_a_pipelines_page_has_its_stages(inputs, tmp_path):
    overrides = [setting for setting in STEPS if not setting.startswith("student.")]
    distill(inputs[0], data=inputs[1], out=tmp_path / "runs", recipe="prune_omgd", overrides=overrides, device="cpu")
    page, found = Page(tmp_path / "runs" / "report.html"), report(tmp_path / "runs")
    assert (found.kind, found.pictures) == ("stages", 2)
    assert "Stage 1: prune" in page.text and "Stage 2: distill" in page.text and "2 of them done" in page.text


# -- the parts ---------------------------------------------------------------------------------------------------------


def test_a_long_log_is_thinned_and_keeps_its_ends():
    points = [(step, float(step % 100) - 50) for step in range(1, 100_001)]
    parts = thinned(points)
    assert len(parts) <= POINTS and min(part[2] for part in parts) == -50 and max(part[3] for part in parts) == 49
    drawn = str(curve("loss", points))
    assert "100,000" in drawn and 'class="band"' in drawn and len(drawn) < 30_000


@pytest.mark.parametrize(
    ("values", "log"),
    [
        ((1.0, 1e-3), True),
        ((1.0, 0.5), False),
        ((0.0, 100.0), False),
        ((1e299, -1e299), False),
        ((3.0, 3.0), False),
        ((5e-323, 5e-323), False),
        ((5e-323, 6e-323), False),
        ((1e-309, 1e-308), False),
        ((1e-249, 1e-247), True),
    ],
)
def test_a_scale_is_logarithmic_where_values_span_powers_of_ten(values, log):
    drawn = str(curve("x", list(enumerate(values))))
    assert ("log scale" in drawn) == log and "nan" not in drawn and "inf" not in drawn
    heights = [float(y) for y in re.search(r'points="([^"]*)"', drawn)[1].replace(",", " ").split()[1::2]]
    assert all(sheets.GAP < y < 170 for y in heights)


def test_near_levels_of_an_axis_have_different_labels():
    labels = re.findall(r'text-anchor="end">([^<]*)', str(curve("x", [(1, 1.0), (2, 1.00002)])))
    assert len(labels) == len(set(labels)) > 3


def sheet(folder: Path, step: int, side: int = 8, columns: int = 3, **options) -> Path:
    """A sheet of black images as `image_grid` lays them out, two rows."""
    pixels = np.full((18 + 2 * (side + 4), columns * (side + 4) + 4, 3), 255, np.uint8)
    for column in range(columns):
        for row in range(2):
            left, top = 4 + column * (side + 4), 18 + row * (side + 4)
            pixels[top : top + side, left : left + side] = 40 * column
    folder.mkdir(exist_ok=True)
    Image.fromarray(pixels).save(folder / f"step-{step:06d}.png", **options)
    return folder / f"step-{step:06d}.png"


def test_at_most_twelve_sheets_are_chosen_evenly_in_time(tmp_path):
    for step in range(10, 1010, 10):
        sheet(tmp_path / "samples", step)
    (tmp_path / "samples" / "step-000005.png.tmp").write_text("")
    steps = [step for step, _ in sheets.chosen(tmp_path / "samples")]
    assert len(steps) == 12 and steps[0] == 10 and steps[-1] == 1000 and max(np.diff(steps)) <= 100
    assert sheets.chosen(tmp_path / "samples", 1)[0][0] == 1000 and sheets.chosen(tmp_path / "none") == []


def test_large_sheets_stay_within_the_budget(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (600, 900, 3), np.uint8)
    for step in (1, 2, 3):
        Image.fromarray(noise).save(tmp_path / f"step-{step:06d}.png")
    notes: list[str] = []
    found = sheets.sheets(sheets.chosen(tmp_path), notes, budget=100_000)
    assert found and sum(len(one.address) for one in found) < 140_000 and notes == []


def test_the_layout_of_an_earlier_releases_sheet_is_measured(tmp_path):
    cells = sheets.cells(sheet(tmp_path, 1), [8, 16], taught=False)
    assert cells.titles == ["input", "teacher", "student"]
    assert [len(row) for row in cells.rows] == [3, 3] and cells.rows[0][0].width == 8
    assert sheets.cells(sheet(tmp_path, 2, columns=5), [8], taught=False) is None
    assert sheets.cells(sheet(tmp_path, 3), [9], taught=False) is None


def test_a_sheet_tells_where_its_columns_are(tmp_path):
    columns = {title: torch.rand(2, 3, 8, 12) * 2 - 1 for title in ("input", "teacher", "student")}
    inputs = columns["input"]
    save_png(tmp_path / "a.png", *sheet_of(columns, inputs, "step 1 of 2\nand more"))
    image = sheets.opened(tmp_path / "a.png")
    layout = Layout.read(image.info[Layout.KEY], image.size)
    assert (layout.titles, layout.rows) == (("input", "teacher", "student"), 2)
    for place, images in enumerate(columns.values()):
        for row in range(2):
            shown = np.asarray(image.crop(layout.box(place, row)).resize((12, 8), Image.Resampling.NEAREST))
            assert np.array_equal(shown, to_uint8(images)[row])


def test_a_page_shows_sheets_without_their_header(tmp_path):
    images = {"input": torch.zeros(1, 3, 200, 300), "student": torch.ones(1, 3, 200, 300)}
    for name, header in (("a", ""), ("b", "step 1 of 2\nand more")):
        save_png(tmp_path / f"{name}.png", *sheet_of(images, images["input"], header))
    plain, headed = sheets.sheets([(1, tmp_path / "a.png"), (1, tmp_path / "b.png")], [])
    assert plain == headed and plain.titles == ("input", "student")


def test_a_latent_sheets_networks_are_compared_as_blocks(tmp_path):
    z, columns = torch.zeros(9, 5), {"teacher": -torch.ones(9, 3, 8, 8), "student": torch.zeros(9, 3, 8, 8)}
    save_png(tmp_path / "a.png", *sheet_of(columns, z, "step 1"))
    cells = sheets.cells(tmp_path / "a.png", [], taught=False)
    ((left, right),) = cells.rows
    assert cells.titles == ["teacher", "student"]
    assert (left.width, left.height) == (right.width, right.height) == (768, 768)


LAYOUTS = [
    '{"titles": ["a"], "rows": 9, "size": [8, 8], "wide": 1}',
    '{"titles": [], "rows": 1, "size": [8, 8], "wide": 1}',
]
LAYOUTS += [
    '{"titles": ["a", "b"], "rows": 1, "size": [-8, 8], "wide": 1}',
    '{"titles": ["a"], "rows": 1, "size": [8, 8], "wide": 1, "top": 99}',
    '{"titles": ["a"], "rows": 1, "size": [8, 8], "wide": 1, "top": "9"}',
    f'{{"titles": ["a", "b"], "rows": 1, "size": [{"9" * 400}, 5], "wide": 1.5}}',
    *("", "{}", "[]"),
]


@pytest.mark.parametrize("said", LAYOUTS)
def test_a_layout_that_cannot_be_is_none(said):
    assert Layout.read(said, (40, 42)) is None


def test_numbers_are_three_digits_and_whatever_else_is_a_dash():
    assert [count(n) for n in (1107459, 999_600, 12, 2.6e9)] == ["1.11 M", "1 M", "12", "2.6 G"]
    assert [count(n) for n in (None, "x", True, float("nan"), [])] == ["–"] * 5


# -- in a browser ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1200, "light")])
def test_wipe_and_slider_work_in_a_browser_that_asks_nobody(browser, run, width, scheme):
    recipe = (run / "recipe.toml").read_text().replace('name = "omgd"', f'name = "{ATTACK}"', 1)
    (run / "recipe.toml").write_text(recipe)
    report(run)
    said, address = [], (run / "report.html").as_uri()
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: said.append(request.url) if not request.url.startswith("data:") else None)
    page.goto(address)
    assert page.evaluate("document.documentElement.scrollWidth") == width and page.title() == "run"
    page.locator(".player input").fill("0")
    assert page.inner_text(".player output") == "step 2"
    assert page.locator(".player img:visible").get_attribute("data-step") == "2"
    page.locator(".stage input").fill("25")
    assert page.evaluate("getComputedStyle(document.querySelector('.over')).clipPath").endswith("25%)")
    page.locator(".pick select").first.select_option(label="input")
    assert page.inner_text(".stage .left") == "input"
    before = page.get_attribute(".stage .under", "src")
    page.locator(".rows button").nth(1).click()
    assert page.get_attribute(".stage .under", "src") != before
    assert page.evaluate("[...document.images].every((image) => image.complete && image.naturalWidth > 0)")
    ground = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert ground == {"dark": "rgb(22, 23, 26)", "light": "rgb(251, 250, 247)"}[scheme]
    page.close()
    assert said == [address]
