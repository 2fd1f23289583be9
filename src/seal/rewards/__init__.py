"""Rewards: plain functions of an outcome and its siblings, added up with weights."""

from seal.rewards.basic import REWARDS, score
from seal.rewards.compose import TOTAL, Compose, Ratings
from seal.rewards.needs import needs
from seal.rewards.proxy import RATERS, Rater, Rating, Rubric

__all__ = ["RATERS", "REWARDS", "TOTAL", "Compose", "Rater", "Rating", "Ratings", "Rubric", "needs", "score"]
