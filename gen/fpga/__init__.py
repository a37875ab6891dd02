"""FPGA families, their parts and PLLs, boards, and the open tools that make bitstreams for them."""
