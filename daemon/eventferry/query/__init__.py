"""Filters and transforms on single events: one syntax tree, a parser per form, one evaluator."""

from eventferry.query.evaluate import Matcher, compile_filter, select
from eventferry.query.expression import And, Compare, During, Expression, Not, Op, Or, Path, split_path
from eventferry.query.native import parse_filter, parse_transform
from eventferry.query.problems import QueryError
from eventferry.query.scope import Owner, Scope
from eventferry.query.transform import Redaction, Transform

__all__ = [
    "And",
    "Compare",
    "During",
    "Expression",
    "Matcher",
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
    "select",
    "split_path",
]
