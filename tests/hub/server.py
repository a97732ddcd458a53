"""A Hugging Face Hub over real HTTP on this machine, for the unmodified client to talk to.

Repositories, commits, branches, pull requests and large files are kept in memory. Large files
are up- and downloaded under another host name, which refuses every token: a client that sends
one there is caught in `leaks`.
"""

import base64
import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import sleep  # tests replace time.sleep, and the server is to be slow all the same
from urllib.parse import parse_qs, unquote, urlsplit

import yaml
from failures import Failures

LFS_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".onnx")
REPO = r"(?P<repo>[^/]+/[^/]+)"
ROUTES = {
    "whoami": ("GET", r"/api/whoami-v2"),
    "create": ("POST", r"/api/repos/create"),
    "delete": ("DELETE", r"/api/repos/delete"),
    "settings": ("PUT", rf"/api/models/{REPO}/settings"),
    "validate": ("POST", r"/api/validate-yaml"),
    "preupload": ("POST", rf"/api/models/{REPO}/preupload/(?P<rev>[^/]+)"),
    "batch": ("POST", rf"/{REPO}\.git/info/lfs/objects/batch"),
    "upload": ("PUT", r"/storage/(?P<oid>[0-9a-f]{64})(?:/(?P<part>\d+))?"),
    "complete": ("POST", r"/storage/(?P<oid>[0-9a-f]{64})/complete"),
    "verify": ("POST", rf"/{REPO}\.git/info/lfs/verify"),
    "commit": ("POST", rf"/api/models/{REPO}/commit/(?P<rev>[^/]+)"),
    "refs": ("GET", rf"/api/models/{REPO}/refs"),
    "commits": ("GET", rf"/api/models/{REPO}/commits/(?P<rev>[^/]+)"),
    "branch": ("POST", rf"/api/models/{REPO}/branch/(?P<name>[^/]+)"),
    "unbranch": ("DELETE", rf"/api/models/{REPO}/branch/(?P<name>[^/]+)"),
    "tag": ("POST", rf"/api/models/{REPO}/tag/(?P<rev>[^/]+)"),
    "untag": ("DELETE", rf"/api/models/{REPO}/tag/(?P<name>[^/]+)"),
    "tree": ("GET", rf"/api/models/{REPO}/tree/(?P<rev>[^/]+)(?:/(?P<path>.+))?"),
    "paths": ("POST", rf"/api/models/{REPO}/paths-info/(?P<rev>[^/]+)"),
    "info": ("GET", rf"/api/models/{REPO}(?:/revision/(?P<rev>[^/]+))?"),
    "head": ("HEAD", rf"/{REPO}/resolve/(?P<rev>[^/]+)/(?P<path>.+)"),
    "resolve": ("GET", rf"/{REPO}/resolve/(?P<rev>[^/]+)/(?P<path>.+)"),
    "download": ("GET", r"/storage/(?P<oid>[0-9a-f]{64})"),
}
PATTERNS = {name: (method, re.compile(path)) for name, (method, path) in ROUTES.items()}
PAGE = 100


@dataclass(frozen=True)
class Entry:
    """A file in a commit; `sha256` is that of a large one."""

    oid: str
    size: int
    sha256: str | None = None

    @property
    def key(self):
        return self.sha256 or self.oid


@dataclass(frozen=True)
class Commit:
    oid: str
    parent: str | None
    author: str
    title: str
    date: str
    files: dict[str, Entry]


@dataclass
class Repo:
    private: bool
    commits: dict[str, Commit] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    """Branches by name, `refs/pr/N` and `refs/tags/T`."""


@dataclass(frozen=True)
class Request:
    route: str
    method: str
    path: str
    sent: int
    """Bytes of its body."""


class RefusedError(Exception):
    """An answer other than success."""

    def __init__(self, status, message, code=None, headers=None):
        super().__init__(message)
        self.status = status
        self.headers = {"X-Error-Message": message, **(headers or {})}
        if code:
            self.headers["X-Error-Code"] = code


class CutError(Exception):
    """The connection ends here."""


def git_oid(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class LocalHub:
    """The server; `with LocalHub() as hub` runs it. `tokens` maps those that are good to users."""

    def __init__(self, multipart=None):
        self.multipart = multipart
        """Bytes of a part, where large files are to be sent in parts."""
        self.repos = {}
        self.blobs = {}
        self.parts = {}
        self.tokens = {"hf_good": "ada", "hf_other": "bob"}
        self.orgs = {"ada": ["lab"], "bob": []}
        self.failures = Failures()
        self.requests = []
        self.leaks = []
        self.lock = threading.RLock()

    def __enter__(self):
        hub = self

        class Bound(Handler):
            pass

        Bound.hub = hub
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Bound)
        self.http.daemon_threads = True
        self.port = self.http.server_address[1]
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.storage = f"http://localhost:{self.port}/storage"
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.http.shutdown()
        self.http.server_close()

    # What tests do and ask without the client

    def put(self, name, files, *, author="ada", title="add files", private=False):
        """Commit files (path to bytes) to main, making the repository where there is none."""
        with self.lock:
            repo = self.repos.get(name) or self.make(name, author, private=private)
            entries = dict(repo.commits[repo.refs["main"]].files)
            for path, data in files.items():
                entries[path] = self.store(path, data)
            return self.advance(repo, "main", entries, author=author, title=title)

    def make(self, name, author, *, private):
        repo = self.repos[name] = Repo(private)
        attributes = b"*.safetensors filter=lfs\n"
        files = {".gitattributes": self.store(".gitattributes", attributes)}
        self.advance(repo, "main", files, author=author, title="initial commit")
        return repo

    def store(self, path, data):
        oid = git_oid(data)
        if is_large(path, data):
            sha = hashlib.sha256(data).hexdigest()
            self.blobs[sha] = data
            return Entry(oid, len(data), sha)
        self.blobs[oid] = data
        return Entry(oid, len(data))

    def advance(self, repo, ref, files, *, author, title, parent=None):
        parent = repo.refs.get(ref) if parent is None else parent
        date = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=len(repo.commits))
        content = [parent, author, title, sorted((p, e.key) for p, e in files.items()), str(date)]
        oid = hashlib.sha1(json.dumps(content).encode()).hexdigest()
        repo.commits[oid] = Commit(oid, parent, author, title, f"{date:%FT%T}.000Z", files)
        repo.refs[ref] = oid
        return oid

    def files(self, name, ref="main"):
        """Return the content of every file of a branch."""
        repo = self.repos[name]
        entries = repo.commits[repo.refs.get(ref, ref)].files
        return {path: self.blobs[e.key] for path, e in entries.items()}

    def merge(self, name, number):
        """Merge a pull request."""
        repo = self.repos[name]
        files = repo.commits[repo.refs[f"refs/pr/{number}"]].files
        return self.advance(repo, "main", dict(files), author="ada", title=f"Merge #{number}")

    def state(self):
        """Return what is published: the files of every ref of every repository."""
        return {
            name: {
                ref: (oid, {p: e.key for p, e in repo.commits[oid].files.items()})
                for ref, oid in repo.refs.items()
            }
            for name, repo in self.repos.items()
        }

    def count(self, route):
        return sum(request.route == route for request in self.requests)

    def sent(self, route="upload"):
        """Return the bytes that clients sent to a route."""
        return sum(request.sent for request in self.requests if request.route == route)

    def forget(self):
        """Start counting anew."""
        self.requests.clear()
        self.failures.clear()


def is_large(path, sample):
    return path.endswith(LFS_SUFFIXES) or b"\0" in sample[:512]


class Handler(BaseHTTPRequestHandler):
    """One connection; each `on_ROUTE` answers one route."""

    protocol_version = "HTTP/1.1"
    hub: LocalHub

    def log_message(self, *_):
        pass

    def do(self):
        url = urlsplit(self.path)
        self.query = {key: values[-1] for key, values in parse_qs(url.query).items()}
        try:
            route, found = self.route(url.path)
            failure = self.hub.failures.take(route)
            self.body = b"" if self.command in {"GET", "HEAD"} else self.receive(route, failure)
            request = Request(route, self.command, self.path, len(self.body))
            self.hub.requests.append(request)
            self.answer_route(route, found, failure)
        except RefusedError as refused:
            self.answer(refused.status, {"error": str(refused)}, refused.headers)
        except CutError:
            self.close_connection = True

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do  # noqa: N815

    def route(self, path):
        for name, (method, pattern) in PATTERNS.items():
            if method == self.command and (found := pattern.fullmatch(path)) is not None:
                values = found.groupdict().items()
                return name, {key: unquote(v) for key, v in values if v is not None}
        raise RefusedError(404, f"there is no {self.command} {path}")

    def answer_route(self, route, found, failure):
        what = failure.what if failure is not None else None
        match what:
            case "429":
                raise RefusedError(
                    429, "slow down", headers={"Retry-After": f"{failure.number:.0f}"}
                )
            case "500" | "503":
                raise RefusedError(int(what), "an internal failure")
            case "slow":
                sleep(failure.number)
            case "expire":
                self.hub.tokens.clear()
            case "stale":
                self.hub.put(found["repo"], {"notes.md": b"new"}, author="bob", title="Add notes")
        self.failure = failure
        self.lost = what == "lose"
        self.check_host()
        with self.hub.lock:
            getattr(self, f"on_{route}")(**found)

    def check_host(self):
        """Refuse a token under the host name of the storage, and remember that it was sent."""
        storage = self.headers["Host"].startswith("localhost")
        if storage and "Authorization" in self.headers:
            self.hub.leaks.append(self.path)
            raise RefusedError(400, "only one way to authenticate is allowed")

    def receive(self, route, failure):
        """Read the request's body, or as much of it as the failure leaves."""
        cut = failure is not None and failure.what == "cut" and route in {"upload", "commit"}
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            body = b"".join(parts)
        else:
            length = int(self.headers.get("Content-Length", 0))
            body = self.rfile.read(min(length, int(failure.number)) if cut else length)
        if cut:
            self.hub.requests.append(Request(route, self.command, self.path, len(body)))
            raise CutError
        return body

    def answer(self, status, content=None, headers=None):
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        failure = getattr(self, "failure", None)
        if getattr(self, "lost", False):
            raise CutError
        if failure is not None and failure.what == "corrupt" and data:
            data = bytes([data[0] ^ 1]) + data[1:]
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        if "Content-Length" not in (headers or {}):
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if failure is not None and failure.what == "cut":
            self.wfile.write(data[: int(failure.number)])
            self.wfile.flush()
            raise CutError
        self.wfile.write(data)

    # Who asks, and for what

    def user(self, *, required=True):
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token and token not in self.hub.tokens:
            raise RefusedError(401, "Invalid credentials in Authorization header")
        if required and not token:
            raise RefusedError(401, "Invalid username or password.")
        return self.hub.tokens.get(token)

    def repo(self, name, *, write=False):
        user = self.user(required=write)
        found = self.hub.repos.get(name)
        if found is None or (found.private and not self.may_write(user, name)):
            raise RefusedError(404, "Repository not found", "RepoNotFound")
        if write and not self.may_write(user, name):
            raise RefusedError(403, "You are not allowed to write to this repository")
        return found

    def may_write(self, user, name):
        return name.split("/")[0] in {user, *self.hub.orgs.get(user, ())}

    def commit(self, name, rev):
        repo = self.repo(name)
        oid = repo.refs.get(rev) or repo.refs.get(f"refs/tags/{rev}") or rev
        if oid not in repo.commits:
            raise RefusedError(404, f"Invalid rev id: {rev}", "RevisionNotFound")
        return repo, repo.commits[oid]

    def entry(self, repo, rev, path):
        _, commit = self.commit(repo, rev)
        if path not in commit.files:
            headers = {"X-Repo-Commit": commit.oid}
            raise RefusedError(404, f"{path} does not exist", "EntryNotFound", headers)
        return commit, commit.files[path]

    def json(self):
        return json.loads(self.body)

    # Accounts and repositories

    def on_whoami(self):
        user = self.user()
        self.answer(
            200,
            {
                "type": "user",
                "name": user,
                "orgs": [{"name": org} for org in self.hub.orgs[user]],
                "auth": {"type": "access_token", "accessToken": {"role": "write"}},
            },
        )

    def on_create(self):
        user, wanted = self.user(), self.json()
        name = f"{wanted.get('organization') or user}/{wanted['name']}"
        if not self.may_write(user, name):
            raise RefusedError(
                403, "You don't have the rights to create a model under this namespace"
            )
        url = {"url": f"{self.hub.endpoint}/{name}", "name": name, "id": name}
        if name in self.hub.repos:
            self.answer(409, {**url, "error": "You already created this model repo"})
            return
        private = wanted.get("private") is True or wanted.get("visibility") == "private"
        self.hub.make(name, user, private=private)
        self.answer(200, url)

    def on_delete(self):
        wanted = self.json()
        name = f"{wanted.get('organization') or self.user()}/{wanted['name']}"
        self.repo(name, write=True)
        del self.hub.repos[name]
        self.answer(200, {})

    def on_settings(self, repo):
        found = self.repo(repo, write=True)
        wanted = self.json()
        found.private = wanted.get("private", wanted.get("visibility") == "private")
        self.answer(200, {"private": found.private})

    def on_info(self, repo, rev="main"):
        found, commit = self.commit(repo, rev)
        card = card_data(self.hub, commit)
        siblings = [
            {"rfilename": path}
            if "blobs" not in self.query
            else {
                "rfilename": path,
                "size": entry.size,
                "blobId": entry.oid,
                **(
                    {"lfs": {"sha256": entry.sha256, "size": entry.size, "pointerSize": 134}}
                    if entry.sha256
                    else {}
                ),
            }
            for path, entry in sorted(commit.files.items())
        ]
        tags = card.get("tags") if isinstance(card.get("tags"), list) else []
        self.answer(
            200,
            {
                "_id": "0" * 24,
                "id": repo,
                "modelId": repo,
                "author": repo.split("/")[0],
                "sha": commit.oid,
                "lastModified": commit.date,
                "private": found.private,
                "gated": False,
                "disabled": False,
                "downloads": 0,
                "likes": 0,
                "tags": tags,
                "cardData": card,
                "siblings": siblings,
            },
        )

    def on_tree(self, repo, rev, path=""):
        _, commit = self.commit(repo, rev)
        inside = f"{path}/" if path else ""
        found = [
            described(p, entry) for p, entry in sorted(commit.files.items()) if p.startswith(inside)
        ]
        start = int(self.query.get("cursor", 0))
        headers = {}
        if start + PAGE < len(found):
            url = f"{self.hub.endpoint}{urlsplit(self.path).path}"
            recursive = "&recursive=True" if "recursive" in self.query else ""
            headers["Link"] = f'<{url}?cursor={start + PAGE}{recursive}>; rel="next"'
        self.answer(200, found[start : start + PAGE], headers)

    def on_paths(self, repo, rev):
        _, commit = self.commit(repo, rev)
        wanted = parse_qs(self.body.decode()).get("paths", [])
        found = [described(p, commit.files[p]) for p in wanted if p in commit.files]
        self.answer(200, found)

    def on_refs(self, repo):
        found = self.repo(repo)
        kinds = {"branches": [], "tags": [], "converts": [], "pullRequests": []}
        for ref, oid in found.refs.items():
            kind = {"refs/pr": "pullRequests", "refs/tags": "tags"}.get(
                ref.rpartition("/")[0], "branches"
            )
            whole = f"refs/heads/{ref}" if kind == "branches" else ref
            name = ref.rpartition("/")[2]
            kinds[kind].append({"name": name, "ref": whole, "targetCommit": oid})
        self.answer(200, kinds)

    def on_commits(self, repo, rev):
        found, commit = self.commit(repo, rev)
        listed = []
        while commit is not None:
            listed.append(
                {
                    "id": commit.oid,
                    "authors": [{"user": commit.author}],
                    "date": commit.date,
                    "title": commit.title,
                    "message": "",
                }
            )
            commit = found.commits.get(commit.parent)
        self.answer(200, listed)

    def on_branch(self, repo, name):
        found = self.repo(repo, write=True)
        if name in found.refs:
            raise RefusedError(409, "Reference already exists")
        wanted = self.json() if self.body else {}
        found.refs[name] = self.commit(repo, wanted.get("startingPoint") or "main")[1].oid
        self.answer(200, {})

    def on_unbranch(self, repo, name):
        del self.repo(repo, write=True).refs[name]
        self.answer(200, {})

    def on_tag(self, repo, rev):
        found = self.repo(repo, write=True)
        found.refs[f"refs/tags/{self.json()['tag']}"] = self.commit(repo, rev)[1].oid
        self.answer(200, {})

    def on_untag(self, repo, name):
        del self.repo(repo, write=True).refs[f"refs/tags/{name}"]
        self.answer(200, {})

    # Publishing

    def on_validate(self):
        try:
            content = yaml.safe_load(front_matter(self.json()["content"]) or "")
        except yaml.YAMLError as error:
            self.answer(400, {"errors": [{"message": str(error)}], "warnings": []})
            return
        warnings = [] if content else [{"message": "empty or missing yaml metadata"}]
        self.answer(200, {"errors": [], "warnings": warnings})

    def on_preupload(self, repo, rev):
        pull_request = "create_pr" in self.query
        self.repo(repo, write=not pull_request)
        _, commit = self.commit(repo, rev)
        found = []
        for file in self.json()["files"]:
            large = is_large(file["path"], base64.b64decode(file["sample"]))
            entry = commit.files.get(file["path"])
            mode = "lfs" if large else "regular"
            one = {"path": file["path"], "uploadMode": mode, "shouldIgnore": False}
            found.append(one if entry is None else {**one, "oid": entry.key})
        self.answer(200, {"files": found})

    def on_batch(self, repo):
        self.repo(repo)
        self.user()
        found = []
        for wanted in self.json()["objects"]:
            oid, size = wanted["oid"], wanted["size"]
            one = {"oid": oid, "size": size}
            if oid not in self.hub.blobs:
                one["actions"] = {
                    "upload": self.upload_action(oid, size),
                    "verify": {"href": f"{self.hub.endpoint}/{repo}.git/info/lfs/verify"},
                }
            found.append(one)
        self.answer(200, {"transfer": "basic", "objects": found})

    def upload_action(self, oid, size):
        href, part = f"{self.hub.storage}/{oid}", self.hub.multipart
        if part is None or size <= part:
            return {"href": f"{href}?signature=secret"}
        numbers = range(1, -(-size // part) + 1)
        urls = {f"{number:05d}": f"{href}/{number}?signature=secret" for number in numbers}
        complete = f"{href}/complete"
        return {"href": complete, "header": {"chunk_size": str(part), **urls}}

    def on_upload(self, oid, part=None):
        failure = self.failure
        data = self.body
        if failure is not None and failure.what == "corrupt":
            data = bytes([data[0] ^ 1]) + data[1:]
        if part is not None:
            self.hub.parts.setdefault(oid, {})[int(part)] = data
        else:
            self.keep(oid, data)
        self.answer(200, {}, {"ETag": f'"{hashlib.md5(data).hexdigest()}"'})

    def keep(self, oid, data):
        if hashlib.sha256(data).hexdigest() != oid:
            raise RefusedError(400, "the content does not have the promised SHA-256")
        self.hub.blobs[oid] = data

    def on_complete(self, oid):
        parts = self.hub.parts.pop(oid)
        self.keep(oid, b"".join(parts[number] for number in sorted(parts)))
        self.answer(200, {})

    def on_verify(self, repo):
        self.repo(repo)
        wanted = self.json()
        data = self.hub.blobs.get(wanted["oid"])
        if data is None or len(data) != wanted["size"]:
            raise RefusedError(404, "the object is not there")
        self.answer(200, {})

    def on_commit(self, repo, rev):
        lines = [json.loads(line) for line in self.body.splitlines()]
        head = next(line["value"] for line in lines if line["key"] == "header")
        pull_request = "create_pr" in self.query
        found = self.repo(repo, write=not pull_request)
        user = self.user()
        _, onto = self.commit(repo, rev)
        parent = head.get("parentCommit")
        if parent is not None and not pull_request and not onto.oid.startswith(parent):
            raise RefusedError(412, "A commit has happened since. Please refresh and try again.")
        if pull_request and parent is not None:
            onto = found.commits[parent]
        files = changed(self.hub, onto.files, lines)
        if pull_request:
            number = 1 + sum(ref.startswith("refs/pr/") for ref in found.refs)
            ref = f"refs/pr/{number}"
        else:
            ref = rev
        oid = self.hub.advance(
            found, ref, files, author=user, title=head["summary"], parent=onto.oid
        )
        answer = {"success": True, "commitOid": oid}
        answer["commitUrl"] = f"{self.hub.endpoint}/{repo}/commit/{oid}"
        if pull_request:
            answer["pullRequestUrl"] = f"{self.hub.endpoint}/{repo}/discussions/{number}"
        self.answer(200, answer)

    # Reading

    def on_head(self, repo, rev, path):
        commit, entry = self.entry(repo, rev, path)
        if entry.sha256 is not None:
            self.redirect(commit, entry)
            return
        headers = {"ETag": f'"{entry.oid}"', "X-Repo-Commit": commit.oid}
        self.answer(200, b"", {**headers, "Content-Length": str(entry.size)})

    def on_resolve(self, repo, rev, path):
        commit, entry = self.entry(repo, rev, path)
        if entry.sha256 is not None:
            self.redirect(commit, entry)
            return
        headers = {"ETag": f'"{entry.oid}"', "X-Repo-Commit": commit.oid}
        self.send_data(self.hub.blobs[entry.oid], headers)

    def redirect(self, commit, entry):
        headers = {
            "Location": f"{self.hub.storage}/{entry.sha256}?signature=secret",
            "X-Repo-Commit": commit.oid,
            "X-Linked-Size": str(entry.size),
            "X-Linked-ETag": f'"{entry.sha256}"',
        }
        self.answer(302, b"", headers)

    def on_download(self, oid):
        if oid not in self.hub.blobs:
            raise RefusedError(404, "there is no such object")
        self.send_data(self.hub.blobs[oid], {"ETag": f'"{oid}"'})

    def send_data(self, data, headers):
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if span is None:
            self.answer(200, data, headers)
            return
        start, end = int(span[1]), min(int(span[2] or len(data)), len(data) - 1)
        if start >= len(data):
            raise RefusedError(
                416, "out of range", headers={"Content-Range": f"bytes */{len(data)}"}
            )
        headers = {**headers, "Content-Range": f"bytes {start}-{end}/{len(data)}"}
        self.answer(206, data[start : end + 1], headers)


def described(path, entry):
    found = {"type": "file", "path": path, "oid": entry.oid, "size": entry.size}
    if entry.sha256:
        found["lfs"] = {"oid": entry.sha256, "size": entry.size, "pointerSize": 134}
    return found


def changed(hub, files, lines):
    """Return the files of a commit, those before it changed by the lines of its request."""
    files = dict(files)
    for line in lines:
        value = line["value"]
        match line["key"]:
            case "file":
                files[value["path"]] = hub.store(value["path"], base64.b64decode(value["content"]))
            case "lfsFile":
                if value["oid"] not in hub.blobs:
                    raise RefusedError(400, f"the object of {value['path']} was not uploaded")
                pointer = f"oid sha256:{value['oid']}".encode()
                files[value["path"]] = Entry(git_oid(pointer), value["size"], value["oid"])
            case "deletedFile":
                del files[value["path"]]
            case "deletedFolder":
                inside = value["path"].rstrip("/") + "/"
                files = {p: e for p, e in files.items() if not p.startswith(inside)}
    return files


def front_matter(text):
    found = re.match(r"\s*---[\r\n]+([\S\s]*?)[\r\n]+---(\r\n|\n|$)", text)
    return found[1] if found else None


def card_data(hub, commit):
    entry = commit.files.get("README.md")
    text = hub.blobs[entry.key].decode() if entry is not None else ""
    return yaml.safe_load(front_matter(text) or "") or {}
