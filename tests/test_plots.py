from __future__ import annotations

import sys

import pytest
from typer.testing import CliRunner

import drawbar
from drawbar.gen.cli.main import app
from drawbar.gen.errors import InputError, ToolError


@pytest.mark.parametrize("name", ["picture", "picture.jpg", "picture.PNG.txt"])
def test_a_path_that_is_no_picture(name: str) -> None:
    with pytest.raises(InputError, match=r"\.png, \.svg, \.pdf"):
        drawbar.check_plot(name)


def test_missing_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    drawbar.check_plot("picture.png")
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    with pytest.raises(ToolError, match="Matplotlib"):
        drawbar.check_plot("picture.png")


def test_the_demo_finds_out_before_it_works(monkeypatch: pytest.MonkeyPatch) -> None:
    def worked(**_: object) -> None:
        raise AssertionError("the demo began")

    monkeypatch.setattr(drawbar, "run_demo", worked, raising=False)
    result = CliRunner().invoke(app, ["demo", "--plot", "picture.txt"])
    assert result.exit_code == 1
    assert "picture.txt" in result.output
