"""What tests of reports share."""

import pytest

from scorescope.reports.page import pages


@pytest.fixture
def unrendered(monkeypatch):
    """Figures are drawn but no pictures made of them, two thirds of a report's time; for tests of tables and words."""
    monkeypatch.setattr(pages, "_render", lambda figure, kind, **options: b"")
