"""What a person sees of templates and events."""

from schemas.events import EvolutionEvent, EvolutionType
from streams.cli.render import diff_text, event_text, moment, template_text


def test_slots_stand_out_and_literal_braces_do_not() -> None:
    shown = template_text("Hi {{name}}, keep {{this}} as it is", ["name"])
    (span,) = shown.spans
    assert shown.plain[span.start : span.end] == "{{name}}"


def test_square_brackets_of_a_prompt_are_no_markup() -> None:
    assert template_text("[bold]shout[/bold] {{x}}", ["x"]).plain == "[bold]shout[/bold] {{x}}"


def test_a_long_template_is_cut_and_says_so() -> None:
    shown = template_text("\n".join(map(str, range(40))), [], lines_max=5).plain
    assert shown.endswith("… 35 more lines")


def test_an_event_reads_as_a_sentence_with_its_diff() -> None:
    event = EvolutionEvent(
        event_id="e",
        type=EvolutionType.SLOT_ADDED,
        tenant="support",
        cluster_id="0123456789",
        prompt_id="p",
        previous_version="1.0.0",
        new_version="1.1.0",
        reason="slot tone was added",
        diff="-Write.\n+Write in a {{tone}} tone.",
        detected_by="test",
        occurred_at_ms=0,
        partition=0,
        offset=0,
    )
    shown = event_text(event).plain
    for part in ("1970-01-01 00:00:00", "SLOT_ADDED", "1.0.0 -> 1.1.0", "slot tone was added", "+Write in a {{tone}}"):
        assert part in shown
    assert "+Write" not in event_text(event, with_diff=False).plain


def test_a_diff_keeps_its_lines() -> None:
    assert diff_text("-a\n+b\n c").plain == "-a\n+b\n c\n"


def test_times_are_utc() -> None:
    assert moment(86_400_000) == "1970-01-02 00:00:00"
