"""All self tests in one Slicer, with exit code 1 on failure: ``Slicer --testing --python-script run_all.py``."""

import sys
import unittest
from pathlib import Path

import slicer
import slicer.util

sys.path.insert(0, str(Path(__file__).parent))
loader = unittest.defaultTestLoader
suite = loader.loadTestsFromName("MedGANSlicerPanelTest")
suite.addTests(loader.loadTestsFromName("MedGANSlicerMakeTest"))
suite.addTests(loader.loadTestsFromName("MedGANSlicer.MedGANSlicerTest"))
result = unittest.TextTestRunner(verbosity=2).run(suite)
slicer.util.exit(0 if result.wasSuccessful() else 1)
