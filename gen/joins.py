"""Concatenations: which of their parts are made where they belong, and which are copied there.

A concatenation takes no stage. Its parts lie one behind the other: each in the layout and in the
scale of the whole, at its place within it, and the layers that make them write there. A part that
cannot lie there has a copy that does: the model's input, as the host's place is its own; what lies
in another concatenation, or occurs twice; an image whose layout others choose; values of another
scale.
"""

from __future__ import annotations

from dataclasses import replace

from drawbar.gen.config import EngineConfig
from drawbar.gen.formats.convolution import sum_network
from drawbar.gen.network import ContractionNetwork, Model, Quantised, Source
from drawbar.gen.phases import flattens

#: Scales that are not to be chosen: that of the model's input, or fraction bits.
_Scales = frozenset[str | int]


def parts(model: Model) -> dict[int, tuple[int, int]]:
    """For each part of a concatenation, the tensor that it lies in, and the channels or features in
    front of it there; of a model whose concatenations are ``settled``.
    """
    found = {}
    for number, layer in enumerate(model.layers):
        if layer.joined:
            before = 0
            for source in model.sources[number]:
                found[source.tensor] = (number + 1, before)
                before += model.shapes[source.tensor][0]
    return found


def contiguous(model: Model) -> set[int]:
    """Images that a layer reads in modes that run across their axes, and the parts of such."""
    found = {
        model.sources[number][0].tensor
        for number in range(len(model.layers))
        if flattens(model, number)
    }
    for number in reversed(range(len(model.layers))):
        if model.layers[number].joined and number + 1 in found:
            own = (source.tensor for source in model.sources[number])
            found |= {tensor for tensor in own if model.readers(tensor) == [number]}
    return found


def _fixed(model: Model) -> list[_Scales]:
    """For each tensor, the scales that it has already, whatever the calibration says."""
    found: list[_Scales] = []
    for tensor, known in enumerate(model.quantised):
        scales: _Scales = frozenset(("input",) if tensor == 0 else ())
        if known is not None:
            scales = frozenset((known.fraction_bits,))
        elif tensor and model.layers[tensor - 1].keeps_scale:
            own = (s.tensor for s in model.sources[tensor - 1] if s.tensor < tensor)
            scales = frozenset[str | int]().union(*(found[t] for t in own))
        found.append(scales)
    return found


def settled(model: Model, config: EngineConfig) -> Model:
    """The same model, with copies of those parts of concatenations that cannot lie in place."""
    if not any(layer.joined for layer in model.layers):
        return model
    fixed, flat = _fixed(model), contiguous(model)
    taken = {0, *model.states}
    for number, (layer, sources) in enumerate(zip(model.layers, model.sources, strict=True)):
        if layer.paired:
            # Factors are placed for each other, and their products' scales follow from theirs.
            taken |= {number + 1, *(source.tensor for source in sources)}
        elif any(source.steps for source in sources):
            # What is read beside every second element of another tensor lies like these.
            taken |= {source.tensor for source in sources if not source.steps}
    layers: list[ContractionNetwork] = []
    sources_of: list[tuple[Source, ...]] = []
    shapes, quantised = [model.shapes[0]], [model.quantised[0]]
    moved = {0: 0}

    def add(
        layer: ContractionNetwork,
        own: tuple[Source, ...],
        shape: tuple[int, ...],
        known: Quantised | None,
    ) -> None:
        layers.append(layer)
        sources_of.append(own)
        shapes.append(shape)
        quantised.append(known)

    for number, layer in enumerate(model.layers):
        own = list(model.sources[number])
        # Those of a state are not known yet: they stay as they are, below 0.
        new = [replace(s, tensor=moved.get(s.tensor, -s.tensor)) for s in own]
        known = model.quantised[number + 1]
        if layer.joined:
            held = {fixed[source.tensor] for source in own}
            scales = frozenset((known.fraction_bits,)) if known else frozenset[str | int]()
            if known is None and len(held) == 1:
                (scales,) = held
            for position, source in enumerate(own):
                tensor = source.tensor
                readers = [s for every in model.sources for s in every if s.tensor == tensor]
                stays = (
                    tensor not in taken
                    and fixed[tensor] == scales
                    and (tensor in flat) == (number + 1 in flat)
                    # In single-port memory nothing is read beside what is written.
                    and not (config.work_blocks and len(readers) > 1)
                )
                taken.add(tensor)
                if not stays:
                    shape = model.shapes[tensor]
                    copy = sum_network(
                        f"{layer.name}.{position}",
                        shape,
                        (1.0,),
                        keeps_scale=bool(scales) and fixed[tensor] == scales,
                        format="copy",
                    )
                    add(copy, (new[position],), shape, known)
                    new[position] = Source(len(layers))
        add(layer, tuple(new), model.shapes[number + 1], known)
        moved[number + 1] = len(layers)
    final = tuple(
        tuple(s if s.tensor >= 0 else replace(s, tensor=moved[-s.tensor]) for s in own)
        for own in sources_of
    )
    return Model(model.name, tuple(layers), final, tuple(shapes), tuple(quantised))
