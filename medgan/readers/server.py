"""``medgan reader-study serve``: the page for several readers on this machine, each answer kept at once.

Each reader has a link with a token, which is all that lets them in. Nothing but the page and answers is served.
"""

import socket
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import uvicorn
from fastapi import FastAPI, HTTPException, Response
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse

from medgan.errors import ConfigError, DataError
from medgan.readers.answers import STORE, Answer, Reader, Store
from medgan.readers.design import CHOICES, Key
from medgan.readers.page import NOTICED, PAGE, for_reader

HEADERS = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff"}


def application(folder: Path) -> tuple[FastAPI, Store]:
    """What answers readers' browsers, and where their answers lie.

    Raises:
        DataError: The folder holds no study, or a page that is not its key's.
    """
    key = Key.load(folder)
    store = Store(folder / STORE, key.study)
    tasks = {trial.id: trial.task for trial in key.trials}
    try:
        html = (folder / PAGE).read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(f"{folder / PAGE}: cannot be read ({error.strerror}); make the study again.") from None
    served = FastAPI(title="Reader study", openapi_url=None, docs_url=None, redoc_url=None)

    def known(token: str) -> Reader:
        for reader in store.readers():
            if reader.token == token:
                return reader
        raise HTTPException(404, "This link is not known. Ask whoever sent it.")

    @lru_cache(maxsize=4)
    def page_of(reader: Reader) -> str:
        return for_reader(html, key, reader.number, reader.name, f"/r/{reader.token}/answers")

    page_of(Reader(0, "", ""))  # a page of another key is refused before anybody reads

    @served.get("/", response_class=PlainTextResponse)
    def _root() -> str:
        return "A reader study. Open the link that you were sent."

    @served.get("/r/{token}", response_class=HTMLResponse)
    def _page(token: str) -> HTMLResponse:
        return HTMLResponse(page_of(known(token)), headers=HEADERS)

    @served.get("/r/{token}/answers")
    def _given(token: str) -> JSONResponse:
        return JSONResponse([answer.model_dump() for answer in store.answers(known(token))], headers=HEADERS)

    @served.post("/r/{token}/answers", status_code=204)
    def _keep(token: str, answer: Answer) -> Response:
        reader = known(token)
        of_trial = answer.trial in tasks and answer.choice in CHOICES[tasks[answer.trial]]
        if not of_trial and answer.trial != NOTICED:
            raise HTTPException(422, "There is no such trial, or no such answer to it.")
        store.add(reader, answer)
        return Response(status_code=204, headers=HEADERS)

    return served, store


def serve(
    folder: Path, names: Sequence[str], say: Callable[[str], None], host: str = "127.0.0.1", port: int = 8765
) -> None:
    """Serve a study until it is stopped; ``say`` is told each reader's link first. Port 0 takes a free one."""
    served, store = application(folder)
    for name in names:
        store.add_reader(name)
    if not (readers := store.readers()):
        raise ConfigError("nobody may read; name each reader: --reader NAME.")
    try:
        listening = socket.create_server((host, port))
    except OSError as error:
        raise ConfigError(
            f"{host}:{port} cannot be served ({error.strerror}); give another --port or --host."
        ) from None
    with listening:
        where = f"{host}:{listening.getsockname()[1]}"
        for reader in readers:
            done = len(store.answers(reader))
            say(f"{reader.name}: http://{where}/r/{reader.token}{f' ({done} answers kept)' if done else ''}")
        if host not in ("127.0.0.1", "localhost", "::1"):
            say("note: images and answers travel without encryption; whoever has a link may read")
        say(f"answers: {folder / STORE}; stop with Ctrl+C")
        config = uvicorn.Config(served, log_level="warning", access_log=False, server_header=False)
        uvicorn.Server(config).run(sockets=[listening])
