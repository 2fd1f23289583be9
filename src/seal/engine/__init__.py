"""The inner loop's machine: many adapters trained and asked at once on one frozen base model. Usable by itself."""

from seal.engine.bank import Bank
from seal.engine.engine import Engine
from seal.engine.fleet import Fleet
from seal.engine.pack import Row

__all__ = ["Bank", "Engine", "Fleet", "Row"]
