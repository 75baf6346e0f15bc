"""One trilinear cell on four-component vectors as vector instructions: numba leaves such short loops scalar."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

FOUR = ir.VectorType(ir.FloatType(), 4)


@intrinsic
def add_cell(typing: Any, values: Any, made: Any, here: Any, near: Any, steps: Any, weights: Any) -> Any:
    """made[here : here + 4] = values[here : here + 4] + the cell at `near`, interpolated.

    values, made: flat float32 arrays. here, near: uint64 offsets. steps: offsets along (x, y, z). weights: eight
    float32, of the corners (0, 0, 0), (0, 1, 0), (1, 0, 0), (1, 1, 0) and the same at z + 1.
    """
    signature = types.void(values, made, here, near, steps, weights)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        source, target = (
            context.make_array(kind)(context, builder, value).data
            for kind, value in zip(sig.args[:2], args[:2], strict=True)
        )
        along = [builder.extract_value(args[4], n) for n in range(3)]

        def four(pointer: Any, offset: Any) -> Any:
            return builder.bitcast(builder.gep(pointer, [offset]), FOUR.as_pointer())

        def spread(scalar: Any) -> Any:
            first = builder.insert_element(
                ir.Constant(FOUR, ir.Undefined), scalar, ir.Constant(ir.IntType(32), 0)
            )
            lanes = ir.Constant(ir.VectorType(ir.IntType(32), 4), [0] * 4)
            return builder.shuffle_vector(first, ir.Constant(FOUR, ir.Undefined), lanes)

        total = builder.load(four(source, args[2]), align=4)
        for z in range(2):
            for n, (x, y) in enumerate(((0, 0), (0, 1), (1, 0), (1, 1))):
                offset = args[3]
                for wanted, step in zip((x, y, z), along, strict=True):
                    offset = builder.add(offset, step) if wanted else offset
                weight = builder.extract_value(args[5], 4 * z + n)
                product = builder.fmul(
                    spread(weight), builder.load(four(source, offset), align=4), flags=("fast",)
                )
                total = builder.fadd(total, product, flags=("fast",))
        builder.store(total, four(target, args[2]), align=4)
        return context.get_dummy_value()

    return signature, generate
