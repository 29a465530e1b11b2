"""Per-sample inner products of the branches, on the device, in float64: what every table of guidance follows from.

    sums = branch_products(cond, uncond, x)
    sums["update_cond"] / sums["cond_sq"]          # how far the update goes along the prediction, one number a sample
    band_products(cond, uncond, edges=(0.1, 0.25))

The branches are subtracted before anything is squared; this wing knows nothing of steps, rules or tables.
"""

from scorescope.probes.decomposition.products import (
    band_energies,
    band_products,
    branch_products,
    centred_products,
    guided_products,
    image_statistics,
    projection_products,
)

__all__ = [
    "band_energies",
    "band_products",
    "branch_products",
    "centred_products",
    "guided_products",
    "image_statistics",
    "projection_products",
]
