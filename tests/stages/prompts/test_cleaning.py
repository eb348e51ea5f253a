"""Prompts as typed into chat tools, and their expected text after cleaning."""

import time

import pytest

from videodpo.stages.prompts.cleaning import clean


@pytest.mark.parametrize(
    ("typed", "left"),
    [
        ("a tram in the rain -ar 16:9  ", "a tram in the rain"),
        ("a tram in the rain, 4k, --ar 9:16", "a tram in the rain, 4k"),
        ("a tram in the rain \u2014ar 16:9", "a tram in the rain"),
        ("an owl waits -fps 24 -ar 9:16 -Motion 4", "an owl waits"),
        ("an owl blinks , -FPS 30", "an owl blinks"),
        ("two kites climb,-motion 3  Message: 1 Attachment  ", "two kites climb"),
        ("a fox naps --gs 17 -seed 6350", "a fox naps"),
        ("a fox naps --v 5.2 --s 750 --hd", "a fox naps"),
        ("a lamp in fog -10 motion -24 fps", "a lamp in fog"),
        ("a lamp in fog. -ar 1:1", "a lamp in fog."),
        ("a dock at noon  Message: 3 Attachments", "a dock at noon"),
        ("a dock at noon  Message: SALE NOW (Font: SANS SERIF)", "a dock at noon"),
        ("a dock at noon (Avg. Wait Time: 2 min)", "a dock at noon"),
        ("/imagine prompt:a dock at noon --ar 3:2", "a dock at noon"),
        ("a dock at noon -neg blurry, ugly -ar 16:9", "a dock at noon"),
        ("a dock at noon --no people, boats", "a dock at noon"),
    ],
)
def test_tool_options_are_removed(typed, left):
    assert clean(typed) == left


def test_text_after_an_option_stays():
    assert clean("a bus, camera far, -fps 24 -ar 16:9 , 4k, grainy") == "a bus, camera far, 4k, grainy"


def test_the_words_of_a_camera_option_stay():
    assert clean("a bus -camera pan right -fps 24") == "a bus camera pan right"


@pytest.mark.parametrize(
    "prose",
    [
        "slow-motion 3 times around the block",
        "a well-lit no-parking sign - camera held by hand",
        "screen size must be 9:16",
        "a clock shows 9:16",
        "a minus sign, -5 degrees outside",
        "a street \u2014no people\u2014 at dawn",
        "a sign that reads Message: hello",
        "(((rule of thirds))) a dune",
        "a road at -v speed",
    ],
)
def test_prose_that_looks_like_an_option_stays(prose):
    assert clean(prose) == prose


@pytest.mark.parametrize(
    ("typed", "left"),
    [
        ("the 80&#39;s &quot;arcade&quot;", 'the 80\'s "arcade"'),
        ("the 80&amp;#39;s &amp;amp;quot;arcade&#38;quot;", 'the 80\'s "arcade"'),
        ("salt &amp; pepper", "salt & pepper"),
        ("cats&parachutes &parade; R&B", "cats&parachutes &parade; R&B"),
        ("a cat&#0;&#xD800; sits", "a cat sits"),
    ],
)
def test_html_entities_are_resolved(typed, left):
    assert clean(typed) == left


@pytest.mark.parametrize(
    ("typed", "left"),
    [
        ("a\x00cat", "a cat"),
        ("a cat\ud83d", "a cat"),
        ("a\tcat\r\nsits\x1b", "a cat sits"),
        ("\ufeffa cat \ufffc", "a cat"),
        ("  a \u00a0 cat\u3000sits ", "a cat sits"),
        ("cafe\u0301", "caf\u00e9"),
        ("&quot;&#1;", '"'),
    ],
)
def test_characters_that_no_table_or_tokenizer_accepts_are_removed(typed, left):
    assert clean(typed) == left


@pytest.mark.parametrize(
    "prompt",
    [
        "雨の中を走る路面電車、夜",
        "ขบวนรถไฟในสายฝน",
        "ترام تحت المطر",
        "बारिश में ट्राम",
        "un jeune homme rêve",
        "\U0001f468\u200d\U0001f469\u200d\U0001f467 walks",  # a family joined by zero-width joiners
        "$(rm -rf /); `id` | cat > x && echo '%s' \\n {0}",
        "<b>bold</b> ../../etc/passwd",
    ],
)
def test_scripts_and_shell_characters_are_kept(prompt):
    assert clean(prompt) == prompt


def test_a_prompt_of_options_only_becomes_empty():
    assert clean("-ar 16:9, -fps 24") == ""


@pytest.mark.parametrize("unit", [" ", ",", "-", "&amp;", "-neg a ", "(Avg. Wait", "-ar 1:1 a ", "Message: x ", "\x00"])
def test_long_hostile_texts_are_cleaned_quickly(unit):
    start = time.process_time()
    clean(unit * 100_000)
    assert time.process_time() - start < 5
