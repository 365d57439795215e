"""The settings page says what the code reads."""

from tests.settings_page import PAGE, ROOMS, page, settings_of


def test_every_setting_has_a_sentence_about_it() -> None:
    for room in ROOMS:
        for settings in settings_of(room):
            undescribed = [name for name, field in settings.model_fields.items() if not field.description]
            assert not undescribed, f"{settings.__qualname__}: {undescribed}"


def test_the_page_of_the_docs_is_the_codes() -> None:
    assert PAGE.read_text() == page(), "write it again: python -m tests.settings_page"
