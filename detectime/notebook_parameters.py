"""The parameters of a notebook: read from its cells, checked, and made into its settings.

A person edits the parameter cell, papermill adds a cell after it. Both are checked for names that are no parameters.
"""

from __future__ import annotations

import ast
import dataclasses
import os
import symtable
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, get_args, get_type_hints

from detectime import paths, releases
from detectime.config import NO_VALUE, PARAMETERS, load_config, make_absolute, make_section
from detectime.decisions import check_reviewer
from detectime.detection.manifest import read_manifest
from detectime.errors import ConfigError
from detectime.settings import list_field_names, suggest_name
from detectime.splits.assignment import check_shares
from detectime.splits.shares import parse_shares
from detectime.storage import store as stores

_Settings = TypeVar("_Settings")

PARAMETER_CELL = "# Parameters of the run"
"""How a line begins that makes a cell the parameter cell of a notebook."""

ACCEPTED = ("config", "explore", *PARAMETERS)
"""The parameters of notebook 01."""

SAMPLE_OUTPUT = "reports/sample"
"""Folder of the run on the rendered sample."""

_INJECTED_CELL = "# Parameters"  # the first line of the cell that papermill adds


def read_parameters(
    names: Mapping[str, Any],
    cells: Sequence[str],
    accepted: Sequence[str] = ACCEPTED,
    renamed: Mapping[str, str] = releases.OLD_PARAMETERS,
) -> dict[str, Any]:
    """Return the parameters of a notebook.

    The parameter cell has a line that begins with `PARAMETER_CELL`, the cell of papermill begins with ``# Parameters``.
    Only the last execution of each counts: a parameter that was deleted from its cell has no value, although the
    kernel still has one. A parameter may also be assigned in any other cell.

    Parameters
    ----------
    names
        ``globals()`` of the notebook.
    cells
        ``In`` of the notebook: the cells executed so far.
    accepted
        The names of its parameters.
    renamed
        Old names that are accepted too, and the present ones.

    Raises
    ------
    ConfigError
        If one of the two cells assigns a name that is no parameter. In the parameter cell, names that begin with an
        underscore are the user's own.

    Examples
    --------
    >>> cells = ["# Parameters of the run\\nlimit = 10\\nworkers = 2", "# Parameters of the run\\nlimit = 5"]
    >>> read_parameters({"limit": 5, "workers": 2}, cells)
    {'limit': 5}
    """
    latest: dict[bool, int] = {}  # whether papermill added the cell: its last execution
    assigned: dict[int, list[str]] = {}  # of parameter cells
    assigner: dict[str, int] = {}  # name: the cell that assigned it last
    for index, cell in enumerate(cells):
        try:
            found = _list_assigned(cell)
        except (SyntaxError, ValueError, RecursionError):  # it was not executed, or IPython allows more than Python
            continue
        assigner |= dict.fromkeys(found, index)
        is_injected = cell.partition("\n")[0].rstrip() == _INJECTED_CELL
        if is_injected or any(line.startswith(PARAMETER_CELL) for line in cell.splitlines()):
            assigned[index] = found
            latest[is_injected] = index
    for is_injected, index in latest.items():
        _check_names(assigned[index], is_injected, accepted, renamed)
    stale = {name for name, index in assigner.items() if index in assigned and index not in latest.values()}
    parameters = {name: names[name] for name in accepted if name in names and name not in stale}
    for index in sorted(latest.values()):
        # A later cell may use the old name of a parameter for something else, so that `names` has another value.
        old = [name for name in assigned[index] if name in renamed]
        parameters |= {name: _read_literal(cells[index], name, renamed[name]) for name in old}
    return parameters


def read_settings(kind: type[_Settings], names: Mapping[str, Any], cells: Sequence[str]) -> _Settings:
    """Return the settings of notebook 02, 03 or 04 that its parameters describe; None and the text null mean defaults.

    Parameters
    ----------
    kind
        The class of the settings, all with a default; the fields of a field that is such a class are parameters too.
        What is true or false may be given as text, as papermill passes it, and so may `shares`.
    names, cells
        As for `read_parameters`.

    Raises
    ------
    ConfigError
        As `read_parameters`, or if a value is not accepted.
    SplitError
        If `shares` are not valid.
    DecisionError
        If `reviewer` is no name.

    Examples
    --------
    >>> from detectime.exports.contract import ExportConfig
    >>> read_settings(ExportConfig, {"faces": "true"}, []).faces
    True
    """
    given = read_parameters(names, cells, tuple(list_values(kind())), {})
    given = {
        name: value
        for name, value in given.items()
        if not (value is None or (isinstance(value, str) and value == NO_VALUE))
    }
    given |= {name: os.fspath(value) for name, value in given.items() if isinstance(value, os.PathLike)}
    if type(given.get("output")) is int:  # papermill takes a folder named 2026 for a number
        given["output"] = str(given["output"])
    if isinstance(given.get("shares"), str):
        given["shares"] = parse_shares(given["shares"])
    settings = _make_settings(kind, given)
    checks: dict[str, Callable[[Any], object]] = {"shares": check_shares, "reviewer": check_reviewer}
    for name, check in checks.items():
        if getattr(settings, name, None) is not None:
            check(getattr(settings, name))
    return settings


def list_values(settings: Any) -> dict[str, Any]:
    """Return settings by the names of their parameters: those of a field that holds settings are beside the others.

    Examples
    --------
    >>> from detectime.config import SelectionConfig
    >>> list_values(SelectionConfig(limit=5))
    {'classes': None, 'limit': 5}
    """
    values: dict[str, Any] = {}
    for name in list_field_names(type(settings)):
        value = getattr(settings, name)
        values |= list_values(value) if dataclasses.is_dataclass(value) else {name: value}
    return values


def describe_changes(settings: _Settings, default: _Settings) -> str:
    """Say which parameters have another value in some settings than in others, such as the default ones.

    Examples
    --------
    >>> from detectime.config import SelectionConfig
    >>> describe_changes(SelectionConfig(limit=5), SelectionConfig())
    'limit = 5'
    """
    known = list_values(default).items()
    changed = [f"{name} = {value!r}" for name, value in list_values(settings).items() if (name, value) not in known]
    return ", ".join(changed) or "nothing"


def find_output(output: str) -> str:
    """Return the folder of a finished run for a notebook that goes on with it.

    Parameters
    ----------
    output
        As given; empty: that of the project's configuration or, if there is no run, that of the rendered sample.

    Raises
    ------
    ConfigError
        If there is no run in either place.

    Examples
    --------
    >>> find_output("/runs/out")
    '/runs/out'
    """
    if output:
        return str(make_absolute(output, None))
    places = [load_config().data.output, str(make_absolute(SAMPLE_OUTPUT, None))]
    for place in places:
        if read_manifest(stores.open_store(place, reading=True)) is not None:
            return place
    raise ConfigError(
        f"output: there is no run in {' and '.join(places)}; run notebook {paths.DATA_LOADER} first, or set output to "
        "the folder of a run"
    )


def _make_settings(kind: type[_Settings], given: dict[str, Any]) -> _Settings:
    for name, hint in get_type_hints(kind).items():
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            given[name] = _make_settings(hint, {key: given.pop(key) for key in list_field_names(hint) if key in given})
        elif bool in (hint, *get_args(hint)) and isinstance(given.get(name), str):
            given[name] = {"true": True, "false": False}.get(given[name].lower(), given[name])
    return make_section(kind, given, "parameter")


def _list_assigned(cell: str) -> list[str]:
    """Return the names that a cell assigns at its top level; not functions, classes and modules."""
    symbols = symtable.symtable(cell, "cell", "exec").get_symbols()
    return [symbol.get_name() for symbol in symbols if symbol.is_assigned() and not symbol.is_namespace()]


def _check_names(
    assigned: Sequence[str], is_injected: bool, accepted: Sequence[str], renamed: Mapping[str, str]
) -> None:
    """Reject a name that is no parameter; papermill only logs it, and a person may have misspelt it."""
    for name in assigned:
        if name in accepted or name in renamed or (name.startswith("_") and not is_injected):
            continue
        meant, _, names = suggest_name(name, accepted).partition("accepted: ")
        own = "" if is_injected else "(a variable of your own belongs into another cell, or begins with _) "
        raise ConfigError(f"parameter {name}: there is no such parameter; {meant}{own}accepted: {names}")


def _read_literal(cell: str, name: str, new: str) -> Any:
    """Return the literal that a parameter cell assigns to an old name of a parameter."""
    value: Any = None
    for node in ast.parse(cell).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            try:
                value = ast.literal_eval(node.value)  # type: ignore[attr-defined]
            except (ValueError, TypeError, AttributeError):
                raise ConfigError(f"parameter {name}: it is the old name of {new}; write {new} = …") from None
    return value
