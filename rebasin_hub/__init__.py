"""Re-base neural-network checkpoints up to the renumbering of their hidden units."""

__version__ = "0.1.0"
