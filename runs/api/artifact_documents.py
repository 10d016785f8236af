"""The form of the answers about artifacts."""

from uuid import UUID

from ...storage.artifacts import ArtifactRecord
from ...storage.stored import StoredTable
from .documents import ArtifactDocument, run_url


def artifact_document(run_id: UUID, artifact_id: UUID, record: ArtifactRecord) -> ArtifactDocument:
    """Return the answer about one artifact of a run."""
    url = f"{run_url(run_id)}/artifacts/{artifact_id}"
    columns = [list(column) for column in record.stored.schema] if isinstance(record.stored, StoredTable) else None
    return ArtifactDocument(
        id=artifact_id,
        name=record.name,
        kind=record.kind,
        publish=record.publish,
        digest=record.digest,
        rows=record.rows,
        size_bytes=record.size_bytes,
        media_type=record.media_type,
        columns=columns,
        first_data_date=record.first_data_date,
        last_data_date=record.last_data_date,
        removed_reason=record.removed_reason,
        content_url=f"{url}/content",
        preview_url=f"{url}/preview" if columns is not None else None,
    )
