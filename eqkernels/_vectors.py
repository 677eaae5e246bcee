"""Explicit vectors for the inner loops: 64 bytes of a contiguous array at a time.

A loop whose sums must stay in registers while another index runs is not found by the vectorizer of the compiler. With
these operations it can be written down: a vector holds ``lanes(a)`` neighboring elements, 8 of float64 or 16 of
float32, and LLVM maps it to whatever the processor has (AVX-512, AVX2, NEON). They work on ``memory(array)``, the
address of the first element of a contiguous array, and a flat index; unlike arrays, addresses are handed from
function to function without counting references. Nothing is checked: ``load_first`` and ``store_first`` are for ends.

Where compilation is switched off (``NUMBA_DISABLE_JIT=1``) the same names are numpy operations on slices, so that
the loops run and can be checked without it.
"""

import numpy as np
from llvmlite import ir
from numba.core import cgutils, config, types
from numba.core.datamodel import models
from numba.core.datamodel.registry import register_default
from numba.extending import intrinsic

_BYTES = 64


class VectorType(types.Type):
    """Numba's type of a vector: element type and number of lanes."""

    def __init__(self, dtype):
        self.dtype, self.count = dtype, _BYTES * 8 // dtype.bitwidth
        super().__init__(name=f"vector{self.count}x{dtype}")

    @property
    def llvm(self):
        """The same in LLVM."""
        return ir.VectorType(ir.DoubleType() if self.dtype == types.float64 else ir.FloatType(), self.count)

    @property
    def suffix(self):
        """As it stands in the names of LLVM's functions."""
        return f"v{self.count}f{self.dtype.bitwidth}"


@register_default(VectorType)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, fe_type.llvm)


def _at(builder, address, index, vector):
    return builder.bitcast(builder.gep(address, [index]), vector.llvm.as_pointer())


def _splat(builder, value, vector):
    undefined = ir.Constant(vector.llvm, ir.Undefined)
    single = builder.insert_element(undefined, value, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(single, undefined, ir.Constant(ir.VectorType(ir.IntType(32), vector.count), None))


def _fma(builder, vector, a, b, c):
    kind = ir.FunctionType(vector.llvm, [vector.llvm] * 3)
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fmuladd.{vector.suffix}")
    return builder.call(function, [a, b, c])


def _mask(builder, comparison, limit, vector):
    """Vector of bits: the lanes whose number compares with the limit."""
    integers = ir.VectorType(ir.IntType(32), vector.count)
    single = builder.insert_element(
        ir.Constant(integers, ir.Undefined), builder.trunc(limit, ir.IntType(32)), ir.Constant(ir.IntType(32), 0)
    )
    limits = builder.shuffle_vector(single, single, ir.Constant(integers, None))
    return builder.icmp_signed(comparison, ir.Constant(integers, list(range(vector.count))), limits)


def _masked_store(context, builder, vector, arguments, mask):
    address = _at(builder, arguments[0], arguments[1], vector)
    kind = ir.FunctionType(ir.VoidType(), [vector.llvm, address.type, ir.IntType(32), mask.type])
    name = f"llvm.masked.store.{vector.suffix}.p0"
    function = cgutils.get_or_insert_function(builder.module, kind, name)
    alignment = ir.Constant(ir.IntType(32), vector.dtype.bitwidth // 8)
    builder.call(function, [arguments[2], address, alignment, mask])


def _lanes(array):
    return _BYTES // array.dtype.itemsize


if config.DISABLE_JIT:  # type: ignore[attr-defined]

    def memory(array):  # noqa: D103
        return array.reshape(-1)

    def keep(array):  # noqa: D103
        pass

    def element(array, index):  # noqa: D103
        return array[index]

    def lanes(array):  # noqa: D103
        return _lanes(array)

    def zero(array):  # noqa: D103
        return np.zeros(_lanes(array), array.dtype)

    def filled(array, value):  # noqa: D103
        return np.full(_lanes(array), value, array.dtype)

    def load(array, index):  # noqa: D103
        return array[index : index + _lanes(array)].copy()

    def load_first(array, index, count):  # noqa: D103
        vector = np.zeros(_lanes(array), array.dtype)
        count = min(max(count, 0), len(vector))
        vector[:count] = array[index : index + count]
        return vector

    def store(array, index, vector):  # noqa: D103
        array[index : index + len(vector)] = vector

    def store_first(array, index, vector, count):  # noqa: D103
        count = min(max(count, 0), len(vector))
        array[index : index + count] = vector[:count]

    def store_between(array, index, vector, begin, end):  # noqa: D103
        begin, end = max(begin, 0), min(end, len(vector))
        if begin < end:
            array[index + begin : index + end] = vector[begin:end]

    def lanes_below(vector, limit, count):  # noqa: D103
        return sum(1 << k for k in range(min(max(count, 0), len(vector))) if vector[k] < limit)

    def lowest(bits):  # noqa: D103
        return (bits & -bits).bit_length() - 1

    def add_product(total, scalar, vector):  # noqa: D103
        return total + vector.dtype.type(scalar) * vector

    def scaled(scalar, vector):  # noqa: D103
        return vector.dtype.type(scalar) * vector

    def dot(a, b):  # noqa: D103
        return (a * b).sum()

    def times(a, b):  # noqa: D103
        return a * b

    def divided(a, b):  # noqa: D103
        return a / b

    def fused(a, b, c):  # noqa: D103
        return a * b + c

else:

    @intrinsic
    def memory(typingctx, array):
        """Address of the first element of a contiguous array, which must outlive it."""

        def generate(context, builder, signature, arguments):
            return context.make_array(signature.args[0])(context, builder, arguments[0]).data

        return types.CPointer(array.dtype)(array), generate

    @intrinsic
    def keep(typingctx, array):
        """Do nothing, as the last use of an array that was made here: without it, numba frees it before its memory."""

        def generate(context, builder, signature, arguments):
            return context.get_dummy_value()

        return types.void(array), generate

    @intrinsic
    def element(typingctx, array, index):
        """Element at the flat index."""

        def generate(context, builder, signature, arguments):
            return builder.load(builder.gep(arguments[0], [arguments[1]]))

        return array.dtype(array, types.intp), generate

    @intrinsic
    def lanes(typingctx, array):
        """Count the elements of a vector of this memory."""
        vector = VectorType(array.dtype)

        def generate(context, builder, signature, arguments):
            return context.get_constant(types.intp, vector.count)

        return types.intp(array), generate

    @intrinsic
    def zero(typingctx, array):
        """Vector of zeros, of the type of the memory."""
        vector = VectorType(array.dtype)

        def generate(context, builder, signature, arguments):
            return ir.Constant(vector.llvm, None)

        return vector(array), generate

    @intrinsic
    def filled(typingctx, array, value):
        """Vector with the same number in every lane, of the type of the memory."""
        vector = VectorType(array.dtype)

        def generate(context, builder, signature, arguments):
            return _splat(builder, arguments[1], vector)

        return vector(array, array.dtype), generate

    @intrinsic
    def load(typingctx, array, index):
        """Vector that starts at the flat index."""
        vector = VectorType(array.dtype)

        def generate(context, builder, signature, arguments):
            pointer = _at(builder, arguments[0], arguments[1], vector)
            return builder.load(pointer, align=array.dtype.bitwidth // 8)

        return vector(array, types.intp), generate

    @intrinsic
    def load_first(typingctx, array, index, count):
        """Vector of the first ``count`` elements at the flat index (none if it is negative), and zeros."""
        vector = VectorType(array.dtype)

        def generate(context, builder, signature, arguments):
            pointer = _at(builder, arguments[0], arguments[1], vector)
            mask = _mask(builder, "<", arguments[2], vector)
            kind = ir.FunctionType(vector.llvm, [pointer.type, ir.IntType(32), mask.type, vector.llvm])
            name = f"llvm.masked.load.{vector.suffix}.p0"
            function = cgutils.get_or_insert_function(builder.module, kind, name)
            alignment = ir.Constant(ir.IntType(32), array.dtype.bitwidth // 8)
            return builder.call(function, [pointer, alignment, mask, ir.Constant(vector.llvm, None)])

        return vector(array, types.intp, types.intp), generate

    @intrinsic
    def store(typingctx, array, index, value):
        """Write a vector at the flat index."""

        def generate(context, builder, signature, arguments):
            pointer = _at(builder, arguments[0], arguments[1], value)
            builder.store(arguments[2], pointer, align=array.dtype.bitwidth // 8)
            return context.get_dummy_value()

        return types.void(array, types.intp, value), generate

    @intrinsic
    def store_first(typingctx, array, index, value, count):
        """Write the first ``count`` elements of a vector at the flat index, and nothing beyond them."""

        def generate(context, builder, signature, arguments):
            mask = _mask(builder, "<", arguments[3], value)
            _masked_store(context, builder, value, arguments, mask)
            return context.get_dummy_value()

        return types.void(array, types.intp, value, types.intp), generate

    @intrinsic
    def store_between(typingctx, array, index, value, begin, end):
        """Write the elements begin .. end - 1 of a vector that starts at the flat index."""

        def generate(context, builder, signature, arguments):
            above = _mask(builder, ">=", arguments[3], value)
            mask = builder.and_(above, _mask(builder, "<", arguments[4], value))
            _masked_store(context, builder, value, arguments, mask)
            return context.get_dummy_value()

        return types.void(array, types.intp, value, types.intp, types.intp), generate

    @intrinsic
    def lanes_below(typingctx, value, limit, count):
        """Bits of the lanes, among the first ``count``, whose element is smaller than the limit."""

        def generate(context, builder, signature, arguments):
            smaller = builder.fcmp_ordered("<", arguments[0], _splat(builder, arguments[1], value))
            counted = builder.and_(smaller, _mask(builder, "<", arguments[2], value))
            bits = builder.bitcast(counted, ir.IntType(value.count))
            return builder.zext(bits, ir.IntType(64))

        return types.int64(value, value.dtype, types.intp), generate

    @intrinsic
    def lowest(typingctx, bits):
        """Place of the lowest bit that is set."""

        def generate(context, builder, signature, arguments):
            return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

        return types.int64(types.int64), generate

    @intrinsic
    def add_product(typingctx, total, scalar, value):
        """Return total + scalar * vector."""

        def generate(context, builder, signature, arguments):
            return _fma(builder, value, _splat(builder, arguments[1], value), arguments[2], arguments[0])

        return value(value, value.dtype, value), generate

    @intrinsic
    def scaled(typingctx, scalar, value):
        """Return scalar * vector."""

        def generate(context, builder, signature, arguments):
            return builder.fmul(_splat(builder, arguments[0], value), arguments[1])

        return value(value.dtype, value), generate

    @intrinsic
    def times(typingctx, a, b):
        """Return the elementwise product of two vectors."""

        def generate(context, builder, signature, arguments):
            return builder.fmul(*arguments)

        return a(a, a), generate

    @intrinsic
    def divided(typingctx, a, b):
        """Return the elementwise quotient of two vectors."""

        def generate(context, builder, signature, arguments):
            return builder.fdiv(*arguments)

        return a(a, a), generate

    @intrinsic
    def fused(typingctx, a, b, c):
        """Return a * b + c, elementwise."""

        def generate(context, builder, signature, arguments):
            return _fma(builder, a, *arguments)

        return a(a, a, a), generate

    @intrinsic
    def dot(typingctx, a, b):
        """Return the sum of the elementwise products of two vectors."""

        def generate(context, builder, signature, arguments):
            product = builder.fmul(*arguments)
            scalar = a.llvm.element
            kind = ir.FunctionType(scalar, [scalar, a.llvm])
            name = f"llvm.vector.reduce.fadd.{a.suffix}"
            function = cgutils.get_or_insert_function(builder.module, kind, name)
            return builder.call(function, [ir.Constant(scalar, 0.0), product], fastmath=["reassoc"])

        return a.dtype(a, a), generate
