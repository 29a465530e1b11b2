"""Columns of the tables that `pairwise_information` returns."""

from scorescope.analysis.statistics.tables import Column, Schema

POINTWISE = Schema(
    "pointwise_information",
    (
        Column("image", int, "", "row of the bank"),
        Column("log_ratio_nats", float, "nats", "half the integrated loss difference: log p(x | y) / p(x | baseline)"),
        Column("log_ratio_error", float, "nats", "its standard error over noises; NaN for one draw"),
        Column("influence_nats", float, "nats", "half the integrated squared distance of the two eps predictions"),
    ),
)

EXPECTED = Schema(
    "expected_information",
    (
        Column("estimator", str, "", "log_ratio or influence"),
        Column("n", int, "", "images"),
        Column("nats", float, "nats", "mean over images, integrated over the covered range"),
        Column("low", float, "nats", "lower end of its 95 % interval, bootstrap over images; NaN for one image"),
        Column("high", float, "nats", "upper end"),
        Column("deviation", float, "nats", "standard deviation over images"),
        Column("log_snr_low", float, "1", "where the covered range begins"),
        Column("log_snr_high", float, "1", "where it ends"),
        Column("outside", float, "nats", "both tails, extrapolated; not in `nats`; NaN where one is not known"),
        Column("bound", float, "nats", "entropy of the condition, which information cannot exceed; NaN if not stated"),
        Column("reading", str, "", "what the number is, and whether its interval lies above the bound"),
    ),
)

INTEGRAND = Schema(
    "information_by_level",
    (
        Column("sigma", float, "data", "noise level"),
        Column("log_snr", float, "1", "-2 ln sigma"),
        Column("weight", float, "1", "of the level in the integral over log-SNR"),
        Column("estimator", str, "", "log_ratio or influence"),
        Column("n", int, "", "images"),
        Column("density", float, "nats per unit log-SNR", "mean integrand, from eps predictions"),
        Column("low", float, "nats per unit log-SNR", "lower end of its 95 % interval, bootstrap over images"),
        Column("high", float, "nats per unit log-SNR", "upper end"),
        Column(
            "cumulative", float, "nats", "integral of density from log_snr_low to this level, trapezoid: I(y; x_sigma)"
        ),
    ),
)

TAILS = Schema(
    "information_tails",
    (
        Column("estimator", str, "", "log_ratio or influence"),
        Column("end", str, "", "low or high log-SNR"),
        Column("log_snr", float, "1", "where the covered range ends"),
        Column("density", float, "nats per unit log-SNR", "integrand there"),
        Column("slope", float, "1", "d ln(integrand) / d log-SNR over the last levels"),
        Column("nats", float, "nats", "estimate of what lies outside; NaN where the integrand does not fall"),
        Column("basis", str, "", "what the estimate rests on"),
    ),
)
