"""Check the pickle inside a PyTorch file before torch runs it.

`torch.load(weights_only=True)` runs no code of the file, but a few bytes of pickle can still make it allocate or
compute without end: `bytearray(10**12)`, a set of that array, a dict key made of tuples that share their parts, a
storage that is larger than the file. This module interprets the opcodes without building anything, which takes
milliseconds.
"""

from __future__ import annotations

import io
import pickletools
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field

from bike_cli.errors import shorten

MAX_PICKLE_BYTES = 2**23  # 8 MiB; a model of 2,000 tensors with its optimizer takes 1 MiB
MAX_OPCODES = 10**6  # the same model has 200,000
MAX_WORK = 10**7  # objects that are hashed or copied
MAX_DEPTH = 100  # of nested tuples; hashing recurses in C without a check
LEGACY_PICKLES = 5  # magic number, protocol, system, content, keys of the storages

# The functions that torch.load(weights_only=True) allows and that state dicts need.
COPYING = {"collections OrderedDict", "collections Counter", "torch Size", "_codecs encode"}
COPYING |= {"yacs.config CfgNode"}  # read as a dictionary, see `weights.INERT`
REBUILDING = {"torch._utils _rebuild_tensor", "torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_tensor_v3"}
REBUILDING |= {"torch._utils _rebuild_parameter", "torch._utils _rebuild_parameter_with_state"}
REBUILDING |= {"torch.nn.parameter Parameter", "torch device"}
INDIRECT = "torch._tensor _rebuild_from_type_v2"  # (function, type, arguments, state)

# Opcodes of torch's unpickler, by their effect on its stack; all others are refused.
PUSH = {"NONE", "NEWFALSE", "NEWTRUE", "BINUNICODE", "SHORT_BINSTRING", "BINFLOAT", "LONG1"}
PUSH |= {"EMPTY_LIST", "EMPTY_DICT", "EMPTY_SET", "BININT", "BININT1", "BININT2"}
TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
GET, PUT = {"BINGET", "LONG_BINGET"}, {"BINPUT", "LONG_BINPUT"}


class UnsafePickleError(ValueError):
    """A pickle that would take too much time or memory, or that holds more than dense tensors need."""


@dataclass(eq=False, slots=True)
class _Value:
    """What is known about an object that the pickle would build.

    Args:
        size: number of objects that hashing or copying it visits.
        is_built: made by a call, such as a tensor; iterating over it may never end.
    """

    size: int = 1
    depth: int = 0
    number: int | None = None
    name: str | None = None
    parts: list[_Value] = field(default_factory=list)
    is_built: bool = False


def check_pickle(content: bytes, file_bytes: int, *, pickles: int = 1) -> None:
    """Raise if unpickling would take far more time or memory than the size of the file justifies.

    Args:
        content: begins with the pickle; at most `MAX_PICKLE_BYTES` of it are read.
        file_bytes: the size of the whole file; no storage can hold more numbers.
        pickles: number of pickles in sequence; `LEGACY_PICKLES` in a file that is not a ZIP archive.
    Raises:
        UnsafePickleError: see its description. A malformed pickle is not an error here: torch refuses it.
    """
    stream = io.BytesIO(content[:MAX_PICKLE_BYTES])
    machine = _Machine(file_bytes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about escape sequences in names
        for _ in range(pickles):
            if not machine.run(_opcodes(stream)):
                return


def _opcodes(stream: io.BytesIO) -> Iterator[tuple[str, object]]:
    try:
        for opcode, argument, _ in pickletools.genops(stream):
            yield opcode.name, argument
    except (ValueError, IndexError, OverflowError):  # cut short or malformed, which torch detects too
        if stream.tell() >= MAX_PICKLE_BYTES:
            raise UnsafePickleError(f"more than {MAX_PICKLE_BYTES // 2**20} MiB of Python objects") from None
        yield "malformed", None


class _Machine:
    """The stack and memo of an unpickler, with sizes in place of objects."""

    def __init__(self, file_bytes: int) -> None:
        self._file_bytes, self._work, self._opcodes = file_bytes, 0, 0
        self._stack: list[_Value] = []
        self._marks: list[list[_Value]] = []
        self._memo: dict[object, _Value] = {}

    def run(self, opcodes: Iterator[tuple[str, object]]) -> bool:
        """Return whether the pickle ends properly; False: torch will refuse it."""
        self._stack, self._marks, self._memo = [], [], {}
        try:
            for name, argument in opcodes:
                self._opcodes += 1
                if self._opcodes > MAX_OPCODES:
                    raise UnsafePickleError(f"more than {MAX_OPCODES:,} Python objects")
                if name == "STOP":
                    return True
                if name == "malformed":
                    return False
                self._step(name, argument)
        except (IndexError, KeyError):  # an empty stack, an unknown place of the memo
            return False
        return False

    def _step(self, name: str, argument: object) -> None:
        stack = self._stack
        if name in PUSH:
            stack.append(_Value(number=argument if isinstance(argument, int) else None))
        elif name in TUPLES:
            stack.append(self._tuple([stack.pop() for _ in range(TUPLES[name])][::-1]))
        elif name == "MARK":
            self._marks.append(stack)
            self._stack = []
        elif name == "TUPLE":
            parts = self._pop_mark()
            self._stack.append(self._tuple(parts))
        elif name in GET:
            stack.append(self._memo[argument])
        elif name in PUT:
            self._memo[argument] = stack[-1]
        elif name == "GLOBAL":
            stack.append(_Value(name=str(argument)))
        elif name != "PROTO":
            self._combine(name)

    def _combine(self, name: str) -> None:
        stack = self._stack
        if name in ("APPEND", "SETITEM"):
            count = {"APPEND": 1, "SETITEM": 2}[name]
            items = [stack.pop() for _ in range(count)][::-1]
            self._add(stack[-1], items, has_keys=count == 2)
        elif name in ("APPENDS", "SETITEMS"):
            items = self._pop_mark()
            self._add(self._stack[-1], items, has_keys=name == "SETITEMS")
        elif name == "BINPERSID":
            stack.append(self._storage(stack.pop()))
        elif name in ("REDUCE", "NEWOBJ"):
            arguments, function = stack.pop(), stack.pop()
            stack.append(self._call(function, arguments))
        elif name == "BUILD":
            self._spend(stack.pop().size)
        else:
            # Today's torch refuses these itself; a later version may support some.
            raise UnsafePickleError(f"the pickle opcode {name}, which no state dict needs")

    def _pop_mark(self) -> list[_Value]:
        items, self._stack = self._stack, self._marks.pop()
        return items

    def _tuple(self, parts: list[_Value]) -> _Value:
        depth = 1 + max((part.depth for part in parts), default=0)
        if depth > MAX_DEPTH:
            raise UnsafePickleError(f"tuples that are nested more than {MAX_DEPTH} deep")
        size = 1 + sum(part.size for part in parts)
        return _Value(size, depth, parts=parts, is_built=any(part.is_built for part in parts))

    def _add(self, container: _Value, items: list[_Value], *, has_keys: bool) -> None:
        container.size += len(items)
        if has_keys:
            self._spend(sum(key.size for key in items[::2]))

    def _storage(self, identity: _Value) -> _Value:
        self._spend(identity.size)
        for part in identity.parts:
            if part.number is not None and part.number > self._file_bytes:
                raise UnsafePickleError(f"a tensor of {part.number:,} numbers in a file of {self._file_bytes:,} bytes")
        return _Value(is_built=True)

    def _call(self, function: _Value, arguments: _Value) -> _Value:
        name = function.name or ""
        if name == INDIRECT and len(arguments.parts) == 4:
            return self._call(arguments.parts[0], arguments.parts[2])
        if name in COPYING:
            if arguments.is_built:
                raise UnsafePickleError(f"a {name.split()[-1]} of something that is not a list")
            size = sum(part.size for part in arguments.parts)
            self._spend(size)
            return _Value(size=1 + size)
        if name not in REBUILDING:
            # Torch allows some more, which fill memory or make tensors that are not dense.
            what = shorten(name.replace(" ", ".")) or "a call"
            raise UnsafePickleError(f"{what}, which no dense tensor needs and bike never runs")
        return _Value(is_built=True)

    def _spend(self, work: int) -> None:
        self._work += work
        if self._work > MAX_WORK:
            raise UnsafePickleError(f"more than {MAX_WORK:,} objects inside one another")
