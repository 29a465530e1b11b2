"""Columns of the steering tables."""

from scorescope.analysis.statistics.tables import Column, Schema

_WHERE = (
    Column("attribute", str, "", "what the direction is a direction of"),
    Column("method", str, "", "how it was found"),
    Column("site", str, "", "where it acts"),
    Column("sigma_low", float, "data", "it acts at noise levels above this one"),
    Column("sigma_high", float, "data", "and up to this one (at most the first level of the sampler)"),
    Column("log_snr", float, "1", "-2 ln sigma_high: where it begins to act"),
)
_ARM = (Column("arm", str, "", "direction, shuffled, random 1 and so on, none (no edit)"),)
_INTERVAL = (
    Column("low", float, "", "lower end of the 95 % interval, bootstrap over seeds"),
    Column("high", float, "", "upper end"),
)

STEER_SAMPLES = Schema(
    "steer_samples",
    (
        *_WHERE,
        *_ARM,
        Column("strength", float, "SD", "standard deviations of the projection"),
        Column("seed", int, "", "of the sample"),
        Column("score", str, "", "name of the score"),
        Column("value", float, "score", "the score of this sample, in natural SDs where those are given"),
        Column("change", float, "score", "the same less that of the sample without edit"),
        Column("distance", float, "data", "from the sample without edit"),
    ),
)

STEER_CURVE = Schema(
    "steer_curve",
    (
        *_WHERE,
        *_ARM,
        Column("strength", float, "SD", "standard deviations of the projection"),
        Column("score", str, "", "name of the score"),
        Column("target", bool, "", "whether it is the attribute's; the others should not move"),
        Column("n", int, "", "seeds"),
        Column("value", float, "score", "mean change of the score"),
        *_INTERVAL,
        Column("distance", float, "data", "mean distance from the samples without edit"),
    ),
)

STEER_ARMS = Schema(
    "steer_arms",
    (
        *_WHERE,
        *_ARM,
        Column("quantity", str, "", "see QUANTITIES"),
        Column("n", int, "", "seeds"),
        Column("value", float, "", "unit as in QUANTITIES"),
        *_INTERVAL,
    ),
)

QUANTITIES = {
    "slope": "change of the target's score per SD of strength, between the strengths next to 0",
    "effect": "target's score at the highest strength within the distance budget of the direction's arm, less that "
    "at the lowest (the same strengths in all arms)",
    "disentanglement": "|effect| / (|effect| + sum of the |effects| on the other scores); 1 is none on them",
    "spearman": "mean over seeds of the rank correlation of score and strength; 0 where the score never changes",
    "spearman_q10": "its lowest tenth over seeds",
    "spearman_q90": "its highest tenth over seeds",
    "dynamic_range": "highest less lowest mean score of the target within the budget",
    "saturation": "smallest strength beyond which the mean change grows by less than a tenth of its largest value; "
    "missing where that is the end of the grid",
    "distance": "mean distance from the samples without edit, at the two strengths of `effect`",
}

STEER_VERDICTS = Schema(
    "steer_verdicts",
    (
        *_WHERE,
        Column("strength_low", float, "SD", "lowest strength within the distance budget"),
        Column("strength_high", float, "SD", "highest"),
        Column("within_budget", bool, "", "False where even the strengths next to 0 exceed the budget"),
        Column("n", int, "", "seeds"),
        Column("effect", float, "score", "of the direction, from strength_low to strength_high; mean over seeds"),
        Column("effect_low", float, "score", "lower end of its 95 % interval, Student's t over seeds"),
        Column("effect_high", float, "score", "upper end"),
        Column("relevant", float, "score", "smallest |effect| that counts; 0 leaves it to the controls"),
        Column("bar", str, "", "the highest bar: the control arm with the largest |effect|, or the relevant size"),
        Column("margin", float, "score", "|effect| less the highest bar; controls have the norm of the direction"),
        Column("low", float, "score", "lower end of the margin's 95 % interval over seeds, for this row alone"),
        Column("high", float, "score", "upper end; its level is divided by the number of bars (Bonferroni)"),
        Column("random", int, "", "random arms"),
        Column("chance", float, "score", "root mean square effect of the random arms; missing without one"),
        Column(
            "p_random", float, "1", "that a random direction does as much: Student's t, `random` degrees of freedom"
        ),
        Column("p", float, "1", "of 'moves no more than a control': larger of p_random and of that of low <= 0"),
        Column("p_not", float, "1", "of 'moves more than every bar', the null of 'not steerable': that of high >= 0"),
        Column("p_adjusted", float, "1", "p, corrected over the family"),
        Column("p_not_adjusted", float, "1", "p_not, corrected over the family"),
        Column("family", int, "", "rows that are judged together; both p are corrected for their number"),
        Column("correction", str, "", "by which: holm (any error in the family) or fdr (share of wrong finds)"),
        Column("selectivity", float, "1", "|effect| over the mean |effect| of the random arms; missing without one"),
        Column("selectivity_low", float, "1", "lower end of its 95 % interval, bootstrap over seeds"),
        Column("selectivity_high", float, "1", "upper end"),
        Column(
            "verdict",
            str,
            "",
            "steerable: p_adjusted <= 0.05; reversed: so, but it moves backwards; not steerable: p_not_adjusted <= "
            "0.05, a bar lies above the effect; undecided: neither is shown",
        ),
    ),
)
