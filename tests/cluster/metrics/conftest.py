from collections.abc import Iterator

import pytest
from controllers import Controllers, controllers
from scraping import Ports, metrics_ports, options


@pytest.fixture(scope="package")
def ports() -> Ports:
    return metrics_ports()


@pytest.fixture(scope="package")
def stand(tmp_path_factory: pytest.TempPathFactory, ports: Ports) -> Iterator[Controllers]:
    """All four services; one load balancer was created."""
    directory = tmp_path_factory.mktemp("stand")
    with controllers(
        directory,
        f"sqlite:///{directory / 'tavia.sqlite'}",
        health_managers=1,
        housekeepers=1,
        settings={"tavia": options(ports)},
    ) as made:
        made.await_active(made.create_tree()["id"])
        yield made
