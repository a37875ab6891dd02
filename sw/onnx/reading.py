"""An ONNX file as nodes, constants, one input and one output: checked, and with known shapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from drawbar.gen.errors import InputError, NetworkError

#: Versions of the standard operators that are read.
OLDEST_OPSET = 7
AGAIN = "export the model again"


@dataclass(frozen=True)
class OnnxNode:
    """A node of the file.

    Members
    -------
    kind:
        Its operator; with its domain where that is not the standard one.
    inputs:
        Names; empty for those that are left out.
    where:
        The node for errors: its name, operator and output.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    proto: Any

    @property
    def where(self) -> str:
        named = f"node {self.name!r}" if self.name else "node without a name"
        return f"{named} ({self.kind}), output {self.outputs[0]!r}"


@dataclass(frozen=True)
class Port:
    """The input or output of a model.

    Members
    -------
    shape:
        Of one sample; None where the file does not say it.
    batch:
        Samples that the file says; None for any number.
    """

    name: str
    dtype: np.dtype
    shape: tuple[int, ...] | None
    batch: int | None


@dataclass(frozen=True)
class OnnxModel:
    """A file.

    Members
    -------
    constants:
        Initialisers by name.
    """

    name: str
    nodes: tuple[OnnxNode, ...]
    constants: dict[str, np.ndarray]
    input: Port
    output: Port
    opsets: tuple[Any, ...]


def read_onnx(path: str | Path) -> OnnxModel:
    """Read and check a file.

    Raises
    ------
    ToolError:
        the onnx package is missing.
    InputError:
        no such file, or none that is a well-formed ONNX model.
    NetworkError:
        operators of a version that is not supported; several inputs or outputs; a size other than
        the batch that is not known.
    """
    backend: Any = import_module("drawbar.sw.onnx.backend")
    where = f"ONNX file {path}"
    if not Path(path).is_file():
        raise InputError(where, "exists", "no such file", "give the path of an .onnx file")
    try:
        proto = backend.onnx.load(str(path))
        if proto.functions:
            proto = backend.inliner.inline_local_functions(proto)
        backend.checker.check_model(proto)
    except Exception as error:  # the package has no class of its own for damaged files
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError(where, "is a well-formed ONNX model", lines[0], AGAIN) from None
    versions = {entry.domain: entry.version for entry in proto.opset_import}
    newest = backend.onnx.defs.onnx_opset_version()
    opset = versions.get("", versions.get("ai.onnx", 0))
    if not OLDEST_OPSET <= opset <= newest:
        raise NetworkError(
            where,
            f"has standard operators of version {OLDEST_OPSET} to {newest}",
            f"version {opset}",
            f"export it with opset_version={newest}, or convert it by onnx.version_converter",
        )
    constants = {entry.name: backend.numpy_helper.to_array(entry) for entry in _dense(proto)}
    inputs = [entry for entry in proto.graph.input if entry.name not in constants]
    return OnnxModel(
        name=Path(path).stem,
        nodes=tuple(_node(backend, entry) for entry in proto.graph.node),
        constants=constants,
        input=_input(where, backend, inputs),
        output=_port(backend, _single(where, "output", proto.graph.output)),
        opsets=tuple(proto.opset_import),
    )


def evaluate(node: OnnxNode, values: Sequence[np.ndarray | None], opsets: Sequence[Any]) -> Any:
    """The first output of a node whose inputs are constants, by the reference implementation of the
    onnx package.

    Raises
    ------
    NetworkError:
        it cannot be evaluated.
    """
    backend: Any = import_module("drawbar.sw.onnx.backend")
    helper = backend.helper
    given = {name: v for name, v in zip(node.inputs, values, strict=True) if v is not None}
    ports = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
        for n, v in given.items()
    ]
    result = helper.make_tensor_value_info(node.outputs[0], backend.onnx.TensorProto.FLOAT, None)
    graph = helper.make_graph([node.proto], "constant", ports, [result])
    try:
        model = helper.make_model(graph, opset_imports=list(opsets))
        return np.asarray(backend.reference.ReferenceEvaluator(model).run(None, given)[0])
    except Exception as error:  # whatever the reference implementation raises
        raise NetworkError(
            node.where, "can be computed beforehand", str(error).splitlines()[0], AGAIN
        ) from None


def _dense(proto: Any) -> Any:
    if proto.graph.sparse_initializer:
        raise NetworkError(
            f"ONNX model {proto.graph.name!r}",
            "has dense initialisers",
            f"sparse ones ({proto.graph.sparse_initializer[0].values.name!r})",
            "store them as dense tensors",
        )
    return proto.graph.initializer


def _node(backend: Any, proto: Any) -> OnnxNode:
    attributes = {}
    for entry in proto.attribute:
        value = backend.helper.get_attribute_value(entry)
        if isinstance(value, bytes):
            value = value.decode()
        elif isinstance(value, backend.onnx.TensorProto):
            value = backend.numpy_helper.to_array(value)
        attributes[entry.name] = value
    domain = "" if proto.domain in ("", "ai.onnx") else f"{proto.domain}."
    return OnnxNode(
        name=proto.name,
        kind=f"{domain}{proto.op_type}",
        inputs=tuple(proto.input),
        outputs=tuple(proto.output),
        attributes=attributes,
        proto=proto,
    )


def _single(where: str, side: str, entries: Sequence[Any]) -> Any:
    if len(entries) != 1:
        names = ", ".join(repr(entry.name) for entry in entries)
        fix = "store the others as initialisers" if side == "input" else "keep one"
        raise NetworkError(where, f"has one {side}", f"{len(entries)}: {names}", fix)
    return entries[0]


def _port(backend: Any, entry: Any) -> Port:
    tensor = entry.type.tensor_type
    if not tensor.elem_type:
        kind = entry.type.WhichOneof("value")
        raise NetworkError(f"{entry.name!r}", "is a tensor", kind, "pass one tensor")
    dtype = np.dtype(backend.helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    dims = [d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim]
    known = [n for n in dims[1:] if n is not None]
    shape = tuple(known) if len(dims) > 1 and len(known) == len(dims) - 1 else None
    return Port(entry.name, dtype, shape, dims[0] if dims else None)


def _input(where: str, backend: Any, entries: Sequence[Any]) -> Port:
    entry = _single(where, "input", entries)
    port = _port(backend, entry)
    named = f"{where}, input {port.name!r}"
    if port.shape is None or 0 in port.shape:
        found = entry.type.tensor_type.shape.dim
        dims = [d.dim_value if d.HasField("dim_value") else d.dim_param or "?" for d in found]
        raise NetworkError(
            named,
            "has the batch first, and then sizes that are known",
            f"shape ({', '.join(str(d) for d in dims)})",
            "export it with fixed sizes; only the batch may be dynamic",
        )
    if port.dtype.kind not in "fiu":
        raise NetworkError(named, "is a tensor of numbers", port.dtype, AGAIN)
    return port
