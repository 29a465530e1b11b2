"""Data sets, and the small denoisers that ship with the package.

digits = load_digits()
denoiser, card = load_denoiser("digits")
"""

from scorescope.data.checkpoints import load_denoiser, load_snapshots, save_denoiser, shipped_denoisers
from scorescope.data.digits import Digits, Labelled, load_digits
from scorescope.data.errors import InputError
from scorescope.data.unet import EDMDenoiser, UNetConfig

__all__ = [
    "Digits",
    "EDMDenoiser",
    "InputError",
    "Labelled",
    "UNetConfig",
    "load_denoiser",
    "load_digits",
    "load_snapshots",
    "save_denoiser",
    "shipped_denoisers",
]
