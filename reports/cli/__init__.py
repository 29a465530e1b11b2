"""The command line, `scorescope`.

    scorescope report                                     # every report there is, at --quick size, with an index page
    scorescope report guidance --denoiser mine:make       # one report; also --trace RUN of a recorded pipeline
    scorescope report guidance --pipeline FOLDER --prompts prompts.txt        # a diffusers pipeline on disk
    scorescope compare BEFORE AFTER                       # what changed: recorded runs, or denoisers
    scorescope describe FOLDER                            # what there is in a diffusers pipeline
    scorescope report fid REAL FAKE --features inception
    scorescope trace show RUN                             # what a recorded trace holds
    scorescope verify PATH...                             # traces, sweeps, moments, directions, ...: all their hashes
    scorescope weights convert pt_inception.pth           # feature networks' weights as safetensors
    scorescope card WEIGHTS                               # quality figures of a denoiser, on the card beside it

`commands`, `fid` and `trace` hold the commands and `options` what they share, in words and types alone. What they run
is imported when they run: of other wings, and here `all_reports`, `feature_spaces`, `trace_lines`, `verify`, `card`.
"""

from scorescope.reports.cli.commands import main

__all__ = ["main"]
