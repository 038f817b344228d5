"""Writes the reference, pages made from the docstrings, to build/docs: `make docs`.

A warning of the generator is an error.
"""

import pathlib
import pkgutil
import warnings

import pdoc

import jaxssl
import mask_tools

OUT = pathlib.Path("build/docs")

warnings.simplefilter("error")
warnings.filterwarnings("ignore", "The module specification")  # a package may bring its modules
warnings.filterwarnings("ignore", ".*'Synchronized' is not subscriptable")  # to mypy it is
for name in jaxssl.__all__:  # imported when first used, which the generator does not see
    setattr(jaxssl, name, getattr(jaxssl, name))
modules = [
    found.name
    for package in (jaxssl, mask_tools)
    for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
]
pdoc.render.configure(docformat="google", footer_text=f"jaxssl {jaxssl.__version__}")
pdoc.pdoc("jaxssl", "mask_tools", *modules, output_directory=OUT)
print(f"open {OUT}/index.html")
