# SPDX-License-Identifier: Apache-2.0
"""What the gateway counts, for Prometheus: on a port of its own, so that buyers and strangers never see it.

No label holds a job, an address or a buyer: the number of series stays the same whatever strangers do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from gpubond.errors import BadSettings

# From a status answer to a blob over a slow line.
_SECONDS = (0.005, 0.025, 0.1, 0.5, 2, 10, 60, 300)


class GatewayMetrics:
    """Counters and gauges of one gateway, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "gpubond_gateway_requests",
            "Requests by operation and HTTP status.",
            ("operation", "status"),
            registry=self.registry,
        )
        self.seconds = Histogram(
            "gpubond_gateway_request_seconds",
            "Time from a request's headers to the end of its answer.",
            ("operation",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.received = Counter("gpubond_gateway_received_bytes", "Bytes of uploads.", registry=self.registry)
        self.sent = Counter("gpubond_gateway_sent_bytes", "Bytes of outputs and logs.", registry=self.registry)
        self.connections = Gauge("gpubond_gateway_connections", "Open connections.", registry=self.registry)
        self.turned_away = Counter(
            "gpubond_gateway_connections_turned_away",
            "Connections closed by a limit: full, address, shed, idle, slow.",
            ("limit",),
            registry=self.registry,
        )
        self.refused = Counter(
            "gpubond_gateway_refused",
            "Requests refused, by error code.",
            ("code",),
            registry=self.registry,
        )

    def watch(self, name: str, text: str, value: Callable[[], float]) -> None:
        """A gauge that is read when it is asked for."""
        Gauge(name, text, registry=self.registry).set_function(value)

    def watch_all(self, name: str, text: str, label: str, values: Callable[[], Mapping[str, float]]) -> None:
        """A gauge for each of a fixed set of labels, read when they are asked for."""
        self.registry.register(_Gauges(name, text, label, values))

    def serve(self, host: str, port: int) -> Callable[[], None]:
        """Serves `/metrics` from a thread; returns what ends it.

        Raises:
            BadSettings: the port is taken or the address is not this machine's.
        """
        try:
            server, thread = start_http_server(port, addr=host, registry=self.registry)
        except OSError as error:
            raise BadSettings(
                f"the metrics cannot be served: {error.strerror}",
                field="gateway.metrics_port",
                value=f"{host}:{port}",
                remedy="another program may use this port: choose another one, in [gateway]",
            ) from None

        def stop() -> None:
            server.shutdown()
            server.server_close()
            thread.join(timeout=5)

        return stop


class _Gauges(Collector):
    """A gauge with one label whose values come from a function."""

    def __init__(self, name: str, text: str, label: str, values: Callable[[], Mapping[str, float]]) -> None:
        self._name, self._text, self._label, self._values = name, text, label, values

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """The family without samples, so that registering asks for none."""
        return [GaugeMetricFamily(self._name, self._text, labels=[self._label])]

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """The present values."""
        family = GaugeMetricFamily(self._name, self._text, labels=[self._label])
        for label, value in self._values().items():
            family.add_metric([label], value)
        yield family
