"""Sparse features of activations: autoencoders, trained here or elsewhere, and their features inside a network.

    rows = ShuffledRows(stored, "network.middle1", batch=4096, seed=0)
    autoencoder = train_sparse(rows.epoch, features=2048, k=16, steps=5000, path="middle1.safetensors")
    load_sparse("unbox/unet.up_blocks.0.attentions.1")          # of sdxl-unbox, SAeUron, or ours
    codec_of(somebody_elses)                                    # anything with encode and decode
    Bands([0.5, 5.0], [low, middle, high])                      # one a band of noise levels
    sample(intervened(denoiser, [scale_features(autoencoder, "network.middle1", {17: 0.0})]), seeds=range(16))
    feature_direction(autoencoder, 17, site="network.middle1", values=activations)     # for `steer_curve`

Training touches tensors alone. What a feature is worth is measured in `analysis.inside`.
"""

from scorescope.probes.sparse.autoencoder import SparseAutoencoder
from scorescope.probes.sparse.codecs import Bands, Codec, codec_at, codec_of, dictionary
from scorescope.probes.sparse.edits import feature_direction, scale_features, spliced
from scorescope.probes.sparse.foreign import load_sparse
from scorescope.probes.sparse.training import train_sparse

__all__ = [
    "Bands",
    "Codec",
    "SparseAutoencoder",
    "codec_at",
    "codec_of",
    "dictionary",
    "feature_direction",
    "load_sparse",
    "scale_features",
    "spliced",
    "train_sparse",
]
