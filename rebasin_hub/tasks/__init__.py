"""Tasks: what a loss barrier is measured on."""

from rebasin_hub.tasks.task import Advance, Network, Options, Split, State, Subject, Task

__all__ = ["Advance", "Network", "Options", "Split", "State", "Subject", "Task"]
