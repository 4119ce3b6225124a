"""The container file and the compose example, as text: no engine runs here."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from cutaway.cli.arguments import parse
from cutaway.cli.serving import ServeOptions

ROOT = Path(__file__).parents[1]


def instructions() -> list[tuple[str, str]]:
    """Of the container file, each with its words on one line."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Containerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [(line.split()[0], line.partition(" ")[2].strip()) for line in text.splitlines() if line.strip()]


def last_stage() -> dict[str, str]:
    """The instructions of the image that is run."""
    given = instructions()
    begin = max(at for at, (name, _) in enumerate(given) if name == "FROM")
    return dict(given[begin:])


@pytest.fixture
def service() -> dict[str, Any]:
    service: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["cutaway"]
    return service


def test_the_image_does_not_run_as_root_nor_compose_make_it() -> None:
    service = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["cutaway"]
    for user in (last_stage()["USER"], service["user"]):
        assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", user)  # numbers, so that an engine can tell it is not root
    order = [name for name, _ in instructions()]
    assert order.index("USER") > max(at for at, name in enumerate(order) if name in ("RUN", "COPY"))


def test_only_the_serve_extra_is_installed_in_the_versions_that_are_tested() -> None:
    (run,) = [words for name, words in instructions() if name == "RUN"]
    assert re.findall(r"\[([\w,-]+)\]", run) == ["serve"]
    assert "-c constraints.txt" in run
    copied = [words.split()[:-1] for name, words in instructions() if name == "COPY" and "--from" not in words]
    needed = [name for names in copied for name in names]
    assert [name for name in needed if not (ROOT / name).exists()] == []
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert set(needed) == allowed


def test_no_registry_is_named() -> None:
    for name in ("Containerfile", "compose.yaml"):
        assert "http" not in (ROOT / name).read_text().replace("http://127.0.0.1:7860", ""), name
    images = [words.split()[0] for name, words in instructions() if name == "FROM"]
    (default,) = [words.partition("=")[2] for name, words in instructions() if name == "ARG"]
    for image in [*(image for image in images if image != "${PYTHON}"), default]:
        assert "." not in image.split(":")[0], image
        assert "/" not in image, image


def test_the_command_is_one_of_cutaways_and_its_port_is_published() -> None:
    stage = last_stage()
    assert json.loads(stage["ENTRYPOINT"]) == ["/opt/cutaway/bin/cutaway"]
    command, *words = json.loads(stage["CMD"])
    options = parse(ServeOptions, command, words)
    assert command == "serve"
    assert options.model == Path("/models/model.onnx")
    assert (options.host, options.port) == ("0.0.0.0", 7860)
    assert stage["EXPOSE"] == "7860"


def test_health_is_asked_where_the_server_tells_it() -> None:
    check = last_stage()["HEALTHCHECK"]
    program = json.loads(check[check.index("CMD") + 3 :])
    assert program[:2] == ["/opt/cutaway/bin/python", "-c"]
    ast.parse(program[2])
    assert "'http://127.0.0.1:7860/readyz'" in program[2]
    assert '@app.get("/readyz"' in (ROOT / "cutaway" / "serve" / "api.py").read_text()


def test_compose_has_nothing_to_write_to_but_a_bounded_tmp(service: dict[str, Any]) -> None:
    assert service["read_only"] is True
    (tmp,) = service["tmpfs"]
    place, _, options = tmp.partition(":")
    assert place == "/tmp"
    assert {"nosuid", "nodev", "noexec"} <= set(options.split(","))
    from cutaway.serve.uploads import QUOTA_BYTES

    size = re.search(r"size=(\d+)m", options)
    assert size is not None
    assert int(size[1]) * 2**20 > QUOTA_BYTES
    assert all(volume.endswith(":ro") for volume in service["volumes"])
    assert "HOME=/tmp" in last_stage()["ENV"]


def test_compose_gives_no_rights_and_no_other_machine_a_way_in(service: dict[str, Any]) -> None:
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "network_mode", "pid", "devices"} & service.keys()
    assert service["ports"] == ["127.0.0.1:7860:7860"]
    assert service["build"] == {"context": ".", "dockerfile": "Containerfile"}


def test_compose_waits_for_the_server_to_answer_what_it_has_accepted(service: dict[str, Any]) -> None:
    from cutaway.serve.server import DRAIN_SECONDS

    assert int(service["stop_grace_period"].removesuffix("s")) > DRAIN_SECONDS
