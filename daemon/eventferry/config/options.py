"""Tells the keys that every sink or channel has from the ones that belong to its type."""

from typing import Any

from pydantic import BaseModel


def set_options_apart(model: type[BaseModel], data: Any) -> Any:
    """The table with every key that is not the model's own moved under `options`."""
    if not isinstance(data, dict):
        return data
    known = model.model_fields.keys() - {"options"}
    common = {key: value for key, value in data.items() if key in known}
    return common | {"options": {key: value for key, value in data.items() if key not in known}}
