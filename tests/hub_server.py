"""A hub on the loopback interface: enough of the protocol for the real client to publish and to load models and Spaces.

    with HubServer() as hub:
        hub.address     # for HF_ENDPOINT, which the client reads once, when it is imported
        hub.fail("model.safetensors", cut(), status(500))     # what becomes of the next two requests for it

Its files lie in a folder of its own, see `hub_repositories.py`; a Space's name there begins with "spaces/". Files whose
name ends in .safetensors go through the LFS protocol, others into the commit itself. Who has no token of the hub does
not see private repositories, and no files of gated ones; who has READ_TOKEN cannot write. `log` holds every request, as
"METHOD /path"; `watch` is called with each, once it is answered.
"""

import base64
import contextlib
import json
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import uvicorn
import yaml
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.hub_failures import Failing, Failure
from tests.hub_repositories import Repository, git_name, is_large, sha256

USER, TOKEN, READ_TOKEN = "tester", "hf_of_the_tests", "hf_for_reading"
ROLES = {f"Bearer {TOKEN}": "write", f"Bearer {READ_TOKEN}": "read"}
START_SECONDS = 20
NEW_SPACE = """---
title: {name}
emoji: 🐢
colorFrom: red
colorTo: pink
sdk: {sdk}
sdk_version: 1.0.0
app_file: app.py
pinned: false
---

Check out the configuration reference at https://huggingface.co/docs/hub/spaces-config-reference
"""
DAY = "2026-01-01T00:00:00.000Z"


class Refusal(Exception):
    """An answer that ends a request."""

    def __init__(self, status: int, code: str = "", message: str = "", **headers: str) -> None:
        named = {"X-Error-Code": code, "X-Error-Message": message or code} if code or message else {}
        named |= {key.replace("_", "-"): value for key, value in headers.items()}
        self.response = Response(status_code=status, headers=named)


class HubServer:
    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.log: list[str] = []
        self.watch: Callable[[str], None] | None = None
        self.address = ""
        self.unpaid = ("t4-small",)  # hardware that this account may not have
        self.awaited: dict[tuple[str, str], list[Failure]] = {}

    def fail(self, ending: str, *failures: Failure, method: str = "GET") -> None:
        """Makes the next requests for paths of this ending fail, one failure each; forgets what was to fail before."""
        self.awaited.clear()
        self.awaited[method, ending] = list(failures)

    def forget(self) -> None:
        """Leaves an empty hub."""
        self.watch = None
        for kept in (self.repositories, self.log, self.awaited):
            kept.clear()
        shutil.rmtree(self.folder)
        (self.folder / "lfs").mkdir(parents=True)

    # --- the server itself -----------------------------------------------------------------------------------------

    def __enter__(self) -> "HubServer":
        self.folder = Path(tempfile.mkdtemp(prefix="loopback-hub-"))
        (self.folder / "lfs").mkdir()
        listener = socket.create_server(("127.0.0.1", 0))
        # What asyncio sets for sockets of its own: without it each answer waits 40 ms for its headers' acknowledgement.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        self.server = uvicorn.Server(uvicorn.Config(self.application(), log_level="critical", lifespan="off"))
        self.thread = threading.Thread(target=self.server.run, args=([listener],), daemon=True)
        self.thread.start()
        deadline = time.monotonic() + START_SECONDS
        while not self.server.started:
            assert self.thread.is_alive() and time.monotonic() < deadline, "the loopback hub did not start"
            time.sleep(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        self.server.should_exit = True
        self.thread.join()
        shutil.rmtree(self.folder)

    def application(self) -> Starlette:
        model, rest = "/api/{kind}/{owner}/{name}", "{path:path}"
        files, space_files = "/{owner}/{name}/resolve/", "/{kind}/{owner}/{name}/resolve/"
        app = Starlette(
            routes=[
                self.route("/api/whoami-v2", self.whoami),
                self.route("/api/repos/create", self.create, "POST"),
                self.route("/api/repos/delete", self.delete, "DELETE"),
                self.route("/api/validate-yaml", self.validate_card, "POST"),
                self.route(model, self.info),
                self.route(model + "/revision/{revision:path}", self.info),
                self.route(model + "/tree/{revision}", self.tree),
                self.route(model + "/tree/{revision}/" + rest, self.tree),
                self.route(model + "/paths-info/{revision:path}", self.paths_info, "POST"),
                self.route(model + "/commits/{revision:path}", self.history),
                self.route(model + "/refs", self.refs),
                self.route(model + "/branch/{revision:path}", self.branch, "POST"),
                self.route(model + "/tag/{revision:path}", self.tag, "POST"),
                self.route(model + "/preupload/{revision:path}", self.preupload, "POST"),
                self.route(model + "/commit/{revision:path}", self.commit, "POST"),
                self.route("/{owner}/{name}.git/info/lfs/objects/batch", self.batch, "POST"),
                self.route("/spaces/{owner}/{name}.git/info/lfs/objects/batch", self.batch, "POST"),
                self.route("/lfs/{oid}", self.store, "PUT"),
                self.route("/lfs/{oid}/verify", self.verify, "POST"),
                self.route(files + "refs/pr/{number}/" + rest, self.file, "GET", "HEAD"),
                self.route(files + "{revision}/" + rest, self.file, "GET", "HEAD"),
                self.route(space_files + "{revision}/" + rest, self.file, "GET", "HEAD"),
            ]
        )
        app.add_middleware(Failing, awaited=self.awaited)
        app.add_middleware(Logging, note=self.note)
        return app

    def route(self, path: str, answer: Callable[[Request], Awaitable[Response]], *methods: str) -> Route:
        async def answered(request: Request) -> Response:
            try:
                return await answer(request)
            except Refusal as refusal:
                return refusal.response

        return Route(path, answered, methods=methods or ["GET"])

    def note(self, line: str) -> None:
        self.log.append(line)
        if self.watch:
            self.watch(line)

    # --- accounts and repositories ---------------------------------------------------------------------------------

    def role(self, request: Request) -> str:
        """What the token allows: "write", "read" or ""."""
        return ROLES.get(request.headers.get("Authorization", ""), "")

    def require_writer(self, request: Request) -> None:
        if not self.role(request):
            raise Refusal(401, message="Invalid username or password.")
        if self.role(request) != "write":
            raise Refusal(403, message="You don't have the rights to write with this token.")

    def named(self, request: Request) -> str:
        """The repository that a path names, as `repositories` has it."""
        kind = "spaces/" if request.path_params.get("kind") == "spaces" else ""
        return "{}{owner}/{name}".format(kind, **request.path_params)

    def found(self, request: Request) -> Repository:
        """The repository that a path names, if who asks may see it."""
        repository = self.repositories.get(self.named(request))
        if repository is None or (repository.private and not self.role(request)):
            raise Refusal(404 if self.role(request) else 401, "RepoNotFound")
        return repository

    def revision(self, request: Request) -> tuple[Repository, str]:
        """The repository and the commit that a path names."""
        repository, named = self.found(request), request.path_params
        asked = f"refs/pr/{named['number']}" if "number" in named else named.get("revision", "main")
        if (commit := repository.resolve(asked)) not in repository.commits:
            raise Refusal(404, "RevisionNotFound")
        return repository, commit

    async def whoami(self, request: Request) -> Response:
        if not (role := self.role(request)):
            raise Refusal(401)
        return JSONResponse({"type": "user", "name": USER, "orgs": [], "auth": {"accessToken": {"role": role}}})

    async def create(self, request: Request) -> Response:
        self.require_writer(request)
        asked = await request.json()
        space = asked.get("type") == "space"
        repo = f"{'spaces/' * space}{asked.get('organization') or USER}/{asked['name']}"
        answer = {"url": f"{self.address}/{repo}"}
        if repo in self.repositories:
            return JSONResponse(answer, 409)
        if space and asked.get("hardware") in self.unpaid:
            raise Refusal(402, message="Subscribe to PRO to host Spaces on this hardware.")
        private = asked.get("visibility") == "private" or bool(asked.get("private"))
        self.repositories[repo] = made = Repository(Path(tempfile.mkdtemp(dir=self.folder)), private=private)
        if space:
            made.commit("main", {"README.md": NEW_SPACE.format(**asked).encode()}, "initial commit")
        return JSONResponse(answer)

    async def delete(self, request: Request) -> Response:
        self.require_writer(request)
        asked = await request.json()
        if self.repositories.pop(f"{asked.get('organization') or USER}/{asked['name']}", None) is None:
            raise Refusal(404, "RepoNotFound")
        return Response()

    async def validate_card(self, request: Request) -> Response:
        content = (await request.json())["content"]
        try:
            valid = content.startswith("---\n") and isinstance(yaml.safe_load(content.split("---\n")[1]), dict)
        except yaml.YAMLError:
            valid = False
        errors = [] if valid else [{"message": "no front matter"}]
        return JSONResponse({"errors": errors, "warnings": []}, 400 if errors else 200)

    async def info(self, request: Request) -> Response:
        repository, commit = self.revision(request)
        return JSONResponse(
            {
                "id": self.named(request).removeprefix("spaces/"),
                "sha": commit,
                "private": repository.private,
                "gated": "auto" if repository.gated else False,
                "tags": [],
                "siblings": [{"rfilename": path} for path in repository.commits[commit]],
            }
        )

    async def tree(self, request: Request) -> Response:
        repository, commit = self.revision(request)
        folder = request.path_params.get("path", "")
        top = folder.rstrip("/") + "/" if folder else ""
        files = {path: content for path, content in repository.commits[commit].items() if path.startswith(top)}
        if folder and not files:
            raise Refusal(404, "EntryNotFound", X_Repo_Commit=commit)
        deep = request.query_params.get("recursive", "").lower() == "true"
        inside = {path.removeprefix(top): path for path in files}
        folders = {str(parent) for path in inside for parent in Path(path).parents} - {"."}
        return JSONResponse(
            [entry(path, files[path]) for name, path in inside.items() if deep or "/" not in name]
            + [
                {"type": "directory", "path": top + name, "oid": git_name(name.encode())}
                for name in sorted(folders)
                if deep or "/" not in name
            ]
        )

    async def paths_info(self, request: Request) -> Response:
        repository, commit = self.revision(request)
        body = await request.body()
        asked = json.loads(body)["paths"] if body.startswith(b"{") else (await request.form()).getlist("paths")
        files = repository.commits[commit]
        return JSONResponse([entry(path, files[path]) for path in asked if path in files])

    async def history(self, request: Request) -> Response:
        repository, commit = self.revision(request)
        until = [*repository.commits][: [*repository.commits].index(commit) + 1]
        return JSONResponse(
            [
                {"id": one, "title": repository.titles.get(one, ""), "message": "", "date": DAY, "authors": []}
                for one in reversed(until)
            ]
        )

    async def refs(self, request: Request) -> Response:
        repository = self.found(request)

        def listed(kind: str, held: dict[str, str]) -> list[dict[str, str]]:
            return [{"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": held[name]} for name in held]

        return JSONResponse(
            {"branches": listed("heads", repository.branches), "tags": listed("tags", repository.tags), "converts": []}
        )

    async def branch(self, request: Request) -> Response:
        self.require_writer(request)
        repository, name = self.found(request), request.path_params["revision"]
        if name in repository.branches:
            raise Refusal(409)
        start = repository.resolve((json.loads(await request.body() or b"{}")).get("startingPoint") or "main")
        if start not in repository.commits:
            raise Refusal(404, "RevisionNotFound")
        repository.branches[name] = start
        return Response()

    async def tag(self, request: Request) -> Response:
        self.require_writer(request)
        repository, commit = self.revision(request)
        if (name := (await request.json())["tag"]) in repository.tags:
            raise Refusal(409)
        repository.tags[name] = commit
        return Response()

    # --- publishing ------------------------------------------------------------------------------------------------

    async def preupload(self, request: Request) -> Response:
        self.require_writer(request)
        repository, commit = self.revision(request)
        held = repository.commits[commit]
        return JSONResponse(
            {
                "files": [
                    {
                        "path": path,
                        "uploadMode": "lfs" if is_large(path) else "regular",
                        "shouldIgnore": False,
                        "oid": (sha256 if is_large(path) else git_name)(held[path]) if path in held else None,
                    }
                    for path in (file["path"] for file in (await request.json())["files"])
                ]
            }
        )

    async def batch(self, request: Request) -> Response:
        self.require_writer(request)

        def told(wanted: dict) -> dict:
            if (self.folder / "lfs" / wanted["oid"]).is_file():
                return wanted
            address = f"{self.address}/lfs/{wanted['oid']}"
            actions = {"upload": {"href": address, "header": {}}, "verify": {"href": address + "/verify"}}
            return wanted | {"actions": actions}

        return JSONResponse({"transfer": "basic", "objects": [told(one) for one in (await request.json())["objects"]]})

    async def store(self, request: Request) -> Response:
        content, oid = await request.body(), request.path_params["oid"]
        if sha256(content) != oid:
            raise Refusal(400)
        (self.folder / "lfs" / oid).write_bytes(content)
        return Response()

    async def verify(self, request: Request) -> Response:
        object_ = self.folder / "lfs" / request.path_params["oid"]
        if not object_.is_file() or object_.stat().st_size != (await request.json())["size"]:
            raise Refusal(404)
        return Response()

    async def commit(self, request: Request) -> Response:
        self.require_writer(request)
        repository, parent = self.revision(request)
        branch = request.path_params["revision"]
        if branch not in repository.branches:
            raise Refusal(404, "RevisionNotFound")
        files, title = dict(repository.commits[parent]), ""
        for line in (await request.body()).splitlines():
            key, value = (entry := json.loads(line))["key"], entry["value"]
            if key == "header":
                title = value["summary"]
                if not parent.startswith(value.get("parentCommit") or ""):
                    raise Refusal(412, message="A commit has happened since.")
            elif key == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                files[value["path"]] = (self.folder / "lfs" / value["oid"]).read_bytes()
            elif key == "deletedFile":
                del files[value["path"]]
            elif key == "deletedFolder":
                files = {path: content for path, content in files.items() if not path.startswith(value["path"])}
        page = f"{self.address}/{self.named(request)}"
        asked = request.query_params.get("create_pr") == "1"
        number = 1 + sum(name.startswith("refs/pr/") for name in repository.branches)
        made = repository.commit(f"refs/pr/{number}" if asked else branch, files, title)
        pull = {"pullRequestUrl": f"{page}/discussions/{number}"} if asked else {}
        return JSONResponse({"success": True, "commitOid": made, "commitUrl": f"{page}/commit/{made}"} | pull)

    # --- loading ---------------------------------------------------------------------------------------------------

    async def file(self, request: Request) -> Response:
        repository = self.found(request)
        if repository.gated and not self.role(request):
            raise Refusal(401, "GatedRepo", "Access to this model is restricted.")
        repository, commit = self.revision(request)
        path, files = request.path_params["path"], repository.commits[commit]
        if path not in files:
            raise Refusal(404, "EntryNotFound", X_Repo_Commit=commit)
        content = files[path]
        headers = {"X-Repo-Commit": commit, "ETag": f'"{git_name(content)}"', "Accept-Ranges": "bytes"}
        if is_large(path):
            headers |= {"X-Linked-Etag": f'"{sha256(content)}"', "X-Linked-Size": str(len(content))}
        if asked := request.headers.get("Range"):
            first, _, last = asked.removeprefix("bytes=").partition("-")
            start, stop = int(first), int(last) + 1 if last else len(content)
            headers["Content-Range"] = f"bytes {start}-{min(stop, len(content)) - 1}/{len(content)}"
            return Response(content[start:stop], 206, headers=headers, media_type="application/octet-stream")
        return Response(content, headers=headers, media_type="application/octet-stream")


def entry(path: str, content: bytes) -> dict:
    """A file as listings show it."""
    large = {"lfs": {"oid": sha256(content), "size": len(content), "pointerSize": 130}} if is_large(path) else {}
    return {"type": "file", "path": path, "size": len(content), "oid": git_name(content)} | large


class Logging:
    """Notes every request when it is answered."""

    def __init__(self, app, note: Callable[[str], None]) -> None:
        self.app, self.note = app, note

    async def __call__(self, scope, receive, send) -> None:
        await self.app(scope, receive, send)
        if scope["type"] == "http":
            self.note(f"{scope['method']} {scope['path']}")


@contextlib.contextmanager
def closed_port() -> Iterator[str]:
    """The address of a port where nobody answers, as long as it is held."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))  # bound, so that nobody else takes it, and not listening
        yield f"http://127.0.0.1:{holder.getsockname()[1]}"
