"""Files for papers are read back: fonts are TrueType, text is text, sizes are as asked."""

import re
import shutil
import subprocess
import zlib
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from scorescope.data import InputError
from scorescope.reports import theme
from scorescope.reports.page.latex import MATHS

ROOT = Path(__file__).parents[3]
LATEX = pytest.mark.skipif(not (shutil.which("xelatex") and shutil.which("pdflatex")), reason="no LaTeX with pgf here")


@pytest.fixture
def figure():
    @theme.styled
    def drawn():
        figure, ax = theme.new_figure()
        ax.plot([1, 100], [1, 2], label="σ and $D_c$, ⟨a, b⟩ ← 10⁻³")
        theme.sigma_axis(ax)
        theme.legend(ax)
        return figure

    return drawn(style="paper-single")


def pdf_objects(content):
    """The objects of a PDF as text, streams unpacked where they can be."""
    packed = [found[1] for found in re.finditer(rb"stream\r?\n(.*?)\r?\nendstream", content, flags=re.DOTALL)]
    unpacked = []
    for stream in packed:
        try:
            unpacked.append(zlib.decompress(stream))
        except zlib.error:
            continue
    return content + b"".join(unpacked)


def test_fonts_of_a_pdf_are_truetype(figure, tmp_path):
    found = pdf_objects(theme.save(figure, tmp_path / "a.pdf").read_bytes())
    kinds = set(re.findall(rb"/Subtype /(Type\w+|CIDFontType\w+|TrueType)", found))
    assert kinds == {b"Type0", b"CIDFontType2"} and b"/FontFile2" in found and b"/Type3" not in found
    (box,) = re.findall(rb"/MediaBox \[ ?0 0 ([\d.]+) ([\d.]+)", found)
    assert [float(end) / 72 for end in box] == pytest.approx([3.3, 2.6])


def test_text_of_an_svg_is_text_and_a_file_is_made_again_the_same(figure, tmp_path):
    text = theme.save(figure, tmp_path / "a.svg").read_text()
    assert "noise level σ (units of data)" in re.sub(r"<[^>]+>", "", text) and "<text" in text
    assert theme.save(figure, tmp_path / "a.svg").read_text() == text and "<dc:date>" not in text
    assert theme.save(figure, tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_pgf_asks_for_latex_in_one_sentence(figure, tmp_path, monkeypatch):
    monkeypatch.setattr("scorescope.reports.page.styles.shutil.which", lambda name: None)
    with pytest.raises(InputError, match=r"^path: found a \.pgf file to be written, and no LaTeX; expected xelatex"):
        theme.save(figure, tmp_path / "a.pgf")


NAMES = [
    "cats & dogs #1",
    "a_b~c",
    "{'w': 1}",
    r"back\\slash \textbf{no} \input{a}",
    "a--b",
    "5 % {",
    "θ, ε ≤ 10⁻⁵, x₁",
    "1 \\$",
]


@LATEX
@pytest.mark.parametrize("engine", ["xelatex", "pdflatex"])
def test_a_pgf_shows_names_letter_by_letter_in_either_engine(engine, figure, tmp_path):
    ax = figure.axes[0]
    ax.set_title("w\u00a0= $\\alpha_1$, é")
    ax.set_yticks(np.linspace(1, 2, len(NAMES)), NAMES)
    ax.imshow([[0.0, 1.0]], extent=(1, 10, 1, 2))
    text = theme.save(figure, tmp_path / "a.pgf").read_text()
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a-img0.png", "a.pgf"]
    for shown in (r"cats \& dogs \#1", r"a\_b\textasciitilde{}c", r"\textbackslash{}textbf\{no\}", "a{-}{-}b"):
        assert shown in text
    (tmp_path / "page.tex").write_text(
        r"\documentclass{article}\usepackage{pgf}\def\mathdefault#1{#1}\begin{document}\input{a.pgf}\end{document}"
    )
    command = [engine, "-halt-on-error", "-interaction=nonstopmode", "page.tex"]
    made = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert made.returncode == 0 and "Missing character" not in made.stdout, made.stdout[-1000:]


@LATEX
@pytest.mark.parametrize(("title", "name", "message"), [
    ("漢", "a.pgf", "figure: found '漢'"), (r"$\input{a}$", "a.pgf", "a formula that matplotlib draws"),
    ("a", "a%b.pgf", "path: found a%b.pgf"),
])  # fmt: skip
def test_what_latex_would_not_show_is_refused_and_what_was_there_stays(title, name, message, figure, tmp_path):
    (tmp_path / "a.pgf").write_text("before")
    figure.axes[0].set_title(title)
    with pytest.raises(InputError, match=message):
        theme.save(figure, tmp_path / name)
    assert [one.read_text() for one in tmp_path.iterdir()] == ["before"]


def test_every_sign_of_our_texts_is_one_that_latex_is_told_of():
    files = [file for room in ("analysis", "reports") for file in (ROOT / room).rglob("*.py")]
    written = "".join(file.read_text(encoding="utf-8") for file in files if file.name != "latex.py")
    assert {sign for sign in written if not sign.isascii()} - {"–", "…"} <= set(MATHS)


@pytest.mark.parametrize(("path", "message"), [
    ("a.jpg", r"a\.jpg; expected a name that ends in \.pdf, \.svg, \.pgf, \.png"), ("no/a.pdf", "in no folder")
])  # fmt: skip
def test_other_paths_are_refused(path, message, tmp_path):
    with pytest.raises(InputError, match=message):
        theme.save(Figure(), tmp_path / path)


def test_other_files_need_nothing_of_the_backend_for_latex(figure, tmp_path, monkeypatch):
    monkeypatch.delattr("matplotlib.backends.backend_pgf._tex_escape")
    assert theme.save(figure, tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")
