"""Open a base model with its tokenizer: the embedded one, a GGUF file, a directory, or any causal model of the hub."""

from seal.models.adapter import About
from seal.models.catalog import CATALOG, EMBEDDED, Description, Say, describe, pull
from seal.models.language import LanguageModel
from seal.models.open import open_counter, open_model, pull_hub

__all__ = [
    "CATALOG",
    "EMBEDDED",
    "About",
    "Description",
    "LanguageModel",
    "Say",
    "describe",
    "open_counter",
    "open_model",
    "pull",
    "pull_hub",
]
