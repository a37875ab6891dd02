"""From a PyTorch model to contraction networks: the last step that knows PyTorch.

The graph comes from ``torch.fx``: a symbolic trace, whose nodes are the model's own modules, so
layers of cores stay what they are. (``torch.export`` would hand on their contractions, operator by
operator.) Each node becomes a layer, or a change to the layer before it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from drawbar.gen.errors import NetworkError
from drawbar.gen.network import Model
from drawbar.sw.compress.backend import TraceError, fx, map_arg, nn
from drawbar.sw.compress.factorised import FactorisedLayer
from drawbar.sw.compress.lowered import SUPPORTED, Graph, Value
from drawbar.sw.compress.lowered_layers import FUNCTIONS, METHODS, MODULES, Call
from drawbar.sw.compress.lowered_sequences import lower_cell
from drawbar.sw.compress.sequences import SequenceClassifier


class _Tracer(fx.Tracer):
    """Goes into modules that are made of others, and leaves all others whole."""

    record_stack_traces = True

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return _whole(m)


def _whole(module: nn.Module) -> bool:
    """Whether a module is one node: a layer, or something without parts."""
    if isinstance(module, FactorisedLayer):
        return True
    if type(module).__module__.startswith("torch.nn"):
        return not isinstance(module, (nn.Sequential, nn.ModuleList, nn.ModuleDict))
    return next(module.children(), None) is None


def lower(
    model: nn.Module, name: str = "model", *, input_shape: Sequence[int] | None = None
) -> Model:
    """The model's inference as contraction networks in float64; layers keep their names.

    A ReLU becomes the activation of the layer before it, and a batch norm goes into that layer's
    cores. Dropout and Identity do nothing at inference, and are left out. A maximum over a window
    becomes differences and sums, which are exact: ``max(a, b) = relu(a - b) + b``. A classifier of
    sequences becomes one step, with its cells' state kept from one to the next.

    Arguments
    ---------
    input_shape:
        Shape of one sample: ``(channels, height, width)`` for a model that reads images; not needed
        where the model unflattens its input, nor for linear layers.

    Raises
    ------
    NetworkError:
        an operation that is not supported (the error names it, and its source line where known), a
        shape that depends on data, sizes that do not agree, or weights that are not finite real
        numbers.
    """
    if isinstance(model, SequenceClassifier):
        return lower_cell(model.cell, lower(model.head, "head"), name)
    graph = Graph(name, input_shape)
    if _whole(model):
        graph.finish(_module(graph, "", model, [graph.input()]))
        return graph.model()
    try:
        traced = _Tracer().trace(model.eval() if not model.training else model)
    except (TraceError, TypeError, ValueError, RuntimeError) as error:
        raise NetworkError(
            f"model {name!r}",
            "has a forward pass that does not depend on its data (torch.fx traces it)",
            str(error).splitlines()[0],
            "take the condition, or the loop over data, out of forward",
        ) from None
    modules = dict(model.named_modules())
    values: dict[fx.Node, Any] = {}
    for node in traced.nodes:
        users = len(node.users)
        if node.op == "placeholder":
            if values:
                raise NetworkError(
                    f"model {name!r}", "has one input", "more", "give the model one tensor"
                )
            values[node] = graph.input()
        elif node.op == "output":
            (result,) = node.args
            if not isinstance(result, fx.Node) or not isinstance(values[result], Value):
                raise NetworkError(
                    f"model {name!r}", "has one output, a tensor", result, "return one tensor"
                )
            graph.finish(values[result])
        elif node.op == "get_attr":
            values[node] = _attribute(model, str(node.target))
        else:
            values[node] = _node(graph, node, modules, values)
            if isinstance(values[node], Value):
                graph.users(values[node], users)
    return graph.model()


def _attribute(model: nn.Module, target: str) -> Any:
    """A tensor of the model, by its dotted name."""
    found: Any = model
    for name in target.split("."):
        found = getattr(found, name)
    return found


def _node(graph: Graph, node: fx.Node, modules: dict[str, nn.Module], values: Any) -> Any:
    args = map_arg(node.args, lambda n: values[n])
    kwargs = map_arg(node.kwargs, lambda n: values[n])
    if node.op == "call_module":
        return _module(graph, str(node.target), modules[str(node.target)], args, node)
    where = f"node {node.name!r}{_line(node)}"
    table = FUNCTIONS if node.op == "call_function" else METHODS
    key = node.target if node.op == "call_function" else str(node.target)
    handler = table.get(key)  # type: ignore[call-overload]
    if handler is None:
        raise _unsupported(where, getattr(node.target, "__name__", str(node.target)))
    return handler(Call(graph, where, node.name, args, dict(kwargs)))


def _module(
    graph: Graph, path: str, module: nn.Module, args: Sequence[Any], node: fx.Node | None = None
) -> Any:
    where = f"module {path!r}" if path else f"model {graph.name!r}"
    # Exact types: a subclass may compute something else.
    handler = MODULES.get(type(module))
    if handler is None:
        line = "" if node is None else _line(node)
        kind = f"{type(module).__module__}.{type(module).__qualname__}"
        raise _unsupported(where, kind + line)
    return handler(Call(graph, where, path or graph.name, tuple(args), {}), module)


def _unsupported(where: str, found: str) -> NetworkError:
    return NetworkError(
        where,
        f"is supported ({SUPPORTED})",
        found,
        "replace it, or take it out of what is compiled",
    )


def _line(node: fx.Node) -> str:
    """The source line of a node, where it is known."""
    places = re.findall(r'File "([^"]+)", line (\d+)', node.stack_trace or "")
    own = [(file, line) for file, line in places if "/torch/" not in file]
    return f" ({own[-1][0]}:{own[-1][1]})" if own else ""
