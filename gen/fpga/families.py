"""The families by name."""

from drawbar.gen.fpga.ecp5 import ECP5
from drawbar.gen.fpga.family import Family
from drawbar.gen.fpga.gowin import GOWIN
from drawbar.gen.fpga.ice40 import ICE40

FAMILIES: dict[str, Family] = {family.name: family for family in (ECP5, ICE40, GOWIN)}
