"""Random numbers by seed, purpose and time."""

from training.seed import DROPPED_CHANNEL, PAIRS, SHUFFLED_EMBEDDING, generator, torch_generator


def test_every_seed_purpose_and_time_has_its_own_numbers():
    places = [(seed, purpose, 1, step) for seed in (1, 2) for purpose in range(3) for step in (1, 2)]
    places += [(1, purpose, 2) for purpose in (PAIRS, DROPPED_CHANNEL, SHUFFLED_EMBEDDING)]
    for draw in (
        lambda *place: generator(*place).integers(2**62),
        lambda *place: torch_generator(*place).initial_seed(),
    ):
        numbers = [draw(*place) for place in places]
        assert numbers == [draw(*place) for place in places]
        assert len(set(numbers)) == len(places)
