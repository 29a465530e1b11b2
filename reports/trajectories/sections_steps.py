"""Sections of the trajectories report on single steps: what becomes of a changed one, and whose training agrees."""

import contextlib

from scorescope.analysis.steps import change_steps, cheapest_steps, gradient_affinity, proxy_ranks, step_damage
from scorescope.data.errors import InputError
from scorescope.probes.perturbations import Change, LeftOut, Repeated, Replaced, Rounded, Unguided
from scorescope.reports.page.pages import ReportFigure, ReportTable, Section
from scorescope.reports.trajectories import figures, findings, readings
from scorescope.reports.trajectories.study import BITS, MAIN, STEPS, Study

WITHIN = 0.05  # of the samples' own root mean square: damage that is allowed
LEAST_IMAGES = 16  # two for each group of which gradients are kept apart
AFFINITY_SIGMAS = (0.05, 0.2, 0.6, 2.0, 6.0, 30.0)


def _changes(study: Study) -> dict[str, Change]:
    changes: dict[str, Change] = {"left out": LeftOut(), "prediction repeated": Repeated()}
    if study.weight != 1.0:
        changes["unguided"] = Unguided()
    if study.network is not None:
        with contextlib.suppress(InputError):  # no layer to round
            changes[f"weights of {BITS} bits"] = Replaced(Rounded(study.model.denoiser, bits=BITS))
    return changes


def steps_section(study: Study) -> Section:
    """Damage of a change in each step, what proxies say of it, and how many steps can be changed."""
    how = {"seeds": study.seeds, "condition": study.condition(len(study.seeds)), "sampling": study.sampling}
    size = float(study.exact.double().square().mean().sqrt())  # of the data, as the model has them
    effects = change_steps(study.model.denoiser, _changes(study), **how, sigma_data=size, progress=study.progress)
    damage, ranks = step_damage(effects), proxy_ranks(effects)
    allowed = WITHIN * float(effects.samples.double().square().mean().sqrt())
    sets = cheapest_steps(study.model.denoiser, Repeated(), within=allowed, **how, progress=study.progress)
    return Section(
        text=f"{MAIN} with {STEPS} steps, one step changed at a time: by how much the end sample moves. Beside it the "
        "numbers that caching methods decide by, which cost no run, and the change of D times its amplification, which "
        "costs one a step.",
        figures=[
            ReportFigure(
                "step_damages", figures.step_damages(damage), readings.read_steps(damage, ranks, sets, allowed),
                f"{study.how}. Means over samples, 95 % intervals. Proxies are drawn over their largest "
                "value.", wide=True,
            )
        ],
        tables=[
            ReportTable("proxy_ranks", ranks, "Spearman's rank correlation of a proxy with the damage, over steps."),
            ReportTable(
                "cheapest_steps", sets,
                "Steps that repeat a prediction, the least harmful first, while the damage stays within "
                f"{allowed:.3g}.",
                first=("step", "sigma", "alone", "changed", "mean", "low", "high", "taken"),
            ),
            ReportTable("step_damages", damage, "One row a (change or proxy, step).", shown=False),
        ],
        findings=[*findings.worst_step(damage), *findings.proxies(ranks)],
    )  # fmt: skip


def affinity_section(study: Study) -> Section:
    """Whether the training gradients of two noise levels agree."""
    if study.network is None:
        return Section(text="Not made: the denoiser is not a network with weights of its own.")
    if study.images is None:
        return Section(text="Not made: it takes images that the model was trained on (--data).")
    images = study.images[: 128 if study.quick else 512].to(study.device)
    sigmas = [sigma for sigma in AFFINITY_SIGMAS if study.span[0] <= sigma <= study.span[1]]
    if len(sigmas) < 2 or len(images) < LEAST_IMAGES:
        found = f"{len(sigmas)} of the levels are known to the model, and there are {len(images)} images"
        return Section(text=f"Not made: it takes two levels and {LEAST_IMAGES} images; {found}.")
    table = gradient_affinity(study.model.denoiser, images, sigmas, seed=study.seed, progress=study.progress)
    return Section(
        text="Two noise levels whose gradients point the same way are learnt together; where they oppose each other a "
        "network for each would be the better one. Gradients of E|D - x0|² over all weights, unconditional branch.",
        figures=[
            ReportFigure(
                "affinity", figures.affinity_matrix(table), readings.read_affinity(table),
                f"{len(images)} training images, one noise draw each a level. The noise of the gradients is taken out "
                "by comparing different groups of images.",
            )
        ],
        tables=[ReportTable("affinity", table, "One row a pair of levels.")],
        findings=findings.opposed(table),
    )  # fmt: skip
