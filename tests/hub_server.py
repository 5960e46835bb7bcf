"""A hub on the loopback interface, in memory: enough of the protocol for the real client to publish and to load models.

    with HubServer() as hub:
        hub.address     # for HF_ENDPOINT, which the client reads once, when it is imported

Repositories have branches, tags and commits; a commit maps paths to contents. Files whose name ends in .safetensors go
through the LFS protocol, others into the commit itself. A request without the right token does not see private
repositories. `log` holds every request, as "METHOD /path"; `watch` is called with each, once it is answered.
"""

import base64
import contextlib
import hashlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

USER, TOKEN = "tester", "hf_of_the_tests"
START_SECONDS = 20


@dataclass
class Repository:
    """Commits by their hash, oldest first, and the branches and tags that point to them."""

    private: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=lambda: {digest(b"empty"): {}})
    branches: dict[str, str] = field(default_factory=lambda: {"main": digest(b"empty")})
    tags: dict[str, str] = field(default_factory=dict)

    def commit(self, branch: str, files: dict[str, bytes]) -> str:
        names = json.dumps([len(self.commits), sorted((path, digest(content)) for path, content in files.items())])
        self.commits[made := digest(names.encode())] = files
        self.branches[branch] = made
        return made

    def resolve(self, revision: str) -> str:
        """The commit that a branch, a tag or a hash stands for; the word itself where there is none."""
        return self.branches.get(revision) or self.tags.get(revision) or revision


def git_name(path: str, content: bytes) -> str:
    """What the hub says a file's content is called: LFS files by their SHA-256, others as git does."""
    if path.endswith(".safetensors"):
        return hashlib.sha256(content).hexdigest()
    return digest(b"blob %d\0" % len(content) + content)


def digest(content: bytes) -> str:
    """A name for a content: 40 hexadecimal digits, like git's."""
    return hashlib.sha1(content).hexdigest()


def refusal(status: int, code: str) -> Response:
    return Response(status_code=status, headers={"X-Error-Code": code, "X-Error-Message": code})


class HubServer:
    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.objects: dict[str, bytes] = {}  # of LFS, by their SHA-256
        self.log: list[str] = []
        self.watch: Callable[[str], None] | None = None
        self.address = ""

    # --- the server itself -----------------------------------------------------------------------------------------

    def __enter__(self) -> "HubServer":
        listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        self.server = uvicorn.Server(uvicorn.Config(self.application(), log_level="warning", lifespan="off"))
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

    def application(self) -> Starlette:
        repo, rest = "/{owner}/{name}", "{path:path}"
        app = Starlette(
            routes=[
                Route("/api/whoami-v2", self.whoami),
                Route("/api/repos/create", self.create, methods=["POST"]),
                Route("/api/validate-yaml", self.validate_card, methods=["POST"]),
                Route("/api/models" + repo, self.info),
                Route("/api/models" + repo + "/revision/{revision}", self.info),
                Route("/api/models" + repo + "/branch/{revision}", self.branch, methods=["POST"]),
                Route("/api/models" + repo + "/tag/{revision}", self.tag, methods=["POST"]),
                Route("/api/models" + repo + "/refs", self.refs),
                Route("/api/models" + repo + "/preupload/{revision}", self.preupload, methods=["POST"]),
                Route("/api/models" + repo + "/commit/{revision}", self.commit, methods=["POST"]),
                Route("/{owner}/{name}.git/info/lfs/objects/batch", self.batch, methods=["POST"]),
                Route("/lfs/{oid}", self.store, methods=["PUT"]),
                Route(repo + "/resolve/{revision}/" + rest, self.file, methods=["GET", "HEAD"]),
            ]
        )
        app.add_middleware(Logging, note=self.note)
        return app

    def note(self, line: str) -> None:
        self.log.append(line)
        if self.watch:
            self.watch(line)

    # --- accounts and repositories ---------------------------------------------------------------------------------

    def trusted(self, request: Request) -> bool:
        return request.headers.get("Authorization") == f"Bearer {TOKEN}"

    def found(self, request: Request) -> Repository | None:
        """The repository that a path names, if who asks may see it."""
        repository = self.repositories.get("{owner}/{name}".format(**request.path_params))
        return repository if repository and (not repository.private or self.trusted(request)) else None

    async def whoami(self, request: Request) -> Response:
        if not self.trusted(request):
            return Response(status_code=401)
        return JSONResponse({"type": "user", "name": USER, "orgs": [], "auth": {"accessToken": {"role": "write"}}})

    async def create(self, request: Request) -> Response:
        if not self.trusted(request):
            return Response(status_code=401)
        asked = await request.json()
        repo = f"{asked.get('organization') or USER}/{asked['name']}"
        answer = {"url": f"{self.address}/{repo}"}
        if repo in self.repositories:
            return JSONResponse(answer, 409)
        private = asked.get("visibility") == "private" or bool(asked.get("private"))
        self.repositories[repo] = Repository(private=private)
        return JSONResponse(answer)

    async def validate_card(self, request: Request) -> Response:
        content = (await request.json())["content"]
        errors = [] if content.startswith("---\n") else [{"message": "no front matter"}]
        return JSONResponse({"errors": errors, "warnings": []}, 400 if errors else 200)

    async def info(self, request: Request) -> Response:
        repository = self.found(request)
        if repository is None:
            return refusal(401, "RepoNotFound")
        revision = request.path_params.get("revision", "main")
        commit = repository.resolve(revision)
        if commit not in repository.commits:
            return refusal(404, "RevisionNotFound")
        return JSONResponse(
            {
                "id": "{owner}/{name}".format(**request.path_params),
                "sha": commit,
                "private": repository.private,
                "tags": [],
                "siblings": [{"rfilename": path} for path in repository.commits[commit]],
            }
        )

    async def branch(self, request: Request) -> Response:
        repository = self.found(request)
        if repository is None or not self.trusted(request):
            return refusal(401, "RepoNotFound")
        name = request.path_params["revision"]
        if name in repository.branches:
            return Response(status_code=409)
        repository.branches[name] = repository.branches["main"]
        return Response()

    async def tag(self, request: Request) -> Response:
        repository = self.found(request)
        if repository is None or not self.trusted(request):
            return refusal(401, "RepoNotFound")
        name, commit = (await request.json())["tag"], repository.resolve(request.path_params["revision"])
        if commit not in repository.commits:
            return refusal(404, "RevisionNotFound")
        if name in repository.tags:
            return Response(status_code=409)
        repository.tags[name] = commit
        return Response()

    async def refs(self, request: Request) -> Response:
        repository = self.found(request)
        if repository is None:
            return refusal(401, "RepoNotFound")

        def listed(kind: str, held: dict[str, str]) -> list[dict[str, str]]:
            return [{"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": held[name]} for name in held]

        return JSONResponse(
            {"branches": listed("heads", repository.branches), "tags": listed("tags", repository.tags), "converts": []}
        )

    # --- publishing ------------------------------------------------------------------------------------------------

    async def preupload(self, request: Request) -> Response:
        files = (await request.json())["files"]
        repository = self.found(request)
        held = repository.commits[repository.branches[request.path_params["revision"]]] if repository else {}
        return JSONResponse(
            {
                "files": [
                    {
                        "path": file["path"],
                        "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                        "shouldIgnore": False,
                        "oid": git_name(file["path"], held[file["path"]]) if file["path"] in held else None,
                    }
                    for file in files
                ]
            }
        )

    async def batch(self, request: Request) -> Response:
        wanted = (await request.json())["objects"]
        return JSONResponse(
            {
                "transfer": "basic",
                "objects": [
                    one
                    | (
                        {}
                        if one["oid"] in self.objects
                        else {"actions": {"upload": {"href": f"{self.address}/lfs/{one['oid']}", "header": {}}}}
                    )
                    for one in wanted
                ],
            }
        )

    async def store(self, request: Request) -> Response:
        content, oid = await request.body(), request.path_params["oid"]
        if hashlib.sha256(content).hexdigest() != oid:
            return Response(status_code=400)
        self.objects[oid] = content
        return Response()

    async def commit(self, request: Request) -> Response:
        repository = self.found(request)
        if repository is None or not self.trusted(request):
            return refusal(401, "RepoNotFound")
        revision = request.path_params["revision"]
        if revision not in repository.branches:
            return refusal(404, "RevisionNotFound")
        files = dict(repository.commits[repository.branches[revision]])
        for line in (await request.body()).splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                files[value["path"]] = self.objects[value["oid"]]
            elif entry["key"] == "deletedFile":
                del files[value["path"]]
        made = repository.commit(revision, files)
        page = "{}/{owner}/{name}/commit/{}".format(self.address, made, **request.path_params)
        return JSONResponse({"success": True, "commitOid": made, "commitUrl": page})

    # --- loading ---------------------------------------------------------------------------------------------------

    async def file(self, request: Request) -> Response:
        repository = self.found(request)
        if repository is None:
            return refusal(401, "RepoNotFound")
        revision, path = request.path_params["revision"], request.path_params["path"]
        commit = repository.resolve(revision)
        if commit not in repository.commits:
            return refusal(404, "RevisionNotFound")
        if path not in repository.commits[commit]:
            answer = refusal(404, "EntryNotFound")
            answer.headers["X-Repo-Commit"] = commit
            return answer
        content = repository.commits[commit][path]
        headers = {"X-Repo-Commit": commit, "ETag": f'"{digest(content)}"'}
        if path.endswith(".safetensors"):
            headers |= {"X-Linked-Etag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Linked-Size": str(len(content))}
        return Response(content, headers=headers, media_type="application/octet-stream")


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
