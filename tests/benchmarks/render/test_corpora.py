"""The table of builds from an object store."""

from render import corpora


def test_each_source_is_read_here_and_by_ray() -> None:
    took = {"build": 2.04, "unchanged": 0.111}
    about = {"hardware": {"cpu": "a CPU", "cores": 2}, "command": "python it", "kind": "object-store"}
    row = {"files": 2000, "bytes": 2_600_000, "seconds": {"folder-local": took, "store-ray": took}, **about}
    older = row | {"seconds": {}}
    head, _, folder, store, _, legend = corpora.object_store(
        [older, row, {"kind": "corpus-watch"}]
    ).splitlines()
    assert head == "|  | build | again, unchanged |"
    assert folder == "| folder, workers here | 2.0 s | 0.11 s |"
    assert store == "| store, Ray | 2.0 s | 0.11 s |"
    assert legend == "2,000 texts, 2.6 MB. a CPU, cores: 2. `python it`"
