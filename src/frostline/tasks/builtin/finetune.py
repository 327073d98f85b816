"""The task ``finetune``: a model of transformers from the user's own folder, on the user's own text."""

from __future__ import annotations

import hashlib
import math
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from optuna.distributions import CategoricalDistribution, FloatDistribution
from torch import nn
from torch.nn import functional

from frostline.errors import OptionError, TaskError
from frostline.inputs.whole_numbers import shown
from frostline.layers.outline import has_parameters
from frostline.layers.weights.deferred import build_shapes
from frostline.records import Configuration, Value
from frostline.search.spaces.space import SearchSpace
from frostline.tasks.checks import require_positive
from frostline.tasks.data.corpus import text_files
from frostline.tasks.data.labelled_text import encoded_texts, read_labelled_text
from frostline.tasks.data.pretrained_folder import PretrainedFolder
from frostline.tasks.data.windows import TokenWindows, split_tokens
from frostline.tasks.models.gpt import next_token_loss
from frostline.tasks.models.lora import LORA_DEFAULTS, require_peft, with_lora
from frostline.training.files.pretrained import PretrainedWeights
from frostline.training.supervised.supervised_task import SupervisedTask

_VALIDATION_WINDOWS = 64
_DEFAULTS: dict[str, Value] = {"weight_decay": 0.01, "warmup_fraction": 0.1, "cooldown_fraction": 0.5}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Model:
    """What is built for every configuration: a picklable function of it."""

    kind: str
    config: Any
    adapter: Literal["none", "lora"]
    new_modules: tuple[str, ...]

    def __call__(self, configuration: Configuration) -> nn.Module:
        """Return the model at random weights, with its adapters."""
        model = _built(self.kind, self.config)
        if self.adapter == "none":
            return model
        return with_lora(model, configuration, new_modules=self.new_modules)


# More than six arguments: each is an option of the command line, where a settings object cannot be written.
def finetune(
    *,
    model: str | os.PathLike[str],
    text: str | os.PathLike[str],
    tokenizer: str | os.PathLike[str] | None = None,
    adapter: Literal["none", "lora"] = "none",
    new_head: bool = True,
    context_length: int = 128,
    batch_size: int = 8,
    epochs: float = 3,
) -> SupervisedTask:
    """Return the task of fine-tuning the model in a folder that ``save_pretrained`` wrote, on the text at ``text``.

    A CSV file with the columns ``text`` and ``label`` makes a classifier, with a new head unless ``new_head`` is false;
    anything else that ``text-gpt`` takes as text, a language model. The tokenizer is the folder's own, or that of the folder
    ``tokenizer``. With ``adapter`` "lora" the model's weights stay as they are, and adapters beside them are trained, and a
    new head. Texts are cut at ``context_length`` tokens. Nothing is ever downloaded.
    Units: ``batch_size`` counts texts, or windows of the context's length; a full training is ``epochs`` of all of them,
    which may be a part.
    Raises: TaskError if the folder holds no model or no tokenizer, the tokenizer is another model's, or there is no text;
        ModelError if the weights are damaged; OptionError.
    """
    for name, value in (("context_length", context_length), ("batch_size", batch_size)):
        require_positive(name, value)
    if not 0 < epochs < math.inf:
        raise OptionError(f"epochs is {shown(epochs)}, but must be a number above 0.")
    if adapter == "lora":
        require_peft()
    folder = PretrainedFolder.open(Path(model), tokenizer=None if tokenizer is None else Path(tokenizer))
    path = Path(text)
    make = _classifier if path.suffix == ".csv" else _language_model
    fields = make(folder, path, context_length=context_length, new_head=new_head)
    defaults, space = _searched(adapter)
    new_modules = fields.pop("new_modules")
    length = fields.get("samples_per_example", 1)
    return SupervisedTask(
        name="finetune",
        model=_Model(kind=fields.pop("kind"), config=folder.config, adapter=adapter, new_modules=new_modules),
        space=space,
        defaults=defaults,
        full_samples=max(1, round(epochs * len(fields["training_data"]))) * length,
        batch_size=batch_size,
        validation_batch_size=batch_size,
        gradient_clip_norm=1.0,
        pretrained=model,
        new_modules=new_modules,
        **fields,
    )


def _searched(adapter: str) -> tuple[dict[str, Value], SearchSpace]:
    """Return the defaults of a fine-tuning and what is searched."""
    lowest, highest, usual = (1e-5, 1e-2, 3e-4) if adapter == "lora" else (1e-6, 1e-3, 5e-5)
    distributions: dict[str, Any] = {
        "learning_rate": FloatDistribution(lowest, highest, log=True),
        "weight_decay": FloatDistribution(1e-4, 0.3, log=True),
        "warmup_fraction": FloatDistribution(0.0, 0.3),
        "cooldown_fraction": FloatDistribution(0.1, 0.7),
    }
    defaults = {"learning_rate": usual, **_DEFAULTS}
    if adapter == "lora":
        distributions["lora_rank"] = CategoricalDistribution((4, 8, 16))
        return {**defaults, **LORA_DEFAULTS}, SearchSpace(distributions=distributions)
    distributions["layer_decay"] = FloatDistribution(0.6, 1.0)
    return {**defaults, "layer_decay": 1.0}, SearchSpace(distributions=distributions)


def _language_model(
    folder: PretrainedFolder,
    path: Path,
    *,
    context_length: int,
    new_head: bool,  # noqa: ARG001 (it has its own head)
) -> dict[str, Any]:
    """Return the fields of a language model's task."""
    corpus = text_files(path)
    border = [] if folder.end is None else [folder.end]
    pieces = [np.asarray([*border, *ids], dtype=np.int64) for ids in folder.encode(corpus.documents)]
    split = split_tokens(
        np.concatenate(pieces), context_length=context_length, vocabulary_size=folder.vocabulary_size
    )
    windows = partial(TokenWindows, context_length=context_length)
    return {
        "kind": "AutoModelForCausalLM",
        "training_data": windows(split.training),
        "validation_data": windows(split.validation, num_windows=_VALIDATION_WINDOWS),
        "loss_function": next_token_loss,
        "sample_unit": "tokens",
        "samples_per_example": context_length,
        "new_modules": (),
        "data_fingerprint": f"{split.sha256} {context_length} {folder.description}",
    }


def _classifier(folder: PretrainedFolder, path: Path, *, context_length: int, new_head: bool) -> dict[str, Any]:
    """Return the fields of a classifier's task."""
    labelled = read_labelled_text(path)
    folder.config.num_labels = len(labelled.label_names)
    folder.config.pad_token_id = folder.padding
    training, validation = encoded_texts(
        folder.encode(labelled.texts), labelled.labels, length=context_length, padding=folder.padding
    )
    kind = "AutoModelForSequenceClassification"
    tokens = hashlib.sha256(training.ids.numpy().tobytes() + validation.ids.numpy().tobytes()).hexdigest()
    return {
        "kind": kind,
        "training_data": training,
        "validation_data": validation,
        "loss_function": functional.cross_entropy,
        "sample_unit": "texts",
        "new_modules": _head_of(kind, folder) if new_head else (),
        "data_fingerprint": f"{labelled.sha256} {tokens} {folder.description}",
    }


def _head_of(kind: str, folder: PretrainedFolder) -> tuple[str, ...]:
    """Return the names of what stands beside a model's trunk, and of a pooler that only classifiers have."""
    model = build_shapes(lambda: _built(kind, folder.config))
    trunk = getattr(model, "base_model_prefix", "")
    head = [name for name, child in model.named_children() if name != trunk and has_parameters(child)]
    poolers = [name for name, _ in model.named_modules() if name == f"{trunk}.pooler"]
    saved = PretrainedWeights.open(folder.path).shapes
    return (*head, *(name for name in poolers if not any("pooler." in each for each in saved)))


def _built(kind: str, config: Any) -> nn.Module:
    import transformers

    built: nn.Module
    try:
        built = getattr(transformers, kind).from_config(config, dtype=torch.float32)
    except ValueError as error:
        raise TaskError(
            f"a {config.model_type} of transformers makes no {kind.removeprefix('AutoModelFor')}: give another model, or "
            f"{'text files' if 'Sequence' in kind else 'a CSV file with the columns text and label'}."
        ) from error
    return built
