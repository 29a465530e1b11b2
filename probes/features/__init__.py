"""From images to features to moments: feature networks, sets of images and masks, mergeable moments.

    extractor = classifier_extractor("digits")     # shipped; inception_extractor, dinov2_extractor, timm_extractor
    found = extract(open_images("samples/"), extractor)                  # found.features, (n, d); or tensor_images(x)
    moments = stream_moments(open_images("samples.zip"), extractor)      # constant memory
    write_moments(pathlib.Path("samples.npz"), moments)

What distances are made of; the distances are in `analysis.fid`.
"""

from scorescope.probes.features.captum_maps import gradcam_maps, occlusion_maps
from scorescope.probes.features.class_names import load_class_names
from scorescope.probes.features.edm2_references import read_edm2_reference
from scorescope.probes.features.efficientnet import efficientnet_extractor
from scorescope.probes.features.extraction import (
    Features,
    extract,
    extract_maps,
    extract_spatial,
    stream_maps,
    stream_moments,
)
from scorescope.probes.features.extractors import (
    Extractor,
    classifier_extractor,
    inception_extractor,
    module_extractor,
    pixel_extractor,
    spatial_extractor,
    spatial_readings,
)
from scorescope.probes.features.images import made_images, open_images, tensor_images
from scorescope.probes.features.inception_weights import convert_inception
from scorescope.probes.features.masks import open_masks
from scorescope.probes.features.moments import Moments, RunningMoments, read_moments, write_moments
from scorescope.probes.features.public_extractors import clip_extractor, dinov2_extractor, timm_extractor

__all__ = [
    "Extractor",
    "Features",
    "Moments",
    "RunningMoments",
    "classifier_extractor",
    "clip_extractor",
    "convert_inception",
    "dinov2_extractor",
    "efficientnet_extractor",
    "extract",
    "extract_maps",
    "extract_spatial",
    "gradcam_maps",
    "inception_extractor",
    "load_class_names",
    "made_images",
    "module_extractor",
    "occlusion_maps",
    "open_images",
    "open_masks",
    "pixel_extractor",
    "read_edm2_reference",
    "read_moments",
    "spatial_extractor",
    "spatial_readings",
    "stream_maps",
    "stream_moments",
    "tensor_images",
    "timm_extractor",
    "write_moments",
]
