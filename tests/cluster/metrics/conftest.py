from collections.abc import Iterator

import pytest
from controllers import Controllers, controllers
from rabbitmq import RabbitMQ
from scraping import Ports, metrics_ports, options


@pytest.fixture(scope="package")
def ports() -> Ports:
    return metrics_ports()


@pytest.fixture(scope="package")
def stand(
    tmp_path_factory: pytest.TempPathFactory, ports: Ports, rabbitmq_of_the_session: RabbitMQ
) -> Iterator[Controllers]:
    """All four services with RabbitMQ; one load balancer was created."""
    rabbitmq_of_the_session.heal()
    directory = tmp_path_factory.mktemp("stand")
    with controllers(
        directory,
        f"sqlite:///{directory / 'tavia.sqlite'}",
        health_managers=1,
        housekeepers=1,
        transport_url=rabbitmq_of_the_session.url,
        settings={"tavia": options(ports)},
    ) as made:
        made.await_active(made.create_tree()["id"])
        yield made
