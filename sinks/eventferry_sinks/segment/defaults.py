"""What goes where in Segment's calls if nobody says otherwise: the mapping of Altis's own integration."""

from typing import Any

_TRAITS = ["endpoint.Attributes", "endpoint.User.UserAttributes", "endpoint.Metrics"]
_WHO: dict[str, Any] = {
    "anonymousId": {"path": "endpoint.Id", "as": "text"},
    "userId": {"path": "endpoint.User.UserId", "as": "text"},
    "timestamp": {"path": "event_timestamp", "as": "time"},
    "receivedAt": {"path": "arrival_timestamp", "as": "time"},
}
_PAGE: dict[str, Any] = {
    "referrer": {"path": ["attributes.referrer", "attributes.referer"]},
    "search": "attributes.search",
    "title": "attributes.title",
    "url": "attributes.url",
}
_CONTEXT: dict[str, Any] = {
    "context.active": "endpoint.EndpointStatus",
    "context.app.version": "endpoint.Demographic.AppVersion",
    "context.campaign.name": "attributes.qv_utm_campaign",
    "context.campaign.source": "attributes.qv_utm_source",
    "context.campaign.medium": "attributes.qv_utm_medium",
    "context.campaign.term": "attributes.qv_utm_term",
    "context.campaign.content": "attributes.qv_utm_content",
    "context.device.manufacturer": "endpoint.Attributes.DeviceMake.0",
    "context.device.model": "endpoint.Attributes.DeviceModel.0",
    "context.device.type": "endpoint.Attributes.DeviceType.0",
    "context.locale": "endpoint.Demographic.Locale",
    "context.location.country": "endpoint.Location.Country",
    "context.location.city": "endpoint.Location.City",
    "context.location.latitude": "endpoint.Location.Latitude",
    "context.location.longitude": "endpoint.Location.Longitude",
    "context.os.name": "endpoint.Demographic.Platform",
    "context.os.version": "endpoint.Demographic.PlatformVersion",
    **{f"context.page.{name}": path for name, path in _PAGE.items()},
    "context.timezone": "endpoint.Demographic.Timezone",
    "context.traits": _TRAITS,
}

DEFAULTS: dict[str, dict[str, Any]] = {
    "identify": {**_WHO, "traits": _TRAITS},
    "group": dict(_WHO),
    "page": {
        **_WHO,
        **_CONTEXT,
        "name": "attributes.title",
        **{f"properties.{name}": path for name, path in _PAGE.items()},
    },
    "track": {**_WHO, **_CONTEXT, "event": "event_type", "properties": ["attributes", "metrics"]},
}
