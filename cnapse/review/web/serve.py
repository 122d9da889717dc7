"""The server of `cnapse review`: a socket, the application, and the viewer beside it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import ipaddress
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import uvicorn

from cnapse.errors import ConfigError
from cnapse.review.log import DecisionLog, log_path
from cnapse.review.web.app import create_app
from cnapse.review.web.desk import Desk
from cnapse.review.web.security import Hosts, Keys, load_token
from cnapse.runs import LayerName, RunData
from cnapse.viewing.additions import additions_of
from cnapse.viewing.exhibit import Aim, Exhibit, fitting, measured_contrast, present_layers
from cnapse.viewing.scene import Selection, View, link
from cnapse.viewing.server import LayerServer

__all__ = ["ReviewServer"]

_STOPPING = (signal.SIGINT, signal.SIGTERM)
_LAYERS: tuple[LayerName, ...] = ("image", "probability", "cells", "synapses")


class ReviewServer:
    """A review that is served; `address` is what to open.

    Parameters
    ----------
    run : RunData
    title : str
        What the run is called.
    log : Path or str, optional
        The decision log; default ``review/log.sqlite`` in the run's output.
    reviewer : str, optional
        Who reviews where a browser has not said.
    port, bind
        Where to listen; port 0 takes a free one.

    Raises
    ------
    ConfigError
        If the address cannot be listened on, or the output is in a bucket and no log is given.
    RunStateError
        If the run has no tables yet.
    """

    def __init__(
        self,
        run: RunData,
        title: str,
        *,
        log: Path | str | None = None,
        reviewer: str | None = None,
        port: int = 0,
        bind: str = "127.0.0.1",
    ) -> None:
        path = log_path(run.config.output, log)
        self._socket = _listening(bind, port)
        with contextlib.ExitStack() as stack:
            stack.callback(self._socket.close)
            self.log = stack.enter_context(DecisionLog(path))
            desk = Desk(run, self.log)
            _prepare(desk)
            self.keys = Keys(load_token(path))
            layers = _layer_server(run, bind)
            stack.enter_context(layers.server)
            own = self._socket.getsockname()
            self.port: int = own[1]
            self.for_others = not ipaddress.ip_address(own[0].partition("%")[0]).is_loopback
            self._origin = urlsplit(layers.server.url).hostname or bind
            app = create_app(
                desk, self.keys, title=title, reviewer=reviewer, viewer=layers.at_synapse(desk),
                viewer_port=layers.server.port, hosts=Hosts(self.for_others),
            )  # fmt: skip
            settings = uvicorn.Config(
                app, log_level="warning", access_log=False, timeout_graceful_shutdown=3,
                server_header=False, lifespan="off",
            )  # fmt: skip
            self._server = uvicorn.Server(settings)
            self._stack = stack.pop_all()

    @property
    def address(self) -> str:
        """The link with the token."""
        host = f"[{self._origin}]" if ":" in self._origin else self._origin
        return f"http://{host}:{self.port}/?token={self.keys.token}"

    def serve(self) -> None:
        """Serve until SIGINT or SIGTERM; from the main thread."""
        # In a thread of its own: in the main one, uvicorn kills the process with the same signal
        # once it has shut down.
        served = threading.Thread(target=self._run, name="cnapse-review")
        before = {one: signal.signal(one, lambda *_: self.stop()) for one in _STOPPING}
        try:
            with self._stack:
                served.start()
                served.join()
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)

    def _run(self) -> None:
        asyncio.run(self._server.serve(sockets=[self._socket]))

    def stop(self) -> None:
        """Let `serve` end; from another thread."""
        self._server.should_exit = True


class _Layers:
    """The layers of a run, served to Neuroglancer's client."""

    def __init__(self, run: RunData, exhibit: Exhibit, server: LayerServer) -> None:
        self._run, self._exhibit, self.server = run, exhibit, server
        self._view: View | None = None

    def at_synapse(self, desk: Desk) -> Callable[[int], str]:
        """Gives the address of a synapse: the scene is in it, so that every page has its own."""

        def address(syn_id: int) -> str:
            place = desk.candidates.position_nm(syn_id)
            pre = int(desk.candidates.columns["pre_id"][desk.candidates.row(syn_id)])
            posts = [int(one["post_id"]) for one in desk.partners.of(syn_id)]
            aim = Aim(place, Selection(pre, posts, [syn_id]), [syn_id], shown="synapses")
            state = self._exhibit.state(
                self.server, self._run.config.resolution, aim, view=self._look(place)
            )
            return link(f"{self.server.url}/v/view", state)

        return address

    def _look(self, place: tuple[float, float, float]) -> View:
        if self._view is None:
            has_image = "image" in self._exhibit.paths
            image = self._run.layer("image") if has_image else None
            self._view = View(
                contrast=measured_contrast(image, place) if image else None,
                channel=self._run.probability_channel
                if "probability" in self._exhibit.paths
                else 0,
                binary=self._run.config.label.binary,
            )
        return self._view


def _layer_server(run: RunData, bind: str) -> _Layers:
    made: tuple[LayerName, ...] = ("probability", "synapses")
    known = [name for name in _LAYERS if run.given(name) or name in made]
    paths = present_layers({name: run.layer_path(name) for name in known})
    exhibit = Exhibit(paths, fitting(additions_of(run.config.output), paths))
    return _Layers(run, exhibit, LayerServer(exhibit.folders, bind=bind))


def _prepare(desk: Desk) -> None:
    """Sort, so that nobody waits for it; and spare the search for garbage the tables."""
    desk.candidates.prepare()
    gc.collect()
    gc.freeze()


def _listening(bind: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in bind else socket.AF_INET
    # asyncio sends small answers at once only on sockets that say that they are TCP; on others the
    # kernel holds them back for 40 ms.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((bind, port))
        listening.listen()
    except (OSError, OverflowError) as error:
        listening.close()
        raise ConfigError(
            f"cannot listen on {bind} port {port} ({error}): choose another --port, or 0 for a "
            "free one"
        ) from error
    return listening
