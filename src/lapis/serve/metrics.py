"""What Prometheus is told."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.responses import Response

from lapis.serve.limits import Budget

SECONDS = (0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
ITEMS = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """Of one server, in a registry of its own."""

    def __init__(self, *, held_bytes: Budget, held_seconds: Budget) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.requests = Counter("lapis_requests", "Requests ended.", ["path", "status"], registry=registry)
        self.refused = Counter("lapis_refused", "Requests refused, by reason.", ["reason"], registry=registry)
        self.seconds = Histogram(
            "lapis_request_seconds", "From a request's head to its end.", ["path"], buckets=SECONDS, registry=registry
        )
        self.uploading = Gauge("lapis_uploads_at_once", "Requests being sent.", registry=registry)
        self.at_once = Gauge("lapis_requests_at_once", "Requests being answered.", registry=registry)
        self.batch_items = Histogram(
            "lapis_batch_items", "Through the tower at once.", ["kind"], buckets=ITEMS, registry=registry
        )
        self.tower_seconds = Histogram(
            "lapis_tower_seconds", "A batch's time in the tower.", ["kind"], buckets=SECONDS, registry=registry
        )
        self.sound_seconds = Counter("lapis_sound_seconds", "Of sound decoded.", registry=registry)
        for name, help_, budget in (
            ("lapis_held_bytes", "Of bodies in memory.", held_bytes),
            ("lapis_held_sound_seconds", "Of decoded sound in memory.", held_seconds),
        ):
            Gauge(name, help_, registry=registry).set_function(lambda budget=budget: budget.taken)

    def response(self) -> Response:
        """In Prometheus' text form."""
        return Response(generate_latest(self.registry), headers={"content-type": CONTENT_TYPE_LATEST})
