"""Models of the Hub as input: headers first, only the needed files, tokens kept at home."""

import logging
import re

import pytest
from hub_models import card_of, mlp_bytes, sharded

from rebasin_hub.errors import IncompatibleError, InputError, RebasinError
from rebasin_hub.hub.client import connect, without_secrets
from rebasin_hub.hub.fetch import look_up, peek
from rebasin_hub.hub.reference import HubReference
from rebasin_hub.pipeline.hub import Publication, headers_of, push, resolve, resolve_all
from rebasin_hub.pipeline.inspect import inspect_file
from rebasin_hub.pipeline.models import AUTOMATIC, Choice, open_model

WIDE = (6, 512, 512, 3)


@pytest.fixture
def downloaded(hub):
    """Return how many bytes of large files clients have been sent, counted at the server."""
    sent = []
    original = hub.http.RequestHandlerClass.send_data

    def counted(self, data, headers):
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        end = len(data) if span is None or not span[2] else min(int(span[2]) + 1, len(data))
        sent.append(end - (int(span[1]) if span else 0))
        original(self, data, headers)

    hub.http.RequestHandlerClass.send_data = counted
    return sent


def test_a_mismatch_shows_before_weights_are_fetched(hub, machine, tmp_path, downloaded):
    hub.put("ada/a", {"model.safetensors": mlp_bytes(0, tmp_path, WIDE)})
    hub.put("ada/b", {"model.safetensors": mlp_bytes(1, tmp_path, (6, 512, 256, 3))})
    with pytest.raises(IncompatibleError, match=r"axis 0 \(.*\) is 512 against 256") as error:
        resolve_all(["ada/a", "ada/b"])
    assert "ada/a and ada/b" in str(error.value)
    assert sum(downloaded) <= 2 * 65536
    assert machine.cached == {}


def test_a_model_no_spec_fits_is_told_from_its_header(hub, machine, tmp_path, downloaded):
    hub.put("ada/a", {"model.safetensors": mlp_bytes(0, tmp_path, WIDE)})
    with pytest.raises(RebasinError, match="spec"):
        resolve_all(["ada/a"], Choice("llama"))
    assert machine.cached == {}
    assert sum(downloaded) <= 65536


def test_a_long_header_is_read_to_its_end(hub, machine, tmp_path):
    import numpy as np
    from safetensors.numpy import save_file

    many = {f"a-rather-long-name-{k:06d}": np.zeros(1, np.float32) for k in range(2000)}
    save_file(many, tmp_path / "many.safetensors")
    hub.put("ada/many", {"model.safetensors": (tmp_path / "many.safetensors").read_bytes()})
    api = connect()
    with peek(api, look_up(api, HubReference("ada/many"))) as found:
        assert inspect_file(found.path).tensors.keys() == many.keys()


def test_headers_are_enough_to_inspect_and_to_bind(hub, machine, tmp_path, downloaded):
    sharded(tmp_path / "s", widths=WIDE)
    hub.put("lab/s", {p.name: p.read_bytes() for p in (tmp_path / "s").iterdir()})
    with headers_of("lab/s") as path, open_model(path, AUTOMATIC) as model:
        assert model.header["fc2.weight"].shape == (512, 512)
    assert sum(downloaded) < 200_000


def test_only_needed_files_are_fetched(hub, machine, tmp_path):
    content = mlp_bytes(0, tmp_path)
    files = {"model.safetensors": content, "pytorch_model.bin": b"\0" * 1000, "config.json": b"{}"}
    files |= {"onnx/model.onnx": b"\0" * 1000, "tokenizer.json": b"{}", ".hidden": b"x"}
    hub.put("ada/a", files)
    names = {p.name for p in resolve("ada/a").rglob("*") if p.is_file()}
    assert names == {"model.safetensors", "config.json", "tokenizer.json"}


def test_one_file_of_a_repository(hub, machine, tmp_path):
    files = {"a.safetensors": mlp_bytes(0, tmp_path), "b.safetensors": mlp_bytes(1, tmp_path)}
    hub.put("ada/two", files)
    path = resolve("hf://ada/two/b.safetensors")
    assert path.read_bytes() == files["b.safetensors"]
    assert not path.with_name("a.safetensors").exists()
    with pytest.raises(InputError, match=r"a\.safetensors, b.safetensors.*hf://ada/two/FILE"):
        resolve("ada/two")
    with pytest.raises(InputError, match=r"has no file 'c\.safetensors'"):
        resolve("hf://ada/two/c.safetensors")


def test_a_revision_is_pinned(hub, machine, tmp_path):
    first = hub.put("ada/a", {"model.safetensors": mlp_bytes(0, tmp_path)})
    second = hub.put("ada/a", {"model.safetensors": mlp_bytes(1, tmp_path)})
    assert resolve("ada/a").name == second
    assert resolve(f"ada/a@{first}").name == first
    with pytest.raises(InputError, match="no such branch, tag or commit"):
        resolve("ada/a@nowhere")


@pytest.mark.parametrize("token", ["hf_other", None])
def test_a_private_repository_is_as_good_as_none(hub, machine, tmp_path, token):
    hub.put("ada/a", {"model.safetensors": mlp_bytes(0, tmp_path)}, private=True)
    machine.token(token)
    with pytest.raises(InputError, match="ada/a: there is no such repository, or it is private"):
        resolve("ada/a")


def test_what_is_not_in_the_cache_is_told_offline(hub, machine):
    machine.offline()
    with pytest.raises(InputError, match="HF_HUB_OFFLINE"):
        resolve("ada/a")
    with pytest.raises(RebasinError, match="HF_HUB_OFFLINE"):
        resolve("ada/a@" + "0" * 40)


def test_files_that_lead_out_of_a_repository_are_refused(hub, machine, tmp_path):
    hub.put("ada/a", {"../../evil.json": b"{}", "model.safetensors": mlp_bytes(0, tmp_path)})
    with pytest.raises(InputError, match="do not trust this repository"):
        resolve("ada/a")


def test_a_damaged_header_is_told(hub, machine):
    hub.put("ada/a", {"model.safetensors": (10).to_bytes(8, "little") + b'{"a": 1}  ' + b"\0" * 99})
    with pytest.raises(RebasinError, match="ada/a"):
        resolve("ada/a")


# Tokens


def test_a_token_never_leaves_for_another_host(hub, machine, tmp_path):
    hub.put("ada/a", {"model.safetensors": mlp_bytes(0, tmp_path, WIDE)}, private=True)
    path = resolve("ada/a")
    push(Publication(path, "ada/b", license="mit"))
    assert hub.count("download") >= 2
    assert hub.count("upload") == 0  # the same weights are there
    assert hub.leaks == []


def test_a_server_that_is_sent_a_token_tells(hub, machine):
    """The trap itself works."""
    import urllib.request

    request = urllib.request.Request(
        f"{hub.storage}/{'0' * 64}", headers={"Authorization": "Bearer hf_good"}
    )
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(request)
    assert hub.leaks


def test_no_token_is_in_logs_messages_or_published_files(hub, machine, run, tmp_path, caplog):
    machine.token("hf_secretsecretsecret")
    hub.tokens["hf_secretsecretsecret"] = "ada"
    hub.put("ada/base", {"model.safetensors": mlp_bytes(0, tmp_path), "README.md": card_of("mit")})
    hub.failures.plan("upload 500 x2\ncommit 500\ndownload cut 10\ninfo 500")
    caplog.set_level(logging.DEBUG)
    path = resolve("ada/base")
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "model.safetensors").write_bytes(mlp_bytes(3, tmp_path))
    done = run("push", tmp_path / "m", "ada/m", "--base-model", "ada/base")
    shown = run("push", path, "ada/n", "--license", "mit", "--dry-run", "--json")
    hub.failures.plan("info expire")
    failed = run("pull", "ada/m", "-o", "out", code=1)
    texts = [
        caplog.text,
        done.out,
        done.err,
        shown.out,
        shown.err,
        failed.out,
        failed.err,
    ]
    texts += [content.decode("latin-1") for content in hub.files("ada/m").values()]
    assert all("secretsecret" not in str(text) for text in texts)


def test_secrets_are_taken_out_of_texts(machine):
    machine.token("plainword")
    text = "Bearer abc hf_abc123 https://me:pw@host/x?sig=1&b=2 plainword"
    assert without_secrets(text) == "Bearer … … https://…@host/x?… …"
