"""What tests of reports share."""

import pytest

from scorescope.reports.page import rendered


@pytest.fixture
def unrendered(monkeypatch):
    """Figures are drawn but no pictures made of them, two thirds of a report's time; for tests of tables and words."""
    monkeypatch.setattr(rendered, "render_figure", lambda figure, kind, **options: b"")


@pytest.fixture
def svg_alone(monkeypatch):
    """No PNG is made of a figure: for tests that read the words in pictures."""
    render = rendered.render_figure
    made = lambda figure, kind, **options: render(figure, kind, **options) if kind == "svg" else b""  # noqa: E731
    monkeypatch.setattr(rendered, "render_figure", made)
