"""The Gaussian report, its figures and its sentences: how much of a denoiser is a Gaussian's, and what that saves.

    from scorescope.probes import load_model
    from scorescope.reports.gaussian import Data, build, figures, from_folder, split

    build(Path("report"), load_model("digits"), command="my study")                   # the shipped digits
    data = from_folder(Path("images"), model)                                         # a fifth of them held out
    data = Data(train, held_out, name="mine")                                         # or your own two sets
    build(Path("report"), model, data=data, command="my study")

    build_from_pipeline(Path("report"), load_pipeline("my-finetune/"), images="photographs/", command="my study")

    figures.law_fractions(score_table(gaps), regimes(gaps), constant=c, gaussian="gaussian")    # a matplotlib Figure

`study` says what is measured and which laws are fitted, `sections_*` what is shown of it, `report` in which order.
"""

from scorescope.reports.gaussian import figures, readings
from scorescope.reports.gaussian.report import build, build_from_pipeline
from scorescope.reports.gaussian.study import Data, digits_of, from_folder, split

__all__ = ["Data", "build", "build_from_pipeline", "digits_of", "figures", "from_folder", "readings", "split"]
