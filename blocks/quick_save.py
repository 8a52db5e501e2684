"""Save many blocks quickly: a class registers its type once with a server, and makes its JSON schema once a process."""

from copy import deepcopy
from typing import TYPE_CHECKING, Any, Final

from prefect.settings import PREFECT_API_URL

if TYPE_CHECKING:
    from prefect.blocks.core import Block as _Block
else:
    _Block = object

_schemas: Final[dict[Any, dict[str, Any]]] = {}
_servers: Final[dict[type, str | None]] = {}


class QuickSave(_Block):
    """Mixin before Block, whose save registers each nested type and builds a schema for each field: a second a block.

    Here each is done once.
    """

    @classmethod
    def model_json_schema(cls, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return a copy of the schema: it is made once for each combination of arguments."""
        key = cls, args, tuple(sorted(kwargs.items()))
        if key not in _schemas:
            _schemas[key] = super().model_json_schema(*args, **kwargs)
        return deepcopy(_schemas[key])

    @classmethod
    def register_type_and_schema(cls, *args: Any, **options: Any) -> Any:
        """Register the type and those nested in it, unless `save` has done so on this server in this process."""
        server = PREFECT_API_URL.value()
        saving = options.get("_sync")
        if saving and server and _servers.get(cls) == server:
            return None
        registered = super().register_type_and_schema(*args, **options)
        _servers[cls] = server if saving else None  # a class knows its ids on one server, that of the last registration
        return registered
