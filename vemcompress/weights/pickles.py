"""Finds out what a PyTorch pickle would build, without building or executing anything.

`torch.load(weights_only=True)` executes no code, but it allocates what a file claims: 200 bytes can claim a tensor of
64 GiB. So the pickle is first run on a machine that only knows plain values, storages and strided tensors as
*descriptions*. Their sizes are checked against the file before torch opens it.
"""

import pickletools
import re
from dataclasses import dataclass
from typing import Any, NoReturn

from vemcompress.weights.plan import DAMAGED, STORAGES, Forbidden, Plan, Refused, Storage, StridedTensor, check_tensor

_DTYPES = {"float16", "bfloat16", "float32", "float64", "int8", "uint8", "int16", "int32", "int64", "bool"}
_REBUILD = {"torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2"}
_PARAMETER = "torch._utils._rebuild_parameter"
_PLAIN = {"collections.OrderedDict", "collections.Counter", "torch.Size", "torch.device", "_codecs.encode"}
NAMESPACE = "argparse.Namespace"
# Numbers that trainers store beside the weights. None of these is ever called: see `STAND_INS`.
_DEFAULTDICT = "collections.defaultdict"
_FACTORIES = {f"__builtin__.{name}" for name in ("bool", "dict", "float", "int", "list", "long")}
_FACTORIES |= {f"builtins.{name}" for name in ("bool", "dict", "float", "int", "list")}
_DTYPE, _NDARRAY = "numpy.dtype", "numpy.ndarray"
_SCALARS = {f"numpy.{core}.multiarray.scalar" for core in ("core", "_core")}
_ARRAYS = {f"numpy.{core}.multiarray._reconstruct" for core in ("core", "_core")}
_KIND = re.compile(r"[<>|=]?[biufcSU]\d{0,9}")  # of a dtype: numbers and text; "O" would allow any object
_NO_BYTES = {"__builtin__.bytes", "builtins.bytes"}  # called without arguments for an empty array
_INERT = {_DTYPE, _NDARRAY, *_FACTORIES, *_SCALARS, *_ARRAYS, *_NO_BYTES}
_GLOBALS = {f"torch.{name}" for name in STORAGES} | {f"torch.{name}" for name in _DTYPES}
_GLOBALS |= _REBUILD | _PLAIN | {_PARAMETER, NAMESPACE, _DEFAULTDICT} | _INERT

# A generator's pickle has a few hundred kB; a larger one is an attempt to waste the reader's time.
MAX_BYTES = 32 << 20

_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}
_FOLDS = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_LITERALS = {"BININT", "BININT1", "BININT2", "BINFLOAT", "LONG1", "BINUNICODE", "SHORT_BINSTRING"}


@dataclass(frozen=True)
class Global:
    name: str


class Opaque:
    """A value whose content does not matter here (a Namespace, a device, bytes)."""


class Inert(Opaque):
    """A NumPy scalar, array or dtype, here and in what torch loads: accepts any arguments and stores nothing."""

    __slots__ = ()

    def __init__(self, *_):
        pass

    def __setstate__(self, state) -> None:
        pass


class _Dtype(Inert):
    __slots__ = ()


def _empty(*_) -> dict:
    """Replaces a defaultdict by a plain dict without its factory."""
    return {}


# What `torch.load` uses instead of these names: neither NumPy's functions nor a factory can be reached.
STAND_INS = [(_empty, _DEFAULTDICT), *((Inert, name) for name in sorted(_INERT))]


def read_plan(stream) -> Plan:
    """The plan of the pickle at the position of `stream` (read, readline, tell), which is left just after it. Raises
    Forbidden or Refused.
    """
    machine = _Machine()
    try:
        start = stream.tell()
        for opcode, argument, position in pickletools.genops(stream):
            if position - start > MAX_BYTES:
                raise Refused(f"has a pickle longer than {MAX_BYTES >> 20} MB: it is not a weight file")
            if opcode.name == "STOP":
                machine.plan.value = machine.stack.pop()
                return machine.plan
            machine.step(opcode.name, argument)
    except (Refused, MemoryError):
        raise
    except Exception as error:  # a damaged opcode stream: short stack, unknown memo, bad text
        raise Refused(DAMAGED) from error
    raise Refused(DAMAGED)


class _Machine:
    """The subset of pickle that torch's weights-only unpickler accepts, on descriptions instead of objects."""

    def __init__(self):
        self.stack: list = []
        self.marks: list[list] = []
        self.memo: dict[int, Any] = {}
        self.plan = Plan()
        self.pairs = 0

    def step(self, op: str, argument: Any) -> None:
        if op in _LITERALS:
            self.stack.append(argument)
        elif op in _CONSTANTS:
            self.stack.append(_CONSTANTS[op])
        elif op in _EMPTY:
            self.stack.append(_EMPTY[op]())
        elif op in _FOLDS:
            self._fold(_FOLDS[op])
        elif op in ("BINPUT", "LONG_BINPUT"):
            self.memo[argument] = self.stack[-1]
        elif op in ("BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[argument])
        elif op != "PROTO":
            handler = getattr(self, f"_{op.lower()}", None)
            if handler is None:
                raise Refused(f"uses the pickle instruction {op}, which weights do not need: save a plain state dict")
            handler(argument)

    def _mark(self, _) -> None:
        self.marks.append(self.stack)
        self.stack = []

    def _pop_mark(self) -> list:
        items, self.stack = self.stack, self.marks.pop()
        return items

    def _tuple(self, _) -> None:
        items = self._pop_mark()
        self.stack.append(tuple(items))

    def _fold(self, count: int) -> None:
        items = tuple(self.stack[-count:])
        if len(items) != count:
            raise Refused(DAMAGED)
        self.stack[-count:] = [items]

    def _append(self, _) -> None:
        item = self.stack.pop()
        _expect(self.stack[-1], list).append(item)

    def _appends(self, _) -> None:
        items = self._pop_mark()
        _expect(self.stack[-1], list).extend(items)

    def _setitem(self, _) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        _set(self.stack[-1], key, value)

    def _setitems(self, _) -> None:
        items = self._pop_mark()
        for key, value in zip(items[::2], items[1::2], strict=True):
            _set(self.stack[-1], key, value)

    def _global(self, argument: str) -> None:
        name = argument.replace(" ", ".", 1)
        if name not in _GLOBALS:
            _forbid(name)
        self.stack.append(Global(name))

    def _newobj(self, _) -> None:
        arguments, cls = self.stack.pop(), self.stack.pop()
        if cls != Global(NAMESPACE) or arguments != ():
            raise Forbidden("it makes an object other than a tensor")
        self.stack.append(Opaque())

    def _build(self, _) -> None:
        state = self.stack.pop()
        if type(self.stack[-1]) in (Inert, _Dtype):  # the stand-in ignores any state
            return
        # An OrderedDict stores its `_metadata` this way, a Namespace its fields; a tensor would be *resized* by it.
        if not isinstance(self.stack[-1], dict | Opaque) or not isinstance(state, dict):
            raise Forbidden("it changes an object's inside")

    def _binpersid(self, _) -> None:
        identity = _expect(self.stack.pop(), tuple)
        if len(identity) == 6 and identity[5] is None:  # legacy format: the sixth is for views, unused since 2018
            identity = identity[:5]
        tag, kind, key, _, numel = identity
        kind = _expect(kind, Global).name.removeprefix("torch.")
        if tag != "storage" or kind not in STORAGES or type(key) is not str or type(numel) is not int or numel < 0:
            raise Refused(DAMAGED)
        storage = Storage(key, kind, numel)
        if self.plan.storages.setdefault(key, storage) != storage:
            raise Refused("has tensors that disagree about their shared storage: it is damaged or hostile")
        self.stack.append(storage)

    def _reduce(self, _) -> None:
        arguments, name = _expect(self.stack.pop(), tuple), _expect(self.stack.pop(), Global).name
        if name in _REBUILD:
            self.stack.append(self._tensor(*arguments[:4]))
        elif name == _PARAMETER:
            self.stack.append(_expect(arguments[0], StridedTensor))
        elif name == "collections.OrderedDict":
            self.stack.append(self._ordered_dict(*arguments))
        elif name == _DEFAULTDICT:
            self.stack.append(_default_dict(*arguments))
        elif name == _DTYPE:
            self.stack.append(_dtype(*arguments))
        elif name in _SCALARS | _ARRAYS:
            _check_numpy_call(name, arguments)
            self.stack.append(Inert())
        elif name in _NO_BYTES and not arguments:
            self.stack.append(Opaque())
        elif name in _PLAIN:
            _check_plain_call(name, arguments)
            self.stack.append(Opaque())
        else:
            raise Forbidden(f"it calls '{name}'")

    def _ordered_dict(self, pairs: Any = ()) -> dict:
        """`OrderedDict()`; Python 2 wrote the pairs as its argument."""
        self.pairs += len(pairs)
        if self.pairs > MAX_BYTES // 16:  # the same list may be referenced again and again
            raise Refused(DAMAGED)
        result: dict = {}
        for key, value in pairs:
            _set(result, key, value)
        return result

    def _tensor(self, storage, offset, size, stride) -> StridedTensor:
        if max(len(size), len(stride)) > 8:
            raise Refused("has a tensor of more than 8 dimensions, which no weight has: save a plain state dict")
        for number in (offset, *_expect(size, tuple), *_expect(stride, tuple)):
            if type(number) is not int:
                raise Refused(DAMAGED)
        tensor = StridedTensor(_expect(storage, Storage), offset, size, stride)
        check_tensor(tensor)
        self.plan.tensors.append(tensor)
        return tensor


def _expect(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise Refused(DAMAGED)
    return value


def _set(target: Any, key: Any, value: Any) -> None:
    # Plain keys only: hashing a deeply shared tuple takes exponential time.
    if not isinstance(target, dict | Opaque) or not isinstance(key, str | int | float | None):
        raise Refused(DAMAGED)
    if isinstance(target, dict):
        target[key] = value


def _default_dict(factory: Any = None) -> dict:
    if factory is not None and not (isinstance(factory, Global) and factory.name in _FACTORIES):
        raise Forbidden("it has a defaultdict that would call something")
    return {}


def _dtype(kind: Any, *flags: Any) -> _Dtype:
    if type(kind) is not str or not _KIND.fullmatch(kind) or any(type(flag) not in (bool, int) for flag in flags):
        raise Forbidden(f"it has NumPy values of type {kind!r:.20}, which are neither numbers nor text")
    return _Dtype()


def _check_numpy_call(name: str, arguments: tuple) -> None:
    """Allow only the forms that NumPy itself writes."""
    first, *rest = arguments
    if name in _SCALARS:
        fits = type(first) is _Dtype and len(rest) == 1 and type(rest[0]) in (Opaque, bytes, str)
    else:
        fits = first == Global(_NDARRAY) and len(rest) == 2 and rest[0] == (0,)
    if not fits:
        raise Forbidden("it makes a NumPy value in an unusual way")


def _check_plain_call(name: str, arguments: tuple) -> None:
    """Allow only the forms that torch.save itself writes."""
    if name == "_codecs.encode" and not (len(arguments) == 2 and arguments[1] == "latin1"):
        raise Forbidden("it encodes text in an unusual way")
    if name == "collections.Counter" and not all(isinstance(a, dict) for a in arguments):
        raise Forbidden("it counts something other than a dict")
    if name == "torch.Size" and not all(len(a) <= 8 and all(type(n) is int for n in a) for a in arguments):
        raise Forbidden("it has a size that is not made of numbers")
    if name == "torch.device" and not all(type(a) in (str, int) for a in arguments):
        raise Forbidden("it names a device in an unusual way")


def _forbid(name: str) -> NoReturn:
    if "sparse" in name or "qtensor" in name or "quint" in name.lower() or "qint" in name.lower():
        raise Refused(f"holds sparse or quantised tensors ('{name}'): save it as plain float32")
    raise Forbidden(f"it names '{name}'")
