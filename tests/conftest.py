import gc

import torch
from hypothesis import settings

# On a busy machine the first call of a torch operation may take a second, which says nothing about the property. And
# the examples are the same in every run, so that a failure comes back when it is looked for.
settings.register_profile("supermask", deadline=None, derandomize=True)
settings.load_profile("supermask")

# The models here are tiny: handing their operations to more threads costs many times the work itself.
torch.set_num_threads(1)


def pytest_collection_finish() -> None:
    """Take what was imported out of the garbage collector's rounds: every training ends with one, of half a second."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    gc.unfreeze()
