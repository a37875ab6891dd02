"""PyTorch, or one clear error: the modules of this folder that need it import it here."""

from drawbar.gen.errors import ToolError

try:
    import torch
    from torch import nn
except ModuleNotFoundError as error:
    if error.name != "torch":
        raise
    raise ToolError(
        "compression",
        "needs PyTorch",
        "no package named torch",
        "pip install 'drawbar[compress]'",
    ) from None

__all__ = ["nn", "torch"]
