"""What an operator of a SuperLink does: register a node's key, start a run.

The same requests as `flwr supernode register` and `flwr run` make, without a process for each.
"""

from __future__ import annotations

import hashlib
import warnings
from types import TracebackType
from typing import Self

import httpx
from flwr.cli.build import build_fab_from_files
from flwr.common.serde import fab_to_proto, user_config_to_proto
from flwr.proto.control_pb2 import RegisterNodeRequest, StartRunRequest
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.fab import Fab
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor

from fedpeft.errors import RoundError
from fedpeft.flower.compat import check_version


class Operator:
    """A connection to the Control API of a SuperLink.

    Args:
        address: host:port.
        root_certificates: PEM, of who signed the SuperLink's certificate.
    """

    def __init__(self, address: str, root_certificates: bytes) -> None:
        check_version()
        self.address = address
        self._client = ControlHttpClient.from_server_address(
            server_address=address,
            insecure=False,
            root_certificates=root_certificates,
            interceptors=[RuntimeVersionHttpInterceptor(component_name="flwr CLI")],
        )

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def register(self, public_key: bytes, name: str) -> int:
        """Let the holder of a key be a node of this SuperLink.

        Args:
            public_key: PEM, on a NIST curve.
            name: for people.

        Returns:
            the node's id.

        Raises:
            RoundError: the SuperLink refused.
        """
        try:
            return self._client.RegisterNode(RegisterNodeRequest(public_key=public_key, name=name)).node_id
        except httpx.HTTPError as error:
            raise self._refused(f"register node {name}", error) from error

    def start_run(self, pyproject: str, run_config: dict[str, str]) -> int:
        """Start a run of an app that is installed where it runs: what is sent is its configuration.

        Args:
            pyproject: content of the app's pyproject.toml.
            run_config: overrides.

        Returns:
            the run's id.

        Raises:
            RoundError: the SuperLink refused.
        """
        content = bundle(pyproject)
        request = StartRunRequest(
            fab=fab_to_proto(Fab(hashlib.sha256(content).hexdigest(), content, {})),
            override_config=user_config_to_proto(dict(run_config)),
        )
        try:
            answer = self._client.StartRun(request)
        except httpx.HTTPError as error:
            raise self._refused("start a run", error) from error
        return answer.run_id

    def _refused(self, what: str, error: httpx.HTTPError) -> RoundError:
        said = error.response.text[:300] if isinstance(error, httpx.HTTPStatusError) else str(error)
        return RoundError(
            f"the SuperLink at {self.address} did not {what}: {said}",
            code="engine.superlink",
            remedy="look into its log",
        )


def bundle(pyproject: str) -> bytes:
    """An app bundle that holds configuration only; the app itself is installed where it runs.

    Args:
        pyproject: content of its pyproject.toml.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of the kind of patterns that Flower asks pathspec for
        content, _ = build_fab_from_files({"pyproject.toml": pyproject.encode()})
    return content
