"""Attention as one operator."""

from __future__ import annotations

from rebasin_hub.infer.labels import product
from rebasin_hub.infer.rules.table import rule
from rebasin_hub.infer.step import Step

__all__ = ["attention"]


@rule(
    "aten.scaled_dot_product_attention",
    "aten._scaled_dot_product_flash_attention_for_cpu",
    "aten._scaled_dot_product_efficient_attention",
    "aten._scaled_dot_product_attention_math",
)
def attention(step: Step) -> None:
    """Bind heads, places, and the two contracted axes; several query heads may share a key head.

    A causal mask fixes the places; a mask that is given says so itself.
    """
    query, key, value, *mask = step.node.inputs
    target, *others = step.node.outputs
    q, k, v = step.shape(query), step.shape(key), step.shape(value)
    what = "a causal mask counts positions"
    causal = bool(step.attribute("is_causal", False))
    rows, columns = (step.fixed(n, what) if causal else step.index(n) for n in (q[-2], k[-2]))
    inner, width = step.index(q[-1]), step.index(v[-1])
    *lead, heads = step.shape(target)[:-2]
    batch = step.indices(lead)
    if k[-3] == v[-3] and k[-3] not in {1, heads} and heads % k[-3] == 0:
        shared = step.index(k[-3])
        own = product(shared, step.index(heads // k[-3]))
    else:
        shared = own = step.index(heads)
    step.broadcast(query, [*batch, own, rows, inner])
    step.broadcast(key, [*batch, shared, columns, inner])
    step.broadcast(value, [*batch, shared, columns, width])
    for name in mask:
        step.broadcast(name, [*batch, own, rows, columns])
    step.bind(target, [*batch, own, rows, width])
    for name in filter(None, others):
        step.fix(name, "a by-product of attention")
