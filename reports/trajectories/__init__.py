"""The trajectories report, its figures and its sentences: which steps matter, where a solver errs, better levels.

    build(Path("report"), load_model("digits"), command="my study")                        # the shipped digits
    build(Path("report"), model, weight=4.0, images=train, command="my study")             # your own, guided
    build_from_pipeline(Path("report"), pipe, [{"prompt": "a lighthouse"}], command="my study")

    table = steps_table(settings, fine=samples)                  # of `analysis.trajectories`
    figures.metrics_along(table, {"end_error": "error (units of data)"}, x="calls", xlabel="calls a sample")
    figures.local_errors(errors.assign(grid="rho 7"))            # of each step alone, by solver

`study` says what is run, `sections_*` what is shown of it. Entries of the atlas are in `atlas`.
"""

from scorescope.reports.trajectories import figures, readings
from scorescope.reports.trajectories.report import build, build_from_pipeline

__all__ = ["build", "build_from_pipeline", "figures", "readings"]
