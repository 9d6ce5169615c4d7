"""Machine code for this processor, made by LLVM when it is first needed.

For the few loops for which no library has a fast function. Arithmetic is done as it is written: LLVM neither
reorders operations on floats nor contracts them, so results are the same on every processor.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable, Iterator
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir

LANES = 8  # elements of a vector
# A float32 of up to 2^22 added to it is rounded half to even, and the integer stands in the sum's last bits.
ROUNDING = 1.5 * 2**23
INDEX, INTEGER, FLOAT = ir.IntType(64), ir.IntType(32), ir.FloatType()
BYTES = ir.VectorType(ir.IntType(8), 4 * LANES)
WORDS = ir.VectorType(ir.IntType(16), 2 * LANES)
INTEGERS, FLOATS = ir.VectorType(INTEGER, LANES), ir.VectorType(FLOAT, LANES)


def processor_has(feature: str) -> bool:
    """Whether LLVM knows this processor to have, for example, ``avx2``."""
    return bool(llvm.get_host_cpu_features().get(feature))


class Code:
    """A function being written: the ``places`` of arrays come first among its ``arguments``, then
    ``numbers``, int64.
    """

    def __init__(self, places: int, numbers: int) -> None:
        kind = ir.FunctionType(ir.VoidType(), [ir.PointerType()] * places + [INDEX] * numbers)
        self._module = ir.Module("code")
        self._function = ir.Function(self._module, kind, "function")
        for place in self._function.args[:places]:
            place.add_attribute("noalias")
        self.arguments = self._function.args
        self.builder = ir.IRBuilder(self._function.append_basic_block())
        self._places, self._numbers = places, numbers

    def instruction(self, name: str, result: ir.Type, *arguments: ir.Type) -> ir.Function:
        """One of the processor's own."""
        return ir.Function(self._module, ir.FunctionType(result, arguments), name)

    @contextlib.contextmanager
    def loop(self, stop: ir.Value, step: int, carried: int = 0) -> Iterator[Loop]:
        """What is written inside is done for 0, ``step`` … below ``stop``, which is more than 0.

        So many vectors of integers, 0 at first, are carried from one time to the next.
        """
        builder = self.builder
        before, body, after = builder.block, builder.append_basic_block(), builder.append_basic_block()
        builder.branch(body)
        builder.position_at_end(body)
        loop = Loop(builder.phi(INDEX), [builder.phi(INTEGERS) for _ in range(carried)])
        yield loop
        following = builder.add(loop.at, number(step))
        starts = [number(0), *[integers(0)] * carried]
        for phi, start, new in zip([loop.at, *loop.carried], starts, [following, *loop.new], strict=True):
            phi.add_incoming(start, before)
            phi.add_incoming(new, builder.block)
        builder.cbranch(builder.icmp_signed("<", following, stop), body, after)
        builder.position_at_end(after)

    def last_whole(self, at: ir.Value, stop: ir.Value, step: int) -> ir.Value:
        """``at``, or where the last whole step before ``stop`` begins: a part of what was before is done
        again.
        """
        last = self.builder.sub(stop, number(step))
        return self.builder.select(self.builder.icmp_signed("<", at, last), at, last)

    def at(self, base: ir.Value, offset: ir.Value) -> ir.Value:
        """The place so many bytes on."""
        return self.builder.gep(base, [offset], source_etype=ir.IntType(8))

    def load(self, place: ir.Value, kind: ir.Type) -> ir.Value:
        return self.builder.load(place, align=1, typ=kind)

    def store(self, value: ir.Value, place: ir.Value) -> None:
        self.builder.store(value, place, align=1)

    def spread(self, value: ir.Value) -> ir.Value:
        """A vector of the same 32 bits in every lane."""
        nothing = ir.Constant(INTEGERS, ir.Undefined)
        one = self.builder.insert_element(nothing, value, ir.Constant(INTEGER, 0))
        return self.builder.shuffle_vector(one, nothing, ir.Constant(INTEGERS, [0] * LANES))

    def finished(self) -> Callable[..., None]:
        """The function; while it runs, other threads do, too.

        It takes numbers, and contiguous arrays of NumPy or of PyTorch on the CPU. It does not look at what it
        is given.
        """
        self.builder.ret_void()
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        machine = llvm.Target.from_default_triple().create_target_machine(
            cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=3
        )
        module = llvm.parse_assembly(str(self._module))
        module.verify()
        engine = llvm.create_mcjit_compiler(module, machine)
        engine.finalize_object()
        kind = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * self._places, *[ctypes.c_int64] * self._numbers)
        function = kind(engine.get_function_address("function"))

        def call(*arguments: Any, engine: object = engine) -> None:  # the engine holds the code
            function(*map(_address, arguments))

        return call


class Loop:
    """Inside a loop: where it is, what was carried here, and what is to be carried on."""

    def __init__(self, at: ir.Value, carried: list[ir.Value]) -> None:
        self.at, self.carried = at, carried
        self.new: list[ir.Value] = []


def _address(argument: Any) -> int:
    if isinstance(argument, int):
        return argument
    place: int = argument.data_ptr() if hasattr(argument, "data_ptr") else argument.ctypes.data
    return place


def number(value: int) -> ir.Constant:
    """An int64."""
    return ir.Constant(INDEX, value)


def floats(value: float) -> ir.Constant:
    """A vector with ``value``, rounded to float32, in every lane."""
    return ir.Constant(FLOATS, [ctypes.c_float(value).value] * LANES)


def integers(value: int) -> ir.Constant:
    """A vector with ``value`` in every lane."""
    return ir.Constant(INTEGERS, [value] * LANES)
