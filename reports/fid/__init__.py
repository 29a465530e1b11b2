"""The FID report, its figures and its sentences: where a Frechet distance comes from, and how far it can be trusted.

    from scorescope.probes.features import inception_extractor
    from scorescope.reports.fid import build, figures, folder_study

    build(Path("report"), command="my study")                      # the shipped digits, and a test with a known answer
    study = folder_study(Path("real"), Path("fake"), inception_extractor(Path("inception-2015.safetensors")))
    build(Path("report"), study=study, command="my study")         # two folders of images

    figures.contributions(feature_contributions(plan), direction_spectrum(plan).table)    # a matplotlib Figure

`study` says what is compared, `sections_*` what is shown of it, `report` in which order.
"""

from scorescope.reports.fid import figures, readings
from scorescope.reports.fid.report import build
from scorescope.reports.fid.study import ImageSet, Study, folder_study, shipped_study

__all__ = ["ImageSet", "Study", "build", "figures", "folder_study", "readings", "shipped_study"]
