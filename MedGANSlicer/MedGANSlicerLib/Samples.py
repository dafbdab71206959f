"""The shipped scan in the Sample Data module; it is read from the extension's own folder, without network."""

from __future__ import annotations

import slicer.util
from slicer.i18n import tr as _

from medgan.samples import SAMPLE_NAME, sample_path


def register() -> None:
    """Call it once Slicer has started."""
    import SampleData

    if hasattr(SampleData.SampleDataLogic, "registerCustomSampleDataCategory"):  # Slicer 5.12
        SampleData.SampleDataLogic.registerCustomSampleDataCategory("MedGAN", _("MedGAN"))
    SampleData.SampleDataLogic.registerCustomSampleDataSource(
        category="MedGAN",
        sampleName=SAMPLE_NAME,
        uris=sample_path().as_uri(),
        fileNames=sample_path().name,
        nodeNames=SAMPLE_NAME,
        customDownloader=load,
    )


def load(source=None):
    """The shipped scan as a volume node. ``source`` is what Sample Data passes."""
    return slicer.util.loadVolume(str(sample_path()), {"name": SAMPLE_NAME})
