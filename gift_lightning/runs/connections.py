"""Connections of the first rank of a run with each other one, for messages beside those of the training."""

import contextlib
import json
import secrets
import socket
from typing import Any, cast

from lightning import Trainer

_SECONDS = 120.0
"""Within which the ranks connect: they have met before."""


def connect(trainer: Trainer) -> tuple[dict[int, socket.socket], list[str]]:
    """Connect the ranks; all call it together.

    Returns:
        The connections by the rank at their other end: of the first rank all, of another one that with the first. And
        the names of the ranks' machines.
    """
    rank, host = trainer.global_rank, socket.gethostname()
    if rank == 0:
        peers, hosts = _accept_all(trainer, host)
        for peer in peers.values():
            peer.sendall(line_of({"hosts": hosts}))
    else:
        port, token = cast(Any, trainer.strategy).broadcast(None)
        address = trainer.strategy.cluster_environment.main_address  # type: ignore[attr-defined]
        peers = {0: socket.create_connection((address, port), timeout=_SECONDS)}
        peers[0].sendall(line_of({"token": token, "rank": rank, "host": host}))
        hosts = _line(peers[0])["hosts"]
    for peer in peers.values():
        _keep_alive(peer)
    return peers, hosts


def line_of(message: dict[str, Any]) -> bytes:
    """A message as it is sent: JSON on a line."""
    return json.dumps(message).encode() + b"\n"


def _accept_all(trainer: Trainer, host: str) -> tuple[dict[int, socket.socket], list[str]]:
    peers: dict[int, socket.socket] = {}
    hosts = {0: host}
    with _listener() as listener:
        token = secrets.token_hex(16)  # whoever else may find the port
        trainer.strategy.broadcast((listener.getsockname()[1], token))
        while len(hosts) < trainer.world_size:
            peer, rank, name = _accept(listener, token)
            if rank:
                peers[rank], hosts[rank] = peer, name
    return peers, [hosts[rank] for rank in range(trainer.world_size)]


def _listener() -> socket.socket:
    """A socket at a free port of all addresses of this machine."""
    if socket.has_dualstack_ipv6():
        with contextlib.suppress(OSError):
            return socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", 0))


def _accept(listener: socket.socket, token: str) -> tuple[socket.socket, int, str]:
    """The next connection, with the rank and the host that it is of; rank 0 if it is none of this run."""
    listener.settimeout(_SECONDS)
    peer, _ = listener.accept()
    peer.settimeout(_SECONDS)
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        hello = _line(peer)
        if secrets.compare_digest(hello["token"], token):
            return peer, hello["rank"], hello["host"]
    peer.close()
    return peer, 0, ""


def _line(peer: socket.socket) -> dict[str, Any]:
    """The next message; read byte by byte, to leave those after it."""
    line = b""
    while not line.endswith(b"\n"):
        byte = peer.recv(1)
        if not byte or len(line) > 1_000_000:
            raise ConnectionError("The connection to another rank was closed at the start.")
        line += byte
    return dict(json.loads(line))


def _keep_alive(peer: socket.socket) -> None:
    """Let the system close a connection half a minute after the other machine has stopped answering."""
    peer.settimeout(None)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    limits = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4, "TCP_USER_TIMEOUT": 30_000}
    for name, value in limits.items():
        if hasattr(socket, name):  # of Linux
            peer.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
