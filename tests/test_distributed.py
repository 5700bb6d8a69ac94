"""Several processes train and measure as one would: the same figures, one writer, no rank left behind."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from ranks_toys import CASES, RUN, everything, make_inputs
from safetensors.torch import load_file

import vemcompress
import vemcompress.cli
from vemcompress.commands.distill import distill
from vemcompress.errors import UsageError
from vemcompress.runs import checkpoint
from vemcompress.system.devices import choose
from vemcompress.training import compiling

HERE = Path(__file__).parent
ROOT = Path(vemcompress.__file__).parents[1]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join((str(ROOT), str(HERE)))}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return make_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="module")
def one_and_two(inputs, tmp_path_factory):
    """What one process and two made of the same."""
    one, two = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command = [*launcher, str(HERE / "ranks_toys.py"), str(inputs), str(two)]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "float", torch.Tensor.float)  # `everything` sets these
        patch.setattr(compiling, "options", compiling.options)
        everything(inputs, one)
    torch.set_num_threads(threads)
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return one, two


def told(folder: Path, rank: int = 0) -> dict:
    return json.loads((folder / f"told-{rank}.json").read_text())


# -- training --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_steps_on_two_ranks_are_those_on_one(case, one_and_two):
    """Every loss, weight and buffer, in double precision, but for the biases before an instance norm: their gradient is
    zero but for rounding, of which Adam makes a full step."""
    one, two = (load_file(folder / "steps-0.safetensors") for folder in one_and_two)
    names = [name for name in one if name.startswith(f"{case}/")]
    assert len(names) > 100 and one.keys() == two.keys()
    for name in names:
        if case != "cyclegan" or not name.endswith("bias"):
            assert torch.allclose(one[name], two[name], rtol=1e-7, atol=1e-9), name


def test_ranks_stay_alike_to_the_bit(one_and_two):
    first, second = (load_file(one_and_two[1] / f"steps-{rank}.safetensors") for rank in (0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_batchnorm_of_ranks_is_that_of_the_whole_batch(one_and_two):
    one, two = (load_file(folder / "norm-0.safetensors") for folder in one_and_two)
    assert one["bf16"].dtype == two["bf16"].dtype == torch.bfloat16
    assert torch.allclose(one.pop("bf16").float(), two.pop("bf16").float(), rtol=0.01, atol=0.01)
    assert one.keys() == two.keys() == {
        "y", "x.grad", "weight", "bias", "weight.grad", "bias.grad",
        "running_mean", "running_var", "num_batches_tracked",
    }  # fmt: skip
    for name in one:
        assert torch.allclose(one[name], two[name], rtol=1e-5, atol=1e-6), name


def test_a_run_on_two_ranks_ends_as_one_on_one(one_and_two):
    one, two = (told(folder) for folder in one_and_two)
    assert two["result"]["losses"] == pytest.approx(one["result"]["losses"], rel=1e-3, abs=1e-5)
    assert two["result"]["best"].pop("value") == pytest.approx(one["result"]["best"].pop("value"), rel=1e-3)
    assert two["result"]["best"] == one["result"]["best"]
    assert told(one_and_two[1], rank=1)["result"]["losses"] == two["result"]["losses"]


def test_a_teacher_learns_on_two_ranks_as_on_one(one_and_two):
    one, two = (told(folder)["teacher"] for folder in one_and_two)
    assert two == pytest.approx(one, rel=1e-3)


def test_a_search_scores_its_candidates_on_all_ranks_and_finds_the_same(one_and_two):
    one, two = (told(folder)["searched"] for folder in one_and_two)
    assert told(one_and_two[1], rank=1)["searched"] == two
    assert two == one | {"fitness": pytest.approx(one["fitness"], rel=1e-4)}


def test_ranks_that_score_candidates_of_their_own_find_what_one_finds(one_and_two):
    (front, rows), two = (told(folder)["evolved"] for folder in one_and_two)
    assert [row.rpartition('"fitness"')[0] for row in two[1]] == [row.rpartition('"fitness"')[0] for row in rows]
    assert [json.loads(row)["fitness"] for row in two[1]] == pytest.approx(
        [json.loads(row)["fitness"] for row in rows], rel=0.02
    )
    assert told(one_and_two[1], rank=1)["evolved"][0] == two[0]
    assert two[0][-1][:2] == front[-1][:2]


def test_images_that_another_rank_could_not_read_count_and_are_told(one_and_two):
    for folder in one_and_two:
        assert told(folder)["result"]["skipped_images"] == 1
        assert {Path(e["path"]).name for e in told(folder)["events"] if e["event"] == "skipped"} == {"5.png"}
    assert told(one_and_two[1], rank=1)["result"]["skipped_images"] == 1


def test_only_the_first_rank_writes_and_talks(one_and_two):
    second = told(one_and_two[1], rank=1)
    assert (second["written"], second["events"]) == ([], [])
    assert told(one_and_two[1])["written"]
    files = [sorted(str(p.relative_to(f / "run")) for p in (f / "run").rglob("*")) for f in one_and_two]
    assert files[0] == files[1]
    log = (one_and_two[1] / "run/metrics.jsonl").read_text().splitlines()
    told_once = [(line["step"], line.get("event")) for line in map(json.loads, log)]
    assert told_once == [*((n, None) for n in (1, 2, 3)), (3, "score"), *((n, None) for n in (4, 5, 6)), (6, "score")]
    ranks = [json.loads((folder / "run" / "environment.json").read_text())["ranks"] for folder in one_and_two]
    assert ranks == [1, 2]


def test_a_run_of_two_ranks_is_resumed_by_one(one_and_two):
    losses = [
        distill(resume=folder / "run", overrides=["train.steps=8"], device="cpu").losses for folder in one_and_two
    ]
    assert losses[1] == pytest.approx(losses[0], rel=0.02, abs=1e-4)


def test_ranks_leave_together_when_the_time_is_over(one_and_two):
    assert [told(one_and_two[1], rank)["short"] for rank in (0, 1)] == [["max_hours", 1]] * 2


def test_several_seeds_work_on_several_ranks(one_and_two):
    one, two = (told(folder)["seeds"] for folder in one_and_two)
    assert two == pytest.approx(one, rel=1e-3)
    assert (one_and_two[1] / "seeds" / "seeds.json").read_text() == '{"seeds": [1, 2], "done": [1, 2]}\n'


def test_an_error_is_the_same_on_all_ranks_and_told_once(one_and_two):
    refused = [told(one_and_two[1], rank)["refused"] for rank in (0, 1)]
    assert refused[0] == refused[1]
    assert {name: kind for name, (kind, _, _) in refused[0].items()} == {
        "run": "UsageError",
        "indivisible": "RecipeError",
        "nan": "NumericalError",
    }
    assert all(shared for _, _, shared in refused[0].values())
    assert "is not divisible by 2 ranks" in refused[0]["indivisible"][1]
    assert "loss term 'energy'" in refused[0]["nan"][1]


# -- evaluation ------------------------------------------------------------------------------------------------------


def test_an_evaluation_on_two_ranks_is_that_on_one(one_and_two):
    one, two = (told(folder)["eval"] for folder in one_and_two)
    for part in ("metrics", "teacher", "real"):
        assert two.pop(part) == pytest.approx(one.pop(part), rel=1e-4), part
    assert two == one
    assert (one["images"], one["real_images"], len(one["unreadable"])) == (11, 6, 1)
    assert told(one_and_two[1], rank=1)["eval"]["metrics"] == told(one_and_two[1])["eval"]["metrics"]


def test_latent_vectors_are_shared_among_ranks(one_and_two):
    one, two = (told(folder)["latent"] for folder in one_and_two)
    for part in ("metrics", "teacher"):
        assert two.pop(part) == pytest.approx(one.pop(part), rel=1e-4), part
    assert two == one
    assert (one["images"], one["real_images"]) == (11, 6)


def test_what_picks_the_best_is_the_same_on_two_ranks(one_and_two):
    one, two = (told(folder)["picked"] for folder in one_and_two)
    for by, score in one.items():
        assert two[by].pop("value") == pytest.approx(score.pop("value"), rel=1e-4), by
    assert one == two


# -- processes -------------------------------------------------------------------------------------------------------


def start(*arguments, **options) -> list[subprocess.Popen]:
    """The command on two ranks, as torchrun starts it, whose launcher would end one when the other has failed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    command = [sys.executable, "-m", "vemcompress", *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
    return [
        subprocess.Popen(command, env=ENVIRONMENT | address | {"RANK": rank, "LOCAL_RANK": rank}, **pipes)
        for rank in ("0", "1")
    ]


def new_run(inputs: Path, out: Path, *overrides: str) -> list[subprocess.Popen]:
    settings = [f"--set={override}" for override in (*RUN, *overrides)]
    teacher, data = inputs / "teacher.safetensors", inputs / "images"
    return start("distill", "--teacher", teacher, "--data", data, "--out", out, "--device=cpu", "--quiet", *settings)


def wait_for_checkpoint(processes, run: Path) -> None:
    began = time.time()
    while not (run / "checkpoints" / "latest").exists():
        assert time.time() - began < 60 and all(process.poll() is None for process in processes)
        time.sleep(0.01)


def ended(processes) -> list[tuple[int, str]]:
    """Exit codes, and what was said; none of them hangs."""
    said = [process.communicate(timeout=30)[1] for process in processes]
    return [(process.returncode, text) for process, text in zip(processes, said, strict=True)]


def test_a_killed_rank_stops_the_other_with_a_sentence_and_leaves_a_run_to_resume(inputs, tmp_path):
    processes = new_run(inputs, tmp_path / "run", "train.steps=100000")
    wait_for_checkpoint(processes, tmp_path / "run")
    processes[1].kill()
    (code, said), _ = ended(processes)
    assert code == 1
    assert said.startswith("error: rank 0: another rank has stopped") and len(said.splitlines()) == 1
    assert f"--resume {tmp_path / 'run'}" in said
    step = json.loads((checkpoint.latest(tmp_path / "run" / "checkpoints") / "state.json").read_text())["step"]
    assert distill(resume=tmp_path / "run", overrides=[f"train.steps={step + 1}"], device="cpu").steps == step + 1


def test_a_signal_to_one_rank_stops_both_after_the_same_step(inputs, tmp_path):
    processes = new_run(inputs, tmp_path / "run", "train.steps=100000")
    wait_for_checkpoint(processes, tmp_path / "run")
    processes[1].send_signal(signal.SIGTERM)
    (first, said), second = ended(processes)
    assert (first, second) == (130, (130, ""))
    step = json.loads((checkpoint.latest(tmp_path / "run" / "checkpoints") / "state.json").read_text())["step"]
    assert f"stopped by SIGTERM at step {step}" in said


def test_a_folder_that_is_there_is_refused_once_and_no_rank_waits(inputs, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").touch()
    (first, said), second = ended(new_run(inputs, tmp_path / "run"))
    assert (first, second) == (2, (2, ""))
    assert said.startswith("error: ") and "already exists" in said


def test_the_first_rank_alone_prints_the_result(one_and_two, inputs):
    run = one_and_two[1] / "run"
    first, second = start("eval", run, "--data", inputs / "images", "--metric=ssim_teacher", "--device=cpu", "--json")
    (printed, _), (nothing, _) = (process.communicate(timeout=60) for process in (first, second))
    found = json.loads(printed)
    assert nothing == "" and (first.returncode, second.returncode) == (0, 0)
    alone = vemcompress.evaluate(run, data=inputs / "images", metrics=["ssim_teacher"], device="cpu")
    assert found["metrics"] == pytest.approx(alone.metrics, rel=1e-4)
    assert found["images"] == 8


def test_a_device_is_each_ranks_own(monkeypatch):
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose("auto") == choose("cuda") == torch.device("cuda:1")
    with pytest.raises(UsageError, match="cannot share"):
        choose("cuda:0")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UsageError, match="2 ranks need as many GPUs"):
        choose("cuda")


def test_commands_that_several_ranks_cannot_share_are_refused(monkeypatch, capsys):
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["vemcompress", "recipes", "list"])
    monkeypatch.setattr(os, "_exit", sys.exit)
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        with pytest.raises(SystemExit) as left:
            vemcompress.cli.main()
    finally:
        for number, handler in zip((signal.SIGINT, signal.SIGTERM), before, strict=True):
            signal.signal(number, handler)
    assert left.value.code == 2
    assert "start recipes without it" in capsys.readouterr().err


def test_a_signal_ends_a_process_that_waits_where_python_cannot_hear_it():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        code = (
            "import os, sys, torch.distributed as dist\n"
            "from vemcompress.training import signals\n"
            "signals.PATIENCE = 0.2\n"
            "with signals.Signals(lambda: (print('stuck', flush=True), os._exit(7))).heard():\n"
            "    print('waits', flush=True)\n"
            f"    dist.TCPStore('127.0.0.1', {silent.getsockname()[1]}, 2, False)\n"
        )
        process = subprocess.Popen([sys.executable, "-c", code], env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
        assert process.stdout.readline() == "waits\n"
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=20)[0] == "stuck\n"
        assert process.returncode == 7
