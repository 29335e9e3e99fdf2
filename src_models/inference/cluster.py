"""Many images on a Dask cluster, one a task: workers on this computer, or a scheduler that is already running."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from src_models.errors import InputError


def results(
    work: Callable[..., Any], jobs: Mapping[str, tuple[Any, ...]], cluster: str
) -> Iterator[tuple[str, Any | BaseException]]:
    """Run every job and give each result as it comes.

    Parameters
    ----------
    work : callable
        Of a module that the workers can import.
    jobs : mapping of str to tuple
        Arguments by name; small, since they travel.
    cluster : str
        A number of workers on this computer, or the address of a scheduler, such as ``tcp://host:8786``.

    Yields
    ------
    (str, object)
        Name, and what the job gave; or the exception that ended it, the others go on.

    Raises
    ------
    InputError
        Where there is no Dask, or no scheduler answers.
    """
    client, owner = _client(cluster)
    try:
        import distributed

        as_completed: Callable[[list[Any]], Iterator[Any]] = distributed.as_completed
        waiting = {client.submit(work, *arguments, pure=False): name for name, arguments in jobs.items()}
        for future in as_completed(list(waiting)):
            error = future.exception()
            yield waiting[future], error if error is not None else future.result()
    finally:
        client.close()
        if owner is not None:
            owner.close()


def _client(cluster: str) -> tuple[Any, Any]:
    try:
        import distributed
    except ImportError as error:
        raise InputError(
            "cluster-missing", "Dask is not installed", "--cluster needs it", "Install it: pip install distributed."
        ) from error
    library: Any = distributed  # it comes without types
    if cluster.isdigit():
        # processes, since one process computes with all its threads already; no page in a browser
        owner = library.LocalCluster(
            n_workers=int(cluster), threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
        )
        return library.Client(owner), owner
    try:
        return library.Client(cluster, timeout="10s"), None
    except (OSError, ValueError, TimeoutError) as error:
        raise InputError(
            "cluster-address", f"No scheduler answers at {cluster}", "", "Start one: dask scheduler."
        ) from error
