"""ONNX files to graphs of contraction networks. Needs the ``onnx`` package, when a file is read."""

from drawbar.sw.onnx.importing import load_onnx

__all__ = ["load_onnx"]
