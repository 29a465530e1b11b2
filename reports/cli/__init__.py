"""The command line, `scorescope`.

    scorescope report                                     # every report there is, at --quick size, with an index page
    scorescope report guidance --denoiser mine:make       # one report; also --trace RUN of a recorded pipeline
    scorescope report guidance --pipeline FOLDER --prompts prompts.txt        # a diffusers pipeline on disk
    scorescope compare BEFORE AFTER                       # what changed: recorded runs, or denoisers
    scorescope study study.toml                           # reports of many checkpoints; `run_study` in Python
    scorescope work sweep.toml --workers 8                # a sweep, moments, activations, ...; also --dask, --rank
    scorescope rerun report/guidance                      # the same again, from its manifest, and what differs; `rerun`
    scorescope describe FOLDER                            # what there is in a diffusers pipeline
    scorescope report fid REAL FAKE --features inception
    scorescope trace show RUN                             # what a recorded trace holds
    scorescope verify PATH...                             # traces, sweeps, moments, directions, ...: all their hashes
    scorescope weights convert pt_inception.pth           # feature networks' weights as safetensors
    scorescope card WEIGHTS                               # quality figures of a denoiser, on the card beside it

`commands`, `fid` and `trace` hold the commands and `options` what they share, in words and types alone; `repeatable` is
how a study or a manifest calls them. What they run is imported when they run, of other wings and of this one.
"""

from typing import TYPE_CHECKING

from scorescope.data.wings import late_face
from scorescope.reports.cli.commands import main  # at once: a study finds its reports among the commands

if TYPE_CHECKING:
    from scorescope.reports.cli.reruns import Rerun, rerun
    from scorescope.reports.cli.study import StudyOutcome, run_study
    from scorescope.reports.cli.study_file import Study, read_study
else:
    __getattr__, __dir__ = late_face(__name__)

__all__ = ["Rerun", "Study", "StudyOutcome", "main", "read_study", "rerun", "run_study"]
