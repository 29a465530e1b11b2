"""Sections of the inside report on sparse features: what they keep of a site, what they read, and what they move."""

from scorescope.reports.inside import figures, findings, readings
from scorescope.reports.inside.sparse_study import ACTIVE, DOSE, FEATURES, JUDGED, RELEVANT, SCREENED
from scorescope.reports.inside.workbench import Workbench
from scorescope.reports.page.pages import ReportFigure, ReportTable, Section

JUDGED_COLUMNS = (
    "site", "attribute", "feature", "verdict", "within_budget", "effect", "effect_low", "effect_high", "value",
    "value_low", "value_high",
)  # fmt: skip


def kept_section(bench: Workbench) -> Section:
    """How much of a site its sparse features keep at each noise level, and what the network makes of the rest."""
    study = bench.sparse
    held_out = len(study.images)
    trained = len(bench.subject.images) - held_out
    return Section(
        text=f"One sparse autoencoder a site, for all noise levels: {FEATURES} features a channel, {ACTIVE} of them "
        f"active at a position, trained on {trained} {bench.subject.images_are}; what is shown is of the other "
        f"{held_out}.",
        figures=[
            ReportFigure(
                "sparse_sheet", figures.sparse_sheet(study.sheet), readings.read_sheet(study.sheet),
                "By noise level; 95 % intervals over images. The loss: how much replacing the site by its "
                "reconstruction raises the loss of the denoiser, over how much leaving the site out (0 in its place) "
                "does; a level is missing where leaving it out is not shown to cost anything. Silent: at all positions "
                "of the held-out images.", wide=True,
            ),
            ReportFigure(
                "density", figures.density_histogram(study.density), readings.read_density(study.density),
                f"Of {int(study.density['rows'].min())} positions at each noise level.", wide=True,
            ),
        ],
        tables=[
            ReportTable(
                "sparse_sheet", study.sheet, "One row a (site, noise level, quantity).",
                first=("site", "sigma", "quantity", "value", "low", "high", "n"),
            ),
            ReportTable("density", study.density, "One row a (site, noise level, feature).", shown=False),
        ],
        findings=findings.kept(study.sheet),
    )  # fmt: skip


def features_section(bench: Workbench) -> Section:
    """What the chosen features read on other images, and what they move on other seeds."""
    study, judged = bench.sparse, bench.sparse.judged
    best = int((judged["margin"]).to_numpy().argmax())
    chosen = f"feature {judged['feature'].iloc[best]} of {judged['site'].iloc[best]}"
    return Section(
        text="For each site and attribute: of the features that tell its two ends apart best on the images of "
        f"training, the one that moves it most on {len(SCREENED)} seeds. It is judged on the held-out images and on "
        "other seeds.",
        figures=[
            ReportFigure(
                "read_and_move", figures.read_and_move(judged), readings.read_judged(judged),
                "Left: chance that the feature's mean code is higher in an image of the end of the attribute that it "
                f"read in training. Right: from {DOSE:g} standard deviations of its projection subtracted to as many "
                f"added, turned to the attribute's high end, the change of the judge's score over "
                f"{len(JUDGED)} seeds, in standard deviations over the held-out images; grey, the root "
                "mean square effect of random directions of its norm. 95 % intervals of one row; filled: "
                f"judged steerable, beyond {RELEVANT:g} and every random direction, and within its budget of change. "
                "p is multiplied by the number of features of the site, of which each was chosen (`chosen_from`), and "
                "corrected for the number of rows (Holm): one well beyond the grey may be undecided.", wide=True,
            ),
            ReportFigure(
                "feature_page", study.page(best, show=bench.subject.pictures),
                f"The {chosen}, chosen for {judged['attribute'].iloc[best]}: the row above whose effect is furthest "
                "beyond its controls.",
                "The held-out images in which it is strongest, and its codes there; how often it fires; what it reads, "
                f"not turned; what adding {DOSE:g} standard deviations of it moves, from none.", wide=True,
            ),
        ],
        tables=[
            ReportTable("features", judged, "One row a (site, attribute).", first=JUDGED_COLUMNS),
            ReportTable("reads", study.reads, "What chosen features read, at all noise levels.", shown=False),
            ReportTable("moves", study.moves, "Dose and response of chosen features and of controls.", shown=False),
        ],
        findings=[*findings.moved(judged), *findings.read(judged)],
    )  # fmt: skip
