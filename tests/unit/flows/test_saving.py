"""What a body saves besides tables, and what it opens of others: files and folders."""

import io
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from freshline import testing
from freshline.flows import track
from freshline.flows.context import RunContext
from freshline.storage.errors import InvalidInput, NotFound


def left_by(act, **options) -> testing.TestResult:
    """What a body leaves that does only this."""

    @track.refresh
    def body(run: RunContext) -> None:
        act(run)

    return testing.run(body, **options)


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "model" / "assets").mkdir(parents=True)
    (tmp_path / "model" / "weights").write_bytes(b"weights")
    (tmp_path / "model" / "assets" / "words").write_bytes(b"words")
    return tmp_path / "model"


def test_folder_is_one_artifact_with_one_digest(folder):
    left = left_by(lambda run: run.save("model", str(folder)))
    assert left.folders == {"model": {"weights": b"weights", "assets/words": b"words"}}
    (artifact,) = left.result.artifacts
    assert (artifact.kind, artifact.digest, artifact.size_bytes) == ("folder", artifact.stored.sha256, 12)


def test_folder_may_have_the_digest_of_its_author(folder):
    left = left_by(lambda run: run.save("model", folder, digest="mine", publish=False))
    assert [(one.digest, one.publish) for one in left.result.artifacts] == [("mine", False)]


def test_folder_with_a_media_type_is_refused(folder):
    with pytest.raises(InvalidInput, match="is a folder, which has no media type"):
        left_by(lambda run: run.save("model", folder, media_type="a/b"))


def test_path_where_nothing_is_is_not_found(tmp_path):
    with pytest.raises(NotFound, match=r"no file '.*nothing'"):
        left_by(lambda run: run.save("model", tmp_path / "nothing"))


def test_open_files_and_iterators_are_saved_as_they_come():
    def act(run: RunContext) -> None:
        run.save("opened", io.BytesIO(b"bytes"), media_type="image/png")
        run.save("parts", (part for part in (b"by", b"tes")))

    left = left_by(act)
    assert left.files == {"opened": b"bytes", "parts": b"bytes"}
    assert [one.media_type for one in left.result.artifacts] == ["image/png", "application/octet-stream"]


def test_file_and_folder_of_an_upstream_are_opened_under_their_names(folder, tmp_path):
    (tmp_path / "report.html").write_bytes(b"<p>")
    seen = {}

    def act(run: RunContext) -> None:
        model = run.open("alpha", "model")
        seen.update(
            {path.relative_to(model).as_posix(): path.read_bytes() for path in model.rglob("*") if path.is_file()}
        )
        seen["report"] = run.open("alpha", "report.html")
        assert seen["report"].read_bytes() == b"<p>"

    left_by(act, inputs={"alpha": {"model": folder, "report.html": tmp_path / "report.html", "raw": b"x"}})
    assert (seen["weights"], seen["assets/words"]) == (b"weights", b"words")
    assert seen["report"].name == "report.html"
    assert not seen["report"].exists()  # it lived as long as the run


def test_unknown_file_of_an_upstream_names_those_that_there_are(folder):
    with pytest.raises(NotFound, match=r"file or folder in refresh/alpha@v1 \(it has model\).*Did you mean 'model'"):
        left_by(lambda run: run.open("alpha", "modle"), inputs={"alpha": {"model": folder}})
    with pytest.raises(InvalidInput, match=r"no table; open its folder: run.open\('alpha', 'model'\)"):
        left_by(lambda run: run.read("alpha"), inputs={"alpha": {"model": folder}})


def test_table_is_read_in_batches_within_a_body():
    def act(run: RunContext) -> None:
        batches = run.read("prices", columns=["x"], where=[("x", ">", 1)], as_="batches")
        assert isinstance(batches, pa.RecordBatchReader)
        run.write("copy", batches)

    assert left_by(act, inputs={"prices": pd.DataFrame({"x": [1, 2, 3]})}).tables["copy"]["x"].tolist() == [2, 3]
