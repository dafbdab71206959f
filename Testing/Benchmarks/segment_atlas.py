"""The classic peer: one labelled head is registered to the scan (affine, then Demons) and lends its labels."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from medgan.volume import LabelMap, Volume
from medgan.writing import to_image


def registered_labels(scan: Volume, atlas: Volume, labels: np.ndarray, demons_iterations: int = 60) -> np.ndarray:
    """Labels on the grid of ``scan``. Mattes mutual information for the affine map, histogram-matched Demons after."""
    fixed, moving = (to_image(Volume(volume.array, volume.ijk_to_ras)) for volume in (scan, atlas))
    moving_labels = to_image(LabelMap(labels, atlas.ijk_to_ras))
    start = sitk.CenteredTransformInitializer(
        fixed, moving, sitk.AffineTransform(3), sitk.CenteredTransformInitializerFilter.MOMENTS
    )
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(32)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(0.02, seed=1)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(1.0, 1e-3, 150)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([4, 2])
    method.SetSmoothingSigmasPerLevel([2, 1])
    method.SetInitialTransform(start, inPlace=False)
    affine = method.Execute(fixed, moving)
    warped = sitk.Resample(moving, fixed, affine, sitk.sitkLinear, 0.0)
    matcher = sitk.HistogramMatchingImageFilter()
    matcher.SetNumberOfHistogramLevels(128)
    matcher.SetNumberOfMatchPoints(10)
    matcher.ThresholdAtMeanIntensityOn()
    demons = sitk.FastSymmetricForcesDemonsRegistrationFilter()
    demons.SetNumberOfIterations(demons_iterations)
    demons.SetStandardDeviations(1.5)
    field = sitk.DisplacementFieldTransform(demons.Execute(fixed, matcher.Execute(warped, fixed)))
    both = sitk.CompositeTransform([affine, field])
    carried = sitk.Resample(moving_labels, fixed, both, sitk.sitkNearestNeighbor, 0, moving_labels.GetPixelID())
    return sitk.GetArrayFromImage(carried)
