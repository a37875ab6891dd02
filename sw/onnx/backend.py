"""The ``onnx`` package, or one clear error: imported when a file is read."""

from drawbar.gen.errors import ToolError

try:
    import onnx
    from onnx import checker, helper, inliner, numpy_helper, reference
except ModuleNotFoundError as error:
    if error.name != "onnx":
        raise
    raise ToolError(
        "import of an ONNX file",
        "needs the onnx package",
        "no package named onnx",
        "pip install 'drawbar[onnx]'",
    ) from None

__all__ = ["checker", "helper", "inliner", "numpy_helper", "onnx", "reference"]
