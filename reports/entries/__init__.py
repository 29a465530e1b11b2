"""What a figure of the atlas is, as data, and what it is made from: a model, traces, images, what else a user brings.

    UPDATE = Entry(
        "apg-update-parts", "Norms of the guidance update and of its parts against the noise level",
        cites=("sadat2025eliminating",), needs=("run", "conditions"), numbers=update_numbers, draw=draw_update,
        caption="... {weight:g} ...", differs="...", oracle="...",
    )
    material = Material(load_model("digits"), count=96, folder=Path("atlas/runs"))
    UPDATE.why_not(material)                              # what is missing for it, before anything runs; else ""
    made = UPDATE.numbers(material)                       # tables, pictures, and facts for the caption
    UPDATE.draw(made, style="paper-single")               # from these alone

Entries lie beside their instrument, in its `atlas`; `reports.atlas` lists, makes and shows them.
"""

from scorescope.reports.entries.entry import NEEDS, Entry, Numbers
from scorescope.reports.entries.material import Material, RealImages

__all__ = ["NEEDS", "Entry", "Material", "Numbers", "RealImages"]
