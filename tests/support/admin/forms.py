"""Read the forms of a page, as a browser without scripts would send them."""

from dataclasses import dataclass, field
from html.parser import HTMLParser

# A browser sends such an element only if the user has pressed or chosen it.
_NOT_SENT = ("submit", "button", "reset", "image", "file")


@dataclass
class Form:
    """A form of a page: its address and its values."""

    id: str
    method: str
    action: str
    values: dict[str, list[str]] = field(default_factory=dict)
    # The kind of each visible field, by name.
    visible: dict[str, str] = field(default_factory=dict)

    def filled(self, **changes: str) -> dict[str, str | list[str]]:
        """Return the form's data with some fields filled in."""
        return {**self.values, **changes}


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self._form: Form | None = None
        self._select = ""
        self._text: str | None = None

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        name = given.get("name", "")
        if tag == "form":
            self._form = Form(given.get("id", ""), given.get("method", "get").lower(), given.get("action", ""))
            self.forms.append(self._form)
        elif self._form is None or "disabled" in given:
            return
        elif tag == "input" and name and given.get("type") not in _NOT_SENT:
            kind = given.get("type", "text")
            if kind != "hidden":
                self._form.visible[name] = kind
            if kind not in ("checkbox", "radio") or "checked" in given:
                self._form.values.setdefault(name, []).append(given.get("value", "on" if kind == "checkbox" else ""))
        elif tag in ("select", "textarea") and name:
            self._form.visible[name] = tag
            self._select, self._text = (name, None) if tag == "select" else (name, "")
        elif tag == "option" and "selected" in given and self._select:
            self._form.values.setdefault(self._select, []).append(given.get("value", ""))

    def handle_data(self, data: str) -> None:
        if self._text is not None:
            self._text += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._form = None
        elif tag == "textarea" and self._form is not None and self._text is not None:
            self._form.values[self._select] = [self._text.removeprefix("\n")]
            self._text = None


def forms_of(page: str) -> list[Form]:
    """Return the forms of a page, in order."""
    reader = _Reader()
    reader.feed(page)
    return reader.forms


def form_of(page: str, form_id: str) -> Form:
    """Return the form that has an ID."""
    (found,) = [form for form in forms_of(page) if form.id == form_id]
    return found
