"""A folder that ``save_pretrained`` wrote: the configuration of a model, and the tokenizer that it was trained with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frostline.errors import TaskError

# Vocabularies are padded with unused entries, to multiples of some hundreds: fewer tokens than this share are another's.
_LEAST_SHARE = 0.9

# transformers makes an empty tokenizer where there is none of these.
_TOKENIZER_FILES = ("tokenizer*", "vocab*", "*.model")


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainedFolder:
    """A model's configuration and its tokenizer, both of transformers."""

    path: Path
    config: Any
    tokenizer: Any

    @classmethod
    def open(cls, path: Path, *, tokenizer: Path | None) -> PretrainedFolder:
        """Return what is in a folder; nothing is downloaded, and no code in it is run.

        Raises: TaskError if transformers is missing, the folder has no model or no tokenizer, or one of another vocabulary.
        """
        try:
            from transformers import AutoConfig, AutoTokenizer
        except ImportError:
            raise TaskError(
                "a pretrained model needs the package 'transformers', which is not installed: pip install 'frostline[hf]'."
            ) from None
        if not (path / "config.json").is_file():
            raise TaskError(f"there is no model in {path}: give a folder that save_pretrained wrote.")
        source = tokenizer or path
        if not any(found for pattern in _TOKENIZER_FILES for found in source.glob(pattern)):
            raise TaskError(f"there is no tokenizer in {source}: give a folder that its save_pretrained wrote.")
        config = _loaded("model", AutoConfig, path)
        loaded = _loaded("tokenizer", AutoTokenizer, source)
        # Caches of keys and values are for generating text, and would be outputs of every block.
        config.use_cache = False
        folder = cls(path=path, config=config, tokenizer=loaded)
        folder._refuse_other_vocabulary(source)
        return folder

    @property
    def vocabulary_size(self) -> int:
        """The number of tokens that the model knows."""
        return int(self.config.get_text_config().vocab_size)

    @property
    def description(self) -> str:
        """The model's configuration and the tokenizer's size: what tells this folder's tasks from others'."""
        facts = {
            name: value
            for name, value in self.config.to_dict().items()
            if not name.startswith(("_", "transformers"))
        }
        return f"{sorted(facts.items(), key=lambda fact: fact[0])} {len(self.tokenizer)}"

    @property
    def end(self) -> int | None:
        """The token between documents, if there is one."""
        token = self.tokenizer.eos_token_id
        return None if token is None else int(token)

    @property
    def padding(self) -> int:
        """The token behind the end of a short text."""
        tokens = (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id, 0)
        return int(next(token for token in tokens if token is not None))

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the tokens of each text."""
        # Longer texts than the model's context are cut later: no reason for a warning.
        encoded: list[list[int]] = self.tokenizer(list(texts), verbose=False)["input_ids"]
        return [ids or [self.padding] for ids in encoded]

    def _refuse_other_vocabulary(self, source: Path) -> None:
        if getattr(self.config.get_text_config(), "vocab_size", None) is None:
            raise TaskError(
                f"the model in {self.path}, a {self.config.model_type}, knows no tokens: give one that reads text."
            )
        num_tokens, size = len(self.tokenizer), self.vocabulary_size
        if not _LEAST_SHARE * size <= num_tokens <= size:
            raise TaskError(
                f"the tokenizer in {source} has {num_tokens} tokens, and the model in {self.path} knows {size}: give the "
                f"one that it was trained with, as tokenizer=FOLDER."
            )


def _loaded(what: str, loader: Any, path: Path) -> Any:
    try:
        return loader.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    # A damaged file makes transformers and tokenizers raise anything.
    except Exception as error:
        reason = " ".join(str(error).split())[:160].removesuffix(".")
        raise TaskError(
            f"the {what} in {path} cannot be loaded ({type(error).__name__}: {reason}): give a folder that save_pretrained "
            f"wrote."
        ) from error
