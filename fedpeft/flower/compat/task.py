"""The ServerApp's half of a run, in a process of our own.

A SuperLink in isolation mode "process" hands the task of running the ServerApp to whoever acquires it with the shared
secret: Flower's SuperExec, which starts a new process for it, or this. So the coordinator can live where its journal,
its screen and Ctrl-C are, and a SuperLink that is restarted finds it still there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import httpx
from flwr.common.constant import SubStatus
from flwr.common.serde import run_from_proto
from flwr.proto.runtime_pb2 import (
    AcquireTaskRequest,
    PullTaskInputRequest,
    PushTaskOutputRequest,
)
from flwr.serverapp import Grid
from flwr.supercore.constant import TaskType
from flwr.supercore.heartbeat import HeartbeatSender, make_task_heartbeat_fn_http
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor, SuperExecAuthHttpInterceptor
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.grid import HttpGrid

from fedpeft.errors import RoundError
from fedpeft.flower.compat import check_version

ACQUIRE = "/flwr.proto.Runtime/AcquireTask"

LOOK_S = 0.1
"""Seconds between two questions for the task."""


@contextmanager
def server_task(
    address: str,
    root_certificates: bytes,
    secret: bytes,
    *,
    wait_s: float = 30.0,
    patience_s: float = 60.0,
    is_lost: Callable[[], bool] = lambda: False,
) -> Iterator[Grid]:
    """Acquire the ServerApp of the run that was started last; its Grid. How the context ends is how the run ends.

    Args:
        address: of the SuperLink, host:port.
        root_certificates: PEM.
        secret: that the SuperLink was started with.
        wait_s: seconds to wait for the task.
        patience_s: seconds that the SuperLink may be gone before a request fails.
        is_lost: whether it is known to be gone for good: then a request fails at once.

    Raises:
        RoundError: there is no such task, or the SuperLink is gone for too long.
    """
    check_version()
    grid = HttpGrid(address, False, root_certificates, token=_acquire(address, root_certificates, secret, wait_s))
    retry = grid._retry_invoker
    retry.max_time, hopeless = patience_s, retry.should_giveup
    retry.should_giveup = lambda error: is_lost() or bool(hopeless and hopeless(error))
    client = grid._runtime_client
    heartbeat = HeartbeatSender(make_task_heartbeat_fn_http(client))
    heartbeat.start()
    told = client.PullTaskInput(PullTaskInputRequest())
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = (
        told.task_id,
        told.run.run_id,
        told.context.node_id,
    )
    grid.set_run(run_from_proto(told.run))
    status, details = SubStatus.FAILED, "the coordinator ended early"
    try:
        yield grid
        status, details = SubStatus.COMPLETED, ""
    except httpx.TransportError as error:
        raise RoundError(
            f"the SuperLink at {address} cannot be reached any more: {error}",
            code="engine.superlink",
            remedy="look into its log; what was committed stays: fedpeft resume goes on from there",
        ) from error
    finally:
        retry.max_tries = 1
        with suppress(httpx.HTTPError):
            client.PushTaskOutput(PushTaskOutputRequest(context=told.context, sub_status=status, details=details))
        if heartbeat.is_running:
            heartbeat.stop()
        grid.close()


def _acquire(address: str, root_certificates: bytes, secret: bytes, wait_s: float) -> str:
    """The token of the oldest ServerApp that waits to be run."""
    client = RuntimeHttpClient.from_server_address(
        server_address=address,
        insecure=False,
        root_certificates=root_certificates,
        interceptors=[
            RuntimeVersionHttpInterceptor(component_name="SuperExec"),
            SuperExecAuthHttpInterceptor(master_secret=secret, protected_methods={ACQUIRE}),
        ],
    )
    deadline = time.monotonic() + wait_s
    try:
        while True:
            answer = client.AcquireTask(AcquireTaskRequest(supported_task_types=[TaskType.SERVER_APP]))
            if answer.HasField("task") and answer.token:
                return answer.token
            if time.monotonic() > deadline:
                raise RoundError(
                    f"the SuperLink at {address} had no run to coordinate within {wait_s:g} s",
                    code="engine.superlink",
                    remedy="look into its log",
                )
            time.sleep(LOOK_S)
    except httpx.HTTPError as error:
        raise RoundError(
            f"the SuperLink at {address} did not hand over the run: {error}",
            code="engine.superlink",
            remedy="it must have been started with --isolation process and this secret",
        ) from error
    finally:
        client.close()
