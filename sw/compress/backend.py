"""PyTorch, or one clear error: the modules of this folder that need it import it here."""

from drawbar.gen.errors import ToolError

try:
    import torch
    from torch import fx, nn
    from torch.fx.node import map_arg
    from torch.fx.proxy import TraceError
except ModuleNotFoundError as error:
    if error.name != "torch":
        raise
    raise ToolError(
        "compression",
        "needs PyTorch",
        "no package named torch",
        "pip install 'drawbar[compress]'",
    ) from None

__all__ = ["TraceError", "fx", "map_arg", "nn", "torch"]
