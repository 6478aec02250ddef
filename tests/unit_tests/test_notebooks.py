"""What the notebooks show is kept in them, clean; ``make notebooks`` runs them."""

from __future__ import annotations

import nbformat
import pytest

from tests.support.notebooks import NOTEBOOKS, unclean


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_shows_a_plot_and_nothing_by_accident(path):
    """Each was run from top to bottom; warnings, colours of a terminal and paths are not left."""
    notebook = nbformat.read(path, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert unclean(notebook) == []
    assert any("image/png" in out.get("data", {}) for cell in cells for out in cell.outputs)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_needs_nothing_beside_itself(path):
    """It runs in any folder: nothing of the repository is opened."""
    source = path.read_text(encoding="utf-8")
    assert "tests/" not in source
    assert "../" not in source
