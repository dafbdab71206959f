"""Every settings dataclass of the engine. Imports without torch, so that menus fill before it is installed.

A settings object is the parameter pack of the panel, the ``settings`` entry of ``job.json``, the record
beside a checkpoint and the provenance on a result. Bounds stand in ``Annotated`` metadata: the objects
check themselves with them, and the Slicer side turns them into the ranges of its widgets.
"""

from __future__ import annotations

from medgan.settings.anomaly import AnomalySettings
from medgan.settings.base import Bounds, Device, Settings
from medgan.settings.enhance import Axis, EnhanceSettings, SliceProfile
from medgan.settings.evaluate import EvaluateSettings, Figures, PairedTest
from medgan.settings.recognise import RecogniseSettings, Saliency
from medgan.settings.segment import SegmentSettings
from medgan.settings.synthesize import Contrast, SynthesizeSettings, Target
from medgan.settings.train import Adversarial, Pairing, Precision, Restores, TrainKind, TrainSettings

__all__ = [
    "SETTINGS",
    "Adversarial",
    "AnomalySettings",
    "Axis",
    "Bounds",
    "Contrast",
    "Device",
    "EnhanceSettings",
    "EvaluateSettings",
    "Figures",
    "PairedTest",
    "Pairing",
    "Precision",
    "RecogniseSettings",
    "Restores",
    "Saliency",
    "SegmentSettings",
    "Settings",
    "SliceProfile",
    "SynthesizeSettings",
    "Target",
    "TrainKind",
    "TrainSettings",
]

SETTINGS: dict[str, type[Settings]] = {
    "enhance": EnhanceSettings,
    "train": TrainSettings,
    "evaluate": EvaluateSettings,
    "segment": SegmentSettings,
    "synthesize": SynthesizeSettings,
    "anomaly": AnomalySettings,
    "recognise": RecogniseSettings,
}
"""Settings class of each task, by the task's name."""
