"""Base + delta -> answers: a task model that is set up once and asked as often as one likes."""

from supermask.prediction.evaluation import Evaluation, evaluate, predict
from supermask.prediction.kinds import KINDS, Kind, kind_of
from supermask.prediction.predictor import Predictions, Predictor, set_up
from supermask.prediction.stored import stored_base, stored_task

__all__ = [
    "KINDS",
    "Evaluation",
    "Kind",
    "Predictions",
    "Predictor",
    "evaluate",
    "kind_of",
    "predict",
    "set_up",
    "stored_base",
    "stored_task",
]
