"""Other people's frames and formats."""

from supermask.interop.checkpoint import check_new_folder, save_checkpoint

__all__ = ["check_new_folder", "save_checkpoint"]
