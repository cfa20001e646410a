"""Files of prompts: find them, read them as a stream, survive every bad line."""

from connectors.dataset.files import PromptFile, Reading, find, read, sha256_of, shipped
from connectors.dataset.formats import BadLine, Row

__all__ = ["BadLine", "PromptFile", "Reading", "Row", "find", "read", "sha256_of", "shipped"]
