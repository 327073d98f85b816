"""What a task is called on the command line: a built-in name, a file, or a name in one."""

from __future__ import annotations

# Each is a function of ``frostline.tasks``, in a module of the same name with underscores.
BUILT_IN = (
    "python-source-gpt",
    "digits-resnet",
    "digits-mlp",
    "text-gpt",
    "finetune",
    "finetuned-gpt",
    "finetuned-resnet",
    "cifar100-resnet18",
    "random-tokens",
    "random-images",
    "group-words",
)


def names_a_task(reference: str) -> bool:
    """Return whether ``reference`` may name a task on the command line; what a task calls itself need not."""
    return reference in BUILT_IN or ":" in reference or reference.endswith(".py")
