"""What a report says about its run."""

from evaluation.report_facts import run_facts

DESCRIPTION = {
    "resume": "/some/where/liir.pt",
    "encoder": None,
    "protocol": None,
    "device": "cpu",
    "compact": True,
    "usemomen": False,
    "ref": 1,
    "videos": ["a", "b"],
    "checkpoint_sha256": "0123456789abcdef",
}


def test_of_a_checkpoint():
    records = {"a": {"frames": 2, "seconds": 1.0}, "b": {"frames": 6, "seconds": 3.0}}
    facts = run_facts(DESCRIPTION, records)
    assert facts.pop("Date")[:2] == "20"
    assert facts == {
        "Checkpoint": "liir.pt (sha256 0123456789ab…)",
        "Protocol": "liir",
        "Device": "cpu",
        "Flags": "--compact --ref 1 --videos a,b",
        "Speed": "0.500 seconds per frame (8 frames)",
    }


def test_of_an_encoder():
    description = {**DESCRIPTION, "encoder": "mine:load", "encoder_sha256": "fedcba9876543210"}
    facts = run_facts(description, {})
    assert (facts["Encoder"], facts["Protocol"]) == ("mine:load (sha256 fedcba987654…)", "crw")
    assert "Checkpoint" not in facts
    assert "Speed" not in facts


def test_of_existing_masks():
    facts = run_facts({"predictions": "/some/masks", "year": 2017, "overlay": False}, {"a": {"frames": 2}})
    assert list(facts.items())[:2] == [("Masks", "/some/masks"), ("Flags", "--year 2017")]
