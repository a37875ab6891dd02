"""LSTM and GRU whose input map is cores, the gates folded into its first output mode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from drawbar.gen.errors import InputError, NetworkError
from drawbar.sw.compress.backend import nn, torch
from drawbar.sw.compress.factorised import FactorisedLinear
from drawbar.sw.compress.formats import Spec, get_format
from drawbar.sw.compress.modes import check_side, default_count, factorise

#: Gates of each kind of cell, in PyTorch's order: input, forget, cell, output; reset, update, new.
GATES = {"lstm": 4, "gru": 3}


class FactorisedRNN(nn.Module):
    """One layer of LSTM or GRU cells, in one direction, as in PyTorch.

    The large map, from inputs to gates, is a linear layer in any format; the one from state to
    gates is dense, or in a format too.

    Arguments
    ---------
    kind:
        "lstm" or "gru".
    input_map:
        ``(gates * hidden, inputs)``: output modes such that the first one holds the gates as its
        slowest digit.
    hidden_map:
        ``(gates * hidden, hidden)``, ``nn.Linear`` or in a format.
    batch_first:
        Whether sequences are ``(batch, time, inputs)``; otherwise ``(time, batch, inputs)``.
    """

    def __init__(
        self,
        kind: str,
        input_map: FactorisedLinear,
        hidden_map: nn.Linear | FactorisedLinear,
        *,
        batch_first: bool = False,
    ) -> None:
        super().__init__()
        check_kind(kind, input_map.name)
        gates = GATES[kind]
        hidden = hidden_map.in_features
        for what, found in (("input", input_map), ("state", hidden_map)):
            if found.out_features != gates * hidden:
                raise NetworkError(
                    f"layer {input_map.name!r}, {what} map",
                    f"has {gates} gates of {hidden} outputs each",
                    found.out_features,
                    "make its output modes multiply to that",
                )
        self.kind, self.batch_first = kind, batch_first
        self.input_map, self.hidden_map = input_map, hidden_map
        self.input_size, self.hidden_size = input_map.in_features, hidden

    @classmethod
    def fresh(
        cls,
        kind: str,
        spec: Spec,
        *,
        bias: bool = True,
        batch_first: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> FactorisedRNN:
        """New weights; ``spec`` is that of the input map (``recurrent_spec``)."""
        check_kind(kind, spec.name)
        made: dict[str, Any] = {"device": device, "dtype": dtype}
        layer = get_format(spec.format).layer(spec, bias=bias, **made)
        assert isinstance(layer, FactorisedLinear)
        hidden = nn.Linear(spec.outputs // GATES[kind], spec.outputs, bias=bias, **made)
        return cls(kind, layer, hidden, batch_first=batch_first)

    @classmethod
    def from_rnn(cls, rnn: nn.LSTM | nn.GRU, spec: Spec) -> FactorisedRNN:
        """The decomposition of a trained layer, with its biases, type, device and mode.

        Raises
        ------
        NetworkError:
            several layers, two directions, a projection, or weights that do not fit the spec.
        """
        kind = {nn.LSTM: "lstm", nn.GRU: "gru"}.get(type(rnn))
        if kind is None or rnn.num_layers != 1 or rnn.bidirectional or rnn.proj_size:
            raise NetworkError(
                f"layer {spec.name!r}",
                "is an LSTM or GRU of one layer and one direction, without projection",
                f"{type(rnn).__name__}, {rnn.num_layers} layers, "
                f"bidirectional={rnn.bidirectional}, proj_size={rnn.proj_size}",
                "split it into single layers first",
            )
        chosen = get_format(spec.format)
        arrays = {name: parameter.detach() for name, parameter in rnn.named_parameters()}
        weight, state = arrays["weight_ih_l0"], arrays["weight_hh_l0"]
        layer = chosen.layer(
            spec,
            chosen.decompose(weight, spec),
            bias=arrays["bias_ih_l0"] if rnn.bias else False,
        )
        assert isinstance(layer, FactorisedLinear)
        hidden: Any = nn.utils.skip_init(
            nn.Linear,
            rnn.hidden_size,
            len(state),
            bias=rnn.bias,
            device=state.device,
            dtype=state.dtype,
        )
        with torch.no_grad():
            hidden.weight.copy_(state)
            if rnn.bias:
                hidden.bias.copy_(arrays["bias_hh_l0"])
        found = cls(kind, layer, hidden, batch_first=rnn.batch_first)
        found.train(rnn.training)
        return found

    def forward(
        self, x: torch.Tensor, state: Any = None
    ) -> tuple[torch.Tensor, torch.Tensor | tuple[torch.Tensor, torch.Tensor]]:
        """As ``nn.LSTM`` and ``nn.GRU``.

        Arguments
        ---------
        x:
            ``(time, batch, inputs)``, or ``(batch, time, inputs)`` with ``batch_first``.
        state:
            h, or (h, c) of an LSTM, each ``(1, batch, hidden)``; zero if not given.

        Returns
        -------
        Every h, with axes like those of x, and the last state.
        """
        if x.ndim != 3 or x.shape[2] != self.input_size:
            raise InputError(
                f"input of layer {self.input_map.name!r}",
                f"has three axes, the last of {self.input_size}",
                tuple(x.shape),
                "reshape the input, or mend the layer before",
            )
        if self.batch_first:
            x = x.transpose(0, 1)
        maps = self.input_map(x)  # all times at once
        if state is None:
            zero = maps.new_zeros(1, x.shape[1], self.hidden_size)
            state = (zero, zero) if self.kind == "lstm" else zero
        outputs = []
        if self.kind == "lstm":
            h, c = (part[0] for part in state)
            for now in maps:
                i, f, g, o = (now + self.hidden_map(h)).chunk(4, -1)
                c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
                h = torch.sigmoid(o) * torch.tanh(c)
                outputs.append(h)
            last: Any = (h[None], c[None])
        else:
            h = state[0]
            for now in maps:
                (r, z, n), (hr, hz, hn) = now.chunk(3, -1), self.hidden_map(h).chunk(3, -1)
                z = torch.sigmoid(z + hz)
                n = torch.tanh(n + torch.sigmoid(r + hr) * hn)
                h = (1 - z) * n + z * h
                outputs.append(h)
            last = h[None]
        y = torch.stack(outputs)
        return (y.transpose(0, 1) if self.batch_first else y), last

    def extra_repr(self) -> str:
        return f"{self.kind}, {self.input_size}, {self.hidden_size}"


def recurrent_spec(
    kind: str,
    inputs: int,
    hidden: int,
    *,
    format: str = "tt",
    name: str = "",
    modes_out: Sequence[int] | None = None,
    stacklevel: int = 1,
    **asked: Any,
) -> Spec:
    """The spec of an input map.

    Arguments
    ---------
    modes_out:
        Modes of the state; the gates are folded into the first one.
    asked:
        What else ``Format.spec`` takes.
    """
    check_kind(kind, name)
    gates = GATES[kind]
    if modes_out is None:
        given = asked.get("modes_in")
        modes_out = factorise(hidden, len(given) if given else default_count(hidden, inputs))
    first, *others = check_side(modes_out, hidden, "modes_out", name)
    return get_format(format).spec(
        (gates * hidden, inputs),
        name=name,
        modes_out=(gates * first, *others),
        stacklevel=stacklevel + 1,
        **asked,
    )


def check_kind(kind: str, name: str) -> None:
    """Raise a NetworkError if there are no such cells."""
    if kind not in GATES:
        raise NetworkError(
            f"layer {name!r}, kind", f"is one of {', '.join(GATES)}", kind, "use one of these"
        )
