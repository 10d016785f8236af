"""`make screenshots` gives a picture of each view, in light and dark, wide and narrow."""

import struct

import pytest

from tests import screenshots


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.timeout(300)
def test_every_view_is_pictured(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FRESHLINE_HOME", str(tmp_path))
    taken = screenshots.take(tmp_path / "pictures")
    assert len(taken) == 6 * len(screenshots.SCHEMES) * len(screenshots.WIDTHS)
    for picture in taken:
        content = picture.read_bytes()
        width = struct.unpack(">I", content[16:20])[0]
        assert width == screenshots.WIDTHS[picture.stem.rpartition("-")[2]]["width"]
        assert len(content) > 10_000, f"{picture.name} is empty"
    for view in ("graph", "runs", "run", "training", "compare", "deployment"):
        light, dark = (tmp_path / "pictures" / f"{view}-{scheme}-wide.png" for scheme in screenshots.SCHEMES)
        assert light.read_bytes() != dark.read_bytes()
