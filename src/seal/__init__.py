"""SEAL: language models that adapt themselves (arXiv 2506.10943)."""

__version__ = "0.1.0"
