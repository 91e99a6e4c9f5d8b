"""What people pass on names no places and holds no secrets."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from figureground.core.places import find_places, shorten_places
from figureground.core.publishing import is_secret, publish, publish_override, publish_text

RUN = Path("/home/alice/run")


@pytest.mark.parametrize(
    "name",
    ["token", "extra.token", "logger.wandb.api_key", "apiKey", "wandbKey", "AWS_SECRET_ACCESS_KEY",
     "db.password", "passwd", "credentials", "hf-token", "x.key.y", "authorization"],
)  # fmt: skip
def test_secrets_are_known_by_their_names(name: str) -> None:
    assert is_secret(name)
    assert publish("S", name) == "***"
    assert publish_override(f"+{name}=S") == f"+{name}=***"
    assert publish({"a": [{name: 5}], "b": 5}) == {"a": [{name: "***"}], "b": 5}


@pytest.mark.parametrize(
    "name",
    ["callbacks.checkpoints.keep_every", "keyboard", "method.sigma", "author", "bypass", "lr"],
)
def test_other_names_are_not_secret(name: str) -> None:
    assert not is_secret(name)
    assert publish("S", name) == "S"


@pytest.mark.parametrize(
    ("override", "shown"),
    [
        ("paths.output_dir=/home/alice/run", "paths.output_dir=run"),
        ("ckpt=/home/alice/run/checkpoints/last.ckpt", "ckpt=checkpoints/last.ckpt"),
        ("data.root='/data/bob smith/my photos'", "data.root='my photos'"),
        ("data.root=../../home/bob/photos", "data.root=photos"),
        ("init=~bob/a.ckpt", "init=a.ckpt"),
        ("p=C:\\Users\\alice\\x.ckpt", "p=x.ckpt"),
        ("ckpt=[/x/y.ckpt,/x/z.ckpt]", "ckpt=[y.ckpt,z.ckpt]"),
        ("data.root=/a/b,/c/d", "data.root=b,d"),
        ("x='PATH=/home/alice/bin:/usr/bin'", "x='PATH=bin'"),
        ("+e={token: abc, a: /home/x/y}", "+e={token:'***',a:y}"),
        ("+e={a: [{secret: 1}], b: 1}", "+e={a:[{secret:'***'}],b:1}"),
        ("u=https://me:pw@host/x?api_key=5&y=2", "u=https://***@host/x?api_key=***&y=2"),
        ("u=https://ghp_abc@host/x", "u='https://***@host/x'"),
        ("n='Authorization: Bearer abc'", "n='Authorization: ***'"),
        ("data.root=/home/alice", "data.root='~'"),
        ("data.root=/Users/alice/", "data.root='~'"),
        ("lr=1e-4", "lr=1e-4"),
        ("tags=[a, b]", "tags=[a, b]"),
        ("x=${oc.env:HOME}/data", "x=${oc.env:HOME}/data"),
        ("u=https://host/a/b", "u=https://host/a/b"),
        ("data.root=my_photos/a", "data.root=my_photos/a"),
        ("~trainer", "~trainer"),
    ],
)
def test_options_are_shown_without_places_and_secrets(override: str, shown: str) -> None:
    assert publish_override(override, RUN) == shown


def test_texts_are_shown_without_places_and_secrets() -> None:
    text = (
        "share 0.5/1.0 of train/loss/x at /home/alice/x.png (wandb_token: abc), see file:///a/b.c"
    )
    assert (
        publish_text(text) == "share 0.5/1.0 of train/loss/x at x.png (wandb_token: ***), see b.c"
    )
    assert publish(None, "token") is None
    assert publish(True, "use_token") is True


def test_long_texts_take_no_time() -> None:
    began = time.perf_counter()
    for text in ("a" * 10**5, "token" * 10**4, "../" * 10**4, "/a" * 10**4, "key " * 10**4):
        publish_text(f"z {text}")
    assert time.perf_counter() - began < 5


def test_checkpoints_name_files_by_what_tells_them_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    node = {
        "_target_": "a.B", "rate": 0.5, "kind": "learned", "sizes": [1, 2],
        "generator": {"weights": "/data/bob/net.pkl"}, "file": str(tmp_path / "sub/z.npy"),
    }  # fmt: skip
    short = shorten_places(node)
    assert short == node | {"generator": {"weights": "net.pkl"}, "file": "sub/z.npy"}


def test_files_are_found_where_they_may_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("here", "run/checkpoints", "far"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    checkpoint, far = tmp_path / "run/checkpoints/last.ckpt", tmp_path / "far/net.pkl"
    node = {"generator": {"weights": "net.pkl"}, "kind": "learned", "list": ["net.pkl"]}
    assert find_places(node, checkpoint) == node  # Nowhere: whoever builds it says so.
    beside = checkpoint.with_name("net.pkl")
    beside.touch()
    checkpoint.with_name("learned").touch()
    found = find_places(node, checkpoint)
    assert found["generator"] == {"weights": str(beside)}
    assert found["kind"] == "learned"  # A word is no file, whatever lies there.
    options = {"method": {"generator": {"weights": str(far)}, "kind": "other"}}
    (tmp_path / "run/config.json").write_text(json.dumps(options))
    assert find_places(node, checkpoint)["generator"] == {"weights": str(beside)}  # It has moved.
    (tmp_path / "here/net.pkl").touch()
    assert find_places(node, checkpoint)["generator"] == {"weights": "net.pkl"}
    far.touch()
    assert find_places(node, checkpoint)["generator"] == {"weights": str(far)}
    assert find_places(node, checkpoint)["kind"] == "learned"


@pytest.mark.parametrize(
    "content",
    [b"{", b"[]", b"\xff", b'{"method": {"file": "/x/${oc.env:HOME}/net.pkl"}}',
     b'{"method": {"file": ["/x/net.pkl"]}}', b'{"method": {"file": "/x/o.pkl"}}', b"[" * 10**5],
)  # fmt: skip
def test_options_of_a_run_that_fit_nothing_change_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "config.json").write_bytes(content)
    node = {"file": "net.pkl"}
    assert find_places(node, tmp_path / "checkpoints/last.ckpt") == node
