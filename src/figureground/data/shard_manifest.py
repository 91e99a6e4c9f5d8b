"""The list of a folder of shards, `pairs.json`: what they were drawn from, and how long each is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from figureground.core.errors import DataError, UnfitFileError
from figureground.core.passages import ALL, Passage, Passages, add
from figureground.core.presence import read_text

MANIFEST = "pairs.json"
#: 2: masks may be bits, and classes and counts of filters may be there; 1 is still read.
FORMAT = 2
_READ = (1, FORMAT)
_MOST = 2**63  # Candidates.
_SHOWN = 200  # Characters of what is wrong: anything may stand in a list.
_PATTERN = "pairs-{:06d}.safetensors"


def name_shard(number: int) -> str:
    """File name of shard `number`, from 0 on."""
    return _PATTERN.format(number)


def list_files(folder: Path) -> list[Path]:
    """Files in `folder` that are shards by name."""
    return sorted(folder.glob(_PATTERN.replace("{:06d}", "[0-9]" * 6)))


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read `pairs.json`, which may come from anybody.

    Raises:
        DataError: It is missing, or not such a file.
    """
    path = folder / MANIFEST
    try:
        manifest = json.loads(read_text(path))
        if manifest["format"] not in _READ:
            raise ValueError(f"format {manifest['format']}")
        for number, record in enumerate(manifest["shards"]):
            # Names are made, not taken: a file must not lead out of its folder.
            if record["file"] != name_shard(number) or not isinstance(record["sha256"], str):
                raise ValueError(f"shard {number} is {record}")
            record["count"], record["size"] = int(record["count"]), int(record["size"])
            if not 0 < record["count"] <= record["size"]:  # Lists of them would take any memory.
                raise ValueError(f"shard {number} counts {record['count']} pictures")
            if "accepted" in record:
                counts = dict(record["accepted"]).items()
                record["accepted"] = {str(name): Passage(*map(int, pair)) for name, pair in counts}
                if any(n > _MOST for passage in record["accepted"].values() for n in passage):
                    raise ValueError(f"shard {number} counts more than anybody has drawn")
    except UnfitFileError:
        raise
    except OSError as error:
        raise DataError(
            f"{folder} has no {MANIFEST}; expected a folder written by: python src/generate.py "
            "ckpt=... format=shards count=10000 output=..."
        ) from error
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        reason = " ".join(str(error).split())[:_SHOWN]
        raise DataError(
            f"{path} is damaged or of another version ({reason}); put the folder's own back, or "
            "write the pairs anew with generate"
        ) from error
    return dict(manifest)


def find_shard_damage(path: Path, record: dict[str, Any], verify: bool) -> str | None:
    """Say what is wrong with a shard's file, or None.

    Args:
        path: The file.
        record: Its entry in the manifest.
        verify: Whether to read it through and compare its checksum.
    """
    if not path.is_file():
        return "is missing"
    if (size := path.stat().st_size) != record["size"]:
        return f"has {size} bytes, expected {record['size']}"
    if verify:
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != record["sha256"]:
                return "is damaged (its checksum differs)"
    return None


def sum_accepted(manifest: Mapping[str, Any]) -> dict[str, Passage]:
    """How many candidates each filter has let through, over all shards; empty without filters."""
    return add(*(record.get("accepted", {}) for record in manifest["shards"]))


def lay_out_rates(accepted: Passages) -> dict[str, dict[str, float]]:
    """Counts as the list shows them."""
    return {
        name: {"seen": passage.seen, "passed": passage.passed, "rate": round(passage.rate, 6)}
        for name, passage in accepted.items()
    }


def read_rates(folder: Path) -> dict[str, float]:
    """Rates of acceptance as scores: `pairs/accepted`, and `pairs/accepted/<filter>` of each.

    Args:
        folder: Of shards; whatever else it is, there are no scores.
    """
    try:
        accepted = sum_accepted(read_manifest(folder))
    except DataError:
        return {}
    return {
        "pairs/accepted" + ("" if name == ALL else f"/{name}"): passage.rate
        for name, passage in accepted.items()
    }
