"""The Slicer side of MedGANSlicer: nodes in, nodes out, panels. The engine is the package ``medgan``."""
