"""The admin's password forms."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from django.contrib.auth.forms import AdminPasswordChangeForm
    from django.contrib.auth.forms import PasswordChangeForm as AdminOwnPasswordChangeForm
else:
    from unfold.forms import AdminOwnPasswordChangeForm, AdminPasswordChangeForm


class _PasswordAlone:
    """Writes the password alone. Django writes the whole row, and so undoes a deactivation that came between."""

    def set_password_and_save(self, user: Any, *args: Any, commit: bool = True, **kwargs: Any) -> Any:
        changed = super().set_password_and_save(user, *args, commit=False, **kwargs)  # type: ignore[misc]
        if commit:
            changed.save(update_fields=["password"])
        return changed


class PasswordForm(_PasswordAlone, AdminPasswordChangeForm):  # type: ignore[type-arg]
    """Sets another user's password."""


class OwnPasswordForm(_PasswordAlone, AdminOwnPasswordChangeForm):
    """Sets one's own password."""
