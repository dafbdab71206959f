"""MedGAN: generative enhancement of medical volumes, usable with and without 3D Slicer."""

__version__ = "0.1.0"
