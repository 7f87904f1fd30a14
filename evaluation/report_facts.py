"""What a report says about its run: model, protocol, flags, device, speed and date."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from evaluation.features import protocol_name
from evaluation.run import Records

HASH_LENGTH = 12
NOT_FLAGS = {"resume", "encoder", "protocol", "device", "predictions", "checkpoint_sha256", "encoder_sha256"}


def run_facts(description: Mapping[str, Any], records: Records) -> dict[str, str]:
    """Return the facts about a run from its description (JSON values) and its records, dated now."""
    facts = _model(description)
    facts["Flags"] = " ".join(
        f"--{name}" if value is True else f"--{name} {_text(value)}"
        for name, value in description.items()
        if name not in NOT_FLAGS and value not in (None, False)
    )
    timed = [record for record in records.values() if "seconds" in record]
    if timed:
        seconds, frames = (sum(record[name] for record in timed) for name in ("seconds", "frames"))
        facts["Speed"] = f"{seconds / frames:.3f} seconds per frame ({frames} frames)"
    return facts | {"Date": datetime.now().astimezone().isoformat(" ", "minutes")}


def _model(description: Mapping[str, Any]) -> dict[str, str]:
    """Return what made the masks or joints."""
    if "predictions" in description:
        return {"Masks": description["predictions"]}
    encoder = description["encoder"]
    kind, name = ("Checkpoint", Path(description["resume"]).name) if encoder is None else ("Encoder", encoder)
    digest = description[f"{kind.lower()}_sha256"][:HASH_LENGTH]
    protocol = protocol_name(description["protocol"], encoder)
    return {kind: f"{name} (sha256 {digest}…)", "Protocol": protocol, "Device": description["device"]}


def _text(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
