"""What archives are called: a template, checked when it is set, and read backwards with care.

A file name like `my_app_x_1_0123456789abcdef.tar.zst` can often be taken apart in several ways. Here it means
something only if there is exactly one; a receipt beside an archive says it for certain.
"""

import string
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Self

from gobblerd.archive.formats import FORMATS
from gobblerd.archive.members import COMPONENT_MAX_BYTES
from gobblerd.archive.receipt import RECEIPT_SUFFIX
from gobblerd.domain.errors import Plain, Wrong
from gobblerd.domain.names import Address, flaw_of_name

DEFAULT_TEMPLATE = "{project}_{asset}_{version}_{checksum}{suffix}"
CHECKSUM_DIGITS = 16  # of the checksum, in the name
_FIELDS = ("project", "asset", "version", "checksum", "suffix")


@dataclass(frozen=True, slots=True)
class NameParts:
    """What a name is made of; `checksum` are the first digits, `suffix` begins with a dot."""

    project: str
    asset: str
    version: str
    checksum: str
    suffix: str

    @classmethod
    def of(cls, place: Address, fallback: str, checksum: str, suffix: str) -> Self:
        """Make the parts of a version's archive, or of a directory's, which is called `fallback`."""
        project, asset, version = (
            (place.project, place.asset, place.version) if place.version else (fallback, "", "")
        )
        return cls(project, asset, version, checksum[:CHECKSUM_DIGITS], suffix)

    @property
    def place(self) -> Address:
        """The version."""
        return Address(self.project, self.asset, self.version)


class Template:
    """How archives are named: text with `{project}`, `{asset}`, `{version}`, `{checksum}` and `{suffix}`.

    It must end in `{suffix}`, hold `{version}` or `{checksum}`, no field twice, something between any two
    fields, and no `/`. Wrong otherwise.

    >>> Template("{asset}-{version}{suffix}").name(NameParts("p", "app", "1.0", "", ".zip"))
    'app-1.0.zip'
    """

    def __init__(self, text: str) -> None:
        self.text = text
        try:
            parsed = list(string.Formatter().parse(text))
        except ValueError as error:
            raise _flawed(text, str(error)) from None
        self._parts = _merged((before, name) for before, name, _, _ in parsed)
        takes_format = any(form or how for _, _, form, how in parsed)
        if flaw := "fields take no format" if takes_format else self._flaw():
            raise _flawed(text, flaw)

    def _flaw(self) -> str | None:
        names = [name for _, name in self._parts if name is not None]
        literal = "".join(before for before, _ in self._parts)
        unknown = [name for name in names if name not in _FIELDS]
        touching = any(not before for before, name in self._parts[1:] if name != "suffix")
        between = flaw_of_name(f"x{literal}x")
        flaws = (
            (bool(unknown), f"there is no field {{{', '.join(unknown)}}}"),
            (len(set(names)) != len(names), "a field occurs twice"),
            (not self.text.endswith("{suffix}") or self._parts[-1][1] != "suffix", "it must end in {suffix}"),
            (not {"version", "checksum"} & set(names), "it must hold {version} or {checksum}"),
            (touching, "two fields follow each other without anything between"),
            (self.text.startswith((".", "-")), "it begins with a dot or a dash"),
            (between is not None, f"in what is between the fields, {between}"),
        )
        return next((flaw for is_so, flaw in flaws if is_so), None)

    def name(self, parts: NameParts) -> str:
        """Return the file name; Wrong if no file can be called so.

        Fields that are empty (a directory has no version) go with what stands before them.
        """
        values = {field: getattr(parts, field) for field in _FIELDS}
        name = ""
        for before, field in self._parts:
            value = values[field] if field is not None else ""
            if value or not name:
                name += before + value
        if flaw := flaw_of_name(name):
            raise Wrong("an archive cannot be called {name}: {flaw}", name=name, flaw=Plain(flaw))
        if len((name + RECEIPT_SUFFIX).encode()) > COMPONENT_MAX_BYTES:
            raise Wrong(
                "an archive cannot be called {name}: with {suffix} it is longer than {most} bytes; give a "
                "shorter name template",
                name=name,
                suffix=RECEIPT_SUFFIX,
                most=COMPONENT_MAX_BYTES,
            )
        return name

    def without_empty(self, parts: NameParts) -> "Template":
        """Return the template of names like that of `parts`: without its empty fields but the checksum."""
        kept = [
            (before, field)
            for before, field in self._parts
            if field in {None, "suffix", "checksum"} or getattr(parts, str(field))
        ]
        escaped = ((before.replace("{", "{{").replace("}", "}}"), field) for before, field in kept)
        return Template("".join(before + (f"{{{field}}}" if field else "") for before, field in escaped))

    def readings(self, name: str) -> Iterator[NameParts]:
        """Yield every way in which `name` can be taken apart, such that no part is empty."""
        for suffix in (each.suffix for each in FORMATS.values() if name.endswith(each.suffix)):
            for values in _split(name.removesuffix(suffix), self._parts[:-1], self._parts[-1][0]):
                yield NameParts(**{**dict.fromkeys(_FIELDS[:4], ""), **values, "suffix": suffix})

    def read(self, name: str) -> NameParts | None:
        """Return the parts of a name that can be taken apart in exactly one way; None otherwise.

        >>> Template(DEFAULT_TEMPLATE).read("p_app_1.0_0123456789abcdef.zip").version
        '1.0'
        >>> Template(DEFAULT_TEMPLATE).read("p_app_server_1.0_0123456789abcdef.zip") is None
        True
        """
        found = self.readings(name)
        first = next(found, None)
        return first if next(found, None) is None else None


def _merged(parts: Iterable[tuple[str, str | None]]) -> list[tuple[str, str | None]]:
    """Return the fields, each with all the text before it; text at the end is a last part without a field."""
    found: list[tuple[str, str | None]] = []
    text = ""
    for before, name in parts:
        text += before
        if name is not None:
            found.append((text, name))
            text = ""
    return [*found, (text, None)] if text or not found else found


def _flawed(text: str, flaw: str) -> Wrong:
    return Wrong("the name template {text} cannot be used: {flaw}", text=text, flaw=Plain(flaw))


def _split(rest: str, parts: list[tuple[str, str | None]], end: str) -> Iterator[dict[str, str]]:
    """Yield the values of the fields such that `rest` is what the parts and then `end` give."""
    if not parts:
        if rest == end:
            yield {}
        return
    (before, field), *others = parts
    if field is None or not rest.startswith(before):
        return
    rest = rest[len(before) :]
    separator = others[0][0] if others else end
    for size in _sizes(rest, separator, is_last=not others):
        value = rest[:size]
        if field == "checksum" and not _is_checksum(value):
            continue
        for values in _split(rest[size:], others, end):
            yield {field: value, **values}


def _sizes(rest: str, separator: str, *, is_last: bool) -> Iterator[int]:
    """Yield how long the first field of `rest` can be, given what follows it."""
    if is_last:
        if len(rest) > len(separator):
            yield len(rest) - len(separator)
        return
    at = rest.find(separator, 1)
    while at != -1:
        yield at
        at = rest.find(separator, at + 1)


def _is_checksum(text: str) -> bool:
    return len(text) == CHECKSUM_DIGITS and set(text) <= set("0123456789abcdef")
