"""What FPGA families do in their own way, each in a file behind the portable twin's interface."""

from drawbar.hw.vendor.portable import Portable, primitives

__all__ = ["Portable", "primitives"]
