"""Co-Evolution by hand numbers: genomes, fitness, operators, two alternating populations, and the channels that a
candidate loses."""

from copy import deepcopy
from itertools import pairwise
from random import Random
from types import SimpleNamespace

import pytest
import torch
from gans_toys import CPU, batches, random, steps
from toys import toy_teacher

from vemcompress.data.batch import Batch
from vemcompress.errors import UsageError
from vemcompress.gans.cyclegan import CycleGAN
from vemcompress.networks import build_generator, parse_config
from vemcompress.networks.base import Generator
from vemcompress.networks.discriminators import PatchGANConfig
from vemcompress.networks.groups import cut, masked
from vemcompress.pruning.co_evolution import CoEvolution, CoEvolutionSettings, Member, crossed, mutated
from vemcompress.pruning.genome import Genome, parse_bits, text_of
from vemcompress.pruning.resemblance import Pruned, Resemblance
from vemcompress.training.settings import TrainSettings

# -- genomes -------------------------------------------------------------------------------------------------------


def genome_of(**shape) -> Genome:
    with torch.device("meta"):
        return Genome.of(build_generator(parse_config({"family": "resnet", **shape})).groups())


def test_a_resnet_of_nine_blocks_has_the_published_640_bits_of_which_a_trunks_count_19_times():
    genome = genome_of(width=64, blocks=9)
    assert genome.bits == 640
    assert [gene.size for gene in genome.genes] == [64, 128, 256, 128, 64]
    assert [gene.times for gene in genome.genes] == [1, 1, 19, 1, 1]
    bits = [1] * 640
    for place in (0, 64, 192, 193, 448, 639):  # of the stem, down1, the trunk twice, up1, up2
        bits[place] = 0
    assert genome.removed(tuple(bits)) == 1 + 1 + 2 * 19 + 1 + 1
    assert genome.widths(tuple(bits)) == {
        "stem": 63, "down1": 127, "trunk": 254, **{f"block{i}": 254 for i in range(1, 10)}, "up1": 127, "up2": 63,
    }  # fmt: skip


def test_blocks_that_are_narrower_than_the_trunk_have_bits_of_their_own():
    genome = genome_of(widths=[4, 8, 16, 8, 4], blocks=[16, 6, 16])
    assert [gene.groups for gene in genome.genes][2:4] == [("trunk", "block1", "block3"), ("block2",)]
    assert [gene.times for gene in genome.genes] == [1, 1, 4 + 2, 1, 1, 1]
    assert genome_of(family="mobile_resnet", width=4, blocks=3).genes[2].times == 1 + 2 * 3


def test_a_gene_keeps_a_channel_except_where_the_branch_may_vanish():
    genome = genome_of(family="inception_resnet", widths=[2, 4, 8, 4, 2], blocks=[[3, 0, 0, 0, 0, 2]])
    living = genome.living((0,) * genome.bits, Random(0))
    assert [sum(part) for part in genome.parts(living)] == [1, 1, 1, 0, 0, 1, 1]


def test_bits_are_written_and_read_in_hexadecimal():
    bits = (0, 0, 0, 1, 1, 0, 1)
    assert text_of(bits) == "0d" and parse_bits("0d", 7) == bits
    for text in ("d", "8d", "0g", "-d", "0D"):
        with pytest.raises(ValueError):
            parse_bits(text, 7)


# -- populations ---------------------------------------------------------------------------------------------------

SMALL = dict.fromkeys("ab", genome_of(width=2, blocks=1))  # 2 + 4 + 8 + 4 + 2 bits
BITS = SMALL["a"].bits


def evolution(target=None, **settings) -> CoEvolution:
    macs = dict.fromkeys("ab", lambda widths: sum(widths.values()))
    return CoEvolution(SMALL, macs, target, CoEvolutionSettings(**{"population": 4, "generations": 4} | settings))


def sparse(found: CoEvolution, member: Member) -> float:
    """A fitness that wants channels gone, and of the first gene more where the partner has few."""
    partner = found.partner
    return 1.0 + member.bits.count(0) + (0 if partner is None else partner.bits[:2].count(0) * member.bits[:2].count(0))


def whole_turn(found: CoEvolution) -> list[Member]:
    members = found.population
    found.tell({member: sparse(found, member) for member in found.wanted})
    return members


def test_fitness_is_the_published_sum():
    settings = CoEvolutionSettings()
    assert settings.fitness(4.0, 30) == 500 / 4 + 0.03
    assert settings.fitness(float("inf"), 30) == 0.03
    assert settings.fitness(0.0, 0) < float("inf")  # of the whole network, which loses nothing


def test_short_training_is_ten_epochs_unless_another_length_is_given():
    assert CoEvolutionSettings().steps_of(1334) == 13340
    assert CoEvolutionSettings(epochs=0).steps_of(1334) == 0
    assert CoEvolutionSettings(epochs=1, batch=2).steps_of(10) == 5
    assert CoEvolutionSettings(steps=7).steps_of(1334) == 7


def test_crossing_exchanges_a_segment_and_mutation_turns_it_over():
    assert crossed((1, 1, 1, 1), (0, 0, 0, 0), 1, 3) == ((1, 0, 0, 1), (0, 1, 1, 0))
    assert mutated((1, 0, 1, 0), 1, 3) == (1, 1, 0, 0)
    assert mutated((1, 0, 1, 0), 2, 2) == (1, 0, 1, 0)


class Scripted:
    """Random numbers that are given: for `random`, `randrange` and `choices`, one after the other."""

    def __init__(self, u, places, choices):
        self.u, self.places, self.chosen, self.weights = iter(u), iter(places), iter(choices), []

    def random(self):
        return next(self.u)

    def randrange(self, count):
        assert count == BITS
        return next(self.places)

    def choices(self, members, weights):
        self.weights.append(list(weights))
        return [members[next(self.chosen)]]


def test_the_next_generation_is_made_as_published():
    """The elite; u < 0.2 takes one; u <= 0.9 crosses two, of which one is left out where a single place is left; above,
    and at 0.2 itself, one mutates. Parents are drawn by their fitness."""
    found = evolution(population=6)
    one = tuple([1] * BITS)
    old = [one, (0, *one[1:]), (*one[:5], 0, *one[6:]), (*one[:-1], 0), (*one[:-2], 0, 1), (1, 0, *one[2:])]
    found._members = {"a": list(old), "b": list(old)}
    fitness = dict(zip(old, (3.0, 1.0, 9.0, 1.0, 2.0, 4.0), strict=True))
    for _ in range(2):  # both directions of the first generation
        found.tell({member: fitness[member.bits] for member in found.population})
        if found.direction == "a":
            found.advance()
    script = Scripted([0.1, 0.2, 0.95, 0.9], [3, 1, 9, 12, 8, 4], [1, 0, 4, 2, 3])
    found._random = script
    found.advance()
    wanted = [old[2], old[1], mutated(old[0], 1, 3), mutated(old[4], 9, 12), *crossed(old[2], old[3], 4, 8)]
    assert [member.bits for member in found.population] == wanted
    assert script.weights[0] == [3.0, 1.0, 9.0, 1.0, 2.0, 4.0]
    found._random = Scripted([0.5, 0.5, 0.5], [1, 2] * 3, [0, 1] * 3)
    found.tell(dict.fromkeys(found.wanted, 1.0))
    found.advance()
    assert (found.direction, len(found.population)) == ("b", 6)  # five places for three pairs


def test_directions_alternate_and_each_has_the_newest_best_of_the_other():
    found, seen = evolution(population=8, generations=3), []
    while True:
        partner, members = found.partner, whole_turn(found)
        best = found.ranked(members)[0]
        seen.append((found.generation, found.direction, partner, best))
        if not found.advance():
            break
    assert [turn[:2] for turn in seen] == [(g, d) for g in range(3) for d in "ab"]
    assert [turn[2] for turn in seen[:2]] == [None, None]
    assert all(later[2] == before[3] for before, later in pairwise(seen[1:]))
    assert (found.best(), found.back()) == (seen[-2][3], seen[-1][3])


def test_the_best_of_a_generation_stays_in_the_next():
    found, best = evolution(population=5, generations=10), {}
    while True:
        members = whole_turn(found)
        if found.direction in best:
            assert best[found.direction] == members[0].bits
        best[found.direction] = found.ranked(members)[0].bits
        if not found.advance():
            return


def test_a_search_with_known_candidates_takes_the_same_path():
    def finish(found: CoEvolution) -> CoEvolution:
        whole_turn(found)
        while found.advance():
            whole_turn(found)
        return found

    whole = finish(evolution(population=6))
    rows = [whole.row(member) | {"fitness": fitness} for member, fitness in list(whole.fitness.items())[:17]]
    again = evolution(population=6)
    again.tell({again.read(row): row["fitness"] for row in rows})
    assert finish(again).fitness == whole.fitness and again.best() == whole.best()
    assert again.read({"widths": "1", "generation": 0, "direction": "c", "bits": "0"}) is None
    assert again.read({"widths": "1", "generation": 0, "direction": "a", "bits": "0"}) is None


def test_a_budget_is_met_by_every_candidate_of_both_directions():
    found = evolution(target=14, population=6, generations=6)  # of 2 + 4 + 8 + 8 + 4 + 2
    while True:
        assert all(found.macs(member) <= 14 for member in whole_turn(found))
        if not found.advance():
            break
    with pytest.raises(UsageError, match="a target of 5 MACs: the smallest candidate has 6"):
        evolution(target=5)


# -- what a candidate loses ------------------------------------------------------------------------------------------


def cyclegan(**settings) -> CycleGAN:
    torch.manual_seed(3)
    settings = CycleGAN.Settings(**{"pool": 0, "discriminator": PatchGANConfig(width=2, layers=2)} | settings)
    a, b = (toy_teacher("resnet", seed, width=2, blocks=2) for seed in (1, 2))
    return CycleGAN(settings, generator_a=a, generator_b=b)


def kept_by(network: Generator, seed: int) -> dict[str, torch.Tensor]:
    genome = Genome.of(network.groups())
    bits = tuple(torch.randint(0, 2, (genome.bits,), generator=random(seed)).tolist())
    return genome.kept(genome.living(bits, Random(0)))


@torch.no_grad()
def zeroed(network: Generator, kept: dict[str, torch.Tensor], reads: bool = True) -> Generator:
    """As published: zero are the weights that make a removed channel, its biases, and the weights that read it."""
    network, gone = deepcopy(network), []
    tensors = dict(network.named_parameters())
    for group in network.groups():
        index = torch.tensor(sorted(set(range(group.size)) - set(kept[group.name].tolist())), dtype=torch.int64)
        for slot in group.slots:
            if slot.tensor in tensors and (slot.role == "write" or (reads and slot.role == "read")):
                tensors[slot.tensor].index_fill_(slot.axis, index, 0.0)
                gone.append((slot.tensor, slot.axis, index))
    network.gone = gone
    return network


@pytest.mark.parametrize("norm", ["instance", "instance_affine", "batch"])
def test_a_network_whose_channels_are_zeroed_gives_the_image_of_the_one_that_is_cut(norm):
    network, x = toy_teacher("resnet", 1, norm=norm), torch.rand(2, 3, 32, 32, generator=random()) * 2 - 1
    for name, parameter in network.named_parameters():
        if "norm" in name and name.endswith("bias"):
            torch.nn.init.uniform_(parameter, 0.5, 1.0)  # shifts, which zeroed outputs alone would not remove
    kept = kept_by(network, 5)
    small = cut(network, kept).eval()(x)
    assert torch.allclose(zeroed(network, kept)(x), small, atol=1e-5)
    masks = {group.name: torch.zeros(group.size).index_fill(0, kept[group.name], 1.0) for group in network.groups()}
    assert torch.allclose(masked(network, masks, x)[0], small, atol=1e-5)
    outputs_alone = torch.allclose(zeroed(network, kept, reads=False)(x), small, atol=1e-5)
    assert outputs_alone == (norm == "instance")


def test_a_cut_pair_learns_as_a_zeroed_one_whose_channels_stay_dead():
    gan = cyclegan(pool=2)
    kept = {d: kept_by(gan.generators()[f"generator_{d}"], seed) for d, seed in (("a", 5), ("b", 6))}
    judges = {name: deepcopy(judge) for name, judge in gan.discriminators().items()}
    pairs = [
        CycleGAN(
            gan.settings,
            **{f"generator_{d}": make(gan.generators()[f"generator_{d}"], kept[d]) for d in "ab"},
            **deepcopy(judges),
        ).requires_grad_(True)
        for make in (zeroed, cut)
    ]
    masked_log, cut_log = (steps(pair, batches(4)) for pair in pairs)
    for one, other in zip(masked_log, cut_log, strict=True):
        assert one == pytest.approx(other, rel=1e-6)
    x = batches(1)[0][0]
    for d in "ab":
        large, small = (getattr(pair, f"generator_{d}") for pair in pairs)
        assert torch.allclose(large(x), small(x), atol=1e-6)
        tensors = dict(large.named_parameters())
        assert all(tensors[name].index_select(axis, index).eq(0).all() for name, axis, index in large.gone)


def resemblance(gan: CycleGAN, images, count: int, given=()) -> Resemblance:
    train = TrainSettings(batch=2, constant=1.0).but(steps=count)
    stream = SimpleNamespace(epoch_length=1, iterate=lambda: (pair for pair in enumerate(given)))
    return Resemblance(gan, images, train, lambda: stream, CPU, cycle=10.0)


@pytest.fixture
def gan_and_images():
    images = {d: torch.rand(11, 3, 32, 32, generator=random(seed)) * 2 - 1 for d, seed in (("a", 1), ("b", 2))}
    return cyclegan(lr=0.02), images


@torch.no_grad()
def plain_loss(gan, network, d, images, partner=None) -> float:
    judge, found = getattr(gan, f"discriminator_{d}"), 0.0
    for x in images[d].split(1):
        image = network.eval()(x)
        found += (judge(image).mean() - judge(getattr(gan, f"generator_{d}")(x)).mean()) ** 2
        if partner is not None:
            found += 10 * (partner.eval()(image) - x).abs().mean()
    return float(found)


@pytest.mark.parametrize("d", "ab")
def test_the_loss_is_the_distance_of_scores_summed_over_images(d, gan_and_images):
    gan, images = gan_and_images
    scored, kept = resemblance(gan, images, 0), kept_by(gan.generator_a, 5)
    whole = {group.name: group.size for group in gan.generator_a.groups()}
    small = cut(getattr(gan, f"generator_{d}"), kept)
    assert scored(Pruned(d, kept)) == pytest.approx(plain_loss(gan, small, d, images), rel=1e-4)
    assert scored(Pruned(d, whole)) < 1e-9


def test_with_a_partner_the_way_back_counts_and_both_learn_first(gan_and_images):
    gan, images = gan_and_images
    kept, theirs = kept_by(gan.generator_b, 5), kept_by(gan.generator_a, 6)
    b, a = cut(gan.generator_b, kept), cut(gan.generator_a, theirs)
    candidate = Pruned("b", kept, theirs)
    untaught = plain_loss(gan, b, "b", images, a)
    assert resemblance(gan, images, 0)(candidate) == pytest.approx(untaught, rel=1e-4)
    before = {name: value.clone() for name, value in gan.state_dict().items()}
    given = [Batch(x.float(), real=y.float()) for x, y in batches(3)]
    scored = resemblance(gan, images, 3, given)
    found = scored(candidate)
    assert scored(candidate) == found  # it begins with the same weights and batches again
    pair = CycleGAN(gan.settings, generator_a=a, generator_b=b, **deepcopy(gan.discriminators())).requires_grad_(True)
    steps(pair, batches(3))
    assert found == pytest.approx(plain_loss(gan, b.float(), "b", images, a.float()), rel=1e-3)
    assert abs(found - untaught) > 1e-2 * untaught
    assert all(torch.equal(gan.state_dict()[name], value) for name, value in before.items())


def test_a_candidate_whose_training_breaks_down_has_no_resemblance(gan_and_images):
    gan, images = gan_and_images
    nan = torch.full((2, 3, 32, 32), float("nan"))
    scored = resemblance(gan, images, 1, [Batch(nan, real=nan)])
    assert scored(Pruned("a", kept_by(gan.generator_a, 5), kept_by(gan.generator_b, 6))) == float("inf")
