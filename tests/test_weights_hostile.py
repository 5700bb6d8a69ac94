"""Files by strangers: every one is refused with InputError, executes nothing and allocates nothing."""

import argparse
import collections
import io
import json
import os
import pickle
import resource
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from vemcompress.errors import InputError
from vemcompress.weights.loading import load
from vemcompress.weights.pickles import read_plan
from vemcompress.weights.plan import Refused
from vemcompress.weights.safe import read_state

GIB = 1 << 30


class Evil:
    """Unpickling it makes a file: the proof that code ran."""

    def __init__(self, proof: Path):
        self.proof = proof

    def __reduce__(self):
        return os.mkdir, (str(self.proof),)


def saved(value, **options) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


def tensors(count: int = 3) -> dict:
    return {f"layer{i}.weight": torch.full((4, 4), float(i)) for i in range(count)}


def rezip(data: bytes, *, change=lambda name, body: body, method: int = zipfile.ZIP_STORED, extra="") -> bytes:
    """The same archive with changed members and an extra one."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w", method) as new:
        for info in old.infolist():
            body = change(info.filename, old.read(info))
            if body is not None:
                new.writestr(info.filename, body)
        if extra:
            new.writestr(extra, b"")
    return buffer.getvalue()


def pickled(data: bytes, old: bytes, new: bytes) -> bytes:
    """The archive with `old` replaced in its pickle."""

    def change(name: str, body: bytes) -> bytes:
        if not name.endswith("data.pkl"):
            return body
        assert old in body
        return body.replace(old, new)

    return rezip(data, change=change)


def long1(number: int) -> bytes:
    body = pickle.encode_long(number)
    return b"\x8a" + bytes([len(body)]) + body


HUGE = long1(16 * GIB)  # elements of 4 bytes
ONE = {"w": torch.ones(77, 1)}


def safetensors(header: dict | bytes, body: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


def entry(shape, offsets, dtype="F32") -> dict:
    return {"w": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}


def legacy(value) -> bytes:
    return saved(value, _use_new_zipfile_serialization=False)


def nvidia() -> bytes:
    return pickle.dumps({"G_ema": "torch_utils.persistence _reconstruct_persistent_obj import os"}, protocol=4)


BYTES = {
    "empty": (b"", "empty"),
    "one byte": (b"\x80", "."),
    "text": (b"not weights\n" * 50, "text file"),
    "web page": (b"<!DOCTYPE html><html>404</html>", "web page"),
    "git lfs pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "git lfs pull"),
    "gzip": (b"\x1f\x8b\x08\0" + bytes(100), "unpack"),
    "noise": (bytes(range(256)) * 20, "not a weight file"),
    "bare pickle": (pickle.dumps({"w": [1.0]}), "bare pickle"),
    "NVIDIA pickle": (nvidia(), "NVIDIA"),
    "truncated zip": (saved(tensors())[:-200], "cut off"),
    "zip with a tail": (saved(tensors()) + b"tail", "cut off"),
    "zip of text": (rezip(saved(tensors()), change=lambda n, b: b"hello"), "."),
    "another zip": (rezip(saved(tensors()), change=lambda n, b: None if "pkl" in n else b), "torch.save"),
    "compressed zip": (rezip(saved(tensors()), method=zipfile.ZIP_DEFLATED), "compressed"),
    "TorchScript": (rezip(saved(tensors()), change=lambda n, b: b, extra="archive/constants.pkl"), "TorchScript"),
    "missing storage": (rezip(saved(tensors()), change=lambda n, b: None if n.endswith("data/1") else b), "holds 0"),
    "short storage": (rezip(saved(tensors()), change=lambda n, b: b[:8] if n.endswith("data/1") else b), "holds 8"),
    "huge storage": (pickled(saved(ONE), b"K\x4d", HUGE), "claims"),
    "huge tensor of a small storage": (pickled(saved(ONE), b"K\x4dK\x01\x86", HUGE + b"K\x01\x86"), "more elements"),
    "expanded tensor": (saved({"w": torch.ones(1).expand(1 << 34)}), "overlapping"),
    "negative size": (pickled(saved(ONE), b"K\x4dK\x01\x86", long1(-5) + b"K\x01\x86"), "negative"),
    "one tensor, many names": (saved({f"w{i}": t for t in [torch.ones(9999)] for i in range(99)}), "many times"),
    "one storage, many tensors": (saved({f"w{i}": t[:] for t in [torch.ones(9999)] for i in range(99)}), "many times"),
    "bytearray bomb": (
        pickled(saved([bytes(5)]), b"c_codecs\nencode\n", b"c__builtin__\nbytearray\n"),
        "could execute",
    ),
    "tensor type": (pickled(saved(ONE), b"ctorch._utils\n_rebuild_tensor_v2\n", b"ctorch\nTensor\n"), "could execute"),
    "sparse": (saved({"w": torch.eye(3).to_sparse()}), "sparse"),
    "quantised": (saved({"w": torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)}), "quantised|could"),
    "complex": (saved({"w": torch.ones(3, dtype=torch.complex64)}), "."),
    "numpy": (saved({"w": torch.ones(3).numpy()}), "NumPy values: save torch tensors"),
    "a list": (saved([torch.ones(3)]), "holds a list"),
    "no tensors": (saved({"epoch": 3, "lr": 0.1}), "'epoch', 'lr'"),
    "nothing": (saved({}), "nothing"),
    "nested for ever": (
        saved({"model": {"model": {"model": {"model": {"model": {"model": {"model": {"model": ONE}}}}}}}}),
        "nested",
    ),
    "infinite": (saved({"w": torch.tensor([1.0, float("inf")])}), "infinite"),
    "truncated legacy": (legacy(tensors())[:-20], "cut off"),
    "huge legacy storage": (legacy(ONE).replace(b"K\x4dN", HUGE + b"N"), "claims"),
    "legacy with other lengths": (legacy(ONE).replace(struct.pack("<q", 77), struct.pack("<q", 76)), "claims"),
    "header too long": (safetensors({}, length=1 << 60), "claims"),
    "header of noise": (safetensors(b"{\xff\xfe}"), "damaged"),
    "deep header": (safetensors(b"{" + b'"a":[' * 100_000), "damaged"),
    "64 GiB in the header": (safetensors(entry([4, 4 * GIB], [0, 64 * GIB])), "claims"),
    "shape over offsets": (safetensors(entry([1 << 40], [0, 4]), bytes(4)), "claims"),
    "negative offsets": (safetensors(entry([1], [-4, 0]), bytes(4)), "claims"),
    "8-bit float": (safetensors(entry([4], [0, 4], "F8_E4M3"), bytes(4)), "F8_E4M3"),
    "header without fields": (safetensors({"w": {}}), "damaged"),
    "header is a list": (safetensors(b"{}", b"x"), "."),
    "no weights": (save({}), "no tensors"),
}


@pytest.fixture(autouse=True)
def _stay_in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("case", BYTES)
def test_hostile_bytes_are_refused_and_allocate_nothing(case, tmp_path):
    data, said = BYTES[case]
    path = tmp_path / "g.pth"
    path.write_bytes(data)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match=said) as caught:
        load(path)
    message = str(caught.value)
    assert message.startswith(str(path)) and "\n" not in message and len(message) < 600
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 << 10  # kB


@pytest.mark.parametrize("form", ["zip", "legacy", "nested", "bare", "text"])
def test_code_in_a_pickle_is_not_executed(form, tmp_path):
    proof, path = tmp_path / "proof", tmp_path / "g.pth"
    evil = Evil(proof)
    path.write_bytes(
        {
            "zip": lambda: saved(evil),
            "legacy": lambda: legacy(evil),
            "nested": lambda: saved(tensors() | {"args": evil}),
            "bare": lambda: pickle.dumps(evil, protocol=4),
            "text": lambda: pickle.dumps(evil, protocol=0),
        }[form]()
    )
    advice = r"not weights: give a \.safetensors" if form == "text" else "if you trust it"
    with pytest.raises(InputError, match=advice):
        load(path)
    assert not proof.exists()


NUMPY = {
    "array of objects": lambda evil: np.array([evil], dtype=object),
    "array with a field of objects": lambda evil: np.zeros(1, dtype=[("a", "O")]),
    "dtype of objects": lambda evil: np.dtype(object),
    "defaultdict that calls": lambda evil: collections.defaultdict(os.getcwd),
    "defaultdict of a class": lambda evil: collections.defaultdict(Evil),
    "defaultdict with code in it": lambda evil: collections.defaultdict(list, a=evil),
    "datetime": lambda evil: np.datetime64("2020-01-01"),
}


@pytest.mark.parametrize("case", NUMPY)
@pytest.mark.parametrize("form", [saved, legacy])
def test_numpy_and_defaultdicts_that_hold_or_call_objects_are_refused(case, form, tmp_path):
    proof, path = tmp_path / "proof", tmp_path / "g.pth"
    path.write_bytes(form({"netG": tensors(), "more": NUMPY[case](Evil(proof))}))
    with pytest.raises(InputError, match="could execute code"):
        load(path)
    assert not proof.exists()


DTYPE = "cnumpy\ndtype\nX\x02\0\0\0{}\x85R"
SCALAR = "cnumpy._core.multiarray\nscalar\n"
RECONSTRUCT = "cnumpy._core.multiarray\n_reconstruct\n"
TRICKS = {
    "object scalar": SCALAR + DTYPE.format("O8") + "X\x01\0\0\0a\x86R",
    "scalar without dtype": SCALAR + "X\x02\0\0\0f8X\x01\0\0\0a\x86R",
    "scalar of a dict": SCALAR + DTYPE.format("f8") + "}\x86R",
    "scalar of a callable": SCALAR + DTYPE.format("f8") + "c__builtin__\nlist\n\x86R",
    "array of another class": RECONSTRUCT + "c__builtin__\nlist\nK\0\x85X\x01\0\0\0b\x87R",
    "huge array": RECONSTRUCT + "cnumpy\nndarray\nJ\xff\xff\xff\x7f\x85X\x01\0\0\0b\x87R",
    "called factory": "c__builtin__\nlist\n)R",
    "called class": "cnumpy\nndarray\n)R",
    "new object": "cnumpy\nndarray\n)\x81",
    "bytes of a number": "c__builtin__\nbytes\nJ\xff\xff\xff\x7f\x85R",
    "result called": DTYPE.format("f8") + ")R",
    "factory called through a defaultdict": "ccollections\ndefaultdict\nccollections\nOrderedDict\n\x85R",
    "nested call": "ccollections\ndefaultdict\ncposix\ngetcwd\n)R\x85R",
    "state of a class": "cnumpy\nndarray\n}b",
    "state of a factory": "c__builtin__\nlist\n}b",
}


@pytest.mark.parametrize("trick", TRICKS)
def test_calls_that_numpy_would_not_write_are_refused(trick):
    with pytest.raises(Refused):
        read_plan(io.BytesIO(b"\x80\x02" + TRICKS[trick].encode("latin1") + b"."))


@pytest.mark.parametrize("form", [saved, legacy])
def test_numbers_of_numpy_beside_the_weights_are_left_alone(form, tmp_path):
    kept = collections.defaultdict(list, losses=[np.float32(1)])
    numbers = {"fid": np.float64(3), "n": np.int64(2), "ok": np.bool_(True), "name": np.str_("a"), "kept": kept}
    numbers |= {
        "dtype": np.dtype("float32"),
        "array": np.ones((2, 3)),
        "empty": np.zeros(0),
        "rng": np.random.get_state(),
    }
    numbers |= {"counts": collections.defaultdict(int), "nested": [{"best": np.float64(1)}]}
    (tmp_path / "g.pth").write_bytes(form({"netG": tensors(), **numbers}))
    before = set(torch.serialization.get_safe_globals())
    assert set(read_state(tmp_path / "g.pth").tensors) == set(tensors())
    assert set(torch.serialization.get_safe_globals()) == before


def test_networks_that_are_named_again_and_again_cost_no_time(tmp_path):
    inner: dict = {"w": 1}
    for _ in range(30):
        inner = {"a": inner, "b": inner, "c": [inner]}
    (tmp_path / "g.pth").write_bytes(saved({"netG": tensors(), "more": inner, **{f"x{i}": inner for i in range(999)}}))
    assert read_state(tmp_path / "g.pth").taken == ("netG",)


def test_refusal_names_what_the_pickle_would_call(tmp_path):
    (tmp_path / "g.pth").write_bytes(saved(Evil(tmp_path / "proof")))
    with pytest.raises(InputError, match=r"could execute code \(it names '\w+\.mkdir'\)"):
        load(tmp_path / "g.pth")


def test_a_whole_module_is_refused(tmp_path):
    torch.save(torch.nn.Conv2d(1, 1, 1), tmp_path / "g.pth")
    with pytest.raises(InputError, match=r"torch\.nn\.modules\.conv\.Conv2d"):
        load(tmp_path / "g.pth")


def test_training_arguments_are_dropped_and_the_weights_kept(tmp_path):
    arguments = argparse.Namespace(size=256, paths=["a"], nested=argparse.Namespace(x=1))
    torch.save({"g_ema": tensors(), "args": arguments, "ada_aug_p": 0.1}, tmp_path / "g.pt")
    state = read_state(tmp_path / "g.pt")
    assert set(state.tensors) == set(tensors()) and state.taken == ("g_ema",)
    assert argparse.Namespace not in torch.serialization.get_safe_globals()


def test_ordered_dicts_of_python_2_are_understood():
    body = b"\x80\x02ccollections\nOrderedDict\n](](U\x01aK\x01e](U\x01bK\x02ee\x85R."
    assert read_plan(io.BytesIO(body)).value == {"a": 1, "b": 2}


@pytest.mark.parametrize("what", ["absent", "folder", "fifo", "nul", "run without a student"])
def test_what_is_not_a_file_is_named(what, tmp_path):
    path: Path | str = tmp_path / "g.pth"
    if what == "folder":
        path.mkdir()
    elif what == "fifo":
        os.mkfifo(path)
    elif what == "nul":
        path = f"{tmp_path}/a\0b"
    with pytest.raises(InputError, match=r"no such file|no student|regular|null"):
        load(path)


@pytest.mark.parametrize("method", ["is_dir", "exists", "open"])
def test_what_one_may_not_read_is_an_input_error(method, tmp_path, monkeypatch):
    (tmp_path / "g.safetensors").write_bytes(save(tensors()))

    def forbidden(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os if method == "open" else Path, method, forbidden)
    for path in (tmp_path, tmp_path / "g.safetensors"):
        unread = method == "is_dir" or path.suffix
        known = r"cannot be read \(Permission denied\): check" if unread else r"give one of its files: g\.safetensors"
        with pytest.raises(InputError, match=known):
            load(path)


def test_weights_survive_a_change_of_the_file(tmp_path):
    path = tmp_path / "g.pt"
    torch.save(tensors(), path)
    state = read_state(path)
    with path.open("r+b") as file:
        file.write(bytes(path.stat().st_size))
    os.truncate(path, 0)
    assert state.tensors["layer2.weight"].eq(2).all()


VALID = [saved(tensors()), legacy(tensors()), save(tensors())]
FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def reads_or_refuses(data: bytes, path: Path) -> None:
    path.write_bytes(data)
    try:
        state = read_state(path)
    except InputError as error:
        assert "\n" not in str(error)
    else:
        assert sum(t.nbytes for t in state.tensors.values()) <= 8 * len(data)


@FUZZ
@given(
    head=st.sampled_from([b"", b"PK\x03\x04", b"\x80\x02\x8a\x0a", b"\x80\x04", b"\x08\0\0\0\0\0\0\0{"]),
    tail=st.binary(),
)
def test_random_bytes_are_only_ever_refused(head, tail, tmp_path):
    path = tmp_path / "g"
    path.write_bytes(head + tail)
    with pytest.raises(InputError):
        read_state(path)


@FUZZ
@given(data=st.data(), original=st.sampled_from(VALID))
def test_mutated_files_are_read_or_refused(data, original, tmp_path):
    changed = bytearray(original)
    for _ in range(data.draw(st.integers(1, 6))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    reads_or_refuses(bytes(changed[: data.draw(st.integers(len(changed) - 40, len(changed)))]), tmp_path / "g")


@FUZZ
@given(data=st.data())
def test_mutated_pickles_inside_sound_archives_are_read_or_refused(data, tmp_path):
    def change(name: str, body: bytes) -> bytes:
        if not name.endswith("data.pkl"):
            return body
        mutated = bytearray(body)
        for _ in range(data.draw(st.integers(1, 4))):
            mutated[data.draw(st.integers(0, len(mutated) - 1))] = data.draw(st.integers(0, 255))
        return bytes(mutated)

    reads_or_refuses(rezip(VALID[0], change=change), tmp_path / "g")
