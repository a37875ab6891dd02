"""The command line. It speaks to the public functions of ``drawbar`` only."""

from drawbar.gen.cli.main import main

__all__ = ["main"]
