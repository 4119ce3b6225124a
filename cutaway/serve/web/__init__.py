"""A page without a server: a folder of plain files that classifies and explains wholly in the visitor's browser."""

from cutaway.serve.web.pages import WebPage, write_page
from cutaway.serve.web.runtime import RUNTIME_VERSION, Runtime, fetch_runtime, read_runtime

__all__ = ["RUNTIME_VERSION", "Runtime", "WebPage", "fetch_runtime", "read_runtime", "write_page"]
