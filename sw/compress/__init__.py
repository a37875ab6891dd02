"""Compression in PyTorch."""
