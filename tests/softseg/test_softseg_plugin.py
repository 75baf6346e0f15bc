from __future__ import annotations

import subprocess
import sys

import torch
from mriad.batch import Draws, sample_key
from mriad.plugins import discover


def test_every_public_name_is_registered():
    import mriad_softseg

    registry = discover().registry
    names = {
        name
        for known in registry.components.values()
        for name, entry in known.items()
        if entry.plugin == "softseg"
    }
    assert {getattr(mriad_softseg, n).model_fields["type"].default for n in mriad_softseg.__all__} <= names


def test_configs_are_light():
    code = (
        "import sys, mriad_softseg, mriad_softseg.plugin\n"
        "[getattr(mriad_softseg, name)() for name in mriad_softseg.__all__ if name not in "
        "('NormReLUInLoss', 'LiteralDeepSupervision')]\n"
        "print([m for m in ('torch', 'scipy', 'monai', 'numba', 'SimpleITK') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_dense_noise_of_some_rows_leaves_the_others_generators():
    keys = [sample_key(0, "s", 0, name) for name in "abc"]
    both = Draws(keys, "tag")
    first = both.noise((5,), [0, 2])
    rest = both.noise((5,))
    for row, place in ((0, 0), (2, 1)):
        alone = Draws([keys[row]], "tag")
        torch.testing.assert_close(first[place], alone.noise((5,))[0], rtol=0, atol=0)
        torch.testing.assert_close(rest[row], alone.noise((5,))[0], rtol=0, atol=0)
    # The sample that drew nothing before draws its first numbers now.
    torch.testing.assert_close(rest[1], Draws([keys[1]], "tag").noise((5,))[0], rtol=0, atol=0)
