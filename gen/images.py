"""Images: where they lie in work memory, and how each layer of a graph names what it reads and
writes.

An image lies channel by channel, row by row. Where a layer reads beyond its edge there are zeros:
a gap behind each row, which is in front of the next one as well, and rows between the channels.
Channels lie 1 mod lanes apart, so that lanes can run along them.

Where the rows of what a layer reads and of what it writes are equally long, gaps included, a whole
channel is one run of lanes, gaps and all: what it writes into them is overwritten with zeros when
somebody reads them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from drawbar.gen.align import refine, refined, rename
from drawbar.gen.config import EngineConfig
from drawbar.gen.joins import contiguous, parts
from drawbar.gen.layout import Layout
from drawbar.gen.network import ContractionNetwork, Core, Model, Source, Window
from drawbar.gen.order import ANY_GROUP, BATCH
from drawbar.gen.stage import padded_stride

#: Name of the index whose values are the sources of a layer.
BRANCH = "branch"


@dataclass(frozen=True)
class Place:
    """Where a tensor lies, from its start on.

    Members
    -------
    shape, strides:
        By axis.
    origin:
        Elements in front of its first one.
    sample, size:
        Elements of one sample, and of all.
    border:
        Whether somebody reads beyond the edge, so that there must be zeros.
    """

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    origin: int
    sample: int
    size: int
    border: bool = False

    def addresses(self) -> np.ndarray:
        """Of one sample's elements, flat."""
        found = np.array(self.origin, np.int64)
        for count, stride in zip(self.shape, self.strides, strict=True):
            found = found[..., None] + np.arange(count, dtype=np.int64) * stride
        return found.reshape(-1)

    def cells(self, addresses: np.ndarray) -> np.ndarray:
        """Which element lies at each address; -1 for none."""
        found = np.full(self.sample, -1, np.int64)
        found[self.addresses()] = np.arange(prod(self.shape))
        assert addresses.min() >= 0
        return found[addresses]


@dataclass(frozen=True)
class View:
    """A layer as the planner takes it.

    Members
    -------
    network:
        In the indices of the stages; windows read no further than the zeros around a tensor.
    read, write:
        Layouts of what it reads (of the first source) and writes.
    offsets:
        For each source, elements from the start of its tensor.
    cells_in, cells_out:
        For each source, and for the result: which element of the tensor has these indices; -1 for
        zeros that are read, and for what is written into gaps.
    """

    network: ContractionNetwork
    read: Layout
    write: Layout
    offsets: tuple[int, ...]
    cells_in: tuple[np.ndarray, ...]
    cells_out: np.ndarray


class _Groups:
    """Disjoint sets of numbers."""

    def __init__(self, count: int) -> None:
        self.parent = list(range(count))

    def root(self, number: int) -> int:
        while self.parent[number] != number:
            number = self.parent[number]
        return number

    def join(self, first: int, second: int) -> None:
        self.parent[self.root(second)] = self.root(first)


def axes_of(modes: Sequence[int], shape: Sequence[int]) -> list[int] | None:
    """The axis that each mode factors, where every axis is a run of modes; None where not."""
    if len(shape) == 3 and tuple(modes[-2:]) == tuple(shape[1:]) and prod(modes[:-2]) == shape[0]:
        return [0] * (len(modes) - 2) + [1, 2]
    axes = []
    position = 0
    for axis, size in enumerate(shape):
        found = 1
        while found < size and position < len(modes):
            found *= modes[position]
            axes.append(axis)
            position += 1
        if found != size:
            return None
    if prod(modes[position:]) != 1:
        return None
    return axes + [len(shape) - 1] * (len(modes) - position)


def _strided(source: Source) -> bool:
    return bool(source.steps or source.starts)


def _image_layer(model: Model, number: int) -> bool:
    """Whether a layer reads images and writes one."""
    tensors = [source.tensor for source in model.sources[number]]
    return all(len(model.shapes[t]) == 3 for t in (*tensors, number + 1))


def _by_one(layer: ContractionNetwork) -> bool:
    """Whether a layer goes through rows and columns one by one."""
    for index in layer.input[-2:]:
        window = layer.windows.get(index)
        if window and [s for term, s in window.terms if term in layer.output] != [1]:
            return False
    return True


def _borders(model: Model, tensor: int) -> tuple[int, int, int, int]:
    """Rows above and below and columns left and right that layers read beyond an image."""
    above = below = left = right = 0
    _, height, width = model.shapes[tensor]
    for number in model.readers(tensor):
        layer = model.layers[number]
        for axis, index in enumerate(layer.input[-2:]):
            window = layer.windows.get(index)
            if window is None:
                continue
            last = window.span(layer.sizes) - 1 - window.before
            if axis == 0:
                above, below = max(above, window.before), max(below, last - height + 1)
            else:
                left, right = max(left, window.before), max(right, last - width + 1)
    return above, below, left, right


def places(model: Model, config: EngineConfig, batch: int) -> list[Place]:
    """A place for each tensor of a graph."""
    count = len(model.shapes)
    rows, channels, wholes = _Groups(count), _Groups(count), _Groups(count)
    natural = contiguous(model)
    for tensor, (whole, _) in parts(model).items():
        channels.join(tensor, whole)
        wholes.join(tensor, whole)
    derived: dict[int, Source] = {}
    for number, layer in enumerate(model.layers):
        if layer.paired:
            continue
        sources = model.sources[number]
        images = _image_layer(model, number)
        strided = [source for source in sources if _strided(source)]
        for source in sources:
            if images and not strided and _by_one(layer):
                rows.join(source.tensor, number + 1)
            if len(sources) > 1 and not strided and not layer.joined:
                channels.join(source.tensor, sources[0].tensor)
            if len(sources) > 1 and strided and not _strided(source):
                # Sources whose addresses advance alike: this one lies like the strided one.
                derived[source.tensor] = strided[0]
    found: list[Place | None] = [None] * count
    pitch: dict[int, int] = {}
    padded: dict[int, int] = {}
    borders = {}
    plain = [t for t in range(count) if len(model.shapes[t]) == 3 and t not in derived]
    bordered: dict[int, bool] = {}
    for t in plain:
        borders[t] = _borders(model, t)
        # Where one part of a concatenation has zeros around it, there is room for them everywhere.
        root = wholes.root(t)
        bordered[root] = bordered.get(root, False) or any(borders[t])
        if t not in natural:
            need = model.shapes[t][2] + max(borders[t][2:])
            pitch[rows.root(t)] = max(pitch.get(rows.root(t), 0), need)
    for t in plain:
        _, height, width = model.shapes[t]
        row = width if t in natural else pitch[rows.root(t)]
        above, below, _, _ = borders[t]
        need = (height + max(above, below)) * row if any(borders[t]) else height * row
        if t not in natural:
            root = channels.root(t)
            padded[root] = max(padded.get(root, 0), padded_stride(config, need))
    for t in plain:
        size, height, width = model.shapes[t]
        border = bordered[wholes.root(t)]
        row = width if t in natural else pitch[rows.root(t)]
        channel = height * width if t in natural else padded[channels.root(t)]
        front = channel - (height - 1) * row - width if border else 0
        sample = front + size * channel
        if not border:
            sample = (size - 1) * channel + (height - 1) * row + width
        own = any(borders[t])
        found[t] = Place(model.shapes[t], (channel, row, 1), front, sample, sample, own)
    vectors = [t for t in range(count) if found[t] is None and t not in derived]
    for t in vectors:
        # A vector, or rows of one with gaps such that lanes can run across them.
        *rows_of, size = shape = model.shapes[t]
        strides = (*(padded_stride(config, size) for _ in rows_of), 1)
        assert len(shape) <= 2
        sample = 1 + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
        found[t] = Place(shape, strides, 0, sample, sample)
    # Sources of one layer advance alike from sample to sample, too.
    samples: dict[int, int] = {}
    for t in (*plain, *vectors):
        root = channels.root(t)
        samples[root] = max(samples.get(root, 0), _placed(found, t).sample)
    for t in (*plain, *vectors):
        sample, last = samples[channels.root(t)], _placed(found, t).size
        found[t] = replace(_placed(found, t), sample=sample, size=(batch - 1) * sample + last)
    for t, source in derived.items():
        found[t] = _like(model.shapes[t], source, _placed(found, source.tensor))
    return [place for place in found if place is not None]


def _placed(found: Sequence[Place | None], tensor: int) -> Place:
    place = found[tensor]
    assert place is not None
    return place


def _like(shape: tuple[int, ...], source: Source, other: Place) -> Place:
    """A place whose elements lie as far apart as those of the part of another that is read."""
    steps = source.steps or (1,) * len(other.shape)
    strides = tuple(s * step for s, step in zip(other.strides, steps, strict=True))
    return Place(shape, strides, 0, other.sample, other.size)


def view(model: Model, number: int, placed: Sequence[Place], batch: int) -> View:
    """A layer of a graph as the planner takes it."""
    layer, sources = model.layers[number], model.sources[number]
    target = placed[number + 1]
    source = sources[0]
    several = len(sources) > 1
    first = placed[source.tensor]
    if not several and not _strided(source):
        factors = refine(layer.modes_in, first.shape)
        if axes_of(layer.modes_in, first.shape) is None and factors is not None:
            layer = refined(layer, factors)
    offsets = []
    strides: dict[str, int] = {}
    for source in reversed(sources):
        place = placed[source.tensor]
        own = layer.input[1:] if several else layer.input
        steps = source.steps or (1,) * len(place.shape)
        starts = source.starts or (0,) * len(place.shape)
        offset = place.origin + sum(a * b for a, b in zip(starts, place.strides, strict=True))
        modes = [layer.sizes[i] for i in own]
        axes = list(range(len(own))) if _strided(source) else axes_of(modes, place.shape)
        found = _strides(own, modes, axes, place.strides, steps)
        assert not strides or found == strides
        strides = found
        for index in own:
            if index in layer.windows:
                offset -= layer.windows[index].before * strides[index]
        offsets.insert(0, offset)
    out_modes = list(layer.modes_out)
    out = _strides(
        layer.output, out_modes, axes_of(out_modes, target.shape), target.strides, (1,) * 3
    )
    if several:
        strides = {layer.input[0]: 0, **strides}
    # Windows read zeros where there are some, so nothing is in front of them.
    sizes = dict(layer.sizes)
    windows = {}
    for index, window in layer.windows.items():
        windows[index] = Window(window.terms)
        sizes[index] = window.span(sizes)
    layer = replace(layer, sizes=sizes, windows=windows)
    # A model that is quantised already says what is rounded, and no more than that is.
    most = 2 if model.quantised[number + 1] is None else 1
    layer, strides, out = _one_run(layer, strides, out, most)
    names = {i: [(i, size)] if size > 1 else [] for i, size in layer.sizes.items()}
    layer = rename(layer, names)
    batches = {BATCH: first.sample} if batch > 1 else {}
    read = Layout({**_kept(strides, layer), **batches}, first.size, offsets[0])
    batches = {BATCH: target.sample} if batch > 1 else {}
    write = Layout({**_kept(out, layer), **batches}, target.size, target.origin)
    own = layer.input[1:] if several else layer.input
    cells = tuple(
        placed[source.tensor].cells(_addresses(offset, own, layer, read))
        for source, offset in zip(sources, offsets, strict=True)
    )
    cells_out = target.cells(_addresses(target.origin, layer.output, layer, write))
    return View(layer, read, write, tuple(offsets), cells, cells_out)


def _kept(strides: dict[str, int], layer: ContractionNetwork) -> dict[str, int]:
    return {i: stride for i, stride in strides.items() if layer.sizes.get(i, 1) > 1}


def _addresses(
    base: int, indices: Sequence[str], layer: ContractionNetwork, layout: Layout
) -> np.ndarray:
    found = np.array(base, np.int64)
    for index in indices:
        steps = np.arange(layer.sizes[index], dtype=np.int64) * layout.strides[index]
        found = found[..., None] + steps
    return found


def _strides(
    indices: Sequence[str],
    modes: Sequence[int],
    axes: Sequence[int] | None,
    strides: Sequence[int],
    steps: Sequence[int],
) -> dict[str, int]:
    """Strides of indices that factor the axes of a tensor, or all of it where it is contiguous."""
    if axes is None:
        return {index: prod(modes[n + 1 :]) for n, index in enumerate(indices)}
    found = {}
    for n, (index, axis) in enumerate(zip(indices, axes, strict=True)):
        inner = prod(
            mode for mode, other in zip(modes[n + 1 :], axes[n + 1 :], strict=True) if other == axis
        )
        found[index] = inner * steps[axis] * strides[axis]
    return found


def _one_run(
    layer: ContractionNetwork, strides: dict[str, int], out: dict[str, int], steps: int
) -> tuple[ContractionNetwork, dict[str, int], dict[str, int]]:
    """Rows and columns as one index, gaps included, where they lie alike in what is read and in
    what is written; their taps in as many steps at most.
    """
    if len(layer.input) < 2 or len(layer.output) < 2:
        return layer, strides, out
    pair, made = layer.input[-2:], layer.output[-2:]
    windows = [layer.windows.get(i, Window(((i, 1),))) for i in pair]
    for index, window, result in zip(pair, windows, made, strict=True):
        inside = [term for term, _ in window.terms if term in layer.output]
        if inside != [result] or dict(window.terms)[result] != 1:
            return layer, strides, out
        if index not in layer.windows and index != result:
            return layer, strides, out
    over = layer.bias_indices if layer.bias is not None else ()
    used = {i for core in layer.cores for i in core.indices}
    if {*made} & {*over} or {*pair, *made} & used:
        return layer, strides, out
    row = strides[pair[0]]
    if strides[pair[1]] != 1 or out[made[1]] != 1 or out[made[0]] != row:
        return layer, strides, out
    if row < layer.sizes[made[1]]:
        return layer, strides, out
    name, result = ".".join(pair), ".".join(made)
    sizes = {i: size for i, size in layer.sizes.items() if i not in (*pair, *made)}
    sizes[result] = (layer.sizes[made[0]] - 1) * row + layer.sizes[made[1]]
    terms = [(result, 1)]
    for window, stride in zip(windows, (row, 1), strict=True):
        terms += [(t, stride * step) for t, step in window.terms if t not in made]
    joined = Window(tuple(terms))
    kept = {}
    cores = layer.cores
    if name != result:
        sizes[name] = joined.span(sizes)
        kept = {name: joined}
        if steps > 1 and _both(cores, terms[1:], sizes):
            # In two steps: a core that has both taps may leave the columns' one as an index, and
            # a core of ones then moves along it.
            columns = terms[2]
            shifted = f"{result}.{columns[0]}"
            last = Window((terms[0], columns), late=True)
            spans = {**sizes, shifted: last.span(sizes)}
            kept = {name: Window(((shifted, 1), terms[1])), shifted: last}
            del sizes[name]
            sizes |= {name: joined.span(spans), shifted: spans[shifted]}
            cores = (*cores, Core((columns[0],), np.ones(sizes[columns[0]])))
    layer = replace(
        layer,
        sizes=sizes,
        cores=cores,
        input=(*layer.input[:-2], name),
        output=(*layer.output[:-2], result),
        windows=kept,
    )
    strides = {**{i: s for i, s in strides.items() if i not in pair}, name: 1}
    out = {**{i: s for i, s in out.items() if i not in made}, result: 1}
    return layer, strides, out


def _both(cores: Sequence[Core], taps: Sequence[tuple[str, int]], sizes: Mapping[str, int]) -> bool:
    """Whether there are two taps of more than one position, both in one core alone."""
    own = [[n for n, core in enumerate(cores) if tap in core.indices] for tap, _ in taps]
    if len(taps) != 2 or min(sizes[tap] for tap, _ in taps) < 2 or len(cores) >= ANY_GROUP:
        return False
    return own[0] == own[1] and len(own[0]) == 1


def border_runs(place: Place) -> list[tuple[int, list[tuple[int, int]]]]:
    """Where zeros lie around an image, as families: where each begins, in elements from the start
    of a sample, and its loops (count, stride), the innermost with stride 1.
    """
    channels, height, width = place.shape
    channel, row, _ = place.strides
    between = channel - (height - 1) * row - width
    runs = [(0, [(channels + 1, channel), (between, 1)])]
    if height > 1 and row > width:
        gaps = [(channels, channel), (height - 1, row), (row - width, 1)]
        runs.append((place.origin + width, gaps))
    return runs
