"""The FID report, its figures and its sentences: where a Frechet distance comes from, and how far it can be trusted.

    from scorescope.probes.features import inception_extractor
    from scorescope.reports.fid import build, figures, folder_study

    build(Path("report"), command="my study")                      # the shipped digits, and a test with a known answer
    study = folder_study(Path("real"), Path("fake"), inception_extractor(Path("inception-2015.safetensors")))
    build(Path("report"), study=study, command="my study")         # two folders of images
    study = folder_study(read_reference("ref.npz", extractor), "fake", extractor)    # stored statistics in place of one

    figures.contributions(feature_contributions(plan), direction_spectrum(plan).table)    # a matplotlib Figure

`comparisons` makes what is compared, `sections_*` what is shown of it, `report` in which order.
"""

from scorescope.reports.fid import figures, readings
from scorescope.reports.fid.comparisons import folder_study, read_reference, shipped_study
from scorescope.reports.fid.report import build
from scorescope.reports.fid.study import ImageSet, Reference, Study

__all__ = [
    "ImageSet",
    "Reference",
    "Study",
    "build",
    "figures",
    "folder_study",
    "read_reference",
    "readings",
    "shipped_study",
]
