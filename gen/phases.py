"""Copies of images, so that lanes can run along them: convolutions with strides as convolutions
without.

Lanes lie 1 mod lanes apart, so they cannot run along an axis of which every second element is read.
Along such an axis an image is first copied into its *phases*: position ``stride * a + b`` of the
padded image becomes position a of an image b. The convolution then has the taps (a, b), and
moves by one; taps that the kernel does not have are zero. Rows need that only where lanes are to
run along whole channels: else they go on in steps, as a loop, and no tap is empty.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np

from drawbar.gen.align import refine
from drawbar.gen.formats.convolution import sum_network
from drawbar.gen.network import ContractionNetwork, Core, Model, Source, Window


def _steps(layer: ContractionNetwork) -> tuple[int, int]:
    """Strides of a layer along rows and columns where its cores take the channels; 1 for none."""
    inside = {i for core in layer.cores for i in core.indices}
    if not layer.windows or not set(layer.input[:-2]) <= inside:
        # Channels that no core has are columns: lanes run along them.
        return 1, 1
    found = []
    for index in layer.input[-2:]:
        window = layer.windows.get(index)
        terms = () if window is None else window.terms
        found.append(max([1, *(s for term, s in terms if term in layer.output)]))
    return found[0], found[1]


def _phased_rows(layer: ContractionNetwork, steps: tuple[int, int], lanes: int) -> bool:
    """Whether phases of rows, too, take fewer cycles: lanes along channels, for more taps."""
    height, width = (layer.sizes[i] for i in layer.output[-2:])
    taps = []
    for index, step in zip(layer.input[-2:], steps, strict=True):
        window = layer.windows.get(index, Window(()))
        spread = [(layer.sizes[t], s) for t, s in window.terms if t not in layer.output]
        plain = prod(count for count, _ in spread)
        taps.append((plain, max([1, *(((n - 1) * s // step + 1) * step for n, s in spread)])))
    (rows, phased_rows), (_, columns) = taps
    run = (height - 1) * (width + columns // steps[1] - 1) + width
    along_rows = rows * columns * height * -(-width // lanes)
    return phased_rows * columns * -(-run // lanes) < along_rows


def with_copies(model: Model, lanes: int) -> Model:
    """The same model, with the copies that layers need in front of them: into phases for a
    convolution that has a stride, and into a contiguous tensor where an image is read as a vector
    whose modes run across rows, and others read it as an image.
    """
    layers: list[ContractionNetwork] = []
    sources: list[tuple[Source, ...]] = []
    shapes = [model.shapes[0]]
    quantised = [model.quantised[0]]
    moved = {0: 0}

    def add(layer: ContractionNetwork, own: tuple[Source, ...], shape: tuple[int, ...]) -> None:
        layers.append(layer)
        sources.append(own)
        shapes.append(shape)

    def number_of(tensor: int) -> int:
        """The tensor's new number; a state's is not known yet, and is its old one below 0."""
        return moved.get(tensor, -tensor)

    for number, layer in enumerate(model.layers):
        own = tuple(replace(s, tensor=number_of(s.tensor)) for s in model.sources[number])
        tensor = model.sources[number][0].tensor
        shape = model.shapes[tensor]
        steps = _steps(layer)
        if steps != (1, 1):
            rows = _phased_rows(layer, steps, lanes)
            copy, layer = _split(layer, steps, shape, (rows, True))
            add(copy, own, (prod(copy.modes_out[:-2]), *copy.modes_out[-2:]))
            quantised.append(None)
            own = (Source(len(layers)),)
        elif flattens(model, number) and len(model.readers(tensor)) > 1:
            copy = sum_network(f"{layer.name}.flat", shape, (1.0,), keeps_scale=True, format="copy")
            add(copy, own, shape)
            quantised.append(model.quantised[tensor])
            own = (Source(len(layers)),)
        add(layer, own, model.shapes[number + 1])
        quantised.append(model.quantised[number + 1])
        moved[number + 1] = len(layers)
    known = tuple(
        tuple(s if s.tensor >= 0 else replace(s, tensor=moved[-s.tensor]) for s in own)
        for own in sources
    )
    return Model(model.name, tuple(layers), known, tuple(shapes), tuple(quantised))


def flattens(model: Model, number: int) -> bool:
    """Whether a layer reads an image in modes that run across its axes."""
    sources = model.sources[number]
    shape = model.shapes[sources[0].tensor]
    whole = len(sources) == 1 and not (sources[0].steps or sources[0].starts)
    return whole and len(shape) == 3 and refine(model.layers[number].modes_in, shape) is None


def _split(
    layer: ContractionNetwork,
    steps: tuple[int, int],
    shape: tuple[int, ...],
    phased: tuple[bool, bool],
) -> tuple[ContractionNetwork, ContractionNetwork]:
    """The copy into phases, along the axes that are ``phased``, and the convolution of what it
    leaves.
    """
    pair = layer.input[-2:]
    sizes = dict(layer.sizes)
    cores = list(layer.cores)
    windows: dict[str, Window] = {}
    phases: list[tuple[str, int]] = []
    heights: list[tuple[str, int]] = []
    copies: dict[str, Window] = {}
    for index, step, wanted in zip(pair, steps, phased, strict=True):
        window = layer.windows.get(index, Window(((index, 1),)))
        if not wanted:
            # As it was, with the zeros around it.
            place = f"{index}.place"
            sizes[place] = window.span(sizes)
            windows[place] = Window(window.terms)
            heights.append((place, sizes[place]))
            copies[index] = Window(((place, 1),), window.before)
            del sizes[index]
            continue
        result = next(t for t, _ in window.terms if t in layer.output)
        taps = [(t, s) for t, s in window.terms if t not in layer.output]
        phase, place = f"{index}.phase", f"{index}.place"
        copied, terms = [(place, step)], [(result, 1)]
        count = 1
        # Without taps, only one phase is ever read.
        for tap, dilation in taps:
            at = np.arange(sizes[tap]) * dilation
            count = int(at.max()) // step + 1
            cores = [_in_phases(core, tap, phase, at, step, count) for core in cores]
            sizes[tap] = count
            sizes[phase] = step
            terms.append((tap, 1))
            copied.append((phase, 1))
            phases.append((phase, step))
        sizes[place] = sizes[result] + count - 1
        windows[place] = Window(tuple(terms))
        heights.append((place, sizes[place]))
        copies[index] = Window(tuple(copied), window.before)
        del sizes[index]
    channels = [(i, sizes[i]) for i in layer.input[:-2]]
    # Channels innermost, 1 mod lanes apart, so that lanes of the copy can run along them.
    outer = tuple(i for i, _ in (*phases, *channels, *heights))
    copy_sizes = dict([*phases, *channels, *heights])
    copy = ContractionNetwork(
        name=f"{layer.name}.phases",
        format="copy",
        sizes={**copy_sizes, **dict(zip(pair, shape[-2:], strict=True))},
        cores=(Core((), np.array(1.0)),),
        input=(*layer.input[:-2], *pair),
        output=outer,
        windows=copies,
        keeps_scale=True,
    )
    conv = replace(layer, sizes=sizes, cores=tuple(cores), input=outer, windows=windows)
    return copy, conv


def _in_phases(core: Core, tap: str, phase: str, at: np.ndarray, step: int, count: int) -> Core:
    """A core with its tap at positions ``at`` as (place, phase)."""
    if tap not in core.indices:
        return core
    axis = core.indices.index(tap)
    moved = np.moveaxis(core.values, axis, 0)
    spread = np.zeros((count, step, *moved.shape[1:]))
    for value, position in enumerate(at):
        spread[position // step, position % step] = moved[value]
    indices = [i for i in core.indices if i != tap]
    return Core((tap, phase, *indices), spread)
