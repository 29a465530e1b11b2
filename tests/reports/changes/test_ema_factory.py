"""EMA lengths of a network of the user's, whose class a factory names."""

import sys

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from scorescope.data import PowerEMA
from scorescope.reports.cli.compare import compare_ema

CODE = """
import torch


class Net(torch.nn.Module):
    img_channels, img_resolution, label_dim, sigma_data = 3, 8, 0, 0.5

    def __init__(self):
        super().__init__()
        self.gain = torch.nn.Parameter(torch.zeros(3, 1, 1))

    def forward(self, x, sigma, class_labels=None):
        return self.gain * x / (1 + sigma.reshape(-1, 1, 1, 1) ** 2)


def make():
    return Net()
"""


def test_averages_of_a_factorys_network_are_made_and_compared(tmp_path, monkeypatch, unrendered):
    (tmp_path / "my_ema_net.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)
    from my_ema_net import make

    network = make()
    tracked = PowerEMA(network, (0.05, 0.10))
    for step in range(1, 257):
        with torch.no_grad():
            network.gain.fill_(step / 256)
        tracked.update(network)
        if step % 32 == 0:
            for length, average in tracked.networks.items():
                about = {"training_step": str(step), "sigma_rel": str(length)}
                save_file(average.state_dict(), tmp_path / f"{step:03d}-{length:.2f}.safetensors", about)
    (tmp_path / "images").mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (12, 8, 8, 3), dtype=np.uint8)
    for number, one in enumerate(pixels):
        Image.fromarray(one).save(tmp_path / f"images/{number}.png")
    outcome = compare_ema(
        tmp_path / "out", tmp_path, "0.05,0.10,0.20", images=tmp_path / "images", size=None, device="cpu", command="c",
        factory="my_ema_net:make",
    )  # fmt: skip
    assert outcome.status == "complete", outcome.failures
    assert "my_ema_net" in sys.modules
    table = next(rows for rows in outcome.tables.values() if {"sigma", "value", "first"} <= set(rows))
    # a longer average lags more behind the growing gain, and a lower gain is a larger loss where there is little noise
    least = table[(table["sigma"] == table["sigma"].min()) & (table["first"] == table["first"].iloc[0])]
    assert least["shown"].all() and (least["value"].abs() > 0).all()
