"""One process, or the processes of an MPI world, behind one interface.

A launcher (mpiexec, srun) starts the same program many times; `world` finds out whether it did, and whether the
processes have found each other. Without a launcher nothing here imports MPI.
"""

import atexit
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lattice_flows.errors import InvalidInput

# the number of processes, as a batch script and as launchers say it: MPICH and Slurm's pmi2, Open MPI, a step of Slurm
RANKS = "LATTICE_FLOWS_RANKS"
_LAUNCHERS = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS")


def share(n: int, part: int, parts: int) -> range:
    """The indices of one of several consecutive parts of range(n); their sizes differ by at most 1.

    Example:
        >>> [list(share(5, part, 2)) for part in (0, 1)]
        [[0, 1], [2, 3, 4]]
    """
    return range(n * part // parts, n * (part + 1) // parts)


class World:
    """A world of one process, and the interface of all worlds: process `rank` of `size`.

    Example:
        >>> world = World()
        >>> world.total(3.0), world.any(False), list(world.share(4))
        (3.0, False, [0, 1, 2, 3])
    """

    rank, size = 0, 1

    @property
    def first(self) -> bool:
        """Whether this is rank 0, the only one that writes files."""
        return self.rank == 0

    def share(self, n: int) -> range:
        """The part of range(n) of this rank."""
        return share(n, self.rank, self.size)

    def sum_(self, tensor: Tensor) -> None:
        """Replace a contiguous tensor by its sum over all ranks."""

    def total(self, value: float) -> float:
        """The sum of a number over all ranks."""
        return value

    def any(self, flag: bool) -> bool:
        """Whether a flag is true on some rank."""
        return flag

    def barrier(self) -> None:
        """Wait until every rank is here."""

    def broadcast(self, value: Any) -> Any:
        """The value of rank 0, nested dicts and lists of tensors and numbers, on every rank."""
        return value

    def all_gather(self, rows: Tensor) -> Tensor:
        """The rows of all ranks in order, on every rank."""
        return rows

    def gather(self, rows: Tensor, axis: int = 0) -> Tensor | None:
        """The rows of all ranks in order, joined along an axis, on rank 0; None elsewhere."""
        return rows

    def scatter(self, rows: Tensor | None) -> Tensor:
        """The `share` of this rank in the rows of rank 0."""
        assert rows is not None
        return rows

    def send(self, value: Any, rank: int) -> None:
        """Send a value, such as `broadcast` takes, to another rank, and wait until it is received."""
        raise NotImplementedError("there is no other rank")

    def receive(self, rank: int) -> Any:
        """The value that another rank sends."""
        raise NotImplementedError("there is no other rank")

    def device(self, device: torch.device) -> torch.device:
        """The device of this rank for the device of a config; with CUDA, each rank of a node has its own.

        Raises:
            InvalidInput: a node has more ranks than GPUs.
        """
        return device

    def __repr__(self) -> str:
        return f"rank {self.rank} of {self.size}"


SERIAL = World()
"""The world of a single process."""


class MPIWorld(World):
    """The processes of a communicator of mpi4py.

    MPI sums tensors on the CPU in place, without a copy. NCCL sums those on CUDA devices; its processes meet at an
    address that MPI carries.

    Args:
        backend: that of torch.distributed for `sum_`; default: NCCL on CUDA devices, none on the CPU.
    """

    def __init__(self, communicator: Any, backend: str | None = None):
        from mpi4py import MPI

        self._mpi, self._comm, self._backend = MPI, communicator, backend
        self.rank, self.size = communicator.rank, communicator.size
        node = communicator.Split_type(MPI.COMM_TYPE_SHARED)
        self._local_rank, self._local_size = node.rank, node.size
        node.Free()

    def sum_(self, tensor: Tensor) -> None:
        if tensor.is_cuda or self._backend:
            self._meet()
            torch.distributed.all_reduce(tensor)
        else:
            self._comm.Allreduce(self._mpi.IN_PLACE, tensor.detach().numpy())

    def total(self, value: float) -> float:
        return self._comm.allreduce(value)

    def any(self, flag: bool) -> bool:
        out = np.array([flag])
        self._comm.Allreduce(self._mpi.IN_PLACE, out, op=self._mpi.LOR)
        return bool(out[0])

    def barrier(self) -> None:
        self._comm.Barrier()

    def broadcast(self, value: Any) -> Any:
        return self._comm.bcast(value)

    def all_gather(self, rows: Tensor) -> Tensor:
        parts = self._comm.allgather(rows.cpu().numpy())
        return torch.from_numpy(np.concatenate(parts)).to(rows.device)

    def gather(self, rows: Tensor, axis: int = 0) -> Tensor | None:
        own = np.ascontiguousarray(rows.detach().cpu().numpy())
        shapes = self._comm.gather(own.shape)
        if not self.first:
            self._comm.Send(own.reshape(-1).view(np.uint8), dest=0)
            return None
        parts = [own, *(np.empty(shape, own.dtype) for shape in shapes[1:])]
        for source, part in enumerate(parts[1:], 1):
            self._comm.Recv(part.reshape(-1).view(np.uint8), source=source)
        return torch.from_numpy(np.concatenate(parts, axis))

    def scatter(self, rows: Tensor | None) -> Tensor:
        if not self.first:
            return self._comm.recv(source=0)
        assert rows is not None
        for rank in range(1, self.size):
            own = share(len(rows), rank, self.size)
            self._comm.send(rows[own.start : own.stop].clone(), dest=rank)  # not the whole storage
        return rows[: len(self.share(len(rows)))]

    def send(self, value: Any, rank: int) -> None:
        self._comm.ssend(value, dest=rank)

    def receive(self, rank: int) -> Any:
        return self._comm.recv(source=rank)

    def device(self, device: torch.device) -> torch.device:
        if device.type != "cuda":
            return device
        count = torch.cuda.device_count()
        # a launcher that binds GPUs to tasks shows each task only its own, as device 0
        own = torch.device("cuda", self._local_rank if count > 1 else 0) if count in (1, self._local_size) else None
        known = [] if own is None else [str(torch.cuda.get_device_properties(own).uuid)]
        if len({name for names in self._comm.allgather(known) for name in names}) < self.size:
            raise InvalidInput(
                f"{self._local_size} ranks of a node cannot have a GPU each, torch sees {count} here: start as many "
                "ranks a node as it has GPUs, or let the launcher bind one to each (srun --gpus-per-task=1)"
            )
        assert own is not None
        torch.cuda.set_device(own)
        return own

    def _meet(self) -> None:
        """Make the process group of torch, on first use."""
        if torch.distributed.is_initialized():
            return
        from torch.distributed import PrefixStore, TCPStore

        host = os.uname().nodename
        # port 0: the system picks a free one, so two jobs on a node never share it
        store = TCPStore(host, 0, is_master=True, wait_for_workers=False) if self.first else None
        host, port = self._comm.bcast((host, store.port if store else None))
        shared = PrefixStore("lattice_flows", store or TCPStore(host, port, is_master=False))
        backend = self._backend or "nccl"
        torch.distributed.init_process_group(backend, store=shared, rank=self.rank, world_size=self.size)
        atexit.register(self._leave)

    def _leave(self) -> None:
        """End the process group before MPI, after the last rank has left the store of rank 0."""
        self.barrier()
        torch.distributed.destroy_process_group()
        self.barrier()


def world(environment: Mapping[str, str] = os.environ) -> World:
    """The world of this process, from its environment variables.

    Raises:
        InvalidInput: the launcher has started more processes than have found each other, or mpi4py is missing.
    """
    said = {name: int(environment[name]) for name in (RANKS, *_LAUNCHERS) if environment.get(name, "").isdecimal()}
    if max(said.values(), default=1) == 1:
        return SERIAL
    name, expected = next(iter(said.items()))
    try:
        from mpi4py import MPI
    except ImportError as error:
        raise InvalidInput(
            f"{name}={expected} says that {expected} processes work together, which takes mpi4py and an MPI: "
            f"pip install 'lattice-flows[mpi]' mpich ({error})"
        ) from error
    communicator = MPI.COMM_WORLD
    if communicator.size != expected:
        library = MPI.Get_library_version().split("\n")[0].split(",")[0].strip(" \0")
        raise InvalidInput(
            f"{name}={expected} says that {expected} processes work together, but this one is in an MPI world of size "
            f"{communicator.size}: the launcher does not belong to the MPI that mpi4py uses ({library}); use the "
            "mpiexec of that MPI, or under Slurm srun --mpi=pmi2 for MPICH and srun --mpi=pmix for Open MPI"
        )
    return MPIWorld(communicator) if communicator.size > 1 else SERIAL
