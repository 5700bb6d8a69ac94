"""`push`: against a Hub on loopback, and into a folder: what is sent, what is refused, what the model card says."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hub_server import TOKEN, WritableHub
from huggingface_hub import close_session, constants, metadata_load
from PIL import Image
from toys import TOY, toy_images, toy_teacher, toy_teacher_file

from vemcompress.cli import publish
from vemcompress.commands import push as command
from vemcompress.commands import push_folder
from vemcompress.commands.distill import distill
from vemcompress.commands.evaluate import evaluate
from vemcompress.commands.push import push
from vemcompress.errors import ExportError, InputError, OutputError, UsageError
from vemcompress.system.private import without_folders
from vemcompress.weights.artifact import save_generator
from vemcompress.weights.loading import load, load_generator
from vemcompress.weights.upload import Existing, Uploaded


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with a best checkpoint and an evaluation, in a folder whose name must not be told."""
    home = tmp_path_factory.mktemp("secret-home")
    teacher, images = toy_teacher_file(home / "teacher.safetensors"), toy_images(home / "photos", 24)
    plan = [*TOY, "information.name=none", "train.sample_every=3", "data.held_out=2"]
    plan = [setting for setting in plan if not setting.startswith(("information.c", "information.s"))]
    distill(teacher=teacher, data=images, recipe="omgd", overrides=plan, out=home / "night", device="cpu")
    evaluate(home / "night", metrics=["ssim_teacher"], device="cpu")
    return home / "night"


@pytest.fixture
def hub():
    server = WritableHub()
    yield server
    server.shutdown()
    server.server_close()


COMMANDS = """
import json, sys
from vemcompress.cli import main
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["vemcompress", *arguments]
    try:
        main()
        code = 0
    except SystemExit as left:
        code = left.code or 0
    print(f"== {code}", flush=True)
"""


def vemcompress(endpoint: str, home: Path, *commands: list) -> tuple[list[int], str]:
    """Run commands in a process of their own, as the Hub's settings are read at import: exit codes, all output."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("HF_") and not k.lower().endswith("_proxy")}
    clean |= {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_XET": "1"}
    clean["HF_TOKEN"] = TOKEN
    lines = json.dumps([[str(word) for word in words] for words in commands])
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS, lines],
        env=clean,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    codes = [int(code) for code in re.findall(r"^== (\d+)$", done.stdout, re.M)]
    assert len(codes) == len(commands), done.stdout
    return codes, done.stdout


def test_a_run_goes_to_the_hub_and_comes_back(run, hub, tmp_path):
    earlier = dict.fromkeys(("sample.png", "student.onnx", "teacher.safetensors"), b"old")
    card = b"---\nlibrary_name: vemcompress\n---\nThe card of an earlier push"
    hub.repos["user/open"] = {"private": False, "commits": [{"README.md": card, "LICENSE": b"kept", **earlier}]}
    hub.repos["user/theirs"] = {"private": False, "commits": [{"README.md": b"# Mine", **earlier}]}
    photos = toy_images(tmp_path / "photos", 1, size=32)
    codes, said = vemcompress(
        hub.url,
        tmp_path / "hf",
        ["push", run, "user/night", "--private", "--yes"],
        ["push", run, "user/open", "--yes", "--best", "--no-onnx", "--no-picture"],
        ["push", run, "user/open", "--yes", "--private"],
        ["push", run, "user/night"],
        ["generate", "hf://user/night", "--input", photos, "--out", tmp_path / "out"],
        ["inspect", "hf://user/open/student.safetensors"],
        ["push", run, "user/theirs", "--yes", "--no-onnx", "--no-picture"],
    )
    assert codes == [0, 0, 2, 2, 0, 0, 0] and TOKEN not in said, said
    night = hub.repos["user/night"]
    assert night["private"] and len(night["commits"]) == 2
    assert {*hub.newest("user/night")} == {
        *("README.md", "student.safetensors", "student.onnx", "recipe.toml", "sample.png")
    }
    assert {*hub.newest("user/open")} == {
        *("LICENSE", "teacher.safetensors", "README.md", "student.safetensors", "recipe.toml")
    }
    assert earlier.items() <= hub.newest("user/theirs").items()  # a card that push did not write: nothing is removed
    assert "files of an earlier push, which stay in the repository's history: sample.png, student.onnx" in said
    assert not hub.repos["user/open"]["private"] and len(hub.repos["user/open"]["commits"]) == 2
    assert 'load_generator("hf://user/night/student.safetensors")' in said
    assert "is already public" in said and "a new private repository" in said and "add --yes" in said
    x, kept = torch.rand(1, 3, 32, 32) * 2 - 1, tmp_path / "student.safetensors"
    kept.write_bytes(hub.newest("user/night")["student.safetensors"])
    assert torch.equal(load_generator(kept)(x), load_generator(run)(x))
    assert load(kept).metadata["recipe"] == "omgd" and (tmp_path / "out" / "0.png").is_file()


def test_a_wrong_token_none_and_a_hub_that_is_down_are_network_errors(call, run, hub, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HF_TOKEN", "hf_bad")
    close_session()  # it holds the proxies
    pushed = ["push", run, "user/night", "--yes", "--no-onnx"]
    code, _, err = call(*pushed)
    assert code == 8 and "does not accept your token" in err and "hf auth login" in err and "hf_bad" not in err
    monkeypatch.setenv("HF_TOKEN", "")
    asked = len(hub.seen)
    code, _, err = call(*pushed)
    assert code == 8 and "nobody is logged in" in err and len(hub.seen) == asked
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    code, _, err = call(*pushed)
    assert code == 8 and "cannot be reached" in err and hub.repos == {}


def test_nothing_is_uploaded_without_consent(call, run, monkeypatch):
    code, _, err = call("push", run, "user/night")
    assert code == 2 and "nothing is uploaded without your consent" in err
    asked = []
    monkeypatch.setattr(
        command, "existing", lambda repo: Existing(False, frozenset({"LICENSE", "student.onnx"}), ours=True)
    )
    monkeypatch.setattr(command, "upload", lambda *_, **__: pytest.fail("uploaded"))
    result = push(run, "user/night", onnx=False, confirm=lambda about: asked.append(about))
    assert result.url is None and result.commit is None
    (about,) = asked
    assert about["removed"] == ["student.onnx"]
    assert about["exists"] and not about["private"] and {*about["files"]} == {*result.files}
    assert push(run, "user/night", onnx=False, dry_run=True, confirm=pytest.fail).url is None


@pytest.mark.parametrize("answer", [True, False])
def test_on_a_terminal_the_files_are_shown_before_the_question(call, run, monkeypatch, answer):
    monkeypatch.setattr(publish, "_on_terminal", lambda: True)
    monkeypatch.setattr(publish.typer, "confirm", lambda *_, **__: answer)
    monkeypatch.setattr(command, "existing", lambda repo: None)
    monkeypatch.setattr(command, "upload", lambda repo, files, removed, **_: Uploaded(f"https://hub/{repo}", "abc"))
    code, out, err = call("push", run, "user/night", "--no-onnx", "--json")
    assert code == 0 and json.loads(out)["commit"] == ("abc" if answer else None)
    assert "user/night on the Hugging Face Hub, a new public repository" in err and "sample.png" in err
    assert call("push", run, "user/night", "--quiet")[0] == 2


@pytest.mark.parametrize("repo", ["night", "a/b/c", "user/../x", "user/a b", "user/", "hf://night", "user/a--b"])
def test_a_repository_of_no_name_is_refused(call, repo):
    code, _, err = call("push", "absent", repo, "--yes")
    assert code == 2 and "is not the name of a repository" in err


@pytest.fixture(scope="module")
def folder(run):
    return push(run, out=run.parent / "pushed").folder


def test_no_folder_of_this_machine_is_in_the_files(run, folder):
    assert {path.name for path in folder.iterdir()} == {
        *("README.md", "student.safetensors", "student.onnx", "recipe.toml", "sample.png")
    }
    assert b"secret-home" in (run / "student.safetensors").read_bytes()
    for path in folder.iterdir():
        data = path.read_bytes()
        for private in (str(run.parent), "secret-home", str(Path(torch.__file__).parents[1]), str(Path.home())):
            assert private.encode() not in data, (path.name, private)
    assert 'source = "teacher.safetensors"' in (folder / "recipe.toml").read_text()
    assert json.loads(load(folder / "student.safetensors").metadata["teacher"])["source"] == "teacher.safetensors"


def test_the_card_tells_the_teacher_the_figures_and_their_protocol(run, folder):
    card, header = (folder / "README.md").read_text(), metadata_load(folder / "README.md")
    assert (header["license"], header["license_name"], header["library_name"]) == ("other", "unknown", "vemcompress")
    assert header["pipeline_tag"] == "image-to-image" and "onnx" in header["tags"]
    evaluation = json.loads((run / "evaluation.json").read_text())["evaluation"]
    assert f"| ssim\\_teacher | {evaluation['metrics']['ssim_teacher']:.4g} | SSIM (11x11" in card.replace("\\(", "(")
    assert load(run.parent / "teacher.safetensors").sha256 in card and "teacher.safetensors (resnet)" in card
    assert "licence is not recorded" in card and "![Sample images of the run after step 6](sample.png)" in card
    best = push(run, out=run.parent / "best-pushed", best=True, onnx=False).folder
    told = f"| ssim\\_teacher | {evaluation['best']['metrics']['ssim_teacher']:.4g} |"
    assert told in (best / "README.md").read_text() and "ONNX" not in (best / "README.md").read_text()


@pytest.mark.parametrize("kind", ["photos", "latents"])
def test_the_code_in_the_card_runs(kind, run, folder, tmp_path, monkeypatch):
    if kind == "latents":
        save_generator(tmp_path / "draws.safetensors", toy_teacher("dcgan"))
        folder = push(tmp_path / "draws.safetensors", out=tmp_path / "pushed").folder
    monkeypatch.chdir(tmp_path)
    Path("student.onnx").symlink_to(folder / "student.onnx")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)).save("photo.jpg")
    blocks = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.S)
    made = []
    for block in blocks:
        exec(block.replace("hf://user/repo/", f"{folder}/"), {})
        made.append(np.asarray(Image.open("result.png")).astype(int))
    assert "vemcompress generate hf://user/repo/student.safetensors " in (folder / "README.md").read_text()
    assert len(made) == 2 and abs(made[0] - made[1]).max() <= 1 and made[0].std() > 0


def file_of(path: Path, **teacher) -> Path:
    save_generator(path, toy_teacher(), recipe=teacher.pop("recipe", ""), teacher=teacher)
    return path


@pytest.mark.parametrize(
    ("known", "given", "stated"),
    [
        ("mit", None, ("mit", None)),
        ("MIT", None, ("mit", None)),
        ("My: 'own' licence", None, ("other", "my-own-licence")),
        ("", "apache-2.0", ("apache-2.0", None)),
        ("", None, ("other", "unknown")),
    ],
)
def test_the_licence_goes_into_the_header(known, given, stated, tmp_path):
    file = file_of(tmp_path / "g.safetensors", source="hf://them/teacher", licence=known)
    result = push(file, out=tmp_path / "out", onnx=False, licence=given)
    header = metadata_load(result.folder / "README.md")
    assert (header["license"], header.get("license_name")) == stated and header["base_model"] == "them/teacher"


def test_text_from_metadata_is_only_text(tmp_path):
    evil = "<img src=x onerror=alert(1)> [a](http://x) | `b`\n# head\n---\nlicense: mit"
    file = file_of(tmp_path / "g.safetensors", source=evil, licence=evil, sha256=evil, recipe=evil)
    card = push(file, out=tmp_path / "out", onnx=False).folder / "README.md"
    _, _, text = card.read_text().split("---\n", 2)
    assert metadata_load(card)["license"] == "other"
    assert not re.search(r"(?<!\\)<|(?<!\\)\]\(http|^# head|^license", text, re.M)


def test_an_export_that_fails_is_told_and_left_out(run, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise ExportError(f"{run}/student.onnx: does not agree")

    monkeypatch.setattr(command, "export_onnx", fail)
    heard = []
    result = push(run, out=tmp_path / "out", on_event=heard.append)
    assert "student.onnx" not in result.files and result.notes == ["no student.onnx: student.onnx: does not agree"]
    assert [event["notes"] for event in heard if event["event"] == "push"] == [result.notes]
    assert "onnxruntime" not in (tmp_path / "out" / "README.md").read_text()


def test_what_is_not_ours_and_folders_with_other_files_are_refused(run, tmp_path):
    torch.save(toy_teacher().state_dict(), tmp_path / "theirs.pth")
    with pytest.raises(InputError):
        push(tmp_path / "theirs.pth", out=tmp_path / "out")
    with pytest.raises(UsageError, match="is already on the Hub"):
        push("hf://user/repo", out=tmp_path / "out")
    with pytest.raises(UsageError, match="holds the model itself"):
        push(run, out=run)
    with pytest.raises(UsageError, match="nowhere to push"):
        push(run)


def test_a_second_push_into_a_folder_leaves_nothing_of_the_first(call, run, tmp_path):
    push(run, out=tmp_path / "out")
    again = ("push", run, "--out", tmp_path / "out", "--no-onnx", "--no-picture")
    code, _, err = call(*again, "--dry-run")
    assert code == 0 and (tmp_path / "out" / "sample.png").is_file()
    code, out, err = call(*again, "--json")
    assert code == 0 and json.loads(out)["removed"] == ["sample.png", "student.onnx"]
    assert "removes   files of an earlier push: sample.png, student.onnx" in err
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"README.md", "student.safetensors", "recipe.toml"}


def test_a_folder_that_push_did_not_write_is_kept_as_it_is(tmp_path):
    model, out = file_of(tmp_path / "g.safetensors"), tmp_path / "mine"
    out.mkdir()
    (out / "README.md").write_text("my notes")
    with pytest.raises(UsageError, match="is not empty and was not written by push"):
        push(model, out=out, onnx=False)
    assert [path.name for path in out.iterdir()] == ["README.md"] and (out / "README.md").read_text() == "my notes"
    ours = push(model, out=tmp_path / "ours", onnx=False).folder
    assert push(model, out=ours, onnx=False).folder == ours
    before = (ours / "student.safetensors").read_bytes()
    (tmp_path / "link.safetensors").symlink_to(ours / "student.safetensors")
    for itself in (ours / "student.safetensors", tmp_path / "link.safetensors"):
        with pytest.raises(UsageError, match="holds the model itself"):
            push(itself, out=ours, onnx=False)
    (ours / "teacher.safetensors").write_bytes(b"mine")
    with pytest.raises(UsageError, match=r"holds other files \(teacher.safetensors\)"):
        push(model, out=ours, onnx=False)
    assert (ours / "student.safetensors").read_bytes() == before


def test_a_full_disk_during_a_second_push_removes_nothing(run, tmp_path, monkeypatch):
    first = {path.name: path.read_bytes() for path in push(run, out=tmp_path / "out").folder.iterdir()}

    def fail(path, data):
        raise OutputError(f"{path}: no space left")

    monkeypatch.setattr(push_folder, "write_atomically", fail)
    with pytest.raises(OutputError):
        push(run, out=tmp_path / "out", onnx=False, picture=False)
    assert first == {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}


def test_own_files_beside_a_pushed_model_are_never_removed(run, tmp_path):
    out = push(run, out=tmp_path / "out", onnx=False).folder
    (out / "README.md").write_text((out / "README.md").read_text() + "\nTrained with `data.csv`.\n")
    (out / "data.csv").write_text("1,2")
    with pytest.raises(UsageError, match=r"holds other files \(data\.csv\)"):
        push(run, out=out, onnx=False)
    assert (out / "data.csv").read_text() == "1,2"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("/home/me/photos", "photos"),
        ("file:///home/me/caf%E9", r"caf\xe9"),
        ("C:\\Users\\me\\a b.pth", "a b.pth"),
        ("12 masks of /home/me/masks; SSIM (11x11)", "12 masks of masks; SSIM (11x11)"),
        ("on /home/Jane Doe/photos of cats", "on photos of cats"),
        ("path:/home/jane/x", "path:x"),
        ("C://Users/jane/x", "x"),
        ("path:C:\\Users\\Jane Doe\\x.pth", "path:x.pth"),
        ("file:///home/jane/x.pth", "x.pth"),
        ("file://localhost/home/jane/x.pth", "x.pth"),
        ("from file:///home/jane/x.pth, file:///C:/Users/jane/y", "from x.pth, y"),
        ("on ~/a/b and /srv/c/d, ~/Program Files/g and ~/h", "on b and d, g and h"),
        ("/home/jane/x.pth: see https://a.org/b", "x.pth: see https://a.org/b"),
        ("/srv/x/student.onnx: outputs differ (1/2 of them)", "student.onnx: outputs differ (1/2 of them)"),
        ("4 images in /data/faces and 8 images in runs/other", "4 images in faces and 8 images in runs/other"),
        ("images of /data/photos with PSNR/SSIM", "images of photos with PSNR/SSIM"),
        ("12 images of /data/photos at 1/2 size", "12 images of photos at 1/2 size"),
        (r"from \\server\share\Jane Doe\z.pth", "from z.pth"),
        ("see https://a.org/b/c and hf://user/repo/x.pth", "see https://a.org/b/c and hf://user/repo/x.pth"),
        ("hf://user/repo", "hf://user/repo"),
        ("paper/cityscapes_omgd", "paper/cityscapes_omgd"),
        ("in [-1, 1], and/or/xor 1/2", "in [-1, 1], and/or/xor 1/2"),
    ],
)
def test_a_path_keeps_its_last_name(text, said):
    assert without_folders({"a": [text, 1]}) == {"a": [said, 1]}
    assert without_folders({"source": "runs/../me/g.pth"}) == {"source": "g.pth"}


def test_the_home_and_the_current_folder_are_removed_whatever_their_names(tmp_path, monkeypatch):
    home, current = tmp_path / "Doe, Jane (me)", tmp_path / "Doe, Jane (me)" / "[the]  runs"
    current.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(current)
    text = f"on {home}/photos of cats, path:{current}/a/x.pth and file://{home}/y; not {home}2"
    assert without_folders([text]) == ["on photos of cats, path:x.pth and y; not Doe, Jane (me)2"]
