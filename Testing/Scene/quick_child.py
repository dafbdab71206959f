"""The real child process of a job, with a quick task in the place of the network: what it does is `quick_<task>`."""

import sys
from pathlib import Path

if __name__ == "__main__":
    here = Path(__file__).resolve().parent
    sys.path[:0] = [str(here), str(here.parents[1] / "MedGANSlicer")]
    from medgan import job_child, tasks

    tasks.TASKS["enhance"] = "quick_enhance"
    tasks.TASKS["train"] = "quick_train"
    tasks.TASKS["segment"] = "quick_segment"
    tasks.TASKS["recognise"] = "quick_recognise"
    tasks.TASKS["anomaly"] = "quick_anomaly"
    tasks.TASKS["synthesize"] = "quick_synthesize"
    sys.exit(job_child.main(Path(sys.argv[1])))
