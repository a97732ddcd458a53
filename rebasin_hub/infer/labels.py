"""What stands on the axes of tensors while it is being found out: atoms, and their unification.

An axis is a sum of products of atoms, first factor slowest, as in the language of specs: `(h d)`,
`(q + k + v)`, `(h (q + k))`. An atom is a variable. It starts as an axis that may be renumbered in
every way, and learns from operators what it is: the same as another atom, a product or a sum of
smaller ones, or fixed. Each such step takes renumberings away and adds none, so that an operator
that allowed the larger set allows what is left of it, and the order of the operators does not
matter. Where two axes cannot be brought to one form, all their atoms are fixed: that too only
takes away.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

__all__ = ["ONE", "Expression", "Factor", "Labels", "Reason", "Term", "product"]

Factor: TypeAlias = "int | Expression"
Term: TypeAlias = "tuple[Factor, ...]"
Expression: TypeAlias = "tuple[Term, ...]"
"""A sum of products. A factor is an atom, or a sum that stands behind a slower factor."""

MOST_COPIES = 16
"""How many copies an atom may stand for that a cut goes through; larger ones are fixed."""

ONE: Expression = ((),)
"""The expression of an axis of one element: nothing stands on it."""


@dataclass(frozen=True)
class Reason:
    """Why something is fixed: what was found, and at which operator, input or output."""

    what: str
    where: str


def product(*expressions: Expression) -> Expression:
    """Return composed axes, the first one slowest."""
    factors: list[Factor] = []
    for expression in expressions:
        if len(expression) == 1:
            factors += expression[0]
        else:
            factors.append(expression)
    return (tuple(factors),)


@dataclass(eq=False)
class Labels:
    """All atoms of a graph, with what is known of each.

    `expression(atom)` is the law's other side: after `unify(a, b)` both have the same normal form,
    or all atoms of both are fixed.
    """

    sizes: list[int] = field(default_factory=list)
    bound: list[Expression | None] = field(default_factory=list)
    reasons: list[Reason | None] = field(default_factory=list)

    def atom(self, size: int, reason: Reason | None = None) -> Expression:
        """Return a new axis of which nothing is known but its length."""
        if size == 1:
            return ONE
        if size == 0:
            return ()
        self.sizes.append(size)
        self.bound.append(None)
        self.reasons.append(reason)
        return ((len(self.sizes) - 1,),)

    def size(self, expression: Expression) -> int:
        """Return the length of an axis."""
        return sum(self._term_size(term) for term in expression)

    def _term_size(self, term: Term) -> int:
        return math.prod(self._factor_size(factor) for factor in term)

    def _factor_size(self, factor: Factor) -> int:
        return self.sizes[factor] if isinstance(factor, int) else self.size(factor)

    def normal(self, expression: Expression) -> Expression:
        """Return an axis with everything that is known of its atoms put in.

        No bound atom is left; no sum stands in a sum, or first in a product.
        """
        return tuple(term for given in expression for term in self._normal_term(given))

    def _normal_term(self, term: Term) -> Iterator[Term]:
        if len(term) == 1 and isinstance(term[0], int) and self.bound[term[0]] is None:
            yield term
            return
        heads: list[Term] = [()]
        for factor in term:
            inner = self._known(factor) if isinstance(factor, int) else self.normal(factor)
            if len(inner) == 1:
                heads = [(*head, *inner[0]) for head in heads]
            else:
                heads = [t for head in heads for t in ([(*head, inner)] if head else inner)]
        yield from heads

    def _known(self, atom: int) -> Expression:
        """Return an atom's normal form, and remember it."""
        # Bindings form chains, of thousands where overlapping windows were cut: so no recursion.
        chain = [atom]
        while chain:
            bound = self.bound[chain[-1]]
            waiting = [] if bound is None else [a for a in self.atoms(bound) if self._waits(a)]
            chain += waiting
            if not waiting:
                last = chain.pop()
                self.bound[last] = None if bound is None else self.normal(bound)
        found = self.bound[atom]
        return ((atom,),) if found is None else found

    def _waits(self, atom: int) -> bool:
        """Tell whether an atom is bound to something that is not in normal form."""
        bound = self.bound[atom]
        return bound is not None and any(self.bound[a] is not None for a in self.atoms(bound))

    def atoms(self, expression: Expression) -> Iterator[int]:
        """Yield the atoms of a normal form, in order, as often as they stand there."""
        for term in expression:
            for factor in term:
                if isinstance(factor, int):
                    yield factor
                else:
                    yield from self.atoms(factor)

    def fix(self, expression: Expression, reason: Reason) -> None:
        """Let every atom of an axis stay where it is."""
        for atom in self.atoms(self.normal(expression)):
            if self.reasons[atom] is None:
                self.reasons[atom] = reason

    def unify(self, one: Expression, other: Expression, where: str) -> None:
        """Let two axes of one length be renumbered alike.

        Where they cut their length in ways that do not fit together, both are fixed.
        """
        a, b = self.normal(one), self.normal(other)
        if a == b:
            return
        if self.size(a) != self.size(b):
            self._fix_both(a, b, where)
            return
        if len(a) == len(b) == 1:
            self._unify_terms(a[0], b[0], where)
            return
        while a:
            shared = min(self._term_size(a[0]), self._term_size(b[0]))
            cut_a = self.cut(a, shared)
            # One atom may stand in both, so that cutting one axis has cut the other.
            cut_b = self.cut(self.normal(b), shared)
            if cut_a is None or cut_b is None:
                self._fix_both(a, b, where)
                return
            self.unify(cut_a[0], cut_b[0], where)
            a, b = self.normal(cut_a[1]), self.normal(cut_b[1])

    def cut(self, expression: Expression, length: int) -> tuple[Expression, Expression] | None:
        """Cut an axis in two, and its atoms where needed; None if a composed axis is in the way.

        Args:
            expression: a normal form.
            length: of the first part.

        """
        first: list[Term] = []
        rest = list(expression)
        while length:
            size = self._term_size(rest[0])
            if size <= length:
                first.append(rest.pop(0))
                length -= size
                continue
            parts = self._cut_term(rest[0], length)
            if parts is None:
                return None
            first += parts[0]
            return tuple(first), (*parts[1], *rest[1:])
        return tuple(first), tuple(rest)

    def _cut_term(self, term: Term, length: int) -> tuple[Expression, Expression] | None:
        slowest, *others = term
        stride = self._term_size(tuple(others))
        count, remainder = divmod(length, stride)
        if not isinstance(slowest, int) or (remainder and self.sizes[slowest] > MOST_COPIES):
            return None
        reason, size = self.reasons[slowest], self.sizes[slowest]
        rest = (tuple(others),)
        low = self.atom(count, reason)
        if not remainder:
            high = self.atom(size - count, reason)
            self.bound[slowest] = (*low, *high)
            return self._composed(low, rest), self._composed(high, rest)
        # The cut goes through one copy of what stands behind: the slowest atom loses its order
        # around that copy, and the faster ones are cut in all copies alike.
        high = self.atom(size - count - 1, reason)
        self.bound[slowest] = (*low, *ONE, *high)
        cut = self.cut(self.normal(rest), remainder)
        if cut is None:
            return None
        before = (*self._composed(low, rest), *cut[0])
        return before, (*cut[1], *self._composed(high, rest))

    def _composed(self, slow: Expression, fast: Expression) -> Expression:
        return self.normal(product(slow, fast)) if slow else ()

    def _unify_terms(self, a: Term, b: Term, where: str) -> None:
        """Unify two products, slowest factors first."""
        left, right = list(a), list(b)
        while left and right:
            m, n = self._factor_size(left[0]), self._factor_size(right[0])
            if m == n:
                self._unify_factors(left.pop(0), right.pop(0), where)
            elif not self._align(*((left, right) if m < n else (right, left)), where):
                self._fix_both((tuple(left),), (tuple(right),), where)
                return
            # What was learned of the first factors may have changed the others.
            left, right = self._refreshed(left), self._refreshed(right)

    def _refreshed(self, factors: list[Factor]) -> list[Factor]:
        if not factors:
            return factors
        normal = self.normal((tuple(factors),))
        return list(normal[0]) if len(normal) == 1 else [normal]

    def _align(self, small: list[Factor], large: list[Factor], where: str) -> bool:
        """Cut the first factor of one product to the size of the other's, which is smaller.

        A sum cannot be cut into factors: it is unified with as many factors as it is long.
        Returns whether that was possible.
        """
        m, n = self._factor_size(small[0]), self._factor_size(large[0])
        whole = large[0]
        if isinstance(whole, int):
            if n % m:
                return False
            reason = self.reasons[whole]
            slow, fast = self.atom(m, reason), self.atom(n // m, reason)
            self.bound[whole] = product(slow, fast)
            large[:1] = [*slow[0], *fast[0]]
            return True
        taken = self._gather_factors(small, n)
        if taken is None:
            return False
        large.pop(0)
        self.unify((tuple(taken),), whole, where)
        return True

    def _gather_factors(self, factors: list[Factor], size: int) -> list[Factor] | None:
        """Take the first factors that make up a size, splitting the last of them where needed."""
        taken: list[Factor] = []
        while size > 1 and factors:
            n = self._factor_size(factors[0])
            if size % n == 0:
                taken.append(factors.pop(0))
                size //= n
                continue
            whole = factors[0]
            if n % size or not isinstance(whole, int):
                factors[:0] = taken
                return None
            reason = self.reasons[whole]
            slow, fast = self.atom(size, reason), self.atom(n // size, reason)
            self.bound[whole] = product(slow, fast)
            factors[:1] = [*slow[0], *fast[0]]
            factors[:] = self._refreshed(factors)
        return taken

    def _unify_factors(self, a: Factor, b: Factor, where: str) -> None:
        if isinstance(a, int) and isinstance(b, int):
            self._unite(a, b)
        elif isinstance(a, int):
            self._learn(a, b if not isinstance(b, int) else ((b,),))
        elif isinstance(b, int):
            self._learn(b, a)
        else:
            self.unify(a, b, where)

    def _unite(self, a: int, b: int) -> None:
        if a == b:
            return
        low, high = min(a, b), max(a, b)
        self.bound[high] = ((low,),)
        if self.reasons[low] is None:
            self.reasons[low] = self.reasons[high]

    def _learn(self, atom: int, expression: Expression) -> None:
        """Let a free-standing atom be an expression of smaller ones."""
        normal = self.normal(expression)
        if normal == ((atom,),):
            return
        self.bound[atom] = normal
        reason = self.reasons[atom]
        if reason is not None:
            self.fix(normal, reason)

    def _fix_both(self, a: Expression, b: Expression, where: str) -> None:
        reason = Reason("axes are cut in ways that do not fit together", where)
        self.fix(a, reason)
        self.fix(b, reason)
