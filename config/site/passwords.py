"""The admin's password forms."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from django.contrib.auth.forms import AdminPasswordChangeForm
    from django.contrib.auth.forms import PasswordChangeForm as AdminOwnPasswordChangeForm
else:
    from unfold.forms import AdminOwnPasswordChangeForm, AdminPasswordChangeForm


class _PasswordOnly:
    """Saves only the password. Django would save the whole row, and could undo a deactivation of the user."""

    def set_password_and_save(self, user: Any, *args: Any, commit: bool = True, **kwargs: Any) -> Any:
        changed = super().set_password_and_save(user, *args, commit=False, **kwargs)  # type: ignore[misc]
        if commit:
            changed.save(update_fields=["password"])
        return changed


class PasswordForm(_PasswordOnly, AdminPasswordChangeForm):  # type: ignore[type-arg]
    """Sets another user's password."""


class OwnPasswordForm(_PasswordOnly, AdminOwnPasswordChangeForm):
    """Sets the password of the user who is logged in."""
