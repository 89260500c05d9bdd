"""Work off the main thread: a serial worker, cancellable jobs with progress, and dispatch back."""

from napari_histosam.jobs.cancel import CancelToken
from napari_histosam.jobs.dispatch import Dispatcher, Inline
from napari_histosam.jobs.pause import PauseSwitch
from napari_histosam.jobs.progress import Progress
from napari_histosam.jobs.runner import Job, JobRunner, RunningJob
from napari_histosam.jobs.worker import Priority, SerialWorker

__all__ = [
    "CancelToken",
    "Dispatcher",
    "Inline",
    "Job",
    "JobRunner",
    "PauseSwitch",
    "Priority",
    "Progress",
    "RunningJob",
    "SerialWorker",
]
