"""Vectors of 32 bytes for compiled loops, and the two instructions of AVX2 that no compiler finds by itself.

A vector is what eight int32, sixteen int16 or thirty-two bytes are in a register. Arrays are contiguous and
of one axis; places in them are counted in their elements.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core.cgutils import get_or_insert_function
from numba.extending import intrinsic, models, register_model

_LANES = 8
_LANE = ir.IntType(32)
_INTEGERS = ir.VectorType(_LANE, _LANES)
_FLOATS = ir.VectorType(ir.FloatType(), _LANES)
_WORDS = ir.VectorType(ir.IntType(16), 2 * _LANES)
_BYTES = ir.VectorType(ir.IntType(8), 4 * _LANES)


class Vector(types.Type):
    """The type of a vector in a compiled function."""


_vector = Vector(name="Vector")


@register_model(Vector)
class _Model(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Vector) -> None:
        super().__init__(manager, kind, _INTEGERS)


@intrinsic
def zeros(_: Any) -> Any:
    """A vector of zeros."""
    return _vector(), lambda context, builder, signature, given: ir.Constant(_INTEGERS, [0] * _LANES)


@intrinsic
def load(_: Any, array: Any, at: Any) -> Any:
    """The 32 bytes of ``array`` from ``at`` on."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, given: Any) -> ir.Value:
        return builder.load(_place(context, builder, signature, given), align=1, typ=_INTEGERS)

    return _vector(array, at), generate


@intrinsic
def spread(_: Any, array: Any, at: Any) -> Any:
    """The 4 bytes of ``array`` from ``at`` on, eight times."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, given: Any) -> ir.Value:
        four = builder.load(_place(context, builder, signature, given), align=1, typ=_LANE)
        nothing = ir.Constant(_INTEGERS, ir.Undefined)
        first = builder.insert_element(nothing, four, ir.Constant(_LANE, 0))
        return builder.shuffle_vector(first, nothing, ir.Constant(_INTEGERS, [0] * _LANES))

    return _vector(array, at), generate


@intrinsic
def store(_: Any, array: Any, at: Any, vector: Any) -> Any:
    """Write ``vector`` to ``array`` from ``at`` on."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, given: Any) -> ir.Value:
        place = _place(context, builder, signature, given)
        builder.store(given[2], builder.bitcast(place, ir.PointerType(_INTEGERS)), align=1)
        return context.get_dummy_value()

    return types.void(array, at, vector), generate


@intrinsic
def add_products(_: Any, words: Any, levels: Any, weights: Any) -> Any:
    """``words``, int16, and to each the sum of two neighbouring products of ``levels``, uint8, with
    ``weights``, int8. No such sum, and no result, may be more than int16 holds.
    """

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, given: Any) -> ir.Value:
        kind = ir.FunctionType(_WORDS, [_BYTES, _BYTES])
        multiply = get_or_insert_function(builder.module, kind, "llvm.x86.avx2.pmadd.ub.sw")
        products = builder.call(multiply, [builder.bitcast(each, _BYTES) for each in given[1:]])
        return builder.bitcast(builder.add(builder.bitcast(given[0], _WORDS), products), _INTEGERS)

    return _vector(words, levels, weights), generate


@intrinsic
def add_widened(_: Any, sums: Any, words: Any) -> Any:
    """``sums``, int32, and to each the sum of two neighbouring ``words``, int16."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, given: Any) -> ir.Value:
        kind = ir.FunctionType(_INTEGERS, [_WORDS, _WORDS])
        widen = get_or_insert_function(builder.module, kind, "llvm.x86.avx2.pmadd.wd")
        ones = ir.Constant(_WORDS, [1] * 2 * _LANES)
        return builder.add(given[0], builder.call(widen, [builder.bitcast(given[1], _WORDS), ones]))

    return _vector(sums, words), generate


@intrinsic
def scaled(_: Any, sums: Any, offsets: Any, scales: Any) -> Any:
    """``sums`` less ``offsets``, int32, rounded to float32 and multiplied by ``scales``."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, given: Any) -> ir.Value:
        exact = builder.sitofp(builder.sub(given[0], given[1]), _FLOATS)
        return builder.bitcast(builder.fmul(exact, builder.bitcast(given[2], _FLOATS)), _INTEGERS)

    return _vector(sums, offsets, scales), generate


def _place(context: Any, builder: ir.IRBuilder, signature: Any, given: Any) -> ir.Value:
    """Where the element ``given[1]`` of the array ``given[0]`` lies."""
    kind = signature.args[0]
    data = context.make_array(kind)(context, builder, given[0]).data
    return builder.gep(data, [given[1]], source_etype=context.get_data_type(kind.dtype))
