"""The Schema Registry REST read API over the pinned schemas, so that any Confluent-compatible consumer can decode."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from flywheel.events.declarations import SchemaVersion, topics
from flywheel.events.registry import Registry

_SUBJECT_UNKNOWN, _VERSION_UNKNOWN, _SCHEMA_UNKNOWN, _VERSION_INVALID, _READ_ONLY = 40401, 40402, 40403, 42202, 40301


def subjects(registry: Registry) -> dict[str, list[SchemaVersion]]:
    """Every subject (``<topic>-value``) with its versions, oldest first."""
    return {f"{t.name}-value": [v for v in registry.all() if v.event == t.event] for t in topics().values()}


def _error(status: int, code: int, message: str) -> Response:
    return JSONResponse({"error_code": code, "message": message}, status_code=status)


class _ReadApi:
    """The handlers; paths, answers and error codes are the Confluent registry's."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._subjects = subjects(registry)

    async def root(self, _: Request) -> Response:
        return JSONResponse({})

    async def list_subjects(self, _: Request) -> Response:
        return JSONResponse(sorted(self._subjects))

    async def list_versions(self, request: Request) -> Response:
        subject = request.path_params["subject"]
        if subject not in self._subjects:
            return _error(404, _SUBJECT_UNKNOWN, f"Subject '{subject}' not found.")
        return JSONResponse([v.version for v in self._subjects[subject]])

    async def one_version(self, request: Request) -> Response:
        subject, asked = request.path_params["subject"], request.path_params["version"]
        if subject not in self._subjects:
            return _error(404, _SUBJECT_UNKNOWN, f"Subject '{subject}' not found.")
        if asked != "latest" and not asked.isdecimal():
            return _error(422, _VERSION_INVALID, f"The version '{asked}' is neither a number nor 'latest'.")
        found = self._subjects[subject]
        wanted = found[-1:] if asked == "latest" else [v for v in found if v.version == int(asked)]
        if not wanted:
            return _error(404, _VERSION_UNKNOWN, f"Version {asked} of '{subject}' not found.")
        v = wanted[0]
        return JSONResponse(
            {"subject": subject, "version": v.version, "id": v.schema_id, "schemaType": "AVRO", "schema": v.text}
        )

    async def by_id(self, request: Request) -> Response:
        found = self._registry.by_id(request.path_params["schema_id"])
        if found is None:
            return _error(404, _SCHEMA_UNKNOWN, f"Schema {request.path_params['schema_id']} not found.")
        return JSONResponse({"schema": found.text})

    async def compatibility(self, _: Request) -> Response:
        return JSONResponse({"compatibilityLevel": "FULL_TRANSITIVE"})

    async def schema_types(self, _: Request) -> Response:
        return JSONResponse(["AVRO"])

    async def read_only(self, _: Request) -> Response:
        return _error(403, _READ_ONLY, "Schemas are pinned in the repository: add a version file and deploy.")


def registry_app(registry: Registry) -> Starlette:
    """An ASGI app that answers the registry's read API; schemas change by deploy, so writes are refused."""
    api = _ReadApi(registry)
    return Starlette(
        routes=[
            Route("/", api.root),
            Route("/subjects", api.list_subjects),
            Route("/subjects/{subject}/versions", api.list_versions, methods=["GET"]),
            Route("/subjects/{subject}/versions", api.read_only, methods=["POST"]),
            Route("/subjects/{subject}/versions/{version}", api.one_version),
            Route("/schemas/ids/{schema_id:int}", api.by_id),
            Route("/schemas/types", api.schema_types),
            Route("/config", api.compatibility, methods=["GET"]),
            Route("/config/{subject}", api.compatibility, methods=["GET"]),
        ]
    )
