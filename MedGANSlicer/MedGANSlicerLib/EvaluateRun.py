"""An evaluation in its child process, whose result is kept when its nodes are shown differently or written to files."""

from __future__ import annotations

from collections.abc import Sequence

from medgan.evaluation.table import Evaluation
from medgan.settings import EvaluateSettings
from medgan.tasks import Outputs
from MedGANSlicerLib.EvaluateInputs import engineInputs, nodesToRead
from MedGANSlicerLib.EvaluationNodes import EvaluationNodes, publishEvaluation
from MedGANSlicerLib.JobRun import JobRun
from MedGANSlicerLib.NodePairs import Pair


class EvaluateRun(JobRun):
    """``publish`` returns the evaluation and its nodes; metrics in ``hidden`` are left out of the nodes."""

    def __init__(
        self,
        pairs: Sequence[Pair],
        settings: EvaluateSettings,
        regionNode=None,
        withSources: bool = True,
        hidden: Sequence[str] = (),
        **options,
    ) -> None:
        inputs = engineInputs(pairs, regionNode, withSources)
        self._hidden = tuple(hidden)
        read = list(nodesToRead(pairs, regionNode, withSources).values())
        super().__init__("evaluate", inputs, settings, [pair.node for pair in pairs], alsoRead=read, **options)

    def put(self, outputs: Outputs) -> tuple[Evaluation, EvaluationNodes]:
        evaluation = Evaluation.from_dict(outputs.report)
        return evaluation, publishEvaluation(self._scene, evaluation, self._hidden)
