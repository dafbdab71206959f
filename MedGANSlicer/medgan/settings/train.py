"""Settings of training."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Annotated

from medgan.settings.base import Bounds, Device, Settings


class TrainKind(Enum):
    """What is trained. The value is also the task on the model's card."""

    ENHANCE = "enhance"
    TRANSLATE = "translate"
    LABEL_TO_VOLUME = "label-to-volume"
    FROM_NOISE = "from-noise"
    SEGMENT = "segment"
    AUTOENCODER = "autoencoder"
    CLASSIFY = "classify"

    def label(self) -> str:
        names = {
            "enhance": "Enhancement",
            "translate": "Translation",
            "label-to-volume": "Volumes from label maps",
            "from-noise": "Volumes from noise",
            "segment": "Segmentation",
            "autoencoder": "Autoencoder (anomalies)",
            "classify": "Classification",
        }
        return names[self.value]


class Restores(Enum):
    """What an enhancement model takes away."""

    NOISE = "noise"
    BLUR = "blur"
    RESOLUTION = "resolution"

    def label(self) -> str:
        return {"noise": "Noise", "blur": "Blur", "resolution": "Thick slices"}[self.value]


class Pairing(Enum):
    """Whether source and target of a training show the same patient on the same grid."""

    AUTO = "auto"
    PAIRED = "paired"
    UNPAIRED = "unpaired"

    def label(self) -> str:
        return {"auto": "Automatic", "paired": "Pairs", "unpaired": "No pairs"}[self.value]


class Adversarial(Enum):
    """The loss of generator and critic. AUTO takes Wasserstein for volumes from noise, else hinge."""

    AUTO = "auto"
    NON_SATURATING = "non-saturating"
    LEAST_SQUARES = "least squares"
    HINGE = "hinge"
    WASSERSTEIN = "wasserstein"

    def label(self) -> str:
        return "Automatic" if self is Adversarial.AUTO else self.value.capitalize()


class Precision(Enum):
    """Number format of the forward passes. AUTO takes bfloat16 on a GPU that has it, else float32."""

    AUTO = "auto"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"

    def label(self) -> str:
        return "Automatic" if self is Precision.AUTO else self.value


@dataclass
class TrainSettings(Settings):
    """What a person chooses for a training. The defaults need no options beside ``kind`` and ``data``."""

    kind: TrainKind = TrainKind.ENHANCE
    """What is trained."""

    data: str = ""
    """Folder of volumes, or a CSV file that lists them; '' takes the volumes given to the task."""

    out: str = ""
    """Folder of the run, which an interrupted training goes on from; '' makes one beside the person's models."""

    name: str = ""
    """Name of the model in the menus; '' makes one of the kind and the data."""

    start: str = ""
    """Model to start from: its name or its bundle folder; '' starts from random weights."""

    restores: Restores = Restores.NOISE
    """Enhancement: what the model shall take away (clean volumes are degraded on the fly)."""

    pairing: Pairing = Pairing.AUTO
    """Translation and enhancement: pairs by name, or two sets without pairs (translation only)."""

    source: str = ""
    """Name of the folder, suffix or CSV column of the source, where the names alone do not tell."""

    target: str = ""
    """Name of the folder, suffix or CSV column of the target, where the names alone do not tell."""

    spacing_mm: Annotated[float, Bounds(0.0, 20.0)] = 0.0
    """Voxel spacing to train at; 0: the data's own (its median where a kind needs one and the volumes differ)."""

    steps: Annotated[int, Bounds(0, 10**9)] = 20000
    """Steps of the generator; 0: no limit."""

    minutes: Annotated[float, Bounds(0.0, 1e6)] = 60.0
    """Minutes of training, all runs of a resumed training together; 0: no limit."""

    batch: Annotated[int, Bounds(1, 4096)] = 4
    """Samples a step in each process, before accumulation."""

    patch: Annotated[int, Bounds(0, 512)] = 0
    """Edge of the cubic patches in voxels, a multiple of 8; 0: 64 for segmentation, classification and volumes
    from noise, else 48."""

    rate: Annotated[float, Bounds(0.0, 1.0)] = 0.0
    """Learning rate of the generator; 0: the kind's own (1e-3 where a voxel-wise stage comes first, else 2e-4; from
    noise 1e-4)."""

    critic_rate: Annotated[float, Bounds(0.0, 1.0)] = 0.0
    """Learning rate of the critic; 0: the kind's own."""

    critic_steps: Annotated[int, Bounds(1, 100)] = 1
    """Steps of the critic for each step of the generator."""

    adversarial: Adversarial = Adversarial.AUTO
    """Loss of generator and critic."""

    adversarial_weight: Annotated[float, Bounds(0.0, 1000.0)] = 1.0
    """Weight of the adversarial term, as a multiple of the kind's usual weight; 0: no critic."""

    r1_weight: Annotated[float, Bounds(0.0, 1e6)] = 0.0
    """Weight of the R1 penalty on the critic's gradient at real samples; 0: none."""

    gradient_penalty: Annotated[float, Bounds(0.0, 1e6)] = 10.0
    """Weight of the gradient penalty of the Wasserstein loss."""

    spectral_norm: bool = True
    """Bound the critic by spectral normalisation (not with the Wasserstein loss)."""

    average: Annotated[float, Bounds(0.0, 0.999999)] = 0.999
    """Decay of the moving average of the generator, which is what is exported; 0: no average."""

    accumulate: Annotated[int, Bounds(1, 4096)] = 1
    """Batches whose gradients are summed before a step."""

    precision: Precision = Precision.AUTO
    """Number format of the forward passes."""

    device: Device = Device.AUTO
    """Where the networks run."""

    seed: Annotated[int, Bounds(0, 2**31 - 1)] = 0
    """Seed of everything random; on a CPU the same seed and data give the same losses, on a GPU nearly the same. Where
    the minutes run out before the steps, they set the learning rates, and losses depend on how fast the computer is."""

    flips: bool = True
    """Mirror patches at random."""

    validation_share: Annotated[float, Bounds(0.0, 0.9)] = 0.2
    """Share of the patients kept for validation, at least one."""

    save_minutes: Annotated[float, Bounds(0.01, 1e6)] = 5.0
    """Minutes between checkpoints."""

    log_every: Annotated[int, Bounds(1, 10**6)] = 10
    """Steps between the lines of the log."""

    validate_every: Annotated[int, Bounds(0, 10**9)] = 250
    """Steps between validations; 0: only at the end."""

    sample_every: Annotated[int, Bounds(0, 10**9)] = 500
    """Steps between sample images; 0: none."""

    patience: Annotated[int, Bounds(0, 10**6)] = 20
    """Validations without improvement after which the training stops; 0: never."""

    tensorboard: bool = False
    """Also write TensorBoard logs into the run's folder."""

    def check(self) -> None:
        super().check()
        if self.patch % 8:
            near = max(8, 8 * round(self.patch / 8))
            raise ValueError(f"Setting 'patch' must be a multiple of 8, not {self.patch}; {near} is near.")
        if not self.steps and not self.minutes:
            raise ValueError("A training needs an end: set 'steps' or set 'minutes' above 0.")

    def patch_size(self) -> int:
        """The edge of the patches in voxels, chosen or the kind's own."""
        large = (TrainKind.SEGMENT, TrainKind.FROM_NOISE, TrainKind.CLASSIFY)
        return self.patch or (64 if self.kind in large else 48)

    def loss(self) -> Adversarial:
        """The adversarial loss, chosen or the kind's own."""
        if self.adversarial is not Adversarial.AUTO:
            return self.adversarial
        return Adversarial.WASSERSTEIN if self.kind is TrainKind.FROM_NOISE else Adversarial.HINGE

    def rates(self) -> tuple[float, float]:
        """Learning rates of the generator and of the critic, chosen or the kind's own (two time-scales)."""
        own = {
            TrainKind.FROM_NOISE: (1e-4, 2e-4),
            TrainKind.TRANSLATE: (2e-4, 2e-4),
            TrainKind.LABEL_TO_VOLUME: (2e-4, 2e-4),
        }.get(self.kind, (1e-3, 4e-4))
        return self.rate or own[0], self.critic_rate or own[1]
