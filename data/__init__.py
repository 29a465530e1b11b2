"""Data sets, and the small denoisers that ship with the package.

digits = load_digits()
denoiser, card = load_denoiser("digits")
"""

from typing import TYPE_CHECKING

from scorescope.data.wings import late_face

if TYPE_CHECKING:
    from scorescope.data.attribute_scorer import AttributeScorer, load_scorer, log_odds
    from scorescope.data.checkpoints import load_denoiser, load_snapshots, save_denoiser, shipped_denoisers
    from scorescope.data.classifiers import Classifier, load_classifier, shipped_classifiers
    from scorescope.data.digit_measures import measure_digits
    from scorescope.data.digits import Digits, Labelled, load_digits
    from scorescope.data.errors import InputError
    from scorescope.data.power_ema import PowerEMA
    from scorescope.data.prompt_pairs import PromptPair, read_pairs
    from scorescope.data.prompts import read_prompts
    from scorescope.data.scenes import ACCESSORIES, Scenes, render_scenes
    from scorescope.data.shapes import ATTRIBUTES, Shapes, column, render_shapes
    from scorescope.data.unet import EDMDenoiser, UNetConfig
    from scorescope.data.written_files import IntegrityWarning
else:
    __getattr__, __dir__ = late_face(__name__)

__all__ = [
    "ACCESSORIES",
    "ATTRIBUTES",
    "AttributeScorer",
    "Classifier",
    "Digits",
    "EDMDenoiser",
    "InputError",
    "IntegrityWarning",
    "Labelled",
    "PowerEMA",
    "PromptPair",
    "Scenes",
    "Shapes",
    "UNetConfig",
    "column",
    "load_classifier",
    "load_denoiser",
    "load_digits",
    "load_scorer",
    "load_snapshots",
    "log_odds",
    "measure_digits",
    "read_pairs",
    "read_prompts",
    "render_scenes",
    "render_shapes",
    "save_denoiser",
    "shipped_classifiers",
    "shipped_denoisers",
]
