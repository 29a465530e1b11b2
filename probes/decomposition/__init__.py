"""decomposition"""

from scorescope.probes.decomposition.products import (
    band_products,
    branch_products,
    centred_products,
    guided_products,
    image_statistics,
    projection_products,
)

__all__ = [
    "band_products",
    "branch_products",
    "centred_products",
    "guided_products",
    "image_statistics",
    "projection_products",
]
