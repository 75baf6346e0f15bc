"""`config show`: the printed experiment loads as the same one, and says where each value is from."""

from __future__ import annotations

import pytest
from mriad.experiment.load import load, load_located
from mriad.experiment.render import render


@pytest.mark.parametrize("which", ["softseg", "cosmos"])
def test_what_is_printed_loads_as_the_same(which, request, tmp_path):
    path = request.getfixturevalue(which)
    loaded = load_located(path, ["description='no: # \"3\" $${X}'", "budget.clip_norm=1e-5"])
    printed = tmp_path / "printed.yaml"
    printed.write_text(render(loaded))
    assert load(printed) == loaded.experiment


def test_every_value_has_its_origin(softseg, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    top = tmp_path / "top.yaml"
    top.write_text("extends: softseg.yaml\nloss: {loss: {omega: 9}}\n")
    lines = render(load_located(top, ["optimiser=standard.adam", "seed=3"])).splitlines()

    def line(start: str) -> str:
        return next(" ".join(text.split()) for text in lines if text.strip().startswith(start))

    assert line("name:") == "name: soft_all # softseg.yaml:2"
    assert line("omega:") == "omega: 9.0 # top.yaml:2"
    assert line("seed:") == "seed: 3 # --set seed=3"
    assert line("patience:") == "patience: 0 # default"
    assert line("window:") == "window: [64, 192, full] # softseg.yaml:19"
    assert line("- type: eval.rve") == "- type: eval.rve # softseg.yaml:20"
    assert line("lr:") == "lr: 0.001 # softseg.yaml:16"
    assert line("kind:") == "kind: soft # softseg.yaml:5"
    assert line("reference: T2w") == "reference: T2w # softseg.yaml:22"
    values = [text for text in lines if not text.split("#")[0].rstrip().endswith(":")]
    assert all("  # " in text for text in values)
