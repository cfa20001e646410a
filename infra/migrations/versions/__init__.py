"""Revisions, oldest first: `NNNN_<what>.py` names its parent and runs the two SQL files beside it."""
