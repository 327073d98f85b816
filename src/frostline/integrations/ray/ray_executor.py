"""``RayExecutor``: hand it over as ``executor=``, and the nodes of a Ray cluster train while this process decides."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from frostline.errors import OptionError
from frostline.folders.places import local_path
from frostline.inputs.whole_numbers import check_whole
from frostline.integrations.ray.cluster_executor import ClusterExecutor
from frostline.integrations.ray.node_shares import Node, NodeShares, smallest_device
from frostline.integrations.ray.ray_cluster import RayCluster
from frostline.integrations.ray.requirements import Requirements
from frostline.integrations.ray.sending import pickled
from frostline.run.execution.options import AUTO
from frostline.run.execution.side_worker import SideWork
from frostline.run.execution.workload import OwnTraining, TaskTraining
from frostline.wording import counted

if TYPE_CHECKING:
    from frostline.folders.folder import Folder
    from frostline.run.execution.workload import Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class RayExecutor:
    """Evaluates on a Ray cluster: hand it over as ``executor=`` to ``tune``, ``tune_task`` or ``audit_task``.

    ``address`` is "auto" for the cluster that this machine is in, "local" for one that is started here and ends with the
    search, or HOST:PORT. ``workers_per_node`` is how many processes train on a node at most (on a GPU, of each GPU); "auto"
    for as many as it has cores, and one for a GPU. Each computes with one thread unless the options say another number.
    Where a search may take part of the memory only, ``TrainingOptions.memory`` says of how much on each node.

    ``devices_per_trial`` is how many GPUs of one node a trial of an objective takes, whole ones, or cores where the cluster
    has no GPUs: for a training that starts processes of its own, as Lightning's DDP does.
    """

    address: str = "auto"
    workers_per_node: int | Literal["auto"] = AUTO
    devices_per_trial: int = 1

    def __post_init__(self) -> None:
        """Raise OptionError if ``devices_per_trial`` is no number of devices, or more than one that others share."""
        check_whole("devices_per_trial", self.devices_per_trial)
        if self.devices_per_trial > 1 and self.workers_per_node != AUTO:
            raise OptionError(
                f"workers_per_node is {self.workers_per_node}, but trials of {self.devices_per_trial} devices have them to "
                f"themselves: leave it out."
            )

    def __call__(self, workload: Workload) -> ClusterExecutor:
        """Return what evaluates ``workload`` on the nodes that are there, and on those that join later.

        Raises: OptionError if there is no Ray, no cluster, a node that cannot take part, a folder of checkpoints that is not
        shared, a task that cannot be sent, or another driver on this study; NotEnoughMemoryError if no node holds the
        largest training.
        """
        training = workload.training
        runs, study = _place_of(training)
        cluster = RayCluster(self.address, runs=runs, study=study)
        try:
            return _executor_on(cluster, workload, self)
        except BaseException:
            cluster.leave()
            raise


def _executor_on(cluster: RayCluster, workload: Workload, asked: RayExecutor) -> ClusterExecutor:
    training, devices = workload.training, asked.devices_per_trial
    nodes = cluster.nodes()
    uses_gpus = _uses_gpus(training, nodes)
    _check_devices(devices, training, nodes, uses_gpus=uses_gpus)
    if isinstance(training, TaskTraining):
        options = training.options
        path = local_path(options.runs)
        own = replace(
            options,
            device="cuda" if uses_gpus else "cpu",
            threads=1 if options.threads == AUTO else options.threads,
            runs=options.runs if path is None else path.resolve(),
            workers=1,
        )
        sent: TaskTraining | OwnTraining = replace(training, options=own)
        cores = own.threads if isinstance(own.threads, int) else 1
        memory = options.memory
    else:
        # Processes that a training starts beside its GPUs have a core each.
        sent, cores, memory = training, devices, AUTO
    level = logging.getLogger("frostline").getEffectiveLevel()
    work = pickled(
        SideWork(training=sent, ladder=workload.ladder, log_level=level),
        what=f"the task {training.task.name}"
        if isinstance(training, TaskTraining)
        else f"the training {training.name}",
        owner=training.task if isinstance(training, TaskTraining) else training,
    )
    shares = NodeShares(
        requirements=Requirements.of(workload, smallest=smallest_device(nodes)),
        uses_gpus=uses_gpus,
        most=None if asked.workers_per_node == AUTO else asked.workers_per_node,
        cores_each=cores,
        devices_each=devices,
        memory=memory,
    )
    executor = ClusterExecutor(cluster=cluster, workload=workload, work=work, shares=shares)
    executor.begin(nodes)
    return executor


def _check_devices(
    devices: int, training: TaskTraining | OwnTraining, nodes: Sequence[Node], *, uses_gpus: bool
) -> None:
    """Raise OptionError if a trial cannot have so many devices of one node."""
    if devices == 1:
        return
    if isinstance(training, TaskTraining):
        raise OptionError(
            f"devices_per_trial is {devices}, but {training.task.name} is a task, whose populations are trained on one "
            f"device each: leave it out, or hand over an objective."
        )
    most = max((node.num_gpus if uses_gpus else node.num_cores for node in nodes), default=0)
    if devices > most:
        kind = "GPU" if uses_gpus else "core"
        raise OptionError(
            f"devices_per_trial is {devices}, but no node of the cluster has more than {counted(most, kind)}: ask for as "
            f"many at most, or add a larger node."
        )


def _place_of(training: TaskTraining | OwnTraining) -> tuple[Folder | None, str]:
    """Return the folder that every node has to reach, None if there is none, and the name of the study in it."""
    if isinstance(training, TaskTraining):
        return training.options.folder, training.study
    place = training.place
    return (None, training.name) if place is None else (place.runs, place.name)


def _uses_gpus(training: TaskTraining | OwnTraining, nodes: Sequence[Node]) -> bool:
    device = training.options.device if isinstance(training, TaskTraining) else AUTO
    has_gpus = any(node.num_gpus for node in nodes)
    if device == "cuda" and not has_gpus:
        raise OptionError("device is cuda, but no node of the cluster has a GPU: use device cpu or auto.")
    if device == "mps":
        raise OptionError("device is mps, but nodes of a cluster train on cpu or cuda: use one of them, or auto.")
    return has_gpus and device != "cpu"
