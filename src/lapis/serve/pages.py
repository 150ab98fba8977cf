"""The page: plain files of this package, which ask nobody but this server and run nothing that is not in them."""

from importlib import resources

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

SCRIPTS = ("drawing", "drop", "elements", "hit", "keyboard", "page", "player", "server", "words")
FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page/icon.svg": ("icon.svg", "image/svg+xml"),
    **{f"/page/{name}.js": (f"{name}.js", "text/javascript; charset=utf-8") for name in SCRIPTS},
}
POLICY = "; ".join((
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self'",
    "media-src 'self'",
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
))  # fmt: skip
HEADERS = {
    "cache-control": "no-cache",
    "content-security-policy": POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


def add_pages(app: FastAPI) -> None:
    """Give an app the page; its files are read once."""
    folder = resources.files("lapis.serve").joinpath("page")
    answers = {
        path: Response(folder.joinpath(name).read_bytes(), headers={**HEADERS, "content-type": kind})
        for path, (name, kind) in FILES.items()
    }

    async def page(request: Request) -> Response:
        return answers[request.scope["path"]]

    for path in FILES:
        app.add_api_route(path, page, methods=["GET"], response_model=None, include_in_schema=False)
