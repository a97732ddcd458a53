"""Which spec's layout a checkpoint's tensors are led to, or back from."""

from __future__ import annotations

from collections.abc import Mapping

from rebasin_hub.errors import FormatError, InputError
from rebasin_hub.formats.checkpoint import Checkpoint
from rebasin_hub.formats.torch_parts import check_whole, params_of
from rebasin_hub.pipeline.models import Choice, all_specs
from rebasin_hub.spec import Spec
from rebasin_hub.spec.layout import Layout, Moves
from rebasin_hub.spec.sizes import config_size
from rebasin_hub.specfile import find_spec
from rebasin_hub.tensors import Header

__all__ = ["find_moves"]


def find_moves(
    name: str, header: Header, source: Checkpoint, choice: Choice, *, back: bool
) -> Moves:
    """Return what becomes of tensors in the layout of some name, or `back` from it.

    Args:
        name: the layout's.
        header: the tensors, by the names that they have by now.
        source: the checkpoint, of which config.json tells sizes.
        choice: the spec; by default the only one of which the layout has all tensors.
        back: whether the tensors are in this layout, and led to the spec's own.

    Raises:
        InputError: no spec has such a layout, or the tensors do not fit it.

    """
    if back:
        check_whole(source)
    specs = (find_spec(choice.spec),) if choice.spec is not None else all_specs()
    having = [spec for spec in specs if name in spec.layouts]
    if not having:
        known = sorted(f"{layout} ({s.name})" for s in specs for layout in s.layouts)
        others = f"there are {', '.join(known)}" if known else "there is no other"
        raise InputError(f"there is no layout '{name}'; {others}")
    fitting: dict[str, Moves] = {}
    problems = []
    for spec in having:
        layout = spec.layouts[name]
        try:
            sizes = _sizes(layout, source, choice.sizes)
            fitting[spec.name] = layout.moves(header, sizes, back=back)
        except FormatError:
            raise
        except InputError as problem:
            problems.append(f"  {spec.name}: {problem}{_hint(spec, name, header, back=back)}")
    if not fitting:
        raise InputError("\n".join([f"{source.path}: does not fit layout '{name}':", *problems]))
    if len(fitting) > 1:
        raise InputError(
            f"layout '{name}' of several specs fits: {', '.join(fitting)}; choose one with --spec"
        )
    (moves,) = fitting.values()
    return moves


def _hint(spec: Spec, name: str, header: Header, *, back: bool) -> str:
    """Say so if the tensors are on the other side already."""
    try:
        spec.layouts[name].moves(header, {}, back=not back)
    except InputError:
        return ""
    return f"; they are in {'the layout of the spec' if back else 'this layout'} already"


def _sizes(layout: Layout, source: Checkpoint, given: Mapping[str, int]) -> dict[str, int]:
    config = source.config if source.config is not None else params_of(source)
    found: dict[str, int] = {}
    for word, text in layout.sizes.items():
        size = config_size(text, config) if isinstance(text, str) else text
        if size is not None:
            found[word] = size
    return found | dict(given)
