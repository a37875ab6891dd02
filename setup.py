"""Maps the repository's top-level folders to subpackages of ``drawbar``."""

from setuptools import find_packages, setup

ROOTS = ("constraints", "gen", "hw", "sim", "sw")
packages = ["drawbar"]
package_dir = {"drawbar": "src/drawbar"}
for root in ROOTS:
    packages.append(f"drawbar.{root}")
    package_dir[f"drawbar.{root}"] = root
    packages += [f"drawbar.{root}.{name}" for name in find_packages(root)]

setup(
    packages=packages,
    package_dir=package_dir,
    package_data={
        "drawbar": ["data/*"],
        "drawbar.constraints": ["*.toml"],
        "drawbar.gen.fpga": ["*.json"],
        "drawbar.sim": ["*.cpp"],
    },
)
