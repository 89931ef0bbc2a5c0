"""Two real nodes: copies are in place before a release, a node that restarts costs a load nothing but time, and what a
lost node takes with it is made anew from the parts, with nothing embedded."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.command import Outcome
from tests.e2e.moments import Asked
from tests.e2e.two_nodes import SHARDS, At, Corpus, Nodes, Witness, beside
from tests.fixtures.faulty_opensearch import faulty_opensearch
from tests.fixtures.opensearch import Node, delete_indices, running_cluster
from tests.targets.opensearch_case import send

pytestmark = [pytest.mark.opensearch, pytest.mark.timeout(900)]

BULK, MERGE, WARMED, RELEASED = (
    Asked("POST", "/_bulk"), Asked("POST", "/_forcemerge"), Asked("GET", "/warmup/"), Asked("POST", "/_aliases"))  # fmt: skip
REPLICAS = Asked("PUT", "/_settings", b'{"index":{"number_of_replicas"')  # as they are restored, first of all settings
RESTARTS_AFTER_S = 2.0
PATIENCE = "index.deadline_s=2"  # for a node that will not come back


@pytest.fixture(scope="module")
def _nodes() -> Iterator[list[Node]]:
    with running_cluster(2) as nodes:
        yield nodes


@pytest.fixture
def nodes(_nodes: list[Node]) -> Nodes:
    return Nodes(*_nodes).brought_up()


@pytest.fixture
def corpus(nodes: Nodes, tmp_path: Path) -> Iterator[Corpus]:
    made = Corpus.embedded(tmp_path, nodes.manager.url)
    yield made
    delete_indices(nodes.manager.url, made.name)


@pytest.fixture
def no_replicas(nodes: Nodes) -> Iterator[Callable[[bool], None]]:
    """Called with True, the cluster puts no replica anywhere."""

    def switch(off: bool) -> None:
        only = {"cluster.routing.allocation.enable": "primaries" if off else None}
        send(nodes.manager.url, "PUT", "/_cluster/settings", {"transient": only})

    yield switch
    switch(False)


class TestReplicas:
    SET = "index.replicas=1"

    def test_every_copy_is_in_place_before_the_index_is_warmed_and_the_alias_moves(
        self, corpus: Corpus, no_replicas: Callable[[bool], None]
    ) -> None:
        witness, threads = Witness(corpus.node, corpus.generation(self.SET), BULK, WARMED, RELEASED), []
        slow = At(REPLICAS, 1, lambda: threads.append(beside(lambda: no_replicas(False), after_s=3)))
        no_replicas(True)
        with faulty_opensearch(corpus.node, lambda request: witness(request) or slow(request)) as url:
            said = corpus.must("run", self.SET, f"index.url={url}")
        (thread,) = threads
        thread.join()
        assert witness.saw == {BULK: ("green", SHARDS), WARMED: ("green", 2 * SHARDS), RELEASED: ("green", 2 * SHARDS)}
        assert "gate replicas: passed (green, 1 replicas, 2 data nodes)" in said
        assert corpus.live() == corpus.generation(self.SET)
        corpus.must_be_exact(self.SET)

    @pytest.mark.soak
    def test_a_generation_that_lacks_a_copy_is_neither_proved_nor_released(
        self, corpus: Corpus, no_replicas: Callable[[bool], None]
    ) -> None:
        corpus.must("load", self.SET)
        no_replicas(True)
        for count in (0, 1):
            send(corpus.node, "PUT", f"/{corpus.generation(self.SET)}/_settings", {"index.number_of_replicas": count})
        refused = corpus.command("verify", self.SET, "verify.green_within_s=1")
        assert refused.code == 3
        assert f"replicas: yellow, 1 replicas, 2 data nodes, {SHARDS} copies of shards missing" in refused.err
        assert corpus.command("release", self.SET).code == 3
        assert corpus.live() is None
        no_replicas(False)
        for verb in ("verify", "release"):
            corpus.must(verb, self.SET)
        assert corpus.live() == corpus.generation(self.SET)


def load_while_it_restarts(corpus: Corpus, nodes: Nodes, moment: Asked, nth: int, *sets: str) -> None:
    """The data-only node is killed at a moment of the load, and comes back while the load goes on."""
    held: list[set[str]] = []
    threads: list[threading.Thread] = []

    def die() -> None:
        held.append({copy["node"] for copy in corpus.copies(corpus.generation(*sets))})
        nodes.other.kill()
        threads.append(beside(nodes.other.start, after_s=RESTARTS_AFTER_S))

    rule = At(moment, nth, die)
    try:
        with faulty_opensearch(corpus.node, rule) as url:
            corpus.must("load", f"index.url={url}", *sets)
    finally:
        for thread in threads:
            thread.join()
    assert [len(names) for names in held] == [2]  # it had a shard
    assert moment != BULK or rule.seen > nth
    nodes.wait_until_green()
    corpus.must("verify", *sets)
    corpus.must_be_exact(*sets)


@pytest.mark.soak
def test_a_node_killed_and_restarted_in_the_middle_of_a_load_leaves_it_exact(corpus: Corpus, nodes: Nodes) -> None:
    load_while_it_restarts(corpus, nodes, BULK, 12, "index.replicas=1")
    corpus.must("release", "index.replicas=1")


@pytest.mark.soak
@pytest.mark.parametrize("replicas", [0, 1])
@pytest.mark.parametrize("moment", [(BULK, 1), (BULK, 15), (MERGE, 1), (REPLICAS, 1), (WARMED, 1)],
                         ids=["first bulk", "late bulk", "merge", "replicas", "warming"])  # fmt: skip
def test_a_node_killed_and_restarted_at_any_moment_of_a_load_leaves_it_exact(
    corpus: Corpus, nodes: Nodes, moment: tuple[Asked, int], replicas: int
) -> None:
    load_while_it_restarts(corpus, nodes, *moment, f"index.replicas={replicas}", "engine.workers=2")


@dataclass(frozen=True)
class Loss:
    """Three corpora without replicas, each with a shard on the node that was lost for good while the last one was being
    loaded. ``broken_off`` is what that load said."""

    live: Corpus
    loaded: Corpus
    broken: Corpus
    broken_off: Outcome
    embeddings: dict[str, dict[Path, int]]

    def must_not_have_embedded(self, corpus: Corpus) -> None:
        assert corpus.embeddings() == self.embeddings[corpus.name]


@pytest.fixture(scope="class")
def loss(_nodes: list[Node], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loss]:
    nodes = Nodes(*_nodes).brought_up()
    corpora = [Corpus.embedded(tmp_path_factory.mktemp("lost"), nodes.manager.url) for _ in range(3)]
    embeddings = {corpus.name: corpus.embeddings() for corpus in corpora}
    live, loaded, broken = corpora
    live.must("run")
    loaded.must("load")
    with faulty_opensearch(nodes.manager.url, At(BULK, 12, nodes.other.lose)) as url:
        broken_off = broken.command("load", f"index.url={url}", PATIENCE)
    yield Loss(live, loaded, broken, broken_off, embeddings)
    for corpus in corpora:
        delete_indices(nodes.manager.url, corpus.name)


class TestANodeLostForGood:
    def test_a_loaded_generation_is_made_anew_from_its_parts(self, loss: Loss) -> None:
        corpus = loss.loaded
        said = corpus.must("run", PATIENCE)
        assert f"{corpus.generation()} has lost shards " in said
        assert "it is dropped and loaded anew from its parts; nothing is embedded" in said
        corpus.must_be_exact()
        loss.must_not_have_embedded(corpus)
        assert corpus.live() == corpus.generation()

    def test_one_lost_in_the_middle_of_its_load_ends_that_and_the_next_load_makes_it_anew(self, loss: Loss) -> None:
        assert loss.broken_off.code == 1
        assert "primary shard is not active" in loss.broken_off.err
        assert re.search("Then run `backhaul load .*` to resume", loss.broken_off.err)
        corpus = loss.broken
        assert "it is dropped and loaded anew" in corpus.must("load", PATIENCE)
        corpus.must("verify")
        corpus.must_be_exact()
        loss.must_not_have_embedded(corpus)

    @pytest.mark.soak
    def test_a_live_one_is_not_dropped_and_the_advice_that_is_given_works(self, loss: Loss) -> None:
        corpus = loss.live
        refused = corpus.command("run", PATIENCE)
        assert refused.code == 1
        assert "is live and has lost shards" in refused.err
        assert "It is not dropped while it is live" in refused.err
        assert corpus.live() == corpus.generation()
        assert corpus.command("rollback").code == 2  # there is none before it
        advised = re.search(r"`backhaul run \S+ --set (index\.\S+)` makes one beside it", refused.err)
        assert advised
        corpus.must("run", advised[1])
        corpus.must_be_exact(advised[1])
        assert corpus.live() == corpus.generation(advised[1])
        corpus.must("run", PATIENCE)  # now that it is not live
        corpus.must_be_exact()
        assert corpus.live() == corpus.generation()
        loss.must_not_have_embedded(corpus)


class TestWaysBack:
    @pytest.mark.soak
    def test_with_one_before_it_the_advice_to_roll_back_works_as_well(self, corpus: Corpus, nodes: Nodes) -> None:
        whole = ("index.replicas=1", "index.ef_construction=64")
        for sets in (whole, ()):
            corpus.must("run", *sets)
        embeddings = corpus.embeddings()
        nodes.other.lose()
        assert "`backhaul rollback" in corpus.command("run", PATIENCE).err
        corpus.must("rollback", PATIENCE)
        assert corpus.live() == corpus.generation(*whole)
        corpus.must("run", PATIENCE)
        corpus.must_be_exact()
        assert corpus.live() == corpus.generation()
        assert corpus.embeddings() == embeddings

    @pytest.mark.soak
    def test_an_empty_node_in_its_place_changes_nothing_of_that(self, corpus: Corpus, nodes: Nodes) -> None:
        corpus.must("load")
        embeddings = corpus.embeddings()
        nodes.other.lose()
        nodes.other.start(status="red")
        assert "it is dropped and loaded anew" in corpus.must("run", PATIENCE)
        corpus.must_be_exact()
        assert corpus.embeddings() == embeddings

    @pytest.mark.soak
    def test_where_there_are_replicas_nothing_is_lost(self, corpus: Corpus, nodes: Nodes) -> None:
        replicas = "index.replicas=1"
        corpus.must("run", replicas)
        nodes.other.lose()
        refused = corpus.command("verify", replicas)
        assert refused.code == 3
        assert "bring up another node" in refused.err
        nodes.other.start()
        nodes.wait_until_green()
        corpus.must("verify", replicas)
        corpus.must_be_exact(replicas)
        assert corpus.live() == corpus.generation(replicas)
