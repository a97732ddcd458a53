"""Tasks: what a loss barrier is measured on."""

from rebasin_hub.tasks.find import TASKS, TaskKind, find_task
from rebasin_hub.tasks.task import Advance, Network, Options, Split, State, Subject, Task
from rebasin_hub.tasks.userfile import TorchTask

__all__ = [
    "TASKS",
    "Advance",
    "Network",
    "Options",
    "Split",
    "State",
    "Subject",
    "Task",
    "TaskKind",
    "TorchTask",
    "find_task",
]
