"""Routes of what a run wrote: listed, looked into, taken home.

What people wrote is never shown by this server: it goes out as an attachment, under a policy that lets it do nothing.
"""

import base64
import datetime as dt
import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path as LocalPath
from typing import Annotated, Any, BinaryIO
from urllib.parse import quote
from uuid import UUID

from fastapi import Path, Query
from fastapi.responses import StreamingResponse

from ...storage.artifacts import TABLE_MEDIA_TYPE, ArtifactRecord, artifacts_by_id
from ...storage.errors import NotFound
from ...storage.models import ArtifactKind
from ..care import acts
from ..composition import Freshline
from .artifact_documents import artifact_document
from .context import MAX_INTEGER, Opened, RunId
from .documents import ArtifactDocument, ListPage, PreviewDocument
from .pages import whole
from .policies import Routes, read
from .security import SANDBOX

routes = Routes(tags=["artifacts"])

_CHUNK_BYTES = 256 * 1024
_MOST_CHARACTERS = 1000
"""Of one cell of a preview."""
_MOST_COLUMNS = 500
_SAFE = frozenset(
    {TABLE_MEDIA_TYPE, "application/json", "application/zip", "image/gif", "image/jpeg", "image/png", "text/csv"}
)
"""What may keep its media type: no browser runs it. All else is bytes."""
_BYTES = "application/octet-stream"
_TYPES = _SAFE | {_BYTES}

ArtifactId = Annotated[UUID, Path(description="An artifact's id.")]


@routes.get("/runs/{run_id}/artifacts", summary="List what a run wrote")
@read
def get_artifacts(freshline: Opened, run_id: RunId) -> ListPage[ArtifactDocument]:
    """Return tables, files and folders, by name."""
    own, found = _artifacts(freshline, run_id)
    return whole([artifact_document(own, artifact_id, record) for artifact_id, record in found.items()])


@routes.get("/runs/{run_id}/artifacts/{artifact_id}/preview", summary="Look into a table")
@read
def get_preview(
    freshline: Opened,
    run_id: RunId,
    artifact_id: ArtifactId,
    limit: Annotated[int, Query(ge=1, le=500, description="Rows.")] = 50,
    every: Annotated[int, Query(ge=1, le=MAX_INTEGER, description="Of so many rows one, to draw a long table.")] = 1,
) -> PreviewDocument:
    """Return its first rows, of at most 500 columns; long texts are cut off after 1,000 characters.

    Only the parts of the table that have these rows are read; rows so far apart that this is more than 256 MiB are
    refused.
    """
    from ...storage.preview import rows_of

    stored = _artifact(freshline, run_id, artifact_id).stored_table()
    columns = stored.schema[:_MOST_COLUMNS]
    rows: list[list[Any]] = []
    if columns:
        names = [name for name, _ in columns]
        for part in rows_of(freshline.objects, stored, columns=names, limit=limit, every=every):
            cells = (map(_cell, column.to_pylist()) for column in part.columns)
            rows += [list(row) for row in zip(*cells, strict=True)]
    return PreviewDocument(columns=[list(column) for column in columns], rows=rows, num_rows=stored.rows)


@routes.get(
    "/runs/{run_id}/artifacts/{artifact_id}/content",
    summary="Take an artifact home",
    response_class=StreamingResponse,
    responses={200: {"content": {name: {"schema": {"type": "string", "format": "binary"}} for name in sorted(_TYPES)}}},
)
@read
def get_content(freshline: Opened, run_id: RunId, artifact_id: ArtifactId) -> StreamingResponse:
    """Return its bytes, checked: a table as one Parquet file, a folder as a zip archive."""
    record = _artifact(freshline, run_id, artifact_id)
    file, media_type, suffix = _opened(freshline, record)
    name = record.name + ("" if record.name.endswith(suffix) else suffix)
    headers = {
        "Content-Disposition": _attachment(name),
        "Content-Length": str(os.fstat(file.fileno()).st_size),
        "Content-Security-Policy": SANDBOX,
    }
    return StreamingResponse(_chunks(file), media_type=media_type, headers=headers)


def _artifacts(freshline: Freshline, run_id: str) -> tuple[UUID, dict[UUID, ArtifactRecord]]:
    with freshline.database.read() as connection:
        run = acts.readable_run(connection, run_id, tenant_id=freshline.settings.tenant_id)
        return run.id, artifacts_by_id(connection, run.id)


def _artifact(freshline: Freshline, run_id: str, artifact_id: UUID) -> ArtifactRecord:
    _, found = _artifacts(freshline, run_id)
    if artifact_id not in found:
        raise NotFound("artifact of this run with the id", str(artifact_id))
    return found[artifact_id]


def _opened(freshline: Freshline, record: ArtifactRecord) -> tuple[BinaryIO, str, str]:
    """Return an artifact's bytes as an open file that has no name any more, with media type and suffix."""
    from ...storage.exporting import export_table
    from ...storage.local_copies import download

    folder = LocalPath(tempfile.mkdtemp(prefix="freshline-content-"))
    try:
        path = folder / "content"
        if record.kind == ArtifactKind.TABLE:
            export_table(freshline.objects, record.stored_table(), path)
            return path.open("rb"), TABLE_MEDIA_TYPE, ".parquet"
        download(freshline.objects, record.stored_content(), path)
        if record.kind == ArtifactKind.FOLDER:
            return _zipped(path, folder / "content.zip").open("rb"), "application/zip", ".zip"
        return path.open("rb"), record.media_type if record.media_type in _SAFE else _BYTES, ""
    finally:
        # What is open is read to its end all the same, and nothing is left if nobody does.
        shutil.rmtree(folder, ignore_errors=True)


def _zipped(folder: LocalPath, target: LocalPath) -> LocalPath:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, path.relative_to(folder))
    return target


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    with file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk


def _attachment(name: str) -> str:
    plain = re.sub(r"[^\w.-]+", "_", name, flags=re.ASCII).strip("._") or "artifact"
    return f"attachment; filename=\"{plain[:200]}\"; filename*=UTF-8''{quote(name, safe='')}"


def _cell(value: Any) -> Any:  # noqa: PLR0911 - one line per type
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return value if len(value) <= _MOST_CHARACTERS else f"{value[:_MOST_CHARACTERS]}…"
    if isinstance(value, bytes):
        return base64.b64encode(value[:_MOST_CHARACTERS]).decode()
    if isinstance(value, dict):
        return {str(name): _cell(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_cell(item) for item in value[:_MOST_CHARACTERS]]
    if isinstance(value, dt.datetime | dt.date | dt.time):
        return value.isoformat()
    return str(value)
