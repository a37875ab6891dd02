"""A training step's loss and gradients, started kernel by kernel or replayed as a CUDA graph."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from drawbar.gen.errors import NetworkError
from drawbar.sw.compress.backend import nn, torch

#: Loss of a batch: inputs, classes.
BatchLoss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class Gradients:
    """The gradients of a loss.

    Arguments
    ---------
    parameters:
        Whose gradients are made.
    loss_of:
        The loss of a batch.
    penalty:
        Is added to the loss, and not counted in what is returned.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        loss_of: BatchLoss,
        penalty: Callable[[], torch.Tensor] | None = None,
    ) -> None:
        self.parameters, self.loss_of, self.penalty = list(parameters), loss_of, penalty

    def __call__(
        self, batch: torch.Tensor, classes: torch.Tensor, share: float = 1.0
    ) -> torch.Tensor:
        """Set ``grad`` of each parameter; returns the loss, times ``share``."""
        for parameter in self.parameters:
            parameter.grad = None
        loss = self.loss_of(batch, classes)
        if share != 1:
            loss = loss * share
        (loss if self.penalty is None else loss + self.penalty()).backward()
        return loss.detach()


class RecordedGradients(Gradients):
    """The same on a GPU, from a graph of all kernels, which is recorded once and then replayed.

    A small network's kernels take less time than a processor takes to start them one by one; a
    graph starts them all at once. The first batch runs as usual, and the second one of its shape is
    recorded. Batches of other shapes, such as the last one of an epoch, run as usual.

    Whatever the loss reads must stay in its place in memory: parameters, and tensors of the
    penalty. It must not look at values: what the recorded batch did is done for all.

    Raises
    ------
    NetworkError:
        the loss cannot be recorded.
    """

    graph: torch.cuda.CUDAGraph | None = None
    shape: torch.Size | None = None
    inputs: tuple[torch.Tensor, torch.Tensor]
    loss: torch.Tensor
    gradients: list[torch.Tensor | None]

    def __call__(
        self, batch: torch.Tensor, classes: torch.Tensor, share: float = 1.0
    ) -> torch.Tensor:
        if self.shape is None:
            self.shape = batch.shape
            return self._aside(batch, classes, share)
        if batch.shape != self.shape or share != 1:
            return super().__call__(batch, classes, share)
        if self.graph is None:
            self._record(batch, classes)
        assert self.graph is not None
        for held, given in zip(self.inputs, (batch, classes), strict=True):
            held.copy_(given)
        self.graph.replay()
        for parameter, gradient in zip(self.parameters, self.gradients, strict=True):
            parameter.grad = gradient
        return self.loss

    def _aside(self, *batch: torch.Tensor | float) -> torch.Tensor:
        """A step on a stream of its own: what the first use of a kernel sets up is then not
        recorded, nor tied to the usual stream.
        """
        stream, usual = torch.cuda.Stream(), torch.cuda.current_stream()
        stream.wait_stream(usual)
        with torch.cuda.stream(stream), fastest_kernels():
            loss = super().__call__(*batch)  # type: ignore[arg-type]
        usual.wait_stream(stream)
        return loss

    def _record(self, batch: torch.Tensor, classes: torch.Tensor) -> None:
        """Nothing is computed here, only recorded."""
        self.inputs = batch.clone(), classes.clone()
        graph = torch.cuda.CUDAGraph()
        try:
            with fastest_kernels(), torch.cuda.graph(graph):
                self.loss = super().__call__(*self.inputs)
        except RuntimeError as error:
            raise NetworkError(
                "model, training step",
                "can be recorded as a CUDA graph",
                str(error).partition("\n")[0],
                "train with cuda_graph=False",
            ) from error
        self.gradients = [parameter.grad for parameter in self.parameters]
        self.graph = graph


@contextmanager
def fastest_kernels() -> Iterator[None]:
    """Convolutions try all their algorithms once for each shape, and take the fastest from then on;
    that pays where a step is replayed thousands of times.
    """
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before
