"""Rewards: plain functions of an outcome and its siblings, added up with weights."""

from seal.rewards.basic import REWARDS, score
from seal.rewards.compose import Compose

__all__ = ["REWARDS", "Compose", "score"]
