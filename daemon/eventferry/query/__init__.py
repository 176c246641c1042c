"""Filters and transforms on single events: one syntax tree, a parser per form, one evaluator."""

from eventferry.query.evaluate import compile_filter
from eventferry.query.expression import And, Compare, During, Expression, Not, Op, Or, Path, split_path
from eventferry.query.native import QueryError, parse_filter, parse_transform
from eventferry.query.scope import Owner, Scope
from eventferry.query.transform import Redaction, Transform

__all__ = [
    "And",
    "Compare",
    "During",
    "Expression",
    "Not",
    "Op",
    "Or",
    "Owner",
    "Path",
    "QueryError",
    "Redaction",
    "Scope",
    "Transform",
    "compile_filter",
    "parse_filter",
    "parse_transform",
    "split_path",
]
