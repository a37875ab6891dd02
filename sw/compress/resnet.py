"""Residual networks for CIFAR (He et al. 2016), with shortcuts that have no weights (option A)."""

from __future__ import annotations

from drawbar.gen.errors import InputError
from drawbar.sw.compress.backend import nn, torch

#: Channels of the three stages.
CHANNELS = (16, 32, 64)
#: Mean and standard deviation of the pixels of CIFAR-10's training split, for each colour.
MEAN, DEVIATION = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


def blocks(depth: int) -> int:
    """Blocks in each stage of a residual network.

    Raises
    ------
    InputError:
        a depth other than 6 n + 2.
    """
    if depth < 8 or (depth - 2) % 6:
        raise InputError("residual network, depth", "is 6 n + 2", depth, "use 20, 32, 44, 56, 110")
    return (depth - 2) // 6


class Block(nn.Module):
    """Two convolutions of 3 x 3 and what they started from; with a stride, every second pixel of it
    and zeros for the channels that it lacks.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.stride = 1 if inputs == outputs else 2
        self.missing = outputs - inputs
        self.conv1 = nn.Conv2d(inputs, outputs, 3, self.stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.stride > 1:
            x = x[:, :, :: self.stride, :: self.stride]
            half = self.missing // 2
            x = nn.functional.pad(x, (0, 0, 0, 0, half, self.missing - half))
        return torch.relu(x + y)


class ResNet(nn.Module):
    """ResNet-20, -32 and so on: 269,722 and 464,154 weights. Takes flat images ``(samples, 3072)``
    of 0 to 1.

    Raises
    ------
    InputError:
        a depth other than 6 n + 2.
    """

    mean: torch.Tensor
    deviation: torch.Tensor

    def __init__(self, depth: int, classes: int = 10) -> None:
        super().__init__()
        count = blocks(depth)
        for name, values in (("mean", MEAN), ("deviation", DEVIATION)):
            self.register_buffer(name, torch.tensor(values).reshape(3, 1, 1), persistent=False)
        self.conv1 = nn.Conv2d(3, CHANNELS[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(CHANNELS[0])
        inputs = CHANNELS[0]
        for number, outputs in enumerate(CHANNELS, 1):
            stage = nn.Sequential()
            for block in range(count):
                stage.add_module(str(block), Block(inputs, outputs))
                inputs = outputs
            self.add_module(f"layer{number}", stage)
        self.fc = nn.Linear(inputs, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = (x.reshape(-1, 3, 32, 32) - self.mean) / self.deviation
        x = torch.relu(self.bn1(self.conv1(x.contiguous(memory_format=torch.channels_last))))
        for number in range(1, len(CHANNELS) + 1):
            x = self.get_submodule(f"layer{number}")(x)
        return self.fc(x.mean((2, 3)))
