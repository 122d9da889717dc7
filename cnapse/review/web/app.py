"""The HTTP interface of `cnapse review`: addresses, and what stands behind each.

Everything below ``/api`` speaks JSON, ids as strings; ``/api/openapi.json`` describes it. What
takes time runs in threads (plain functions), so that no request waits for another's disk.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from anyio import CapacityLimiter, to_thread
from fastapi import Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi import Path as InPath
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse, RedirectResponse
from fastapi.security import HTTPBearer
from fastapi.staticfiles import StaticFiles
from pydantic import Field, TypeAdapter
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.types import Scope

from cnapse.errors import CnapseError, ReviewError
from cnapse.review.assignment import Request as Wish
from cnapse.review.decisions import Loop
from cnapse.review.exchange import export_bytes
from cnapse.review.web import schemas
from cnapse.review.web.bodies import BodyError, body_of, described
from cnapse.review.web.desk import Desk
from cnapse.review.web.progress import Tally, progress
from cnapse.review.web.schemas import NUMBER, WHOLE
from cnapse.review.web.sections import Raster, Sections, encoded
from cnapse.review.web.security import Gate, Hosts, Keys

__all__ = ["STATIC", "create_app"]

STATIC = Path(__file__).parent / "static"
_UNBUILT = "The page is not built: run `npm ci && npm run build` in frontend/"
_KEPT_SECONDS = 90 * 24 * 3600
_FOREVER = "public, max-age=31536000, immutable"
_NAME_LENGTH = 64
_NEWEST = 2**53 - 1
# What reads layers waits for these, so that a slow disk never keeps a decision waiting; each
# may hold some hundred MB of a wide section.
_READERS = 4

Answers = dict[int | str, dict[str, Any]]
Who = Callable[[Request], str]


def _fault(description: str) -> dict[str, Any]:
    return {"model": schemas.Fault, "description": description}


_READS: Answers = {
    401: _fault("Without the token"),
    403: _fault("Asked by another web page"),
    421: _fault("By a name that is not this server's"),
    422: _fault("Not as described"),
}
_WRITES: Answers = {
    **_READS,
    409: _fault("Not possible"),
    411: _fault("Without its length"),
    413: _fault("Too long"),
    415: _fault("No JSON"),
}
_UNKNOWN: Answers = {404: _fault("Not there")}
_PICTURE: Answers = {
    200: {"content": {"image/webp": {"schema": {"type": "string", "format": "binary"}}}},
    304: {"description": "As it was"},
}
_TYPES = {"csv": "text/csv", "json": "application/json", "cave": "text/csv"}

SynId = Annotated[int, Field(ge=1, lt=2**64), WHOLE, InPath()]
Nm = Annotated[float, Field(ge=-1e12, le=1e12, allow_inf_nan=False), NUMBER, Query()]
Size = Annotated[int, Field(ge=16, le=1024), WHOLE, Query()]
Span = Annotated[float, Field(ge=100, le=20_000, allow_inf_nan=False), NUMBER, Query()]
Shown = Annotated[Literal["0", "1", "true", "false"], Query()]

_SIGN_IN = TypeAdapter(schemas.SignIn)
_CLAIM = TypeAdapter(schemas.Claim)
_RELEASE = TypeAdapter(schemas.Release)
_POSTED: TypeAdapter[Any] = TypeAdapter(schemas.Posted)


class Listed(schemas.Wanted):
    """A part of a list."""

    loop: Loop = "candidates"
    offset: Annotated[int, Field(ge=0, lt=2**53), WHOLE] = 0
    limit: Annotated[int, Field(ge=1, le=200), WHOLE] = 50


def create_app(
    desk: Desk,
    keys: Keys,
    *,
    title: str = "cnapse review",
    reviewer: str | None = None,
    viewer: Callable[[int], str] | None = None,
    viewer_port: int | None = None,
    hosts: Hosts | None = None,
    static: Path = STATIC,
) -> FastAPI:
    """The application.

    Parameters
    ----------
    desk : Desk
    keys : Keys
        Token and cookies.
    title : str
        What the run is called.
    reviewer : str, optional
        Who reviews where a browser has not said.
    viewer : callable, optional
        The address at which Neuroglancer shows a synapse.
    viewer_port : int, optional
        Where that is served.
    hosts : Hosts, optional
        Names of this server; default: those of this machine for itself.
    static : Path
        The built page.
    """
    # Pages of documentation would come from another server.
    app = FastAPI(title="cnapse review", openapi_url=None, docs_url=None, redoc_url=None)
    _say_in_one_line(app)

    def who(request: Request) -> str | None:
        return keys.name_in(request) or reviewer

    def named(request: Request) -> str:
        name = who(request)
        if name is None:
            raise HTTPException(401, "say who you are first: POST /api/session")
        return name

    about = {**desk.about(title), "run_id": keys.run_id, "viewer": viewer is not None}
    _add_sessions(app, keys, about, who)
    _add_lists(app, desk, named)
    _add_decisions(app, desk, named)
    readers = CapacityLimiter(_READERS)
    _add_pictures(app, desk, Sections(desk.run), readers)
    _add_synapses(app, desk, viewer, readers)
    _add_document(app)
    _add_page(app, keys, static)
    app.add_middleware(Gate, keys=keys, hosts=hosts or Hosts(), viewer_port=viewer_port)
    return app


# --- addresses -----------------------------------------------------------------------------------


def _add_sessions(
    app: FastAPI, keys: Keys, about: dict[str, Any], who: Callable[[Request], str | None]
) -> None:
    @app.get("/api/session", responses=_READS)
    def session(request: Request) -> schemas.Session:
        """The run, and who reviews in this browser."""
        return schemas.Session(**about, reviewer=who(request))

    @app.post("/api/session", responses=_WRITES, openapi_extra=described(_SIGN_IN))
    def sign_in(
        response: Response, body: Annotated[schemas.SignIn, Depends(body_of(_SIGN_IN))]
    ) -> schemas.Session:
        """Say who reviews in this browser from now on."""
        name = body.reviewer.strip()
        if not name or not name.isprintable():
            raise HTTPException(409, f"a name has 1 to {_NAME_LENGTH} printable characters")
        _set_cookie(response, keys.name_name, keys.signed(name))
        return schemas.Session(**about, reviewer=name)


def _add_lists(app: FastAPI, desk: Desk, named: Who) -> None:
    tally = Tally()

    @app.get("/api/candidates", responses=_READS | _UNKNOWN)
    def candidates(wanted: Annotated[Listed, Query()]) -> schemas.ItemPage:
        """Candidates in an order, some at a time."""
        rows = desk.rows(wanted, wanted.loop)
        items = desk.page(rows[wanted.offset : wanted.offset + wanted.limit], wanted.loop)
        return schemas.ItemPage.model_validate({"total": len(rows), "items": items})

    @app.post("/api/claim", responses=_WRITES | _UNKNOWN, openapi_extra=described(_CLAIM))
    def claim(
        request: Request, body: Annotated[schemas.Claim, Depends(body_of(_CLAIM))]
    ) -> schemas.Items:
        """Take the next items, or these; nobody else is given them for ten minutes."""
        me = named(request)
        if body.items is not None:
            items = desk.renew(body.loop, [int(i) for i in body.items], me)
        else:
            wish = Wish(
                loop=body.loop, reviewer=me, count=body.count, order=body.order,
                where=desk.where(body), descending=body.descending, seed=body.seed,
                exclude=[int(i) for i in body.exclude if int(i) < 2**64],
            )  # fmt: skip
            items = desk.claim(wish)
        return schemas.Items.model_validate({"items": items})

    @app.post("/api/release", responses=_WRITES, openapi_extra=described(_RELEASE))
    def release(
        request: Request, body: Annotated[schemas.Release, Depends(body_of(_RELEASE))]
    ) -> schemas.Nothing:
        """Give items back."""
        desk.log.release(named(request), body.loop, [int(i) for i in body.items])
        return schemas.Nothing()

    @app.get("/api/progress", responses=_READS)
    def how_far() -> schemas.Progress:
        """How far the review is."""
        found = progress(desk, tally)
        return schemas.Progress.model_validate(found)


def _add_decisions(app: FastAPI, desk: Desk, named: Who) -> None:
    @app.post(
        "/api/decisions", status_code=201, responses=_WRITES, openapi_extra=described(_POSTED)
    )
    def decide(
        request: Request, body: Annotated[Any, Depends(body_of(_POSTED))]
    ) -> schemas.DecisionOut:
        """Put a decision into the log; sent again, it is there once."""
        me = named(request)
        try:
            return schemas.DecisionOut.model_validate(desk.decide(body, me))
        except ReviewError as error:
            raise HTTPException(409, str(error)) from error

    @app.get("/api/decisions", responses=_READS)
    def decisions(
        limit: Annotated[int, Field(ge=1, le=500), WHOLE, Query()] = 50,
        before: Annotated[int, Field(ge=1, lt=2**53), WHOLE, Query()] = _NEWEST,
        reviewer: Annotated[str | None, Query(max_length=_NAME_LENGTH)] = None,
    ) -> schemas.DecisionPage:
        """Decisions, the newest first."""
        found = desk.newest(limit, before, reviewer)
        return schemas.DecisionPage.model_validate({"decisions": found})

    @app.get(
        "/api/export",
        responses={**_READS, 200: {"content": {"text/csv": {}, "application/json": {}}}},
        response_class=Response,
    )
    def export(format: Literal["csv", "json", "cave"] = "csv") -> Response:  # noqa: A002
        """The log as a file."""
        name = f"review_{format}.{'json' if format == 'json' else 'csv'}"
        return Response(
            export_bytes(desk.log, format, desk.candidates),
            media_type=_TYPES[format],
            headers={"content-disposition": f'attachment; filename="{name}"'},
        )


def _add_pictures(app: FastAPI, desk: Desk, sections: Sections, readers: CapacityLimiter) -> None:
    # Another run may be served at the same address another day.
    born = secrets.token_hex(4)

    async def picture(request: Request, draw: Callable[[], bytes]) -> Response:
        tag = f'"{born}"'
        headers = {"cache-control": "private, no-cache", "etag": tag}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        drawn = await to_thread.run_sync(draw, limiter=readers)
        return Response(drawn, media_type="image/webp", headers=headers)

    @app.get("/api/tiles/at", responses=_READS | _PICTURE, response_class=Response)
    async def place(
        request: Request, x: Nm, y: Nm, z: Nm, size: Size = 256, span_nm: Span = 1000
    ) -> Response:
        """The image around a place, nm."""
        raster = Raster((x, y, z), size, span_nm)
        return await picture(request, lambda: encoded(sections.em(raster)))

    @app.get(
        "/api/tiles/{syn_id}/{dz}", responses=_READS | _UNKNOWN | _PICTURE, response_class=Response
    )
    async def tile(
        request: Request,
        syn_id: SynId,
        dz: Annotated[int, Field(ge=-10_000, le=10_000), WHOLE, InPath()],
        size: Size = 256,
        span_nm: Span = 1000,
        outline: Shown = "1",
    ) -> Response:
        """The image around a synapse, `dz` sections from its position."""
        x, y, z = desk.candidates.position_nm(syn_id)
        raster = Raster((x, y, z + dz * desk.run.frame.resolution[2]), size, span_nm)
        shown = outline in ("1", "true")
        return await picture(
            request, lambda: encoded(sections.outlined(raster, syn_id, outline=shown))
        )

    @app.get("/api/labels", responses=_READS, response_model=schemas.LabelMap)
    async def labels(
        x: Nm,
        y: Nm,
        z: Nm,
        size: Annotated[int, Field(ge=16, le=512), WHOLE, Query()] = 256,
        span_nm: Span = 1000,
    ) -> Response:
        """Cells and synapses under each pixel of the same picture."""
        raster = Raster((x, y, z), size, span_nm)
        found = await to_thread.run_sync(
            lambda: _label_map(desk, sections, raster).model_dump_json(), limiter=readers
        )
        return Response(found, media_type="application/json")


def _label_map(desk: Desk, sections: Sections, raster: Raster) -> schemas.LabelMap:
    cells, cell_at = sections.labels("cells", raster)
    synapses, synapse_at = sections.labels("synapses", raster)
    return schemas.LabelMap.model_validate(
        {
            "size": raster.size,
            "cells": [{"id": str(i), "name": desk.partners.name(i)} for i in cells.tolist()],
            "cell_runs": _runs(cell_at),
            "synapses": [str(i) for i in synapses.tolist()],
            "synapse_runs": _runs(synapse_at),
        }
    )


def _add_synapses(
    app: FastAPI, desk: Desk, viewer: Callable[[int], str] | None, readers: CapacityLimiter
) -> None:
    @app.get("/api/synapses/{syn_id}", responses=_READS | _UNKNOWN)
    def synapse(syn_id: SynId) -> schemas.Detail:
        """All about a synapse."""
        return schemas.Detail.model_validate(desk.detail(syn_id))

    @app.get("/api/viewer/{syn_id}", responses=_READS | _UNKNOWN)
    async def in_viewer(syn_id: SynId) -> schemas.ViewerAddress:
        """Where Neuroglancer shows a synapse."""
        desk.candidates.row(syn_id)
        if viewer is None:
            raise HTTPException(404, "there is no viewer")
        url = await to_thread.run_sync(viewer, syn_id, limiter=readers)
        return schemas.ViewerAddress(url=url)


# --- the document and the page -------------------------------------------------------------------


def _add_document(app: FastAPI) -> None:
    """The OpenAPI document: what bodies are made of belongs to its components."""
    document = get_openapi(title=app.title, version="1", routes=app.routes)
    parts = document.setdefault("components", {})
    known = parts.setdefault("schemas", {})
    for path in document["paths"].values():
        for operation in path.values():
            content = operation.get("requestBody", {}).get("content", {})
            for one in content.values():
                known.update(one["schema"].pop("$defs", {}))
    parts["securitySchemes"] = {
        "token": HTTPBearer().model.model_dump(exclude_none=True, by_alias=True)
    }
    document["security"] = [{"token": []}]

    @app.get("/api/openapi.json", include_in_schema=False)
    def described_api() -> dict[str, Any]:
        return document


def _add_page(app: FastAPI, keys: Keys, static: Path) -> None:
    """The page at ``/``; with the token, a cookie for it."""
    index = static / "index.html"

    @app.get("/", include_in_schema=False)
    def page(token: str = "") -> Response:
        if keys.is_token(token):
            answer: Response = RedirectResponse("/", 303)
            _set_cookie(answer, keys.ticket_name, keys.ticket)
            return answer
        if not index.is_file():
            return Response(_UNBUILT, media_type="text/plain")
        return Response(
            index.read_bytes(), media_type="text/html", headers={"cache-control": "no-cache"}
        )

    if static.is_dir():
        app.mount("/", _Parts(directory=static))


class _Parts(StaticFiles):
    """Parts of the built page: they are named by their content."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        found = path.startswith("assets/") and response.status_code < 400
        response.headers["cache-control"] = _FOREVER if found else "no-cache"
        return response


# --- answers -------------------------------------------------------------------------------------


def _set_cookie(answer: Response, name: str, value: str) -> None:
    answer.set_cookie(name, value, max_age=_KEPT_SECONDS, httponly=True, samesite="strict")


def _runs(index: npt.NDArray[np.int64]) -> list[int]:
    """Run-length code: value, length, value, length ..., row by row."""
    flat = index.ravel()
    begins = np.concatenate([[0], np.flatnonzero(np.diff(flat)) + 1])
    lengths = np.diff(np.concatenate([begins, [flat.size]]))
    code: list[int] = np.stack([flat[begins], lengths], axis=1).ravel().tolist()
    return code


def _say_in_one_line(app: FastAPI) -> None:
    """Every refusal is ``{"detail": one line}``."""

    def said(status: int, text: str) -> JSONResponse:
        return JSONResponse({"detail": " ".join(text.split())}, status)

    @app.exception_handler(RequestValidationError)
    async def not_as_described(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"] if part not in ("path", "query"))
        return said(422, f"{place}: {first['msg']}")

    @app.exception_handler(BodyError)
    async def not_as_told(_: Request, error: BodyError) -> JSONResponse:
        return said(422, str(error))

    @app.exception_handler(ReviewError)
    async def not_there(request: Request, error: ReviewError) -> JSONResponse:
        return said(404 if request.method == "GET" else 409, str(error))

    @app.exception_handler(CnapseError)
    async def not_readable(_: Request, error: CnapseError) -> JSONResponse:
        return said(500, str(error))

    @app.exception_handler(StarletteHTTPException)
    async def refused(_: Request, error: StarletteHTTPException) -> JSONResponse:
        answer = said(error.status_code, str(error.detail))
        answer.headers.update(error.headers or {})
        return answer
