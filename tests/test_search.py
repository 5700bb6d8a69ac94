"""The search under a budget of MACs, on a fitness that needs no network."""

from itertools import pairwise
from random import Random

import pytest

from vemcompress.errors import UsageError
from vemcompress.networks import parse_config
from vemcompress.networks.cost import costs
from vemcompress.networks.subnets import Space, sub_widths, text_of
from vemcompress.pruning.search import Search, SearchSettings

FULL = parse_config({"family": "mobile_resnet", "width": 32})


def search(share=0.46, *, options="channels-32", higher=True, **settings) -> Search:
    space, table = Space.of(FULL, options), costs(FULL, 256, 256)
    macs = lambda widths: table(widths).paper_norm  # noqa: E731
    settings = SearchSettings(**{"population": 20, "generations": 8, "method": "evolution", **settings})
    whole = macs(FULL.widths_by_group())
    return Search(space, macs, int(whole * share), settings, higher=higher)


def wide_late(entries) -> float:
    """A fitness that wants the last genes wide and the first ones narrow."""
    return sum(i * entry for i, entry in enumerate(entries))


def run(found: Search, fitness=wide_late) -> Search:
    while True:
        found.tell({entries: fitness(entries) for entries in found.wanted})
        if not found.advance():
            return found


def test_every_candidate_meets_the_budget_and_the_best_is_better_than_the_first_draws():
    found = search()
    first = max(map(wide_late, found.population))
    run(found)
    assert all(found.macs(entries) <= found.target for entries in found.fitness)
    assert wide_late(found.best()) > first


def test_a_budget_that_nearly_every_draw_misses_is_met():
    found = search(share=0.29)
    draws = [found.macs(found.space.draw(Random(i))) <= found.target for i in range(300)]
    assert sum(draws) == 0 and len(found.population) == 20
    assert all(found.macs(entries) <= found.target for entries in found.population)


@pytest.mark.parametrize(("share", "message"), [(0.05, "smallest candidate has"), (1.0, "nothing to search")])
def test_a_budget_that_cannot_be_is_refused_before_anything_is_scored(share, message):
    with pytest.raises(UsageError, match=message):
        search(share)


def test_a_search_with_known_candidates_takes_the_same_path():
    whole = run(search())
    again, known = search(), dict(list(whole.fitness.items())[:60])
    scored = []
    again.tell(known)
    run(again, lambda entries: scored.append(entries) or wide_late(entries))
    assert again.best() == whole.best() and again.fitness == whole.fitness
    assert set(scored) == whole.fitness.keys() - known.keys()


def test_a_small_space_is_searched_whole():
    found = search(options=[[32, 16], [32], [32, 16], [32], [16], [32], [32, 24], [32]], share=0.8, method="auto")
    assert found.everything is not None
    run(found)
    fit = [entries for entries in found.space.all() if found.macs(entries) <= found.target]
    assert set(fit) == set(found.fitness) and wide_late(found.best()) == max(map(wide_late, fit))


def test_lower_is_better_where_it_is_a_distance():
    found = run(search(higher=False, method="evolution"))
    assert wide_late(found.best()) == min(map(wide_late, found.fitness))


def test_the_front_rises_and_holds_the_best():
    found = run(search())
    front = found.front()
    assert front[-1] == found.best() or wide_late(front[-1]) == wide_late(found.best())
    for smaller, larger in pairwise(front):
        assert found.macs(smaller) < found.macs(larger) and wide_late(smaller) < wide_late(larger)
    assert not any(found.macs(e) <= found.macs(f) and wide_late(e) > wide_late(f) for e in found.fitness for f in front)


def test_weights_of_the_draw_are_the_published_ones():
    found = search(weighted=3.0)
    assert found.space.options[0] == (32, 24, 16)
    drawn = [found._option(0) for _ in range(6000)]
    assert [drawn.count(entry) / 6000 for entry in (32, 24, 16)] == pytest.approx([1 / 6, 2 / 6, 3 / 6], abs=0.03)
    found = search(weighted=2.0, weighting="geometric")
    drawn = [found._option(0) for _ in range(6000)]
    assert [drawn.count(entry) / 6000 for entry in (32, 24, 16)] == pytest.approx([1 / 7, 2 / 7, 4 / 7], abs=0.03)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("16_16_32_16_32_32_16", "has 7 entries"),
        ("16_16_32_16_32_32_16_64", "up2 cannot be 64"),
        ("16_16_x", "must be whole numbers"),
        ("16_16_32_16_32_32_16_0", "must be whole numbers"),
    ],
)
def test_widths_that_the_network_does_not_have_are_named(text, message):
    with pytest.raises(ValueError, match=message):
        sub_widths(FULL, text)
    with pytest.raises(ValueError, match=message.replace("up2 cannot be 64", "up2 cannot be 64; it can be 32, 24, 16")):
        Space.of(FULL, "channels-32").parse(text)


def test_six_entries_stand_for_all_residual_blocks():
    assert (
        sub_widths(FULL, "24_24_24_32_20_16")
        == parse_config({"family": "mobile_resnet", "channels": "24_24_24_32_20_16"}).widths_by_group()
    )
    assert text_of(Space.of(FULL, [[32, 24, 20, 16]]).parse("24_24_24_32_20_16")) == "24_24_24_32_32_32_20_16"


def test_a_network_of_which_a_branch_was_pruned_away_is_no_supernet():
    blocks = [[0, 2, 2, 2, 2, 2], [2] * 6]
    pruned = parse_config({"family": "inception_resnet", "widths": [8, 16, 32, 16, 8], "blocks": blocks})
    with pytest.raises(ValueError, match="block1_res1 was pruned away"):
        Space.of(pruned)


def test_a_set_for_another_width_is_refused():
    with pytest.raises(ValueError, match="widths of stem must be from 1 to 32"):
        Space.of(FULL, "channels-48")
    assert Space.of(parse_config({"family": "mobile_resnet", "width": 64}), "channels-64-cycleGAN").size == 390625
