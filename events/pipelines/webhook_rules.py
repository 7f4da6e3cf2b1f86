"""The rules of a webhook's declaration: its function, its verifier and its content types.

Rules: what would refuse or fail every delivery is an error at the line that declares it.
"""

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

from ..errors import PipelineInvalid
from ..model.event import Event
from ..model.webhook import Verifier, Webhook
from .signature import read_emission, read_hints

__all__ = ["check_verifier", "content_types_of", "endpoint_models"]

_CONTENT_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]+/[a-z0-9!#$&^_.+-]+")
_VERIFIER = "an object with `scheme`, `body_limit_bytes` and `verify(headers, body, now_seconds)`, as in ensue.hooks"


def endpoint_models(function: Callable[..., Any], name: str, local_names: Mapping[str, Any]) -> tuple[type[Event], ...]:
    """The events that a webhook's function may return, alone or in a list.

    Raises: `PipelineInvalid` if it cannot be called with a webhook, or if the return annotation is not of events.
    """
    hints = read_hints(function, f"webhook {name}", local_names)
    _check_takes_webhook(function, name, hints)
    if "return" not in hints:
        raise PipelineInvalid(f"webhook {name} has no return annotation: write e.g. -> PullRequestOpened | None")
    return read_emission(hints["return"], f"webhook {name}").models


def content_types_of(content_types: object, name: str) -> tuple[str, ...]:
    """The content types of a webhook: in lower case, without parameters, from one or several.

    Raises: `PipelineInvalid` if there is none, or one that no delivery can have.
    """
    given = (content_types,) if isinstance(content_types, str) else content_types
    if not isinstance(given, Iterable) or isinstance(given, bytes):
        raise PipelineInvalid(f"webhook {name}: content_types={content_types!r}: write e.g. ('application/json',)")
    listed = [_content_type(one, name) for one in cast("Iterable[object]", given)]
    if not listed:
        raise PipelineInvalid(f"webhook {name} accepts no content type: leave content_types out for JSON")
    return tuple(dict.fromkeys(listed))


def check_verifier(verifier: object, name: str) -> Verifier:
    """The verifier, if it can verify: a class, a function, or one that is async or answers with a bool cannot.

    Raises: `PipelineInvalid`, with what to write.
    """
    if isinstance(verifier, type):
        raise PipelineInvalid(f"webhook {name}: verify={verifier.__name__} is a class: write {verifier.__name__}(...)")
    verify = getattr(verifier, "verify", None)
    if not callable(verify):
        kind = "a function" if inspect.isroutine(verifier) else repr(verifier)
        raise PipelineInvalid(f"webhook {name}: verify is {kind}: write {_VERIFIER}; hooks.Insecure() verifies nothing")
    if not isinstance(getattr(verifier, "scheme", None), str) or not _is_size(verifier):
        raise PipelineInvalid(f"webhook {name}: {type(verifier).__name__} is not {_VERIFIER}")
    if inspect.iscoroutinefunction(inspect.unwrap(verify)):
        raise PipelineInvalid(f"webhook {name}: {type(verifier).__name__}.verify is async: write a plain function")
    _check_verify(verify, type(verifier).__name__, name)
    return cast("Verifier", verifier)


def _check_verify(verify: Callable[..., Any], owner: str, name: str) -> None:
    signature = inspect.signature(verify)
    try:
        signature.bind({}, b"", 0.0)
    except TypeError:
        msg = f"webhook {name}: {owner}.verify{signature} cannot be called: write verify(headers, body, now_seconds)"
        raise PipelineInvalid(msg) from None
    if signature.return_annotation in (bool, "bool"):
        raise PipelineInvalid(
            f"webhook {name}: {owner}.verify returns a bool, and what it returns is the delivery id: return that, or "
            "None, and raise SignatureInvalid if the delivery is not genuine"
        )


def _is_size(verifier: object) -> bool:
    limit = getattr(verifier, "body_limit_bytes", None)
    return isinstance(limit, int) and not isinstance(limit, bool) and limit > 0


def _content_type(given: object, name: str) -> str:
    text = given.partition(";")[0].strip().lower() if isinstance(given, str) else ""
    if not _CONTENT_TYPE.fullmatch(text):
        raise PipelineInvalid(f"webhook {name}: {given!r} is not a content type: write e.g. 'application/json'")
    return text


def _check_takes_webhook(function: Callable[..., Any], name: str, hints: Mapping[str, Any]) -> None:
    signature = inspect.signature(function)
    try:
        bound = signature.bind(None)
    except TypeError:
        msg = f"webhook {name}: its function is called with one Webhook, and takes {signature}"
        raise PipelineInvalid(f"{msg}: write `def {function.__name__}(hook: Webhook) -> ...`") from None
    taken = hints.get(next(iter(bound.arguments)), Any)
    if taken is not Any and not (isinstance(taken, type) and issubclass(Webhook, taken)):
        raise PipelineInvalid(f"webhook {name}: its function takes {taken!r}: it is called with a Webhook")
