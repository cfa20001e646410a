"""Files of prompts: find them, read them as a stream, survive every bad line."""

from connectors.dataset.files import PromptFile, find, read, sha256_of
from connectors.dataset.formats import BadLine, Row

__all__ = ["BadLine", "PromptFile", "Row", "find", "read", "sha256_of"]
