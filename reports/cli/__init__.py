"""The command line, `scorescope`.

    scorescope report                                     # every report there is, at --quick size, with an index page
    scorescope report guidance --denoiser mine:make       # one report; also --trace RUN of a recorded pipeline
    scorescope report fid REAL FAKE --features inception
    scorescope trace show RUN                             # what a recorded trace holds
    scorescope verify PATH...                             # traces, sweeps, moments, directions, ...: all their hashes
    scorescope weights convert pt_inception.pth           # feature networks' weights as safetensors
    scorescope card WEIGHTS                               # quality figures of a denoiser, on the card beside it

`commands` holds the reports' and `main`, `fid` those that compare images, `trace` those of recordings, `verify`
what checks files of every kind, `card` what a card says.
"""

from scorescope.reports.cli.commands import main

__all__ = ["main"]
