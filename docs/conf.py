"""Configuration of the documentation: ``python -m sphinx -W -b html docs docs/_build/html``.

The gallery shows all of ``examples/`` and runs those that take seconds. ``-D sphinx_gallery_conf.filename_pattern=py``
runs all of them.
"""

import os
import shutil
import sys
from pathlib import Path

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS.parent))
os.environ["PYTHONPATH"] = os.pathsep.join([str(DOCS.parent), os.environ.get("PYTHONPATH", "")])

from eqkernels import __version__  # noqa: E402

project, author, copyright = "eqkernels", "The eqkernels developers", "The eqkernels developers"
version = release = __version__
extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "**/sg_execution_times.rst", "GALLERY_HEADER.rst", "gallery/*.py", "gallery/*.md5"]
templates_path = ["_templates"]

html_theme = "pydata_sphinx_theme"
html_title = "eqkernels"
html_static_path = ["_static"]
html_css_files = ["wide.css"]
html_theme_options = {
    "navbar_end": ["theme-switcher"],
    "show_prev_next": False,
    "secondary_sidebar_items": ["page-toc"],
}
html_context = {"default_mode": "light"}
html_sidebars = {"index": []}
html_show_sourcelink = False

myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3

autosummary_generate = True
autodoc_typehints = "none"
autodoc_default_options = {
    "members": True,
    "inherited-members": "BaseEstimator, TransformerMixin, RegressorMixin, _SetOutputMixin, _MetadataRequester, "
    "Calculator",
    "exclude-members": "compression, implemented_properties, set_fit_request, set_partial_fit_request, "
    "set_predict_request, set_score_request, set_transform_request, set_inverse_transform_request",
}
numpydoc_show_class_members = False

# Examples write their pictures into the folder that they run in: a copy keeps the sources as they are.
EXAMPLES = DOCS / "_build" / "examples"
EXAMPLES.mkdir(parents=True, exist_ok=True)
for path in [*(DOCS.parent / "examples").glob("*.py"), DOCS / "GALLERY_HEADER.rst"]:
    shutil.copyfile(path, EXAMPLES / path.name)
sphinx_gallery_conf = {
    "examples_dirs": str(EXAMPLES),
    "gallery_dirs": "gallery",
    "filename_pattern": r"(?<!learning_curves)(?<!pictures)\.py$",
    "within_subsection_order": "ExampleTitleSortKey",
    "download_all_examples": False,
    "show_signature": False,
    "min_reported_time": 1,
    "reset_modules": (),
}
