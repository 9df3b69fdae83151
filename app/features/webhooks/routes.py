"""Routes of webhooks."""

from typing import Any

from flask import current_app
from sqlalchemy import Select

from app.core.listing import CursorInvalid
from app.features.events.service import CursorExpired
from app.features.webhooks import service
from app.features.webhooks.models import (
    Delivery,
    DeliveryPending,
    ReadNotHeld,
    UrlNotAllowed,
    Webhook,
    WebhookDisabled,
)
from app.features.webhooks.schemas import (
    DeliveryQuerySchema,
    DeliverySchema,
    MessageSchema,
    NewWebhookSchema,
    PingSchema,
    ReplayCreateSchema,
    ReplaySchema,
    SecretRotateSchema,
    WebhookCreateSchema,
    WebhookQuerySchema,
    WebhookSchema,
    WebhookUpdateSchema,
)
from app.features.webhooks.sending import require_allowed
from app.security.permissions import Permission
from app.web.access import current_identity
from app.web.contract import Blueprint, accepts, changes, lists, locks, refuses, requires, returns, sends

blueprint = Blueprint(
    "webhooks", __name__, url_prefix="/webhooks", about="Endpoints of yours to which changes are sent, signed."
)


def _webhook_location(webhook: Any) -> str:
    return f"/api/v1/webhooks/{webhook.id}"


def _delivery_location(delivery: Delivery) -> str:
    return f"/api/v1/webhooks/{delivery.webhook_id}/deliveries/{delivery.id}"


@blueprint.get("")
@requires(Permission.WEBHOOKS_READ)
@lists(WebhookSchema, WebhookQuerySchema, service.LISTING)
def list_webhooks() -> Select[Webhook]:
    """List webhooks."""
    return service.visible_to(current_identity())


@blueprint.post("")
@requires(Permission.WEBHOOKS_WRITE)
@accepts(WebhookCreateSchema)
@returns(NewWebhookSchema, status=201, location=_webhook_location)
@refuses(UrlNotAllowed, ReadNotHeld)
@sends(change=MessageSchema, ping=PingSchema)
def create_webhook(data: dict[str, Any]) -> service.NewSecret:
    """Create a webhook, which hears of the changes from now on; this response is the only one with its secret.

    Messages follow the Standard Webhooks specification. Each is sent at least once and those of one resource in order;
    of several changes of a resource that wait for an endpoint the last is sent. What fails is tried again for three
    days. Deduplicate by `webhook-id`, and after an outage continue the change feed from the last `cursor`.
    """
    require_allowed(data["url"])
    return service.create_webhook(**data, identity=current_identity(), keys=current_app.config["SECRET_KEYS"])


@blueprint.get("/<id:webhook_id>")
@requires(Permission.WEBHOOKS_READ)
@returns(WebhookSchema)
def read_webhook(webhook_id: int) -> Webhook:
    """Read a webhook, without its secret."""
    return service.get_webhook(webhook_id, identity=current_identity())


@blueprint.patch("/<id:webhook_id>")
@requires(Permission.WEBHOOKS_WRITE)
@changes(service.get_webhook)
@accepts(WebhookUpdateSchema)
@returns(WebhookSchema)
@refuses(UrlNotAllowed, ReadNotHeld)
def update_webhook(webhook: Webhook, data: dict[str, Any]) -> Webhook:
    """Change a webhook, or enable it again."""
    if "url" in data:
        require_allowed(data["url"])
    return service.update_webhook(webhook, identity=current_identity(), **data)


@blueprint.delete("/<id:webhook_id>")
@requires(Permission.WEBHOOKS_WRITE)
@changes(service.get_webhook)
@returns(status=204)
def delete_webhook(webhook: Webhook) -> None:
    """Delete a webhook, with what waits for it and the log of its deliveries."""
    service.delete_webhook(webhook)


@blueprint.post("/<id:webhook_id>/rotate-secret")
@requires(Permission.WEBHOOKS_WRITE)
@locks(service.get_webhook)
@accepts(SecretRotateSchema)
@returns(NewWebhookSchema, status=201, location=_webhook_location)
def rotate_webhook_secret(webhook: Webhook, data: dict[str, Any]) -> service.NewSecret:
    """Give a webhook a new secret; for `overlap_seconds` messages are signed with the current one as well."""
    return service.rotate_secret(webhook, **data, keys=current_app.config["SECRET_KEYS"])


@blueprint.post("/<id:webhook_id>/ping")
@requires(Permission.WEBHOOKS_WRITE)
@locks(service.get_webhook)
@returns(DeliverySchema, status=202, location=_delivery_location)
@refuses(WebhookDisabled)
def ping_webhook(webhook: Webhook) -> Delivery:
    """Send the endpoint a message of type `webhook.ping`, in the background."""
    return service.ping(webhook)


@blueprint.get("/<id:webhook_id>/deliveries")
@requires(Permission.WEBHOOKS_READ)
@lists(DeliverySchema, DeliveryQuerySchema, service.DELIVERIES)
@refuses(ReadNotHeld)
def list_webhook_deliveries(webhook_id: int) -> Select[Delivery]:
    """List what was sent to the endpoint and what waits; what has ended is kept for 30 days."""
    return service.deliveries_of(webhook_id, identity=current_identity())


@blueprint.get("/<id:webhook_id>/deliveries/<id:delivery_id>")
@requires(Permission.WEBHOOKS_READ)
@returns(DeliverySchema)
@refuses(ReadNotHeld)
def read_webhook_delivery(webhook_id: int, delivery_id: int) -> Delivery:
    """Read a delivery."""
    return service.get_delivery(webhook_id, delivery_id, identity=current_identity())


@blueprint.post("/<id:webhook_id>/deliveries/<id:delivery_id>/redeliver")
@requires(Permission.WEBHOOKS_WRITE)
@returns(DeliverySchema, status=202, location=_delivery_location)
@refuses(WebhookDisabled, DeliveryPending, ReadNotHeld)
def redeliver_webhook_delivery(webhook_id: int, delivery_id: int) -> Delivery:
    """Send a message again, under its id and with what the resource is by then."""
    return service.redeliver(webhook_id, delivery_id, identity=current_identity())


@blueprint.post("/<id:webhook_id>/replay")
@requires(Permission.WEBHOOKS_WRITE)
@locks(service.get_webhook)
@accepts(ReplayCreateSchema)
@returns(ReplaySchema, status=202, location=lambda replay: f"/api/v1/jobs/{replay['job_id']}")
@refuses(WebhookDisabled, CursorInvalid, CursorExpired)
def replay_webhook(webhook: Webhook, data: dict[str, Any]) -> dict[str, int]:
    """Send the changes of a part of the feed again, those that the webhook wants to hear; of each resource the last."""
    job, position = service.replay(webhook, **data, keys=current_app.config["SECRET_KEYS"])
    return {"job_id": job.id, "after": position}
