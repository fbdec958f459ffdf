"""Tiny bases on disk: a folder with a random encoder and a word tokenizer, as `load_base` reads them."""

from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from tiny_models import VOCABULARY, tiny_model

SPECIAL = ("[PAD]", "[CLS]", "[SEP]", "[UNK]")
WORDS = tuple(f"w{number}" for number in range(VOCABULARY - len(SPECIAL)))


def tiny_tokenizer(
    words: Sequence[str] = WORDS, *, padding: bool = True, max_length: int = 64
) -> PreTrainedTokenizerFast:
    """Every word is one token; `padding=False` leaves out the padding token, as GPT-2 does."""
    vocabulary = {token: index for index, token in enumerate((*SPECIAL, *words))}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        eos_token="[SEP]",
        pad_token="[PAD]" if padding else None,
        model_max_length=max_length,
    )


def save_tiny_base(
    folder: Path, architecture: str = "bert", *, head: bool = False, padding: bool = True, num_labels: int = 2
) -> Path:
    """Save the encoder of `tiny_model` (with `head`, the whole classifier) and its tokenizer to a folder."""
    model = tiny_model(architecture, num_labels=num_labels)
    (model if head else model.base_model).save_pretrained(folder)
    tiny_tokenizer(padding=padding).save_pretrained(folder)
    return folder
