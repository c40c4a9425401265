"""Calls between two processes that do not trust each other: the grader and a student's code in its sandbox.

Both ends are a `Peer` on a pair of pipes. A peer calls a function of the other end and, until the result comes, serves
the calls that the other end makes meanwhile. What travels is JSON, and arrays as npy, never pickled: None, booleans,
numbers, strings, lists, tuples, dictionaries, tensors, and references to functions, which arrive as `Remote`. A few
objects arrive as real ones at the student's end (see `course.loans`); of another, methods that METHODS names arrive, on
an object of a class of that name.

Gradients cross as well. A tensor that requires grad arrives as the output of a `Bridge`, whose backward pass asks its
owner for the gradients of the tensors that the owner made it from, so that either end can differentiate what the other
computed.

The other end may be hostile: it can send anything at any time, or nothing, and read or not. So nothing is believed of a
message, every wait has an end, and what has to be kept has a limit.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import re
import select
import struct
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from course import loans, transforms
from fmlab.schedules import Schedule

METHODS = ("alpha", "beta", "alpha_dot", "beta_dot", "log_snr")  # of a schedule that a student's process sends
MOST_BYTES = 64 * 2**20  # of one message
MOST_TEXT = 10 * 2**20  # of one message without its arrays
MOST_ITEMS = 2**20  # in one message: each takes some hundred bytes once it is parsed
MOST_ARRAYS = 2**16  # in one message
MOST_NUMBERS = 2**20  # in an array of NumPy, which a check takes apart number by number
MOST_KEPT = 2**28  # bytes of tensors that are kept because a gradient may be asked for
OF_A_NODE, OF_AN_EDGE = 2**12, 2**7  # bytes that keeping any tensor takes beside its own, and for each it is made from
MOST_ASKED = 2**29  # bytes that a grader is sent during one call, which may keep all of it
LONGEST_HEADER = 2**10  # bytes before an array
PIPE = 2**16  # bytes that a pipe holds
DEEPEST = 40  # calls within calls
WITHOUT_ARRAY = (torch.complex32, torch.qint8, torch.quint8, torch.qint32)  # dtypes of tensors that do not travel


class Broken(ConnectionError):
    """The other end is gone, is out of time, or says what makes no sense."""

    where = ""  # in no line of a student's


class RemoteError(Exception):
    """A function at the other end raised. Its class has the name of what was raised; where: the line, if known."""

    where = ""


class Remote:
    """A function at the other end."""

    def __init__(self, peer: Peer, target: str | int):
        self._peer, self._target = peer, target

    def __call__(self, *args, **options):
        if transforms.in_one_direction(args):
            return self._through(args, options, transforms.pushed)
        if any(map(transforms.transformed, args)):
            return self._through(args, options, transforms.through)
        return self._peer.call(self._target, *args, **options)

    def _through(self, args, options, way):
        """A call within jvp, vmap, jacrev and the like."""
        tensors = {k: arg for k, arg in enumerate(args) if isinstance(arg, Tensor)}

        def function(*plain):
            own = dict(zip(tensors, plain, strict=True))
            return self(*(own.get(k, arg) for k, arg in enumerate(args)), **options)

        return way(function, *tensors.values())


class Peer:
    """One end of a connection.

    reading, writing: file descriptors. names: functions that the other end may call by name; `seed`, of a student's
    process, lets random numbers start anew.
    around: called with each function that the other end calls and its arguments, to call it with care.
    discreet: whether this is the grader: the other end learns no more of an error than that there was one, and is lent
    objects, which nothing that comes from there is made into.
    deadline: a time of `time.monotonic`, after which a wait for the other end raises Broken; None waits for ever.
    """

    def __init__(
        self,
        reading: int,
        writing: int,
        names: dict[str, Callable] | None = None,
        around: Callable[..., Any] = lambda function, *args, **options: function(*args, **options),
        discreet: bool = False,
    ):
        self.discreet = discreet
        self.reading, self.writing, self.around = reading, writing, around
        self.names = {"gradients": self._gradients, "accumulate": self._accumulate, **(names or {})}
        os.set_blocking(writing, False)  # of what is written the pipe takes a part, and nobody waits without an end
        self.ahead = bytearray()  # what was read and not looked at yet
        self.deadline: float | None = None
        self.depth, self.broken = 0, False
        self.forget()

    def forget(self) -> None:
        """Forget the functions and tensors that were sent and received so far."""
        self.functions: list[Callable] = []
        self.sent: list[Tensor] = []
        self.received: dict[int, Tensor] = {}  # by the number that their owner gave them
        self.cut, self.kept, self.asked = False, 0, 0

    def close(self) -> None:
        """End the connection; the other end is told by its silence."""
        self.broken = True
        self.forget()  # what is kept for gradients, which knows this end, would stay for ever
        for descriptor in (self.reading, self.writing):
            with contextlib.suppress(OSError):
                os.close(descriptor)

    # --- calls --------------------------------------------------------------------------------------------------------

    def call(self, target: str | int, /, *args, **options) -> Any:
        """The result of a function at the other end.

        A tensor that a function with a name changes in place changes here too; one that a `Remote` changes does not,
        for who sent it goes on to use it. One that requires a gradient at the other end now, does so here too.
        Raises what the function raised, as a RemoteError or NotImplementedError, and Broken where no answer comes.
        """
        return self._outcome(0, target, args, options)

    def call_anew(self, seed: int, target: str, *args) -> Any:
        """A `call` of a function with a name, for which random numbers start anew from a seed, which is not 0."""
        return self._outcome(seed, target, args, {})

    def _outcome(self, seed: int, target, args, options) -> Any:
        if self.broken:
            raise Broken("the process with this function has ended")
        self.broken = True  # until an answer is complete
        self.asked = self.asked if self.depth else 0
        result = self._call(seed, target, args, options)
        self.broken = False
        if isinstance(result, Exception):
            raise result
        return result

    def _call(self, seed, target, args, options) -> Any:
        raised, lent = None, loans.terms(args) if self.discreet and isinstance(target, str) else {}
        own = [None if str(k) in lent else arg for k, arg in enumerate(args)]
        self._send("call", target, own, options, lent, seed)
        while True:
            message = self._receive()
            if message[0] == "call":
                raised = self._serve(*message[1:]) or raised
            elif message[0] == "return":
                self._take_back(args, lent, message[2], isinstance(target, str))
                if self.discreet and message[2].get("drew"):
                    torch.rand(())  # here too, where a check looks whether random numbers were drawn
                return message[1]
            else:
                return raised or _error(*message[1:])

    def _take_back(self, args, lent: loans.Terms, changed: dict[str, Any], values: bool) -> None:
        """Let arguments change as the other end changed its copies. values: or only which of them require gradients."""
        try:
            loans.give_back(args, {k: changed[k] for k in lent})
            for k, argument in enumerate(args):
                if values and isinstance(argument, Tensor) and str(k) in changed:
                    _overwrite(argument, changed[str(k)])
                if isinstance(argument, Tensor) and f"{k} requires_grad" in changed and argument.is_leaf:
                    argument.requires_grad_()
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, RuntimeError) as error:
            raise Broken(f"a message that makes no sense ({type(error).__name__})") from None

    def serve(self) -> None:
        """Serve the calls of the other end until it is gone."""
        while True:
            try:
                message = self._receive()
            except Broken:
                return
            self._serve(*message[1:])

    def _serve(self, target, args, options, lent, seed) -> BaseException | None:
        """Answer a call. Returns what the function raised, if it did."""
        self.depth += 1
        state, self.broken = self.broken, False
        try:
            if self.depth > DEEPEST:
                raise RecursionError("calls within calls without end")
            args = args if self.discreet else loans.borrowed(args, lent)
            before = [arg.detach().clone() if isinstance(arg, Tensor) else None for arg in args]
            plain = [k for k, arg in enumerate(args) if isinstance(arg, Tensor) and not arg.requires_grad]
            if seed and not self.discreet:
                self.names["seed"](seed)
            numbers = torch.get_rng_state()
            value = self.around(self._function(target), *args, **options)
            changed = {
                str(k): arg.detach()
                for k, (arg, old) in enumerate(zip(args, before, strict=True))
                if isinstance(arg, Tensor) and not (arg.shape == old.shape and arg.detach().equal(old))
            }
            changed |= {f"{k} requires_grad": True for k in plain if args[k].requires_grad}
            if not self.discreet:
                changed |= {**loans.terms(args if lent else []), "drew": not numbers.equal(torch.get_rng_state())}
            self._send("return", value, changed)
        except Broken:
            raise
        except Exception as error:
            where, function = (str(getattr(error, name, ""))[:500] for name in ("where", "function"))
            told = type(error).__name__, str(error)[:2000], where, function
            self._send("raise", *(("Exception", "", "", "") if self.discreet else told))
            return error
        finally:
            self.depth -= 1
            self.broken = state
        return None

    def _function(self, target) -> Callable:
        if isinstance(target, str) and target in self.names:
            return self.names[target]
        if isinstance(target, int) and 0 <= target < len(self.functions):
            return self.functions[target]
        raise Broken(f"a call of {target!r}, which is not known")

    # --- gradients ----------------------------------------------------------------------------------------------------

    def _gradients(self, k: int, gradient: Tensor, wanted: list[int], again: bool) -> list[Tensor | None]:
        """The product of a gradient with the Jacobian of a sent tensor with respect to received ones.

        again: whether the product will itself be differentiated.
        """
        inputs, options = [self.received[number] for number in wanted], {"allow_unused": True, "create_graph": again}
        with torch.set_grad_enabled(again):
            return list(self._uncrossed(torch.autograd.grad, self.sent[k], inputs, gradient, **options))

    def _accumulate(self, k: int, gradient: Tensor) -> None:
        """The backward pass from a sent tensor to the leaves of this end."""
        self._uncrossed(torch.autograd.backward, self.sent[k], gradient)

    def _uncrossed(self, differentiate: Callable, *args, **options) -> Any:
        """A backward pass that ends where tensors were received: what lies beyond is the business of the other end."""
        before, self.cut = self.cut, True
        try:
            return differentiate(*args, retain_graph=True, **options)
        finally:
            self.cut = before

    def _bridged(self, value: Tensor, number: int, wanted: list[int]) -> Tensor:
        """A received tensor that requires grad. wanted: numbers of tensors of this end that it was made from."""
        anchor = torch.zeros((), requires_grad=True)  # is reached by .backward(), and not by autograd.grad
        seen: list[Tensor] = []
        anchor.register_post_accumulate_grad_hook(
            lambda _: None if self.cut else self.call("accumulate", number, seen[-1])
        )
        made_from = [self.sent[k] for k in wanted]
        self._keep(value, len(wanted))
        with torch.enable_grad():  # it requires grad at the other end, whatever the mode here
            self.received[number] = Bridge.apply(self, number, wanted, seen, value, anchor, *made_from)
        return self.received[number]

    def _keep(self, value: Tensor, edges: int = 0) -> None:
        self.kept += value.nbytes + OF_A_NODE + OF_AN_EDGE * edges
        if self.kept > MOST_KEPT:
            raise Broken(f"tensors of {self.kept / 2**20:.0f} MB would have to be kept for their gradients")

    # --- messages -----------------------------------------------------------------------------------------------------

    def _send(self, *message) -> None:
        blobs: list[bytes] = []
        text = json.dumps(self._encode(list(message), blobs)).encode()
        data = b"".join([struct.pack("<QQ", len(text), len(blobs)), text, *_framed(blobs)])
        for size, most in (len(text), MOST_TEXT), (len(data), MOST_BYTES):
            if size > most:
                raise ValueError(f"{size / 2**20:.0f} MB are too much to send; at most {most / 2**20:.0f} MB are")
        view = memoryview(data)
        while view:
            self._wait(writing=True)
            try:
                view = view[os.write(self.writing, view) :]  # as much as there is room for
            except BlockingIOError:
                continue
            except OSError as error:
                raise Broken("the other process has ended") from error

    def _receive(self) -> list:
        if self.deadline is not None and self.deadline < time.monotonic():  # which the other end keeps busy
            raise Broken("no answer came in time")
        length, count = struct.unpack("<QQ", self._read(16))
        left = [MOST_BYTES]
        if length > MOST_TEXT or count > MOST_ARRAYS:
            raise Broken("a message that is too long")
        text = self._read(length, left)
        if sum(map(text.count, (b",", b"[", b"{"))) > MOST_ITEMS:
            raise Broken("a message with too many parts")
        blobs = [self._read(*struct.unpack("<Q", self._read(8, left)), left) for _ in range(count)]
        self.asked += len(text) + sum(map(len, blobs))
        if self.discreet and self.asked > MOST_ASKED:
            raise Broken(f"{self.asked / 2**20:.0f} MB came during one call")
        try:
            message = self._decode(json.loads(text), blobs)
            kind, first, *others = message
        except (ValueError, TypeError, KeyError, IndexError, RecursionError, AttributeError, MemoryError) as error:
            raise Broken(f"a message that makes no sense ({type(error).__name__})") from None
        shapes = {"call": [list, dict, dict, int], "return": [dict], "raise": [str, str, str]}
        if kind not in shapes or [type(other) for other in others] != shapes[kind]:
            raise Broken("a message that makes no sense")
        if kind == "raise" and not isinstance(first, str):
            raise Broken("a message that makes no sense")
        return message

    def _read(self, length: int, left: list[int] | None = None) -> bytes:
        if left is not None:
            left[0] -= length
            if left[0] < 0:
                raise Broken("a message that is too long")
        while len(self.ahead) < length:
            self._wait()
            if not (chunk := os.read(self.reading, PIPE)):
                raise Broken("the other process has ended")
            self.ahead += chunk
        read = bytes(self.ahead[:length])
        del self.ahead[:length]
        return read

    def _wait(self, writing: bool = False) -> None:
        """Wait until something can be read, or written, without waiting any more."""
        ready = ([], [self.writing]) if writing else ([self.reading], [])
        left = None if self.deadline is None else self.deadline - time.monotonic()
        if (left is not None and left < 0) or not any(select.select(*ready, [], left)):
            raise Broken("no answer came in time")

    def _encode(self, value, blobs: list[bytes]) -> Any:
        """A value as JSON, with its arrays added to the blobs."""
        if value is None or isinstance(value, (bool, str)) or type(value) in (int, float):
            return value
        if isinstance(value, (list, tuple)):
            return {"tuple" if isinstance(value, tuple) else "list": [self._encode(item, blobs) for item in value]}
        if isinstance(value, dict) and all(isinstance(key, str) for key in value):
            return {"dict": {key: self._encode(item, blobs) for key, item in value.items()}}
        if isinstance(value, Tensor) and value.layout == torch.strided and value.dtype not in WITHOUT_ARRAY:
            return self._encode_tensor(value, blobs)
        if isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind in "biufc":
            blobs.append(_npy(np.asarray(value)))
            return {"array": len(blobs) - 1}
        if isinstance(value, (Remote, loans.Lent)) and value._peer is self:
            return {"yours": value._target}
        if callable(value):
            self.functions.append(value)
            return {"function": len(self.functions) - 1, "kind": type(value).__name__}
        if isinstance(value, Schedule) and self.discreet:
            self.functions.append(value)
            number, functions = len(self.functions) - 1, loans.only_known_to(value)
            return {"schedule": number, "words": repr(value), "functions": self._encode(functions, blobs)}
        methods = [name for name in METHODS if callable(getattr(value, name, None))]
        return {"object": type(value).__name__, "methods": {m: self._encode(getattr(value, m), blobs) for m in methods}}

    def _encode_tensor(self, value: Tensor, blobs: list[bytes]) -> dict:
        plain = value.detach().as_subclass(Tensor).cpu().resolve_conj().resolve_neg()
        blobs.append(_npy((plain.view(torch.int16) if plain.dtype == torch.bfloat16 else plain).numpy()))
        encoded: dict = {"tensor": len(blobs) - 1, "bfloat16": plain.dtype == torch.bfloat16}
        if value.requires_grad:
            self._keep(value)
            self.sent.append(value)
            encoded |= {"number": len(self.sent) - 1, "made_from": _crossings(value)}
        return encoded

    def _decode(self, value, blobs: list[bytes]) -> Any:
        if not isinstance(value, dict):
            return value
        ((kind, content), *_) = value.items()
        if kind in ("list", "tuple"):
            items = [self._decode(item, blobs) for item in content]
            return tuple(items) if kind == "tuple" else items
        if kind == "dict":
            return {key: self._decode(item, blobs) for key, item in content.items()}
        if kind == "array":
            array = _array(blobs[content])
            if self.discreet and array.size > MOST_NUMBERS:
                raise Broken(f"a NumPy array of {array.size} numbers; at most {MOST_NUMBERS} are read")
            return array if array.ndim else array[()]
        if kind == "tensor":
            tensor = _tensor(_array(blobs[content]), value.get("bfloat16"))
            return self._bridged(tensor, value["number"], value["made_from"]) if "number" in value else tensor
        if kind == "function":
            return _remote(value["kind"])(self, int(content))
        if kind == "yours":
            return self._function(content)
        if kind == "schedule" and not self.discreet:
            return loans.Lent(self, content, value["words"], self._decode(value["functions"], blobs))
        methods = {name: self._decode(item, blobs) for name, item in value["methods"].items() if name in METHODS}
        return type(_identifier(content), (), methods)()


class Bridge(torch.autograd.Function):
    """The identity on a received tensor; its gradient goes through the other end."""

    @staticmethod
    def forward(ctx, peer, number, wanted, seen, value, anchor, *made_from):
        ctx.peer, ctx.number, ctx.wanted, ctx.seen = peer, number, wanted, seen
        ctx.save_for_backward(value)  # so that a second pass needs retain_graph, as in one process
        return value.clone()

    @staticmethod
    def backward(ctx, gradient):
        _ = ctx.saved_tensors
        ctx.seen.append(gradient.detach())
        found = [None] * len(ctx.wanted)
        if ctx.wanted and not ctx.peer.cut:
            found = ctx.peer.call("gradients", ctx.number, gradient, ctx.wanted, torch.is_grad_enabled())
        return None, None, None, None, None, torch.zeros(()), *found


def _crossings(value: Tensor) -> list[int]:
    """The numbers of the received tensors that a tensor was made from, without those behind them."""
    found, seen, todo = [], set(), [value.grad_fn]
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if isinstance(node, Bridge._backward_cls):
            found.append(node.number)
        else:
            todo += [after for after, _ in node.next_functions]
    return found


def _npy(array: np.ndarray) -> bytes:
    return _header(array.dtype, array.shape) + array.tobytes()


@functools.lru_cache(1000)
def _header(dtype: np.dtype, shape: tuple[int, ...]) -> bytes:
    stream = io.BytesIO()
    described = {"descr": dtype.str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, described)
    return stream.getvalue()


def _array(blob: bytes) -> np.ndarray:
    """An array from npy, whose header must tell the truth about its size before any memory is taken."""
    start = 10 + int.from_bytes(blob[8:10], "little")
    if start > LONGEST_HEADER:
        raise ValueError("not a plain array")
    shape, fortran, dtype = _described(blob[:start])
    data = memoryview(blob)[start:]
    if (
        dtype.kind not in "biufc"
        or min(shape, default=0) < 0
        or int(np.prod(shape, dtype=object)) * dtype.itemsize != len(data)
    ):
        raise ValueError("not a plain array")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C").copy()


@functools.lru_cache(1000)
def _described(header: bytes) -> tuple[tuple[int, ...], bool, np.dtype]:
    """What the header of an npy says of the array: its shape, whether columns come first, and its kind of numbers."""
    stream = io.BytesIO(header)
    if np.lib.format.read_magic(stream) != (1, 0):
        raise ValueError("not a plain array")
    return np.lib.format.read_array_header_1_0(stream)


def _tensor(array: np.ndarray, bfloat16: bool) -> Tensor:
    """An array as a tensor; one of bfloat16, of which NumPy knows nothing, came as integers of as many bits."""
    if bfloat16 and array.dtype != np.int16:
        raise ValueError("not 16 bits")
    tensor = torch.from_numpy(array)
    return tensor.view(torch.bfloat16) if bfloat16 else tensor


def _framed(blobs: list[bytes]) -> Iterator[bytes]:
    for blob in blobs:
        yield struct.pack("<Q", len(blob))
        yield blob


def _overwrite(argument: Tensor, value) -> None:
    """Let a tensor change as the other end changed its copy."""
    if isinstance(value, Tensor) and argument.shape == value.shape:
        with torch.no_grad():
            argument.copy_(value)


def _error(name: str, words: str, where: str, function: str) -> Exception:
    """An error at the other end. function: where a NotImplementedError was raised, if that is known."""
    if name == "NotImplementedError":
        error = NotImplementedError(words)
        error.function = function
        return error
    error = type(_identifier(name), (RemoteError,), {})(words)
    error.where = where
    return error


@functools.lru_cache(100)
def _remote(kind: str) -> type[Remote]:
    """The class of a function, which has the name that it has over there: errors tell it."""
    return type(_identifier(kind), (Remote,), {})


def _identifier(name: str) -> str:
    return re.sub(r"\W", "_", name)[:60] or "_"


def without_compilers() -> None:
    """Keep the compiler of PyTorch, if a notebook uses it, from compiling what crosses here."""
    if "torch._dynamo" in sys.modules and not hasattr(Peer.call, "__wrapped__"):
        Peer.call, Remote.__call__ = map(torch.compiler.disable, (Peer.call, Remote.__call__))
