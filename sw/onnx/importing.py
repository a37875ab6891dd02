"""From an ONNX file to a graph of contraction networks."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from drawbar.gen.errors import NetworkError
from drawbar.gen.network import Model
from drawbar.sw.compress.lowered_parts import Node
from drawbar.sw.onnx.operands import (
    Constant,
    Handler,
    Import,
    OnnxCall,
    Operand,
    copied,
    is_power,
    pin,
    rescaled,
)
from drawbar.sw.onnx.operators import OPERATORS
from drawbar.sw.onnx.quantised import QUANTISED
from drawbar.sw.onnx.reading import AGAIN, OnnxNode, evaluate, read_onnx
from drawbar.sw.onnx.shapes import SHAPES

HANDLERS: dict[str, Handler] = {**OPERATORS, **QUANTISED, **SHAPES}


def load_onnx(path: str | Path) -> Model:
    """A model of an ONNX file as contraction networks in float64; layers have the nodes' names.

    A float file becomes what the same model in PyTorch becomes. A quantised one keeps its integers:
    compiled for an engine of its width it gives the file's outputs to the last bit, where its
    weights and biases are integers, too, and averages are over 2, 4, 8 ... numbers.

    Raises
    ------
    ToolError:
        the onnx package is missing.
    InputError:
        no such file, or none that is a well-formed ONNX model.
    NetworkError:
        an operator, an attribute or a version that is not supported (the error names the node),
        sizes that are not known or do not agree, weights that are not finite, or a scale that is no
        power of two.
    """
    return _model(Import(read_onnx(path)))


def _model(done: Import) -> Model:
    """Goes through the nodes, which a file has in an order of evaluation."""
    for node in done.file.nodes:
        if node.kind == "Shape" and node.inputs[0] in done.operands:
            shape = (done.file.input.batch or 1, *(done.operands[node.inputs[0]].value.shape or ()))
            cut = slice(node.attributes.get("start"), node.attributes.get("end"))
            done.constants[node.outputs[0]] = Constant(np.array(shape[cut], np.int64), True)
            continue
        known = all(not name or name in done.constants for name in node.inputs)
        if known and not node.kind.startswith("Random"):
            done.constants[node.outputs[0]] = _constant(done, node)
            continue
        operand = _node(done, node)
        done.operands[node.outputs[0]] = operand
        done.graph.users(operand.value, done.uses[node.outputs[0]])
    name = done.file.output.name
    where = f"model {done.file.name!r}, output {name!r}"
    result = done.operands.get(name)
    if result is None:
        raise NetworkError(where, "depends on the input", "a constant", "mend the model")
    node = Node(done.graph, where, "output")
    if result.zero:
        raise node.refuse("has zero point 0", result.zero, "use a symmetric quantisation")
    value = rescaled(done, node, result)
    if result.dtype.kind in "iu" and value.tensor not in done.graph.quantised:
        value = pin(done, node, Operand(value, result.dtype), 1.0, result.dtype).value
    if not done.graph.layers:
        value = copied(node, value, 1.0)
    done.graph.finish(value)
    return done.graph.model()


def _constant(done: Import, node: OnnxNode) -> Constant:
    """A node of constants; what a quantised weight becomes is exact while its scale is a power
    of two.
    """
    given = [done.constants.get(name) for name in node.inputs]
    values = evaluate(node, [None if c is None else c.values for c in given], done.file.opsets)
    if node.kind == "DequantizeLinear":
        assert given[1] is not None
        return Constant(values, bool(is_power(given[1].values).all()))
    moved = node.kind in ("Identity", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten")
    exact = moved and given[0] is not None and given[0].exact
    return Constant(values, exact or values.dtype.kind in "iu")


def _node(done: Import, node: OnnxNode) -> Operand:
    handle = HANDLERS.get(node.kind)
    if handle is None:
        raise NetworkError(
            node.where,
            f"has a supported operator ({', '.join(sorted(HANDLERS))})",
            node.kind,
            "replace it, or take it out of what is compiled",
        )
    name = node.name if done.names[node.name] == 1 else node.outputs[0]
    call = OnnxCall(done.graph, node.where, name or node.outputs[0], node, done)
    for extra in node.outputs[1:]:
        if done.uses[extra]:
            raise call.refuse(
                "is used by its first output alone", f"output {extra!r}", "use the first"
            )
    try:
        return handle(call)
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        # Attributes that no checker looks at: too few numbers, an axis that is not there.
        raise call.refuse("has attributes that its operator takes", error, AGAIN) from None
